"""Where MediaPipe sets its landmarks besides the points of the head that they stand for.

A detector has seen many faces, and puts what it expects where it sees little: a landmark that lies on the surface in a
frontal picture lies millimetres in front of it or behind when the head turns, and what it does to one person it does to
that person in every frame. Hundreds of landmarks that are off together look like another identity. So their habits are
known beforehand: the mean, and the directions in which people differ, as ``scripts/learn_detector_bias.py`` finds them
on rendered subjects whose landmarks are known.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources

import numpy as np
import torch
from torch import Tensor

from stavatar.head.landmarks import LANDMARKS

FILE = "detector_bias.npz"


@dataclass(frozen=True)
class DetectorBias:
    """Offsets of the L = 478 landmarks from their points on a head, metres in head space.

    Attributes:
        mean: [L, 3] over people.
        modes: [L, 3, R] by how much people differ, one standard deviation each.
    """

    mean: Tensor
    modes: Tensor

    @staticmethod
    def none() -> DetectorBias:
        """A detector that finds exactly the points that are meant."""
        return DetectorBias(torch.zeros(LANDMARKS, 3), torch.zeros(LANDMARKS, 3, 0))

    @staticmethod
    def learn(offsets: Tensor, count: int) -> DetectorBias:
        """From the offsets [N, L, 3] of N people: their mean and first `count` principal components."""
        mean = offsets.mean(0)
        strayed = (offsets - mean).flatten(1)
        _, spread, directions = torch.linalg.svd(strayed / (len(offsets) - 1) ** 0.5, full_matrices=False)
        modes = (directions[:count] * spread[:count, None]).unflatten(1, offsets.shape[1:])
        return DetectorBias(mean, modes.permute(1, 2, 0).contiguous())

    def double(self) -> DetectorBias:
        return DetectorBias(self.mean.double(), self.modes.double())

    def of(self, coefficients: Tensor) -> Tensor:
        """The offsets [L, 3] of the person with coefficients [R]."""
        return self.mean + self.modes @ coefficients


def load_detector_bias() -> DetectorBias:
    """That of MediaPipe's face landmarker, learnt on rendered subjects."""
    with (
        resources.as_file(resources.files("stavatar.tracking") / FILE) as path,
        np.load(path, allow_pickle=False) as data,
    ):
        return DetectorBias(torch.from_numpy(data["mean"]).float(), torch.from_numpy(data["modes"]).float())
