from __future__ import annotations

import numpy as np
import pytest

from stavatar.errors import InputError
from stavatar.tracking.block_solver import solve_block_tridiagonal


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
