"""What MediaPipe's face landmarker reads off single pictures: landmarks, blendshape scores, and how the face is turned.

Unlike :mod:`stavatar.capture.landmarks`, which follows one person through a shot, every picture stands for itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import mediapipe as mp
import numpy as np
from mediapipe.tasks.python import BaseOptions, vision

from stavatar.capture._quiet import loading
from stavatar.capture.landmarks import BLENDSHAPES
from stavatar.head.landmarks import LANDMARKS
from stavatar.progress import Report


@dataclass(frozen=True)
class FaceReadings:
    """What was read off N pictures; NaN where no face was found.

    Attributes:
        points: [N, 478, 3] float32 pixels (x right, y down, z in pixels, towards the camera negative).
        blendshapes: [N, 52] float32 scores in [0, 1], the first of which is ``_neutral``.
        rotations: [N, 3, 3] float32 rotation from MediaPipe's canonical face to the camera.
    """

    points: np.ndarray
    blendshapes: np.ndarray
    rotations: np.ndarray

    @property
    def detected(self) -> np.ndarray:
        """[N] bool."""
        return ~np.isnan(self.points[:, 0, 0])


def read_faces(pictures: Iterable[np.ndarray], model: Path, report: Report) -> FaceReadings:
    """Read the most prominent face of each picture [H, W, 3] uint8 RGB.

    Args:
        pictures: of any sizes.
        model: the landmarker's file.
        report: is called after each picture.
    """
    options = vision.FaceLandmarkerOptions(
        base_options=BaseOptions(model_asset_buffer=model.read_bytes()),
        running_mode=vision.RunningMode.IMAGE,
        output_face_blendshapes=True,
        output_facial_transformation_matrixes=True,
    )
    points, blendshapes, rotations = [], [], []
    with loading(model):
        landmarker = vision.FaceLandmarker.create_from_options(options)
    with landmarker:
        for picture in pictures:
            height, width = picture.shape[:2]
            image = mp.Image(image_format=mp.ImageFormat.SRGB, data=np.ascontiguousarray(picture))
            found = landmarker.detect(image)
            if found.face_landmarks:
                scale = np.array([width, height, width], np.float32)
                points.append(np.array([(p.x, p.y, p.z) for p in found.face_landmarks[0]], np.float32) * scale)
                blendshapes.append(np.array([score.score for score in found.face_blendshapes[0]], np.float32))
                rotations.append(_rotation(found.facial_transformation_matrixes[0][:3, :3]))
            else:
                points.append(np.full((LANDMARKS, 3), np.nan, np.float32))
                blendshapes.append(np.full(BLENDSHAPES, np.nan, np.float32))
                rotations.append(np.full((3, 3), np.nan, np.float32))
            report()
    return FaceReadings(np.stack(points), np.stack(blendshapes), np.stack(rotations))


def _rotation(matrix: np.ndarray) -> np.ndarray:
    """The rotation nearest to a matrix that also scales."""
    left, _, right = np.linalg.svd(matrix)
    return (left * [1, 1, np.linalg.det(left @ right)]) @ right
