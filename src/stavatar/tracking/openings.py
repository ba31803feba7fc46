"""How far lids and lips are apart, read off the landmarks of a posed head, whatever opens them on its model."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stavatar.tracking.landmark_groups import LID_PAIRS, LIP_PAIRS, NOSE_TO_FOREHEAD, OUTER_EYE_CORNERS


@dataclass(frozen=True)
class Openings:
    """Of T frames, [T] each, upwards along the face, in distances of the outer eye corners.

    Attributes:
        mouth: between the middles of the two lips, so more than zero where the mouth is shut.
        left_lids, right_lids: between the rims of the lids, the subject's left and right; zero where a linear head
            model lets one lid slide past the other, which is shut as well.
    """

    mouth: Tensor
    left_lids: Tensor
    right_lids: Tensor


def measure_openings(landmarks: Tensor) -> Openings:
    """From landmarks [T, 478, 3] in space (or in pixels, of a head that looks at the camera)."""
    right, left = OUTER_EYE_CORNERS
    unit = (landmarks[:, right] - landmarks[:, left]).norm(dim=-1)
    low, high = NOSE_TO_FOREHEAD
    up = torch.nn.functional.normalize(landmarks[:, high] - landmarks[:, low], dim=-1)

    def gap(pairs: tuple[tuple[int, int], ...]) -> Tensor:
        upper, lower = (list(side) for side in zip(*pairs, strict=True))
        apart = (landmarks[:, upper] - landmarks[:, lower]).mean(1)
        return ((apart * up).sum(1) / unit).clamp_min(0)

    return Openings(gap(LIP_PAIRS), gap(LID_PAIRS[0]), gap(LID_PAIRS[1]))
