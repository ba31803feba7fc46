"""The floor of a piece of work: the bytes that it has to move and the operations that it has to do.

Bytes are those of its inputs and outputs, each moved once: what lies between could stay in registers and caches.
Forward and backward together read the inputs twice, write and read the outputs and their gradients, and write the
gradients of what is learned. Matrix products and convolutions are counted by torch; for the others this file says how
many operations a value takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

SPLAT_FORWARD, SPLAT_BACKWARD = 36, 55
"""Operations per (Gaussian, pixel) pair that is blended, as the CPU's kernels do them: distance, exponential, weights,
three colours; on the way back the same again, and ten sums."""
PHOTOMETRIC = 420
"""Operations per value of a picture: five blurs with two passes of eleven taps, three on the way back, the formula."""
BINDING = 700
"""Operations per Gaussian: the face's frame, two quaternion products, offsets; there and back."""
ADAM = 14
"""Operations per learned number."""


@dataclass(frozen=True)
class Floor:
    """Bytes moved and operations done at least; `reduced`: the operations may run in bfloat16 on this device."""

    moved: float
    operations: float
    reduced: bool = False


def size_of(tensors: Iterable[Tensor]) -> int:
    """Bytes of some tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def forward_bytes(inputs: Iterable[Tensor], outputs: Iterable[Tensor]) -> int:
    """Bytes moved by computing outputs from inputs."""
    return size_of(inputs) + size_of(outputs)


def both_bytes(inputs: Iterable[Tensor], outputs: Iterable[Tensor]) -> int:
    """Bytes moved by computing outputs from inputs and then the inputs' gradients from the outputs'."""
    inputs = list(inputs)
    return 2 * (size_of(inputs) + size_of(outputs)) + size_of(tensor for tensor in inputs if tensor.requires_grad)


def products(work: Callable[[], object]) -> int:
    """Operations of the matrix products and convolutions in `work`."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def adam(parameters: Iterable[Tensor]) -> Floor:
    """One step of Adam: value, gradient and two moments read, all but the gradient written."""
    parameters = list(parameters)
    return Floor(7 * size_of(parameters), ADAM * sum(tensor.numel() for tensor in parameters))


def no_gradients(work: Callable[[], object]) -> Callable[[], object]:
    """`work` without recording gradients."""

    def forward() -> object:
        with torch.no_grad():
            return work()

    return forward
