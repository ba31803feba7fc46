"""Linear systems of many frames, solved frame by frame."""

from __future__ import annotations

import numpy as np
import torch
from scipy.linalg.lapack import dpotrf, dpotri
from torch import Tensor

from stavatar.errors import InputError


def solve_block_tridiagonal(diagonal: np.ndarray, coupling: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solve a symmetric positive definite block-tridiagonal system whose off-diagonal blocks are diagonal matrices.

    Unknown k of frame t is coupled to unknown k of frames t - 1 and t + 1 by ``-coupling``, which is what a penalty on
    squared differences in time gives. Block elimination from the first frame to the last, then substitution back:
    exact, and linear in the number of frames.

    Args:
        diagonal: [T, M, M] float64; overwritten with the inverses of the eliminated blocks, to save memory.
        coupling: [T - 1, M], the *negated* off-diagonal entries.
        right: [T, M].

    Returns:
        [T, M].

    Raises:
        InputError: the system is not positive definite.
    """
    frames, size = right.shape
    reduced = right.copy()
    lower = np.tril_indices(size, -1)
    for t in range(frames):
        block = diagonal[t]
        if t:
            between = coupling[t - 1]
            block -= between[:, None] * diagonal[t - 1] * between
            reduced[t] += between * (diagonal[t - 1] @ reduced[t - 1])
        factor, failed = dpotrf(block)
        if failed:
            raise InputError(f"tracking broke down at frame {t}: what is seen there does not determine a head pose")
        inverse, _ = dpotri(factor)  # fills the upper triangle only
        inverse[lower] = inverse.T[lower]
        diagonal[t] = inverse
    solution = np.empty_like(right)
    solution[-1] = diagonal[-1] @ reduced[-1]
    for t in range(frames - 2, -1, -1):
        solution[t] = diagonal[t] @ (reduced[t] + coupling[t] * solution[t + 1])
    return solution


def solve_arrow(
    frame: Tensor, frame_right: Tensor, mixed: Tensor, shared: Tensor, shared_right: Tensor
) -> tuple[Tensor, Tensor]:
    """Solve a symmetric positive definite system of frames that know of each other through shared unknowns only.

    The frames' own unknowns are eliminated (Schur complement), so that the cost is linear in the number of frames.

    Args:
        frame: [T, M, M] blocks of the frames.
        frame_right: [T, M].
        mixed: [T, M, K] between the frames' unknowns and the shared ones.
        shared: [K, K].
        shared_right: [K].

    Returns:
        The frames' unknowns [T, M] and the shared ones [K].

    Raises:
        InputError: the system is not positive definite.
    """
    factor, failed = torch.linalg.cholesky_ex(frame)
    if failed.any():
        first = int(failed.nonzero()[0])
        raise InputError(f"tracking broke down at frame {first}: what is seen there does not determine a head pose")
    by_shared = torch.cholesky_solve(mixed, factor)
    by_right = torch.cholesky_solve(frame_right[..., None], factor)[..., 0]
    matrix = shared - torch.einsum("tmk,tml->kl", mixed, by_shared)
    right = shared_right - torch.einsum("tmk,tm->k", mixed, by_right)
    common = torch.linalg.solve(matrix, right)
    return by_right - by_shared @ common, common
