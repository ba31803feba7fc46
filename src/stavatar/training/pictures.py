"""A sequence's pictures where a training step can have them."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from stavatar.sequence import Sequence

_SHARE = 0.4  # of the GPU's free memory that pictures may take
_STAGES = 4  # batches on their way to the GPU at a time


class Pictures:
    """Hands out the true pictures of frames, uint8, on the device.

    Args:
        sequence: whose pictures.
        device: where they are wanted.
        where: ``device`` keeps all of them there, ``host`` sends those of a step when it is due (through page-locked
            memory, so that nothing waits), ``auto`` decides by the memory that is free.
    """

    def __init__(self, sequence: Sequence, device: torch.device, where: Literal["auto", "device", "host"]) -> None:
        self._images = sequence.images
        self._device = device
        self._staged: list[tuple[Tensor, torch.cuda.Event]] = []
        self._turn = 0
        if device.type == "cuda":
            if where == "auto":
                free, _ = torch.cuda.mem_get_info(device)
                where = "device" if self._images.numel() < _SHARE * free else "host"
            if where == "device":
                self._images = self._images.to(device)

    @property
    def on_device(self) -> bool:
        """Whether all of them are where they are wanted."""
        return self._images.device.type == self._device.type

    def read(self, frames: Tensor) -> Tensor:
        """Pictures [B, H, W, 3] of `frames` [B], which are indices on the CPU."""
        if self.on_device:
            return self._images[frames.to(self._device, non_blocking=True)]
        return self._send(frames)

    def _send(self, frames: Tensor) -> Tensor:
        shape = len(frames), *self._images.shape[1:]
        if len(self._staged) < _STAGES:
            self._staged.append((torch.empty(shape, dtype=torch.uint8, pin_memory=True), torch.cuda.Event()))
        page, sent = self._staged[self._turn]
        sent.synchronize()
        if page.shape != shape:
            page = torch.empty(shape, dtype=torch.uint8, pin_memory=True)
            self._staged[self._turn] = page, sent
        torch.index_select(self._images, 0, frames, out=page)
        result = page.to(self._device, non_blocking=True)
        sent.record()
        self._turn = (self._turn + 1) % _STAGES
        return result
