"""What capture hands to tracking: the frames of one shot and what was seen in them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stavatar.capture.conditions import Conditions


@dataclass(frozen=True)
class Observations:
    """T frames of one person, cropped to a square around the head and shoulders.

    Attributes:
        images: [T, H, W, 3] uint8 RGB, the person composited over white with the matte.
        mattes: [T, H, W] uint8, 255 where the person is.
        landmarks: [T, 478, 3] pixels of the crop (x right, y down; z in pixels towards the camera is negative), NaN in
            frames without a detection.
        blendshapes: [T, 52] MediaPipe scores in [0, 1], NaN in frames without a detection.
        blendshape_names: the 52 names, in MediaPipe's order; the first is ``_neutral``.
        detected: [T] bool.
        frame_ids: [T] int64, the frame's index in the decoded video, counted from 0 and increasing.
        seconds: [T] float64 presentation times in the video.
        fps: frames per second of the kept frames (after any thinning), for playback.
        source_focal_hint: focal length in crop pixels where the video's metadata give one, else None.
        conditions: what may spoil the clip, measured in its pictures; None where nobody looked.
    """

    images: Tensor
    mattes: Tensor
    landmarks: Tensor
    blendshapes: Tensor
    blendshape_names: tuple[str, ...]
    detected: Tensor
    frame_ids: Tensor
    seconds: Tensor
    fps: float
    source_focal_hint: float | None = None
    conditions: Conditions | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the crop in pixels."""
        return self.images.shape[2], self.images.shape[1]

    def blendshape(self, name: str) -> Tensor:
        """Scores [T] of one blendshape; zeros for names MediaPipe does not report (such as ``tongueOut``)."""
        if name not in self.blendshape_names:
            return torch.zeros(len(self))
        return self.blendshapes[:, self.blendshape_names.index(name)]
