"""Resolution against speed: how large pictures are while something moves."""

from __future__ import annotations

import math

LEAST_HEIGHT = 128
STEP = 16
"""Heights are multiples of this, so that they do not flicker."""


class Pace:
    """Chooses the height of the next picture from how long drawing the last ones took.

    Posing the avatars takes as long at every size, so that it does not count.

    Args:
        rate: pictures that could be drawn in a second while something moves.
    """

    def __init__(self, rate: float = 25.0) -> None:
        self.rate = rate
        self._height = 256.0

    def height(self, full: int, moving: bool, adapt: bool = True) -> int:
        """Of the next picture; `full` pixels at rest and where nothing is to be adapted."""
        if not (moving and adapt):
            return full
        return min(full, max(LEAST_HEIGHT, STEP * round(self._height / STEP)))

    def took(self, height: int, seconds: float) -> None:
        """Learn from a picture made while something moved. Time grows with the area, so heights with its root."""
        wanted = height * math.sqrt(1 / (self.rate * max(seconds, 1e-4)))
        change = min(1.3, max(0.6, wanted / height))
        self._height = min(4096.0, max(float(LEAST_HEIGHT), 0.5 * self._height + 0.5 * height * change))
