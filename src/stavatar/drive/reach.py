"""How far an avatar can go: the range of what it was trained on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_EXTREME = 0.995  # quantile of the training frames that counts as the end of their range
_LEAST = 0.1  # of the widest axis: how far every other axis may go, however still it was
_KNEE = 0.75  # share of the way to the limit from which on values are bent


@dataclass(frozen=True)
class _Box:
    """Ranges along axes [C, C] (columns), to both sides of rest: `low` and `high` [C] are positive."""

    axes: Tensor
    low: Tensor
    high: Tensor

    @staticmethod
    def around(deviation: Tensor, axes: Tensor) -> _Box:
        along = deviation @ axes
        low = -torch.quantile(along, 1 - _EXTREME, dim=0)
        high = torch.quantile(along, _EXTREME, dim=0)
        least = (_LEAST * torch.maximum(low, high).max()).clamp_min(1e-3)
        return _Box(axes, low.clamp_min(least), high.clamp_min(least))

    def bend(self, deviation: Tensor, limit: float) -> Tensor:
        along = deviation @ self.axes
        room = limit * torch.where(along < 0, self.low, self.high)
        knee, size = _KNEE * room, along.abs()
        bent = knee + (room - knee) * torch.tanh((size - knee) / (room - knee))
        return (along.sign() * torch.where(size > knee, bent, size)) @ self.axes.T


class Reach:
    """Boxes around what training frames showed, that values are kept inside.

    The network that bends an avatar's Gaussians knows only what it saw. One box lies along the principal axes of the
    training frames, which say what goes together; the other along the coefficients themselves. Each axis has a range of
    its own to both sides of rest, so one unheard-of movement does not weaken all others with it, as a common distance
    (Mahalanobis') would.

    Args:
        seen: [N, C] values in the training frames.
        rest: [C] the middle: it is never changed.
    """

    def __init__(self, seen: Tensor, rest: Tensor) -> None:
        deviation = seen - rest
        principal = torch.linalg.eigh(deviation.T @ deviation / len(seen)).eigenvectors
        self.rest = rest
        self._boxes = [_Box.around(deviation, principal), _Box.around(deviation, torch.eye(len(rest)))]

    def keep(self, values: Tensor, limit: float) -> Tensor:
        """Values [T, C] bent into `limit` times the range; up to three quarters of that they stay as they are."""
        if limit == float("inf"):
            return values
        deviation = values - self.rest
        for box in self._boxes:
            deviation = box.bend(deviation, limit)
        return self.rest + deviation
