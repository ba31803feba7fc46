"""A training step as a CUDA graph.

A step launches two thousand small kernels, and a modern GPU finishes each before the next has been asked for. What a
step does only changes where density control acts or the schedule turns to another part, so all of it, forward and
backward pass, optimisers and statistics, is recorded once and then replayed as one.

Nothing in a recorded step may wait for the GPU. Its numbers are looked at two steps later, when they have arrived.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, fields
from typing import Generic, TypeVar

import torch
from torch import Tensor

_MARGIN = 2.0
"""Room for entries of the rasteriser, as a multiple of what a step needed: frames differ, and Gaussians grow."""
_TIGHT = 0.75
"""Share of that room beyond which more is made."""
_BEHIND = 2
"""Steps after which a step's numbers are looked at."""

Kind = TypeVar("Kind", bound=Hashable)
Label = TypeVar("Label")


@dataclass(frozen=True)
class StepInputs:
    """What differs between two steps of one kind; everything is on the device.

    Attributes:
        frames: [B] indices into the sequence.
        groups: [B] their statistics groups.
        pictures: [B, H, W, 3] uint8.
    """

    frames: Tensor
    groups: Tensor
    pictures: Tensor

    def copies(self) -> StepInputs:
        return StepInputs(*(getattr(self, field.name).clone() for field in fields(self)))

    def take_over(self, other: StepInputs) -> None:
        """Copy what `other` holds into these very tensors."""
        for field in fields(self):
            getattr(self, field.name).copy_(getattr(other, field.name), non_blocking=True)


@dataclass(frozen=True)
class _Recording:
    graph: torch.cuda.CUDAGraph
    inputs: StepInputs
    numbers: Tensor


class Recorder(Generic[Kind]):
    """Runs steps on a GPU: each kind the ordinary way first, then as a recording.

    Args:
        compute: one step: its kind, its inputs, the rasteriser's room (None: count first), to numbers [n] on the device
            of which the last says how much room was needed. It must do the same for the same kind, on the same tensors,
            until :meth:`forget`.
        optimisers: those that `compute` takes steps of.
    """

    def __init__(
        self,
        compute: Callable[[Kind, StepInputs, int | None], Tensor],
        optimisers: Callable[[], list[torch.optim.Optimizer]],
    ) -> None:
        self._compute = compute
        self._optimisers = optimisers
        self._recordings: dict[Kind, _Recording] = {}
        self._rehearsed: set[Kind] = set()
        self._room: int | None = None
        self._pool = torch.cuda.graph_pool_handle()

    @property
    def recorded(self) -> int:
        """How many kinds are recorded at present."""
        return len(self._recordings)

    def run(self, kind: Kind, inputs: StepInputs) -> Tensor:
        """One step; its numbers, which the next step may overwrite."""
        recording = self._recordings.get(kind)
        if recording is None and kind in self._rehearsed:
            recording = self._recordings[kind] = self._record(kind, inputs)
        if recording is not None:
            recording.inputs.take_over(inputs)
            recording.graph.replay()
            return recording.numbers
        # The ordinary way: kernels are compiled and libraries set up in it, which a recording must not do.
        numbers = self._compute(kind, inputs, self._room)
        if self._room is not None:
            self._rehearsed.add(kind)
        else:
            self._make_room(int(numbers[-1]))
        return numbers

    def keep_room(self, needed: int) -> None:
        """See to it that the steps to come have room, where an earlier one needed so many entries."""
        if self._room is not None and needed > _TIGHT * self._room:
            self.forget()
            self._make_room(needed)

    def _make_room(self, needed: int) -> None:
        self._room = (int(_MARGIN * needed) // 4096 + 1) * 4096

    def forget(self) -> None:
        """Record anew: tensors that steps work on were exchanged."""
        self._rehearsed.clear()
        self._room = None
        if self._recordings:
            self._recordings.clear()
            torch.cuda.empty_cache()  # their memory is no one else's until it is given back
        self._pool = torch.cuda.graph_pool_handle()

    def _record(self, kind: Kind, inputs: StepInputs) -> _Recording:
        held = inputs.copies()
        graph = torch.cuda.CUDAGraph()
        groups = [group for optimiser in self._optimisers() for group in optimiser.param_groups]
        for group in groups:
            group["capturable"] = True
        try:
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                numbers = self._compute(kind, held, self._room)
        finally:
            for group in groups:
                group["capturable"] = False
        return _Recording(graph, held, numbers)


class Trail(Generic[Label]):
    """The numbers of the last few steps, read when the GPU has got so far."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Label, Tensor, torch.cuda.Event]] = deque()

    def add(self, label: Label, numbers: Tensor) -> None:
        """Start carrying a step's numbers to the host."""
        host = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
        host.copy_(numbers, non_blocking=True)
        event = torch.cuda.Event()
        event.record()
        self._waiting.append((label, host, event))

    def arrived(self, behind: int = _BEHIND) -> list[tuple[Label, list[float]]]:
        """Labels and numbers of all steps but the last `behind`."""
        result = []
        while len(self._waiting) > behind:
            label, host, event = self._waiting.popleft()
            event.synchronize()
            result.append((label, host.tolist()))
        return result
