"""How Numba kernels are compiled, cached and given threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numba
import numpy as np
import torch
from numba.core import config


def kernel(*, parallel: bool = False, inline: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`numba.njit` with our flags and, where some folder can be written, a cache on disk.

    Numba keeps the machine code beside the source, or, where the installation is read-only, in the user's cache folder
    (or in NUMBA_CACHE_DIR); where none of these can be written it refuses the function, and we compile it anew in each
    process instead. Code of another CPU or another Numba is never taken from the cache.

    No "fast math": Numba optimises a kernel once more for its cache than for the process that compiles it, and what may
    be added in another order would then come to other bits. Kernels say themselves which products and sums are one
    operation, and what is done eight at a time (`vectors.py`).
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
