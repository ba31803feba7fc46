"""Comparing two result files: verdicts, and files that are none."""

import copy
import json

import pytest
from typer.testing import CliRunner

from stavatar.bench.compare import compare
from stavatar.bench.result_file import FORMAT, read_benchmark
from stavatar.cli import app
from stavatar.errors import InputError


def row(part, median, spread=0.1, **more):
    return {
        "part": part,
        "variant": "forward",
        "frames": 1,
        "median": median,
        "low": median * (1 - spread),
        "high": median * (1 + spread),
        "repeats": 20,
        **more,
    }


def result(*rows):
    return {
        "format": FORMAT,
        "command": "stavatar bench",
        "date": "2026-01-01T00:00:00+00:00",
        "device": "a processor",
        "device_type": "cpu",
        "threads": 2,
        "versions": {"torch": "2.0", "commit": "1234"},
        "settings": {"preset": "cpu", "gaussians": 10_000},
        "rows": list(rows),
        "missing": {},
    }


@pytest.fixture
def files(tmp_path):
    def write(*contents):
        paths = [tmp_path / f"{index}.json" for index in range(len(contents))]
        for path, content in zip(paths, contents, strict=True):
            path.write_text(json.dumps(content))
        return paths

    return write


def test_only_what_exceeds_the_spread_is_called_a_change():
    before = result(row("head", 10.0), row("network", 10.0), row("rasteriser", 10.0), row("gone", 1.0))
    after = result(row("head", 11.0), row("network", 5.0), row("rasteriser", 20.0), row("new", 1.0))
    found = compare(before, after)
    assert [change.verdict for change in found.changes] == ["same", "faster", "slower"]
    assert [change.ratio for change in found.changes] == pytest.approx([1.1, 0.5, 2.0])
    assert found.only_before == ["gone, forward, 1 frames"]
    assert found.only_after == ["new, forward, 1 frames"]
    assert found.circumstances == {}


def test_what_else_differs_is_told():
    before, after = result(), copy.deepcopy(result())
    after["threads"], after["versions"]["torch"], after["settings"]["gaussians"] = 8, "2.1", 20_000
    found = compare(before, after).circumstances
    assert found == {"threads": ("2", "8"), "torch": ("2.0", "2.1"), "setting gaussians": ("10000", "20000")}


def test_the_command_shows_ratio_and_verdict(files):
    before, after = files(result(row("head", 10.0)), result(row("head", 2.5)))
    shown = CliRunner().invoke(app, ["bench", "--compare", str(before), str(after)])
    assert shown.exit_code == 0, shown.output
    assert "0.25" in shown.output
    assert "faster" in shown.output


@pytest.mark.parametrize(
    "damage, told",
    [
        (lambda file: file.pop("rows"), "lacks rows"),
        (lambda file: file.update(format="stavatar-bench-0"), "measure again"),
        (lambda file: file["rows"][0].pop("median"), "row 0 lacks median"),
        (lambda file: file["rows"][0].update(median="fast"), "median must not be str"),
        (lambda file: file["rows"][0].update(low=20.0), "in order"),
        (lambda file: file["rows"][0].update(low=0, median=0), "positive"),
        (lambda file: file["rows"].append(3), "row 1 must be an object"),
    ],
)
def test_damaged_files_are_refused_with_the_field(files, damage, told):
    content = result(row("head", 10.0))
    damage(content)
    (path,) = files(content)
    with pytest.raises(InputError, match=told):
        read_benchmark(path)


def test_a_sequence_without_a_training_is_refused():
    shown = CliRunner().invoke(app, ["bench", "--sequence", "somewhere"])
    assert shown.exit_code == InputError.exit_code
    assert "--train" in shown.output
