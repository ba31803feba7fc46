"""From the results of many runs to a table: mean and spread over seeds, and the paired difference to ``full``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from stavatar.ablation.rows import FULL, Row

Measured = dict[str, float | None]
"""Measure -> its value in one run; None where it is missing."""


@dataclass(frozen=True)
class Measure:
    """One column.

    Attributes:
        title: above it.
        keys: where in ``results.json`` the value is.
        digits: after the point.
        better: which way is better, an arrow; empty where neither is.
    """

    title: str
    keys: tuple[str, ...]
    digits: int
    better: str = ""


MEASURES: dict[str, Measure] = {
    "psnr": Measure("PSNR", ("metrics", "psnr"), 2, "↑"),
    "ssim": Measure("SSIM", ("metrics", "ssim"), 4, "↑"),
    "lpips_alex": Measure("LPIPS alex", ("metrics", "lpips_alex"), 4, "↓"),
    "lpips_vgg": Measure("LPIPS vgg", ("metrics", "lpips_vgg"), 4, "↓"),
    "gaussians": Measure("Gaussians", ("gaussians",), 0),
    "gaussians_mouth": Measure("of these inside the mouth", ("gaussians_mouth",), 0),
    "seconds": Measure("training, s", ("stage_seconds", "training"), 0),
    "mouth_psnr": Measure("mouth PSNR", ("metrics_regions", "mouth", "psnr"), 2, "↑"),
    "mouth_l1": Measure("mouth L1", ("metrics_regions", "mouth", "l1"), 4, "↓"),
    "mouth_interior_psnr": Measure("mouth interior PSNR", ("metrics_regions", "mouth_interior", "psnr"), 2, "↑"),
    "mouth_interior_l1": Measure("mouth interior L1", ("metrics_regions", "mouth_interior", "l1"), 4, "↓"),
    "eyes_psnr": Measure("eyes PSNR", ("metrics_regions", "eyes", "psnr"), 2, "↑"),
    "eyes_l1": Measure("eyes L1", ("metrics_regions", "eyes", "l1"), 4, "↓"),
}
"""All columns, by their name in ``ablation.json``."""

WHOLE = ("psnr", "ssim", "lpips_alex", "lpips_vgg", "gaussians", "gaussians_mouth", "seconds")
REGIONS = ("mouth_psnr", "mouth_l1", "mouth_interior_psnr", "mouth_interior_l1", "eyes_psnr", "eyes_l1")
DIFFERENCES = (
    *("psnr", "ssim", "lpips_alex", "lpips_vgg", "mouth_psnr", "mouth_interior_psnr", "eyes_psnr"),
    *("gaussians", "gaussians_mouth", "seconds"),
)


@dataclass(frozen=True)
class Summary:
    """`mean` and sample standard deviation `std` of `n` values; `std` is None where there is only one."""

    mean: float
    std: float | None
    n: int


def read_measures(results: dict[str, Any]) -> Measured:
    """The columns of one run from the content of its ``results.json``; what is not in there is None."""
    found: Measured = {}
    for name, measure in MEASURES.items():
        value: Any = results
        for key in measure.keys:
            value = value.get(key) if isinstance(value, dict) else None
        found[name] = float(value) if isinstance(value, int | float) else None
    return found


def summarise(values: list[float]) -> Summary | None:
    """Mean and spread; None of no values."""
    if not values:
        return None
    mean = sum(values) / len(values)
    if len(values) == 1:
        return Summary(mean, None, 1)
    return Summary(mean, math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1)), len(values))


def summaries(runs: dict[int, Measured]) -> dict[str, Summary | None]:
    """Each measure over the seeds of one row, where it was measured."""
    return {name: summarise([value for run in runs.values() if (value := run[name]) is not None]) for name in MEASURES}


def differences(runs: dict[int, Measured], baseline: dict[int, Measured]) -> dict[str, Summary | None]:
    """Each measure's difference to the run of the same seed in `baseline`, over the seeds that both have.

    Seeds share what is random at the start, so the spread of the differences is what tells whether a row is better.
    """
    result = {}
    for name in MEASURES:
        pairs = [(runs[seed][name], baseline[seed][name]) for seed in runs if seed in baseline]
        result[name] = summarise([ours - theirs for ours, theirs in pairs if ours is not None and theirs is not None])
    return result


def write_table(
    rows: list[Row], measured: dict[str, dict[int, Measured]], failures: dict[str, str], facts: dict[str, str]
) -> str:
    """The whole of ``ablation.md``.

    Args:
        rows: in the order of the table.
        measured: row -> seed -> what was measured.
        failures: run -> why it failed.
        facts: what all numbers depend on: name -> value.
    """
    found = {row.name: summaries(measured.get(row.name, {})) for row in rows}
    counts = {row.name: len(measured.get(row.name, {})) for row in rows}
    baseline = measured.get(FULL.name, {})
    compared = {row.name: differences(measured.get(row.name, {}), baseline) for row in rows if row.name != FULL.name}
    parts = [
        "# Ablation",
        "\n".join(f"- {name}: {value}" for name, value in facts.items()),
        "Each figure is the mean over n runs with different seeds ± their sample standard deviation (none for one "
        "run), measured on held-out frames. Arrows show which way is better.",
        "## Whole pictures",
        _grid(found, counts, WHOLE),
        "## Regions",
        _grid(found, counts, REGIONS),
        "## Difference to `full`",
        "Run minus the run of `full` with the same seed: mean ± sample standard deviation over the pairs.",
        _grid(compared, counts, DIFFERENCES, signed=True) if compared else "There is no other row.",
        "## Rows",
        "\n".join(_described(row) for row in rows),
    ]
    if failures:
        parts += ["## Failed", "\n".join(f"- {name}: {reason}" for name, reason in failures.items())]
    return "\n\n".join(parts) + "\n"


def _grid(
    found: dict[str, dict[str, Summary | None]], counts: dict[str, int], names: tuple[str, ...], *, signed: bool = False
) -> str:
    head = [f"{MEASURES[name].title} {MEASURES[name].better}".strip() for name in names]
    lines = ["| " + " | ".join(["row", "n", *head]) + " |", "|---" * (len(head) + 2) + "|"]
    for row, values in found.items():
        cells = [written(values[name], MEASURES[name].digits, signed=signed) for name in names]
        lines.append("| " + " | ".join([f"`{row}`", str(counts[row]), *cells]) + " |")
    return "\n".join(lines)


def written(summary: Summary | None, digits: int, *, signed: bool = False) -> str:
    """A figure with its spread, as tables show it."""
    if summary is None:
        return "missing"
    mean = f"{summary.mean:{'+' if signed else ''},.{digits}f}"
    return mean if summary.std is None else f"{mean} ± {summary.std:,.{digits}f}"


def _described(row: Row) -> str:
    changes = ", ".join(f"`{setting}`" for setting in row.settings)
    return f"- `{row.name}`: {row.meaning}{f' ({changes})' if changes else ''}"
