"""Writing files so that a reader never sees half of one.

Every file is first written under a temporary name in the folder where it will live, flushed to the disk, and then
renamed over its final name: the rename is atomic on one file system, so a killed process leaves either the old file or
the new one.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stavatar.errors import InputError


def by_number(file: Path) -> list[tuple[int, str]]:
    """A key that sorts file names with numbers in them by value: ``f2`` before ``f10``."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", file.stem)]


@contextmanager
def atomic_path(final: Path) -> Iterator[Path]:
    """Yield a temporary path next to `final` (same suffix); rename it to `final` when the block ends well.

    The parent folder is created. If the block raises, the temporary file is removed and `final` is left as it was.
    """
    final = Path(final)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=final.parent, prefix=f".{final.stem}-", suffix=f".partial{final.suffix}")
    except OSError as error:
        raise InputError(f"cannot write {final}: {error.strerror or error}") from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(final)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write `content` to `path` atomically, as UTF-8."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: Any, *, indent: int | None = 2) -> None:
    """Write `content` as strict JSON (no NaN or Infinity), atomically."""
    write_text(path, json.dumps(content, indent=indent, allow_nan=False) + "\n")


def read_json(path: Path, *, most_bytes: int = 512 << 20) -> Any:
    """Read JSON from `path`.

    Raises:
        InputError: the file is missing, too large, not JSON, or nested too deep.
    """
    path = Path(path)
    try:
        if path.stat().st_size > most_bytes:
            raise InputError(f"{path} is larger than {most_bytes >> 20} MiB, which no file of this kind should be")
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON: {error}") from error
