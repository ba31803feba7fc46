"""Temporal clusters of frames with similar head parameters (FTC, METHOD section 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import silhouette_score
from torch import Tensor

from stavatar.avatar.avatar import pose_condition
from stavatar.config import ScheduleConfig
from stavatar.head import HeadParameters

_FEWEST_FRAMES = 4
"""On average a cluster has at least so many frames; shorter clips get fewer clusters."""
_SILHOUETTE_FRAMES = 2000
"""The silhouette compares all pairs of at most this many frames."""


@dataclass(frozen=True)
class Clusters:
    """A partition of n frames.

    Attributes:
        assignment: [n] int64 cluster of each frame, numbered in the order in which they first appear.
        scatter: [n, 2] the frames on the first two principal components of what was clustered, for pictures.
        silhouette: mean silhouette in [-1, 1] for each number of clusters tried; empty where there was no choice.
    """

    assignment: Tensor
    scatter: Tensor
    silhouette: dict[int, float]

    @property
    def count(self) -> int:
        return int(self.assignment.max()) + 1

    def described(self, frames: Tensor) -> dict[str, Any]:
        """The content of ``clusters.json``; `frames` [n] says which frames of the sequence were clustered."""
        return {
            "frames": frames.tolist(),
            "cluster": self.assignment.tolist(),
            "scatter": self.scatter.tolist(),
            "silhouette": {str(number): value for number, value in self.silhouette.items()},
            "chosen": self.count,
        }


def cluster_frames(parameters: HeadParameters, config: ScheduleConfig, seed: int = 0) -> Clusters:
    """Group frames by expression, pose and translation.

    Expression and pose are reduced by PCA, each part is brought to unit length per frame and weighted by the square
    root of its weight, so that squared distances are weighted sums. K-means runs for every number of clusters in
    `config.clusters`, and the largest mean silhouette decides (the smaller number where two are equal). Clips too short
    for these numbers get as many clusters as leave four frames each, down to one.

    Args:
        parameters: n frames of any head model, at least one.
        config: numbers, components and weights.
        seed: of K-means; the result is the same for the same seed.
    """
    parts = [
        _principal(_array(parameters.expression), config.components),
        _principal(_array(pose_condition(parameters)), config.components),
        _array(parameters.translation),
    ]
    features = np.concatenate(
        [np.sqrt(weight) * _unit(part) for weight, part in zip(config.weights, parts, strict=True)], 1
    )
    frames = len(features)
    most = max(1, frames // _FEWEST_FRAMES)
    numbers = sorted({min(number, most) for number in config.clusters})
    varied = len(np.unique(features.round(6), axis=0))
    numbers = [number for number in numbers if number <= varied] or [1]

    best, silhouette = np.zeros(frames, np.int64), {}
    for number in numbers:
        if number == 1:
            continue
        labels = KMeans(number, n_init=4, random_state=seed).fit_predict(features)
        silhouette[number] = _silhouette(features, labels, seed)
        if silhouette[number] == max(silhouette.values()) and list(silhouette.values()).count(silhouette[number]) == 1:
            best = labels
    return Clusters(
        assignment=torch.from_numpy(_in_order_of_appearance(best)),
        scatter=torch.from_numpy(_plane(features)).float(),
        silhouette=silhouette if len(numbers) > 1 else {},
    )


def _array(values: Tensor) -> np.ndarray:
    return values.detach().cpu().double().numpy()


def _principal(values: np.ndarray, components: int) -> np.ndarray:
    """The first principal components of values [n, d], as many as there are."""
    components = min(components, *values.shape)
    if values.std(0).max() == 0:
        return np.zeros((len(values), components))
    return PCA(components, svd_solver="full").fit_transform(values)


def _plane(features: np.ndarray) -> np.ndarray:
    flat = _principal(features, 2)
    return np.pad(flat, ((0, 0), (0, 2 - flat.shape[1])))


def _unit(values: np.ndarray) -> np.ndarray:
    """Rows of length one; rows of zeros stay zero."""
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)


def _silhouette(features: np.ndarray, labels: np.ndarray, seed: int) -> float:
    """Mean silhouette; -1 where it is not defined, as when K-means found one cluster, or one per frame."""
    if not 2 <= len(np.unique(labels)) < len(labels):
        return -1.0
    sample = _SILHOUETTE_FRAMES if len(features) > _SILHOUETTE_FRAMES else None
    return float(silhouette_score(features, labels, sample_size=sample, random_state=seed))


def _in_order_of_appearance(labels: np.ndarray) -> np.ndarray:
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]
