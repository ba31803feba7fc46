"""Two benchmarks side by side: what changed by more than its own spread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_TOLD = ("device", "threads", "commit", "torch", "numba", "gsplat")


@dataclass(frozen=True)
class Change:
    """One row in both files.

    Attributes:
        part, variant, frames: which.
        before, after: medians in milliseconds.
        ratio: after / before; below one is faster.
        verdict: ``faster`` or ``slower`` where the quartiles do not meet, else ``same``.
    """

    part: str
    variant: str
    frames: int
    before: float
    after: float
    ratio: float
    verdict: str


@dataclass(frozen=True)
class Comparison:
    """All rows that both files have, those that only one has, and what else differs between the two measurements."""

    changes: list[Change]
    only_before: list[str]
    only_after: list[str]
    circumstances: dict[str, tuple[str, str]]


def compare(before: dict[str, Any], after: dict[str, Any]) -> Comparison:
    """Compare two benchmarks as :func:`~stavatar.bench.result_file.read_benchmark` reads them."""
    rows_before, rows_after = (_by_key(file) for file in (before, after))
    shared = [key for key in rows_before if key in rows_after]
    told_before, told_after = (_told(file) for file in (before, after))
    return Comparison(
        changes=[_change(rows_before[key], rows_after[key]) for key in shared],
        only_before=[_name(key) for key in rows_before if key not in rows_after],
        only_after=[_name(key) for key in rows_after if key not in rows_before],
        circumstances={
            name: (told_before.get(name, "-"), told_after.get(name, "-"))
            for name in dict.fromkeys([*told_before, *told_after])
            if told_before.get(name) != told_after.get(name)
        },
    )


def _by_key(file: dict[str, Any]) -> dict[tuple[str, str, int], dict[str, Any]]:
    return {(row["part"], row["variant"], row["frames"]): row for row in file["rows"]}


def _name(key: tuple[str, str, int]) -> str:
    return f"{key[0]}, {key[1]}, {key[2]} frames"


def _change(before: dict[str, Any], after: dict[str, Any]) -> Change:
    verdict = "same"
    if after["high"] < before["low"]:
        verdict = "faster"
    elif after["low"] > before["high"]:
        verdict = "slower"
    ratio = after["median"] / before["median"]
    return Change(
        before["part"], before["variant"], before["frames"], before["median"], after["median"], ratio, verdict
    )


def _told(file: dict[str, Any]) -> dict[str, str]:
    """What the numbers depend on besides the code."""
    everything = {**file["versions"], **{name: file[name] for name in ("device", "threads")}}
    settings = {f"setting {name}": str(value) for name, value in file["settings"].items()}
    return {name: str(everything[name]) for name in _TOLD if everything.get(name) is not None} | settings
