"""Keeping MediaPipe's start-up chatter off the terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stavatar.errors import AssetError, BackendError, reason


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


@contextmanager
def loading(model: Path) -> Iterator[None]:
    """Where a model file is loaded and tried: native messages are hidden.

    Raises:
        AssetError: the file is no such model.
        BackendError: a library of the system that MediaPipe draws with is missing, as on a server without graphics.
    """
    try:
        with native_messages_hidden():
            yield
    except (RuntimeError, ValueError) as error:
        raise AssetError(
            f"{model} is not a model that can be used ({reason(error)}): run `stavatar assets`, or give another file"
        ) from error
    except OSError as error:
        raise BackendError(
            f"MediaPipe, which finds faces, cannot start: {reason(error)}. It needs the system's libEGL and libGLESv2, "
            "even without a display; on Debian and Ubuntu: apt install libegl1 libgles2"
        ) from error
