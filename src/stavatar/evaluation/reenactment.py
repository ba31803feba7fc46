"""Whether a re-enactment shows what drives it: the driver's expression and pose, and the subject's own face.

Where there is no true picture, a detector has to look at both pictures. MediaPipe's landmarker serves for expression
and pose. Identity is measured in the field with face-recognition networks; none comes along with this package, so that
identity is reported as missing. `face_shape_percent` is no stand-in for it: it sees the proportions of the rigid part
of a face and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stavatar.evaluation.metrics import Metric

if TYPE_CHECKING:  # results declare these metrics also where MediaPipe is not installed
    from stavatar.capture.faces import FaceReadings

REENACTMENT_METRICS: dict[str, Metric] = {
    "expression": Metric(
        "lower",
        "mean absolute difference of MediaPipe's 51 blendshape scores of driver and render, its _neutral left out",
    ),
    "pose_degrees": Metric(
        "lower", "angle of the rotation between MediaPipe's face matrices of driver and render, degrees", "pictures"
    ),
    "face_shape_percent": Metric(
        "lower",
        "root mean square distance between the mean positions of 25 landmarks of nose, eye corners and brow ridge in "
        "the renders and in pictures of the subject, aligned by similarity, in percent of the outer-eye distance; "
        "proportions of the face, not identity",
        "pictures",
    ),
    "identity": Metric("higher", "similarity of the embeddings of a face-recognition network", "pictures"),
}
"""Measured on the frames in which a face is found in both pictures."""

IDENTITY_MISSING = "needs a face-recognition network, and none comes with stavatar"

RIGID = (
    168, 6, 197, 195, 5, 4, 48, 115, 220, 45, 440, 344, 278, 2, 98, 327,  # nose
    33, 133, 362, 263,  # eye corners
    9, 8, 107, 336, 151,  # brow ridge
)  # fmt: skip
"""Indices of landmarks that hardly move with the expression."""

_OUTER_EYE_CORNERS = (RIGID.index(33), RIGID.index(263))


def consistency(driver: FaceReadings, render: FaceReadings, subject: FaceReadings) -> dict[str, float | int | None]:
    """Each of `REENACTMENT_METRICS`, and the number of `frames` that they are means over.

    Args:
        driver, render: of N frames, in the same order.
        subject: of pictures of the person whom the avatar shows.

    Returns:
        None for what could not be measured: all where no frame shows a face in both pictures.
    """
    both = driver.detected & render.detected
    values: dict[str, float | int | None] = dict.fromkeys(REENACTMENT_METRICS)
    if both.any():
        values["expression"] = float(np.abs(driver.blendshapes - render.blendshapes)[both, 1:].mean())
        values["pose_degrees"] = float(np.degrees(_angles(driver.rotations[both], render.rotations[both])).mean())
        if subject.detected.any():
            own = _mean_shape(subject.points[subject.detected])
            values["face_shape_percent"] = 100 * _shape_distance(_mean_shape(render.points[both]), own)
    return {**values, "frames": int(both.sum())}


def _angles(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Angles [N] between rotations [N, 3, 3]; from the chord, which unlike the trace is exact for small ones."""
    chord = np.linalg.norm(first - second, axis=(1, 2)) / np.sqrt(8)
    return 2 * np.arcsin(np.clip(chord, 0, 1))


def _mean_shape(points: np.ndarray) -> np.ndarray:
    """Mean of the `RIGID` ones of landmarks [N, 478, 3], each face aligned to the first: [25, 3]."""
    shapes = points[:, RIGID].astype(np.float64)
    return np.mean([_aligned(shape, shapes[0]) for shape in shapes], 0)


def _shape_distance(shape: np.ndarray, own: np.ndarray) -> float:
    """Root mean square distance of points after alignment, as a fraction of `own`'s outer-eye distance."""
    right, left = _OUTER_EYE_CORNERS
    return float(np.sqrt(((_aligned(shape, own) - own) ** 2).sum(1).mean()) / np.linalg.norm(own[right] - own[left]))


def _aligned(points: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Points [P, 3] under the similarity that brings them nearest to `target` (Umeyama, PAMI 1991)."""
    source, goal = points - points.mean(0), target - target.mean(0)
    left, stretch, right = np.linalg.svd(goal.T @ source)
    sign = np.array([1, 1, np.sign(np.linalg.det(left @ right))])
    scale = (stretch * sign).sum() / (source**2).sum()
    return scale * source @ ((left * sign) @ right).T + target.mean(0)
