"""The square part of the picture that is used: one for the whole shot, so that the camera stays still."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from stavatar.progress import warn

# Around all places where the face's landmarks (chin to forehead, ear to ear) were seen, in heights of the face: hair
# above, shoulders and chest below, and at the sides.
_ABOVE, _BELOW, _BESIDE = 0.6, 0.9, 0.75
# What must stay inside even if white has to be added to a narrow picture: the head with its hair.
_HEAD_ABOVE, _HEAD_BELOW, _HEAD_BESIDE = 0.4, 0.15, 0.25
_SMALL_FACE = 0.25


@dataclass(frozen=True)
class Crop:
    """A square of the frame, resized: pixel (x, y) of the frame goes to ((x - left) * scale, (y - top) * scale).

    Pixel coordinates are continuous, (0, 0) being the outer corner of the first pixel. The square may reach over the
    frame's border; there is nothing there, so it is white and belongs to nobody.

    Attributes:
        left, top, side: of the square, in whole pixels of the frame.
        size: side of the resized picture in pixels.
    """

    left: int
    top: int
    side: int
    size: int

    @property
    def scale(self) -> float:
        return self.size / self.side

    def apply(self, image: np.ndarray) -> np.ndarray:
        """Cut the square [size, size, 3] out of a uint8 frame [H, W, 3]."""
        height, width = image.shape[:2]
        left, right = max(self.left, 0), min(self.left + self.side, width)
        top, bottom = max(self.top, 0), min(self.top + self.side, height)
        square = image[top:bottom, left:right]
        if square.shape[:2] != (self.side, self.side):
            beyond = (top - self.top, self.top + self.side - bottom, left - self.left, self.left + self.side - right)
            square = cv2.copyMakeBorder(square, *beyond, cv2.BORDER_CONSTANT, value=(255, 255, 255))
        way = cv2.INTER_AREA if self.size < self.side else cv2.INTER_CUBIC
        return cv2.resize(square, (self.size, self.size), interpolation=way)

    def inside(self, width: int, height: int) -> np.ndarray:
        """[size, size] bool: which pixels of the resized square lie in a frame of the given size."""
        centres = (np.arange(self.size) + 0.5) / self.scale
        columns = (centres + self.left > 0) & (centres + self.left < width)
        rows = (centres + self.top > 0) & (centres + self.top < height)
        return rows[:, None] & columns

    def points(self, points: np.ndarray) -> np.ndarray:
        """Landmarks [..., 3] of the frame in the pixels of the resized square; depth is scaled alike."""
        return ((points - np.array([self.left, self.top, 0])) * self.scale).astype(np.float32)


def choose_crop(points: np.ndarray, width: int, height: int, size: int) -> Crop:
    """The square that shows head and shoulders in all frames of a shot.

    It lies inside the frame wherever it can. If the wanted square is larger than the frame's short side, that side is
    used, as long as the head fits; only a head that moves over more than that is given a square that reaches beyond.

    Args:
        points: [T, 478, 3] landmarks in pixels of the frame, NaN where there are none.
        width, height: of the frame.
        size: of the resized square.
    """
    boxes = np.concatenate([points[..., :2].min(1), points[..., :2].max(1)], axis=1)
    boxes = boxes[~np.isnan(boxes[:, 0])]
    face = float(np.median(boxes[:, 3] - boxes[:, 1]))
    # a stray detection must not blow the crop up
    left, top = np.percentile(boxes[:, :2], 0.5, axis=0)
    right, bottom = np.percentile(boxes[:, 2:], 99.5, axis=0)

    wanted = max(bottom - top + (_ABOVE + _BELOW) * face, right - left + 2 * _BESIDE * face)
    head = max(bottom - top + (_HEAD_ABOVE + _HEAD_BELOW) * face, right - left + 2 * _HEAD_BESIDE * face)
    # no larger than the frame, unless the head would not fit into the frame's short side
    side = round(min(wanted, max(min(width, height), min(head, max(width, height)))))
    spare = side - (bottom - top + (_ABOVE + _BELOW) * face)
    crop = Crop(
        left=_place((left + right) / 2 - side / 2, side, width),
        # where there is not enough room for all, hair and shoulders give way in proportion
        top=_place(top - _ABOVE * face - spare * _ABOVE / (_ABOVE + _BELOW), side, height),
        side=side,
        size=size,
    )
    if face < _SMALL_FACE * size:
        warn(
            f"the face is only {face:.0f} pixels high in the video: the avatar will be blurred at {size} pixels; "
            "come closer to the camera or choose a smaller size"
        )
    return crop


def _place(start: float, side: int, length: int) -> int:
    """The nearest start that keeps [start, start + side] inside [0, length], or centred if it is longer."""
    if side >= length:
        return (length - side) // 2
    return int(np.clip(round(start), 0, length - side))
