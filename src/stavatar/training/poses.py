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

    All fields lie side by side in one table of P columns, so that a step takes as few operations as one field would.

    Args:
        parameters: the tracker's result.
        config: learning rates per field; fields with rate 0 stay as they are, and all of them without `refine`.
        movable: [T] bool, frames that may move; frames of the held-out set do not.
    """

    movable: Tensor
    table: Tensor
    first: Tensor
    second: Tensor
    count: Tensor
    rates: Tensor

    def __init__(self, parameters: HeadParameters, config: PoseConfig, movable: Tensor) -> None:
        super().__init__()
        self.config = config
        self._widths = {name: value.shape[1] for name, value in parameters.items()}
        self._moving = {name: config.refine and getattr(config, name) > 0 for name in self._widths}
        table = _side_by_side(parameters).to(movable.device)
        rates = [
            getattr(config, name) * self._moving[name] for name, width in self._widths.items() for _ in range(width)
        ]
        self.register_buffer("movable", movable)
        self.register_buffer("table", table)
        self.register_buffer("first", torch.zeros_like(table))
        self.register_buffer("second", torch.zeros_like(table))
        self.register_buffer("count", torch.zeros(len(table), device=movable.device))
        self.register_buffer("rates", table.new_tensor(rates), persistent=False)

    def all(self) -> HeadParameters:
        """Every frame, as plain values: views of the table."""
        return self._fields(self.table)

    def rows(self, frames: Tensor) -> Tensor:
        """Some frames [B, P] as a leaf that collects gradients; hand it to :meth:`step` after the backward pass."""
        return self.table[frames].requires_grad_(any(self._moving.values()))

    def parameters_of(self, rows: Tensor) -> HeadParameters:
        """What rows [B, P] stand for; fields that do not move pass no gradients on."""
        fields = self._fields(rows)
        return HeadParameters(
            **{name: value if self._moving[name] else value.detach() for name, value in fields.items()}
        )

    @torch.no_grad()
    def step(
        self, frames: Tensor, rows: Tensor, factor: float | Tensor, neighbours: float | Tensor | None = None
    ) -> None:
        """Move `frames` [B] against the gradients that `rows` hold.

        Args:
            frames: distinct indices, the ones `rows` was made with.
            rows: result of :meth:`rows` after a backward pass.
            factor: scales all learning rates.
            neighbours: share of the step that the frames around get, falling off with distance; None for nothing.
        """
        gradient = rows.grad
        if gradient is None:
            return
        count = self.count[frames] + 1
        first = _BETAS[0] * self.first[frames] + (1 - _BETAS[0]) * gradient
        second = _BETAS[1] * self.second[frames] + (1 - _BETAS[1]) * gradient**2
        self.count[frames], self.first[frames], self.second[frames] = count, first, second
        count = count[:, None]
        size = (second / (1 - _BETAS[1] ** count)).sqrt() + 1e-12
        step = factor * self.rates * (first / (1 - _BETAS[0] ** count)) / size
        self.table[frames] -= step
        if neighbours is not None:
            near, share = self._sharing(frames, neighbours)
            self.table.index_add_(0, near.flatten(), (-share[..., None] * step[:, None]).flatten(0, 1))

    def _sharing(self, frames: Tensor, share: float | Tensor) -> tuple[Tensor, Tensor]:
        """Frames around each of `frames`, and what part of its step each of them gets: both [B, 2 * reach + 1]."""
        total = len(self.movable)
        distance = torch.arange(-_REACH, _REACH + 1, device=frames.device)
        near = frames[:, None] + distance
        counts = (distance != 0) & (near >= 0) & (near < total)
        near = near.clamp(0, total - 1)  # clamping and masking, as picking would wait for a GPU
        counts &= self.movable[near]
        return near, share * torch.exp(-0.5 * (distance / _WIDTH) ** 2) * counts

    @torch.no_grad()
    def replace(self, frames: Tensor, parameters: HeadParameters) -> None:
        """Set frames to new values and forget their momentum."""
        self.table[frames] = _side_by_side(parameters)
        self.count[frames], self.first[frames], self.second[frames] = 0, 0, 0

    def _fields(self, rows: Tensor) -> HeadParameters:
        parts = rows.split(list(self._widths.values()), -1)
        return HeadParameters(**dict(zip(self._widths, parts, strict=True)))


def _side_by_side(parameters: HeadParameters) -> Tensor:
    """[T, P]."""
    return torch.cat([value for _, value in parameters.items()], 1)
