"""Functions of tensors as CUDA graphs: what is asked for again and again is recorded once and then replayed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

import torch
from torch import Tensor

_MOST = 16  # recordings kept; the one not used for longest goes first


@dataclass(frozen=True)
class _Recording:
    graph: torch.cuda.CUDAGraph
    taken: Tensor
    given: list[Tensor]
    shapes: list[tuple[torch.Size, torch.dtype]]


class Replay:
    """Calls a function of tensors on a GPU with one transfer there, one launch, and one copy.

    Args:
        function: of some tensors on the GPU, to tensors of four bytes an element on it. It must not wait for the GPU,
            and do the same for tensors of the same shapes.
        device: a GPU.
    """

    def __init__(self, function: Callable[[list[Tensor]], list[Tensor]], device: torch.device) -> None:
        self._function = function
        self._device = device
        self._recordings: OrderedDict[Hashable, _Recording] = OrderedDict()

    def __call__(self, tensors: list[Tensor]) -> list[Tensor]:
        """The function's result for float32 tensors, wherever they are."""
        if any(tensor.is_cuda for tensor in tensors):
            tensors = [tensor.to(self._device, non_blocking=True) for tensor in tensors]
        packed = torch.cat([tensor.flatten() for tensor in tensors])
        key = tuple(tensor.shape for tensor in tensors)
        if key not in self._recordings:
            self._recordings[key] = self._record(packed, list(key))
            if len(self._recordings) > _MOST:
                self._recordings.popitem(last=False)
        self._recordings.move_to_end(key)
        recording = self._recordings[key]
        recording.taken.copy_(packed, non_blocking=True)
        recording.graph.replay()
        # A copy: what is handed out must not change with the next call.
        return _unpack(torch.cat(recording.given), recording.shapes)

    @torch.no_grad()
    def _record(self, packed: Tensor, shapes: list[torch.Size]) -> _Recording:
        taken = packed.to(self._device, copy=True)
        described = [(shape, torch.float32) for shape in shapes]
        self._function(_unpack(taken, described))  # compiles kernels and sets libraries up, which a recording must not
        torch.cuda.synchronize(self._device)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self._device), torch.cuda.graph(graph, capture_error_mode="thread_local"):
            results = self._function(_unpack(taken, described))
            given = [result.reshape(-1).view(torch.float32) for result in results]
        return _Recording(graph, taken, given, [(result.shape, result.dtype) for result in results])


def _unpack(packed: Tensor, shapes: list[tuple[torch.Size, torch.dtype]]) -> list[Tensor]:
    parts = packed.split([shape.numel() for shape, _ in shapes])
    return [part.view(dtype).view(shape) for part, (shape, dtype) in zip(parts, shapes, strict=True)]
