"""Where the camera goes while a motion plays."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from stavatar.camera import Camera

ORBIT_DEGREES = 30.0
"""How far an orbit swings to either side."""

SWING_SECONDS = 6.0
"""Length of one swing there and back, of orbits and dollies."""


@dataclass(frozen=True)
class CameraMove:
    """A way for the camera, relative to a given one.

    Attributes:
        orbit: swing from side to side.
        dolly: move from the given distance to so many times that distance and back; 1 stays.
        yaw: degrees to the avatar's left, on top of the swing; several give several views of each frame.
        pitch: degrees upwards.
    """

    orbit: bool = False
    dolly: float = 1.0
    yaw: tuple[float, ...] = (0.0,)
    pitch: float = 0.0

    def cameras(self, camera: Camera, pivot: Tensor, seconds: float) -> list[Camera]:
        """The views at a time, one for each yaw.

        Args:
            camera: the one to move.
            pivot: [3] point to turn about.
            seconds: since the start.
        """
        phase = 2 * math.pi * seconds / SWING_SECONDS
        swing = ORBIT_DEGREES * math.sin(phase) if self.orbit else 0.0
        distance = 1 + (self.dolly - 1) * (1 - math.cos(phase)) / 2
        return [camera.around(pivot, math.radians(swing + yaw), math.radians(self.pitch), distance) for yaw in self.yaw]
