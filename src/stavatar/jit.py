"""How Numba kernels are compiled, cached and given threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numba
import numpy as np
import torch
from llvmlite import ir
from numba.core import config
from numba.core.types import Float
from numba.extending import intrinsic


def kernel(*, parallel: bool = False, inline: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`numba.njit` with our flags and, where some folder can be written, a cache on disk.

    Numba keeps the machine code beside the source, or, where the installation is read-only, in the user's cache folder
    (or in NUMBA_CACHE_DIR); where none of these can be written it refuses the function, and we compile it anew in each
    process instead. Code of another CPU or another Numba is never taken from the cache.

    No "fast math": Numba optimises a kernel once more for its cache than for the process that compiles it, and what may
    be added in another order would then come to other bits. Kernels say themselves which products and sums are one
    operation (:func:`fma`), and add up in lanes where the order is to be a vector's.
    """
    flags: dict[str, Any] = {"parallel": parallel, "error_model": "numpy", "nogil": True}
    if inline:
        flags["inline"] = "always"

    def compile_lazily(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            return numba.njit(cache=True, **flags)(function)
        except RuntimeError:  # "cannot cache function ...: no locator available"
            return numba.njit(**flags)(function)

    return compile_lazily


def _fused(_, a, b, c):  # type: ignore[no-untyped-def]
    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        kind = context.get_value_type(signature.return_type)
        function = builder.module.declare_intrinsic("llvm.fmuladd", [kind], ir.FunctionType(kind, [kind] * 3))
        return builder.call(function, arguments)

    return (a(a, b, c), generate) if isinstance(a, Float) and a == b == c else None


fma: Any = intrinsic(_fused)
"""``fma(a, b, c)`` in a kernel: a * b + c, rounded once where the processor can do that, for floats of one type.

The only thing that a kernel may use from another file: those that are cached do not notice when it changes.
"""


def array_of(tensor: torch.Tensor) -> np.ndarray:
    """What kernels read of a tensor on the CPU: its numbers in order, copied only where they lie otherwise."""
    return tensor.detach().contiguous().numpy()


@kernel(parallel=True)
def _touch(values):  # type: ignore[no-untyped-def]
    for i in numba.prange(values.shape[0]):
        values[i] = i


_lock = threading.Lock()
_started = False


@contextmanager
def threads() -> Iterator[int]:
    """Run kernels inside: they use as many threads as torch does now, and yield that number.

    Starting Numba's threads resets torch's thread count, so the first entry starts them and then gives torch its own
    number back. Numba's count belongs to each Python thread and is set at each entry. One Python thread at a time:
    where Numba has no OpenMP or TBB, two concurrent launches would end the process.
    """
    global _started
    with _lock:
        torch_count = torch.get_num_threads()
        count = max(1, min(torch_count, config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
        numba.set_num_threads(count)
        if not _started:
            _touch(np.empty(count))
            torch.set_num_threads(torch_count)
            _started = True
        yield count
