"""What ``results.json`` holds, and reading it back with every field checked: the file may come from anywhere.

Nothing here needs torch, so that pages and tables of results are made in no time.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stavatar.errors import InputError
from stavatar.files import read_json

FORMAT = "stavatar-results-3"


@dataclass(frozen=True)
class Each:
    """The shape of a mapping from any names to values of one shape; or of null as well."""

    shape: Any
    or_null: bool = False


_NUMBER = (int, float)
_FIGURE = (int, float, type(None))
_TEXT = (str, type(None))

SHAPE: dict[str, Any] = {
    "format": str,
    "name": str,
    "preset": str,
    "seed": int,
    "head_model": str,
    "tracker": str,
    "protocol": {
        "name": str,
        "definition": str,
        "deviations": [str],
        "split": str,
        "holdout": int,
        "train_frames": int,
        "unusable_frames": int,
        "frame_step": int,
        "size": [int],
        "mask": str,
        "background": str,
    },
    "test_tracking": str,
    "history": Each(str),
    "metrics": Each((*_FIGURE, str)),
    "metrics_as_tracked": Each((*_FIGURE, str), or_null=True),
    "metrics_regions": Each(Each(_FIGURE)),
    "reenactment": Each((dict, type(None))),
    "metrics_missing": Each(str),
    "metric_definitions": Each({"better": str, "definition": str, "input_range": str, "network": _TEXT}),
    "region_definitions": Each(str),
    "per_frame": Each([_FIGURE]),
    "gaussians": int,
    "speed": {"single_fps": _NUMBER, "batched_fps": _NUMBER, "batch": int, "definition": str},
    "stage_seconds": Each(_NUMBER),
    "peak_memory_mb": _FIGURE,
    "peak_gpu_memory_mb": _FIGURE,
    "measured_at": str,
    "versions": Each(_TEXT),
}
"""What the file holds: a type or several, a list of one shape, the fields of an object, or `Each` of its values.

Objects may hold more than what stands here.
"""


def read_results(path: Path) -> dict[str, Any]:
    """Read and check a result file.

    Raises:
        InputError: it is missing, no result file, of another version, or a field has the wrong type; names the field.
    """
    results = read_json(path, most_bytes=64 << 20)
    if not isinstance(results, dict) or "metrics" not in results:
        raise InputError(f"{path} is not a result file of stavatar")
    if results.get("format") != FORMAT:
        raise InputError(f"{path} has another format than {FORMAT}: write it anew with `stavatar evaluate`")
    _check(results, SHAPE, str(path), "")
    lengths = {name: len(values) for name, values in results["per_frame"].items()}
    if len(set(lengths.values())) > 1 or None in results["per_frame"].get("frame", [None]):
        raise InputError(f"{path}: per_frame must hold lists of one length, with the frames under frame: {lengths}")
    return results


def _check(value: Any, shape: Any, source: str, where: str) -> None:
    if isinstance(shape, dict):
        _require(value, dict, source, where)
        for name, inner in shape.items():
            if name not in value:
                raise InputError(f"{source} lacks {where}{name}")
            _check(value[name], inner, source, f"{where}{name}.")
    elif isinstance(shape, Each):
        if value is None and shape.or_null:
            return
        _require(value, dict, source, where)
        for name, item in value.items():
            _check(item, shape.shape, source, f"{where}{name}.")
    elif isinstance(shape, list):
        _require(value, list, source, where)
        for item in value:
            _check(item, shape[0], source, where)
    else:
        _require(value, shape, source, where)


def _require(value: Any, kind: Any, source: str, where: str) -> None:
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        names = " or ".join(one.__name__ for one in kinds)
        raise InputError(f"{source}: {where.rstrip('.') or 'the file'} must be {names}, not {type(value).__name__}")
