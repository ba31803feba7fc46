from __future__ import annotations

import numpy as np
import pytest
import torch

from stavatar.block_solver import solve_arrow, solve_block_tridiagonal
from stavatar.errors import InputError


def _system(frames: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Blocks of a positive definite system, and the same system as one dense matrix."""
    random = np.random.default_rng(0)
    root = random.normal(size=(frames, size, size))
    diagonal = root @ root.transpose(0, 2, 1) + 0.1 * np.eye(size)
    coupling = random.uniform(0, 5, size=(frames - 1, size))
    dense = np.zeros((frames * size, frames * size))
    for t in range(frames - 1):
        diagonal[t] += np.diag(coupling[t])
        diagonal[t + 1] += np.diag(coupling[t])
        here, there = slice(t * size, (t + 1) * size), slice((t + 1) * size, (t + 2) * size)
        dense[here, there] = dense[there, here] = -np.diag(coupling[t])
    for t in range(frames):
        dense[t * size : (t + 1) * size, t * size : (t + 1) * size] = diagonal[t]
    return diagonal, coupling, random.normal(size=(frames, size)), dense


@pytest.mark.parametrize("frames", [1, 2, 9])
def test_agrees_with_a_dense_solver(frames: int) -> None:
    diagonal, coupling, right, dense = _system(frames, 5)
    expected = np.linalg.solve(dense, right.ravel()).reshape(right.shape)
    kept = right.copy()
    np.testing.assert_allclose(solve_block_tridiagonal(diagonal, coupling, right), expected, rtol=1e-9, atol=1e-11)
    np.testing.assert_array_equal(right, kept)


def test_says_which_frame_is_undetermined() -> None:
    diagonal, coupling, right, _ = _system(4, 3)
    diagonal[2] = -np.eye(3)
    with pytest.raises(InputError, match="frame 2"):
        solve_block_tridiagonal(diagonal, coupling, right)


def _arrow() -> tuple[torch.Tensor, torch.Tensor]:
    """A dense system of 4 frames with 3 unknowns each and 2 shared ones, without coupling between frames."""
    random = torch.Generator().manual_seed(0)
    dense = torch.zeros(14, 14, dtype=torch.float64)
    for t in range(4):
        columns = [3 * t, 3 * t + 1, 3 * t + 2, 12, 13]
        rows = torch.randn(8, 5, generator=random, dtype=torch.float64)
        dense[torch.tensor(columns)[:, None], torch.tensor(columns)] += rows.T @ rows
    return dense, torch.randn(14, generator=random, dtype=torch.float64)


def _blocks(dense: torch.Tensor) -> torch.Tensor:
    return torch.stack([dense[3 * t : 3 * t + 3, 3 * t : 3 * t + 3] for t in range(4)])


def test_arrow_agrees_with_a_dense_solver() -> None:
    dense, right = _arrow()
    expected = torch.linalg.solve(dense, right)
    own, common = solve_arrow(
        _blocks(dense), right[:12].view(4, 3), dense[:12, 12:].reshape(4, 3, 2), dense[12:, 12:], right[12:]
    )
    torch.testing.assert_close(own.flatten(), expected[:12])
    torch.testing.assert_close(common, expected[12:])


def test_arrow_says_which_frame_is_undetermined() -> None:
    dense, right = _arrow()
    dense[6, 6] = -1
    with pytest.raises(InputError, match="frame 2"):
        solve_arrow(
            _blocks(dense), right[:12].view(4, 3), dense[:12, 12:].reshape(4, 3, 2), dense[12:, 12:], right[12:]
        )
