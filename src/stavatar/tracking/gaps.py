"""Frames without a detection, between frames that have one."""

from __future__ import annotations

import torch
from torch import Tensor

from stavatar.rotations import axis_angle_to_matrix, matrix_to_axis_angle


class Bridge:
    """Carries values known at some frames to all frames: linearly in between, constant beyond the first and last.

    Args:
        known: [N] int64, sorted frames with values, at least one.
        frames: number of frames T.
    """

    def __init__(self, known: Tensor, frames: int) -> None:
        every = torch.arange(frames)
        after = torch.searchsorted(known, every).clamp_max(len(known) - 1)
        before = (torch.searchsorted(known, every, right=True) - 1).clamp_min(0)
        self.before, self.after = before, after
        length = (known[after] - known[before]).clamp_min(1)
        self.fraction = ((every - known[before]).float() / length).clamp(0, 1)

    def values(self, known: Tensor) -> Tensor:
        """[N, C] -> [T, C]."""
        return torch.lerp(known[self.before], known[self.after], self.fraction[:, None])

    def rotations(self, known: Tensor) -> Tensor:
        """Matrices [N, 3, 3] -> [T, 3, 3], along the shortest turn."""
        turn = matrix_to_axis_angle(known[self.after] @ known[self.before].transpose(1, 2))
        return axis_angle_to_matrix(turn * self.fraction[:, None]) @ known[self.before]
