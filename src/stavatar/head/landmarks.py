"""Where MediaPipe's 478 face landmarks lie on a head model's surface."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources

import numpy as np
import torch
from torch import Tensor

from stavatar.head.model import HeadModel

LANDMARKS = 478


@dataclass(frozen=True)
class LandmarkEmbedding:
    """Each landmark as a point of a face: `face` [478] indices and `barycentric` [478, 3] weights that sum to 1."""

    face: Tensor
    barycentric: Tensor

    def points(self, head: HeadModel, vertices: Tensor) -> Tensor:
        """Landmarks of posed vertices [B, V, 3] -> [B, 478, 3]."""
        corners = vertices[:, head.faces[self.face]]
        return (corners * self.barycentric[:, :, None]).sum(2)


def load_embedded_landmarks() -> LandmarkEmbedding:
    """The embedding of the embedded head (computed by ``scripts/build_landmark_embedding.py``)."""
    with (
        resources.as_file(resources.files("stavatar.head") / "data" / "embedded_landmarks.npz") as path,
        np.load(path, allow_pickle=False) as data,
    ):
        return LandmarkEmbedding(
            torch.from_numpy(data["face"].astype(np.int64)), torch.from_numpy(data["barycentric"].astype(np.float32))
        )
