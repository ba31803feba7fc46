"""Result files are checked before anything believes them."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stavatar.errors import InputError
from stavatar.evaluation.results_file import SHAPE, read_results


@pytest.fixture
def content(results: dict[str, Any]) -> dict[str, Any]:
    return copy.deepcopy(results)


def reading(folder: Path, content: Any) -> dict[str, Any]:
    path = folder / "results.json"
    path.write_text(json.dumps(content))
    return read_results(path)


def required(shape: dict[str, Any], *above: str) -> Iterator[tuple[str, ...]]:
    """The path of every field that the shape asks for."""
    for name, inner in shape.items():
        yield (*above, name)
        if isinstance(inner, dict):
            yield from required(inner, *above, name)


def test_a_complete_file_is_read_as_it_is(content: dict[str, Any], tmp_path: Path) -> None:
    assert reading(tmp_path, content) == content
    assert reading(tmp_path, {**content, "of later versions": [1]})["of later versions"] == [1]


@pytest.mark.parametrize("path", [path for path in required(SHAPE) if path != ("format",)], ids=".".join)
def test_every_field_is_needed_and_of_its_type(path: tuple[str, ...], content: dict[str, Any], tmp_path: Path) -> None:
    target = content
    for name in path[:-1]:
        target = target[name]
    target[path[-1]] = {"of": "another type"} if not isinstance(target[path[-1]], dict) else "text"
    with pytest.raises(InputError, match=rf"results\.json.*{path[-1]}"):
        reading(tmp_path, content)
    del target[path[-1]]
    with pytest.raises(InputError, match=r"lacks|not a result file"):
        reading(tmp_path, content)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("metrics", "psnr"), [30], r"metrics\.psnr must be int or float or NoneType or str, not list"),
        (("metrics", "psnr"), True, r"metrics\.psnr must be .*, not bool"),
        (("per_frame", "psnr"), ["30"], r"per_frame\.psnr must be .*, not str"),
        (("per_frame", "psnr"), [30.0], "lists of one length"),
        (("per_frame", "frame"), [None] * 12, "lists of one length"),
        (("metrics_regions", "mouth"), 27.0, r"metrics_regions\.mouth must be dict"),
        (("metric_definitions", "psnr"), {}, r"lacks metric_definitions\.psnr\.better"),
        (("protocol", "deviations"), [1], r"protocol\.deviations must be str"),
        (("format",), "stavatar-results-1", "write it anew with `stavatar evaluate`"),
    ],
)
def test_values_are_checked_all_the_way_down(
    path: tuple[str, ...], value: Any, message: str, content: dict[str, Any], tmp_path: Path
) -> None:
    target = content
    for name in path[:-1]:
        target = target[name]
    target[path[-1]] = value
    with pytest.raises(InputError, match=message):
        reading(tmp_path, content)


@pytest.mark.parametrize("content", [[], 3, {}, {"metrics_head": {}}])
def test_other_json_is_no_result(content: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a result file of stavatar"):
        reading(tmp_path, content)
