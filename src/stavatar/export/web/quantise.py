"""Floats as 8- or 16-bit integers: value = low + step * integer, with low and step per channel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Quantised:
    """An array [..., N, C] as unsigned integers, with `low` and `step` [..., C], float32."""

    integers: np.ndarray
    low: np.ndarray
    step: np.ndarray

    def values(self) -> np.ndarray:
        """[..., N, C] float32."""
        return self.low[..., None, :] + self.step[..., None, :] * self.integers.astype(np.float32)


def quantise(values: np.ndarray, kind: type[np.uint8] | type[np.uint16]) -> Quantised:
    """Spread each channel's range over all integers of `kind`; the error is at most half a step."""
    values = np.asarray(values, np.float32)
    low, high = values.min(-2), values.max(-2)
    step = (high - low) / np.float32(np.iinfo(kind).max)
    divisor = np.where(step > 0, step, 1)
    integers = np.round((values - low[..., None, :]) / divisor[..., None, :]).clip(0, np.iinfo(kind).max)
    return Quantised(integers.astype(kind), low, step)
