"""Smoothing of what arrives live."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class OneEuro:
    """The one-euro filter (Casiez, Roussel, Vogel, CHI 2012): strong on what rests, fast on what moves.

    A low-pass filter whose cut-off grows with the speed of the value, so that rest does not tremble and quick movements
    are hardly delayed.

    Args:
        cutoff: Hz, where nothing moves; lower is smoother.
        speed: Hz per unit of the value per second.
    """

    _SPEED_CUTOFF = 1.0  # Hz, for the speed itself

    def __init__(self, cutoff: float = 1.5, speed: float = 4.0) -> None:
        self.cutoff, self.speed = cutoff, speed
        self._value: Tensor | None = None
        self._rate: Tensor | None = None
        self._seconds = 0.0

    def __call__(self, value: Tensor, seconds: float) -> Tensor:
        """The filtered value at a time, which must not go back."""
        if self._value is None or self._rate is None:
            self._value, self._rate = value, torch.zeros_like(value)
        elif seconds > self._seconds:
            step = seconds - self._seconds
            rate = (value - self._value) / step
            self._rate = torch.lerp(self._rate, rate, _share(torch.tensor(self._SPEED_CUTOFF), step))
            cutoff = self.cutoff + self.speed * self._rate.abs()
            self._value = torch.lerp(self._value, value, _share(cutoff, step))
        self._seconds = seconds
        return self._value


def _share(cutoff: Tensor, step: float) -> Tensor:
    """Weight of the new value in a first-order low-pass filter."""
    return 1 / (1 + 1 / (2 * math.pi * cutoff * step))
