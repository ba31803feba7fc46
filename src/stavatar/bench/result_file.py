"""The file that a benchmark leaves, and reading it back with every field checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stavatar.errors import InputError
from stavatar.files import read_json

FORMAT = "stavatar-bench-1"
_NUMBER = (int, float)
_FIELDS: dict[str, Any] = {
    "command": str,
    "date": str,
    "device": str,
    "device_type": str,
    "threads": int,
    "versions": dict,
    "settings": dict,
    "rows": list,
    "missing": dict,
}
_ROW: dict[str, Any] = {
    "part": str,
    "variant": str,
    "frames": int,
    "median": _NUMBER,
    "low": _NUMBER,
    "high": _NUMBER,
    "repeats": int,
}


def read_benchmark(path: Path) -> dict[str, Any]:
    """Read and check what `stavatar bench` wrote.

    Raises:
        InputError: it is missing, no such file, of another version, or a field has the wrong type; names the field.
    """
    content = read_json(path, most_bytes=16 << 20)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"{path} is not a benchmark of this version ({FORMAT}): measure again with `stavatar bench`")
    _check(content, _FIELDS, str(path))
    for index, row in enumerate(content["rows"]):
        if not isinstance(row, dict):
            raise InputError(f"{path}: row {index} must be an object")
        _check(row, _ROW, f"{path}: row {index}")
        if not 0 < row["low"] <= row["median"] <= row["high"]:
            raise InputError(f"{path}: row {index}: quartiles and median must be positive and in order")
    return content


def _check(values: dict[str, Any], fields: dict[str, Any], source: str) -> None:
    for name, kind in fields.items():
        if name not in values:
            raise InputError(f"{source} lacks {name}")
        if not isinstance(values[name], kind) or isinstance(values[name], bool):
            raise InputError(f"{source}: {name} must not be {type(values[name]).__name__}")
