"""Arrays out of npz files that anybody may have made: nothing is unpickled, and sizes are looked at first."""

from __future__ import annotations

import zipfile
from collections.abc import Collection
from pathlib import Path

import numpy as np

from stavatar.errors import InputError, reason
from stavatar.files import require_file


def read_npz(path: Path, *, most_bytes: int, wanted: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of an npz file.

    Args:
        path: the file.
        most_bytes: that it may unpack to.
        wanted: names to read, as far as they are there; None reads all.

    Raises:
        InputError: the file is missing, damaged, unpacks to more, or something wanted is no array of plain values.
    """
    path = Path(path)
    require_file(path, most_bytes=most_bytes)
    arrays = {}
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > most_bytes:
                raise InputError(f"{path} unpacks to more than {most_bytes >> 20} MiB, which no file of this kind does")
        with np.load(path, allow_pickle=False) as data:
            for name in data.files:
                if wanted is None or name in wanted:
                    arrays[name] = _read(path, name, data)
    except InputError:
        raise
    except Exception as error:  # of zipfile, its decompressors or numpy: a damaged file can make them fail in any way
        raise InputError(f"{path} cannot be read as an npz file: {reason(error)}") from error
    return arrays


def _read(path: Path, name: str, data: np.lib.npyio.NpzFile) -> np.ndarray:
    try:
        array = data[name]
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise InputError(
            f"{path}: {name} holds Python objects and not plain numbers: they are not unpickled"
        ) from error
    if not isinstance(array, np.ndarray):
        raise InputError(f"{path}: {name} is no array")
    return array
