"""Frames without a detection, between frames that have one, and what is made of them."""

from __future__ import annotations

import torch
from torch import Tensor

from stavatar.rotations import axis_angle_to_matrix, matrix_to_axis_angle

LONGEST_BRIDGE = 0.5
"""Seconds without a detection over which motion is made up; in longer gaps nobody knows what the head did."""

LEAST_CONFIDENCE = 0.2
"""Frames below this are left out of training: their landmarks are off by 6 % of the outer-eye distance or more."""

TRACKED, DOUBTED, BRIDGED, LOST = range(4)
"""States of a frame: tracked well enough to learn from; tracked, but its landmarks do not fit; motion made up over a
short gap; in a long gap, or before the first or after the last detection."""


STATES = ("tracked", "left out: landmarks do not fit", "left out: bridged over a gap", "left out: no face")
"""In words."""


def frame_states(confidence: Tensor, fps: float) -> Tensor:
    """The state [T] (int64) of frames with the `confidence` [T] of a sequence."""
    state = torch.where(confidence >= LEAST_CONFIDENCE, TRACKED, DOUBTED)
    missing = confidence == 0
    edges = torch.nn.functional.pad(missing.int(), (1, 1)).diff()
    for start, end in zip(edges.eq(1).nonzero()[:, 0].tolist(), edges.eq(-1).nonzero()[:, 0].tolist(), strict=True):
        bridged = start > 0 and end < len(confidence) and end - start <= LONGEST_BRIDGE * fps
        state[start:end] = BRIDGED if bridged else LOST
    return state


class Bridge:
    """Carries values known at some frames to all frames.

    Linearly over short gaps; in long ones each frame has the values of the nearer end, which no one should learn from.

    Args:
        known: [N] int64, sorted frames with values, at least one.
        frames: number of frames T.
        longest: frames without values that are bridged at most.
    """

    def __init__(self, known: Tensor, frames: int, longest: float) -> None:
        every = torch.arange(frames)
        after = torch.searchsorted(known, every).clamp_max(len(known) - 1)
        before = (torch.searchsorted(known, every, right=True) - 1).clamp_min(0)
        self.before, self.after = before, after
        length = (known[after] - known[before]).clamp_min(1)
        fraction = ((every - known[before]).float() / length).clamp(0, 1)
        self.fraction = torch.where(length - 1 <= longest, fraction, fraction.round())

    def values(self, known: Tensor) -> Tensor:
        """[N, C] -> [T, C]."""
        return torch.lerp(known[self.before], known[self.after], self.fraction[:, None])

    def rotations(self, known: Tensor) -> Tensor:
        """Matrices [N, 3, 3] -> [T, 3, 3], along the shortest turn."""
        turn = matrix_to_axis_angle(known[self.after] @ known[self.before].transpose(1, 2))
        return axis_angle_to_matrix(turn * self.fraction[:, None]) @ known[self.before]
