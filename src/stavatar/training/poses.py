"""Tracked parameters as things to learn: one Adam state per frame.

A step sees a few frames, so only their rows move, each with its own count of steps; a plain Adam over the whole table
would keep moving all other rows by their old momentum.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stavatar.config import PoseConfig
from stavatar.head import HeadParameters

_BETAS = (0.8, 0.95)  # short memories: a frame is seen a handful of times only
_REACH = 6  # frames on either side that share a step
_WIDTH = 2.5  # standard deviation of that sharing, frames


class TrackedParameters(nn.Module):
    """Head parameters of T frames with their own optimiser.

    Args:
        parameters: the tracker's result.
        config: learning rates per field; fields with rate 0 stay as they are, and all of them without `refine`.
        movable: [T] bool, frames that may move; frames of the held-out set do not.
    """

    movable: Tensor

    def __init__(self, parameters: HeadParameters, config: PoseConfig, movable: Tensor) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("movable", movable)
        for name, value in parameters.items():
            self.register_buffer(name, value.clone())
            self.register_buffer(f"{name}_first", torch.zeros_like(value))
            self.register_buffer(f"{name}_second", torch.zeros_like(value))
        self.register_buffer("count", torch.zeros(len(parameters), device=movable.device))

    def all(self) -> HeadParameters:
        """Every frame, as plain values."""
        return HeadParameters(**{name: getattr(self, name) for name in self._names()})

    def rows(self, frames: Tensor) -> HeadParameters:
        """Some frames as leaves that collect gradients; hand them to :meth:`step` after the backward pass."""
        return HeadParameters(
            **{
                name: getattr(self, name)[frames].requires_grad_(self.config.refine and getattr(self.config, name) > 0)
                for name in self._names()
            }
        )

    @torch.no_grad()
    def step(
        self, frames: Tensor, rows: HeadParameters, factor: float | Tensor, neighbours: float | Tensor | None = None
    ) -> None:
        """Move `frames` [B] against the gradients that `rows` hold.

        Args:
            frames: distinct indices, the ones `rows` was made with.
            rows: result of :meth:`rows` after a backward pass.
            factor: scales all learning rates.
            neighbours: share of the step that the frames around get, falling off with distance; None for nothing.
        """
        count = self.count
        assert isinstance(count, Tensor)
        count[frames] += 1
        sharing = None if neighbours is None else self._sharing(frames, neighbours)
        first_bias = 1 - _BETAS[0] ** count[frames, None]
        second_bias = 1 - _BETAS[1] ** count[frames, None]
        for name, row in rows.items():
            if row.grad is None or getattr(self.config, name) == 0:
                continue
            rate = getattr(self.config, name) * factor
            first, second = getattr(self, f"{name}_first"), getattr(self, f"{name}_second")
            first[frames] = _BETAS[0] * first[frames] + (1 - _BETAS[0]) * row.grad
            second[frames] = _BETAS[1] * second[frames] + (1 - _BETAS[1]) * row.grad**2
            step = rate * (first[frames] / first_bias) / ((second[frames] / second_bias).sqrt() + 1e-12)
            self._move(name, frames, step, sharing)

    def _sharing(self, frames: Tensor, share: float | Tensor) -> tuple[Tensor, Tensor]:
        """Frames around each of `frames`, and what part of its step each of them gets: both [B, 2 * reach + 1]."""
        total = len(self.movable)
        distance = torch.arange(-_REACH, _REACH + 1, device=frames.device)
        near = frames[:, None] + distance
        counts = (distance != 0) & (near >= 0) & (near < total)
        near = near.clamp(0, total - 1)  # clamping and masking, as picking would wait for a GPU
        counts &= self.movable[near]
        return near, share * torch.exp(-0.5 * (distance / _WIDTH) ** 2) * counts

    def _move(self, name: str, frames: Tensor, step: Tensor, sharing: tuple[Tensor, Tensor] | None) -> None:
        table = getattr(self, name)
        table[frames] -= step
        if sharing is not None:
            near, share = sharing
            table.index_add_(0, near.flatten(), -(share[..., None] * step[:, None]).flatten(0, 1))

    @torch.no_grad()
    def replace(self, frames: Tensor, parameters: HeadParameters) -> None:
        """Set frames to new values and forget their momentum."""
        count = self.count
        assert isinstance(count, Tensor)
        count[frames] = 0
        for name, value in parameters.items():
            getattr(self, name)[frames] = value
            getattr(self, f"{name}_first")[frames] = 0
            getattr(self, f"{name}_second")[frames] = 0

    @staticmethod
    def _names() -> list[str]:
        return list(HeadParameters.__dataclass_fields__)
