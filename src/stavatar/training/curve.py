"""The learning curve: what training reached, over steps and seconds."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

POINTS = 100
"""How many points a curve has, about."""


class LearningCurve:
    """Means of loss and PSNR over equal stretches of training.

    Sums stay on the device; only where a stretch ends does the host wait for them.

    Args:
        steps: of the whole training.
        device: where losses are.
    """

    COLUMNS = ("step", "frames", "seconds", "gaussians", "loss", "psnr")

    def __init__(self, steps: int, device: torch.device) -> None:
        self._stretch = max(1, steps // POINTS)
        self._sums = torch.zeros(2, device=device, dtype=torch.float64)
        self._frames = 0
        self.rows: dict[str, list[float]] = {name: [] for name in self.COLUMNS}

    def add(self, loss: Tensor, squared_error: Tensor) -> None:
        """Add up a step's total loss and the mean squared error of its pictures; waits for nothing."""
        self._sums += torch.stack([loss.detach(), squared_error.detach()])

    def close(self, step: int, frames: int, seconds: float, gaussians: int) -> None:
        """Note that a step is done; at the end of a stretch, a point of the curve.

        Args:
            step: number of steps done with this one.
            frames: in this step.
            seconds: of training so far.
            gaussians: how many there are.
        """
        self._frames += frames
        if step % self._stretch:
            return
        loss_mean, error = (self._sums / self._stretch).tolist()
        values = (step, self._frames, round(seconds, 3), gaussians, loss_mean, -10 * math.log10(max(error, 1e-10)))
        for name, value in zip(self.COLUMNS, values, strict=True):
            self.rows[name].append(value)
        self._sums.zero_()

    def state(self) -> dict[str, Any]:
        """Everything, as plain data for a checkpoint."""
        return {"rows": self.rows, "sums": self._sums.tolist(), "frames": self._frames}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state`."""
        self.rows = {name: list(state["rows"][name]) for name in self.COLUMNS}
        self._sums.copy_(torch.tensor(state["sums"], dtype=torch.float64))
        self._frames = int(state["frames"])
