"""What a GPU has for us beyond torch's own operations."""

from __future__ import annotations

from importlib.util import find_spec

import torch

_TRITON = find_spec("triton") is not None


def has_kernels(device: torch.device) -> bool:
    """Whether our Triton kernels run on `device`: a CUDA GPU, and Triton, which comes with torch's builds for Linux."""
    return device.type == "cuda" and _TRITON
