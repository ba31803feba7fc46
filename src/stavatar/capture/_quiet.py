"""Keeping MediaPipe's start-up chatter off the terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def native_messages_hidden() -> Iterator[None]:
    """Let nothing through to standard error, not even what native code writes to it, until the block ends.

    MediaPipe logs half a dozen lines that mean nothing to a user while a model starts, and offers no way to turn them
    off. Its errors arrive as Python exceptions all the same.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(nowhere)
        os.close(kept)
