"""Reading vectors of three and four in Triton kernels."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def load_three(pointer, at, fits):  # type: ignore[no-untyped-def]
    """Numbers `at`, `at` + 1 and `at` + 2 behind a pointer, one tensor each; zeros where it does not fit."""
    return (
        tl.load(pointer + at, mask=fits, other=0.0),
        tl.load(pointer + at + 1, mask=fits, other=0.0),
        tl.load(pointer + at + 2, mask=fits, other=0.0),
    )


@triton.jit
def load_four(pointer, at, fits):  # type: ignore[no-untyped-def]
    """Likewise four."""
    return (
        tl.load(pointer + at, mask=fits, other=0.0),
        tl.load(pointer + at + 1, mask=fits, other=0.0),
        tl.load(pointer + at + 2, mask=fits, other=0.0),
        tl.load(pointer + at + 3, mask=fits, other=0.0),
    )
