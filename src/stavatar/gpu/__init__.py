"""What a GPU has for us beyond torch's own operations."""

from __future__ import annotations

import functools

import torch

_OLDEST = (3, 3)  # of Triton: kernels before it know no tuples


def has_kernels(device: torch.device) -> bool:
    """Whether our Triton kernels run on `device`: a CUDA GPU, and Triton, which comes with torch's builds for Linux."""
    return device.type == "cuda" and _has_triton()


@functools.cache
def _has_triton() -> bool:
    try:
        import triton
    except ImportError:
        return False
    major, minor, *_ = triton.__version__.split(".")
    return (int(major), int(minor)) >= _OLDEST
