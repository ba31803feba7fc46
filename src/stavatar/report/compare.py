"""A table over runs and subjects that does not pass off figures of different protocols as comparable.

Rows are runs, grouped by subject. Within a subject the best figure of each column is marked, among the runs that were
measured alike; where several protocols meet in a table, every row carries the mark of its own, and what the marks stand
for is written below. Means over subjects are taken within one protocol and over the subjects that all methods have.
"""

from __future__ import annotations

import string
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from stavatar.errors import InputError
from stavatar.evaluation.results_file import read_results
from stavatar.run import Run


@dataclass(frozen=True)
class Source:
    """A result to compare.

    Attributes:
        path: run folder or result file.
        label: what the run is called; empty for its folder's name.
        subject: who it shows; empty for whom the result names.
    """

    path: Path
    label: str = ""
    subject: str = ""


@dataclass(frozen=True)
class Column:
    """A measure of the table.

    Attributes:
        label: its heading.
        path: where it stands in a result.
        decimals: that are shown.
        higher: whether more is better.
        depends: on what else than the protocol it depends: figures compete where that is the same.
    """

    label: str
    path: tuple[str, ...]
    decimals: int
    higher: bool
    depends: Literal["", "machine", "lpips_frames"] = ""


COLUMNS = (
    Column("PSNR", ("metrics", "psnr"), 2, True),
    Column("SSIM", ("metrics", "ssim"), 4, True),
    Column("LPIPS alex", ("metrics", "lpips_alex"), 4, False, "lpips_frames"),
    Column("LPIPS vgg", ("metrics", "lpips_vgg"), 4, False, "lpips_frames"),
    Column("LPIPS alex 01", ("metrics", "lpips_alex_01"), 4, False, "lpips_frames"),
    Column("PSNR mouth", ("metrics_regions", "mouth", "psnr"), 2, True),
    Column("PSNR as tracked", ("metrics_as_tracked", "psnr"), 2, True),
    Column("Flicker", ("metrics", "flicker"), 5, False),
    Column("FPS", ("speed", "single_fps"), 0, True, "machine"),
    Column("Training s", ("stage_seconds", "training"), 0, False, "machine"),
)
"""In this order; a column that no run has is left out."""


@dataclass(frozen=True)
class Cell:
    """A figure, and whether it is the best of its group; no figure where there is none."""

    value: float | None
    best: bool = False


@dataclass(frozen=True)
class Line:
    """A row of the table: one run, or the mean of a method.

    Attributes:
        group: the subject, or what a mean is taken over.
        label: of the method.
        mark: of the protocol, a letter; empty where the whole table has one.
        cells: one for each column.
    """

    group: str
    label: str
    mark: str
    cells: list[Cell]


@dataclass(frozen=True)
class Comparison:
    """The table: columns, lines in order, and what its marks stand for."""

    columns: list[Column]
    lines: list[Line]
    notes: list[str]


@dataclass(frozen=True)
class _Entry:
    """A result and what it is compared by."""

    subject: str
    label: str
    protocol: str
    machine: str
    lpips_frames: str
    values: list[float | None]

    def condition(self, column: Column) -> str:
        """Besides the protocol, what must be the same in two entries for their figures in a column to compete."""
        return getattr(self, column.depends) if column.depends else ""


def compare(sources: list[str]) -> Comparison:
    """Read runs and put their figures side by side.

    Args:
        sources: run folders or result files; ``LABEL=PATH`` says what a run is called, else it is its folder's name,
            with as many of the folders above as are needed to tell the runs of a subject apart.

    Raises:
        InputError: a result is missing or damaged, or two runs of a subject have the same label.
    """
    return compare_sources([_named(source) for source in sources])


def compare_sources(sources: list[Source]) -> Comparison:
    """The same of results that a program names; see :func:`compare`."""
    entries = _entries(sources)
    protocols = list(dict.fromkeys(entry.protocol for entry in entries))
    marks = dict.fromkeys(protocols, "")
    if len(protocols) > 1:
        letters = [a + b for a in ("", *string.ascii_lowercase) for b in string.ascii_lowercase]
        marks = dict(zip(protocols, letters, strict=False))
    shown = [k for k in range(len(COLUMNS)) if any(entry.values[k] is not None for entry in entries)]
    lines = []
    for subject in dict.fromkeys(entry.subject for entry in entries):
        lines += _group([entry for entry in entries if entry.subject == subject], subject, marks, shown)
    notes = [f"{marks[protocol]}: {protocol}" if marks[protocol] else f"Protocol: {protocol}" for protocol in protocols]
    for protocol in protocols:
        alike = [entry for entry in entries if entry.protocol == protocol]
        common = _common_subjects(alike)
        if len(common) > 1:
            group = f"mean over {len(common)} subjects"
            lines += _group(_means(alike, common), group, marks, shown)
            notes.append(f"Subjects of the {group}{marks[protocol] and f' ({marks[protocol]})'}: {', '.join(common)}.")
    if len(protocols) > 1:
        notes.append("Rows with different marks were not measured alike and cannot be compared with each other.")
    machines = {entry.machine for entry in entries}
    if len(machines) > 1:
        notes.append(f"Speeds and times are those of different machines: {'; '.join(sorted(machines))}.")
    partly = {entry.lpips_frames for entry in entries if len(set(entry.lpips_frames.split(" of "))) > 1}
    if partly:
        notes.append(f"LPIPS is in part the mean over some of the frames: {', '.join(sorted(partly))}.")
    return Comparison([COLUMNS[k] for k in shown], lines, notes)


def _entries(sources: list[Source]) -> list[_Entry]:
    """Read all results and name them."""
    found = []
    for source in sources:
        file = source.path if source.path.is_file() else Run(source.path).results
        results = read_results(file)
        found.append((source.label, file.resolve().parent, source.subject or results["name"], results))
    if not found:
        raise InputError("there is nothing to compare: name the folders of runs")
    labels = _labels([(label, folder, subject) for label, folder, subject, _ in found])
    entries = [
        _Entry(
            subject=subject,
            label=label,
            protocol=describe(results),
            machine=str(results["versions"].get("device")),
            lpips_frames=str(results["metrics"].get("lpips_frames")),
            values=[_value(results, column.path) for column in COLUMNS],
        )
        for label, (_, _, subject, results) in zip(labels, found, strict=True)
    ]
    subjects = [entry.subject for entry in entries]
    if len(set(subjects)) == len(subjects) and not any(label for label, _, _, _ in found):
        # One run of each subject: folders are named after subjects then, and the method is the same.
        presets = [results["preset"] for _, _, _, results in found]
        entries = [replace(entry, label=preset) for entry, preset in zip(entries, presets, strict=True)]
    return entries


def _named(source: str) -> Source:
    """``LABEL=PATH`` or ``PATH``; a path that holds an equals sign and is there is a path."""
    label, separator, path = source.partition("=")
    if separator and not Path(source).exists():
        return Source(Path(path), label.strip())
    return Source(Path(source))


def _labels(runs: list[tuple[str, Path, str]]) -> list[str]:
    """A name for each run of (given label, folder, subject), unique within its subject."""
    names = []
    for k, (given, folder, subject) in enumerate(runs):
        others = [other for j, (label, other, of) in enumerate(runs) if j != k and of == subject and not label]
        length = 1
        while length < len(folder.parts) and any(other.parts[-length:] == folder.parts[-length:] for other in others):
            length += 1
        names.append(given or "/".join(folder.parts[-length:]))
    for subject in {subject for _, _, subject in runs}:
        own = [name for name, (_, _, of) in zip(names, runs, strict=True) if of == subject]
        for name in own:
            if own.count(name) > 1:
                raise InputError(f"two runs of {subject} are called {name}: give them names, as in NAME=RUN")
    return names


def describe(results: dict[str, Any]) -> str:
    """Everything in which results must agree for their figures to be comparable, in words."""
    protocol = results["protocol"]
    share = protocol["holdout"] / ((protocol["holdout"] + protocol["train_frames"]) or 1)
    held_out = f"custom, the last {share:.0%} held out" if protocol["name"] == "custom" else protocol["name"]
    if protocol["frame_step"] != 1:
        held_out += f" of every {protocol['frame_step']}th frame"
    return "; ".join(
        [
            held_out,
            *(f"but {deviation}" for deviation in protocol["deviations"]),
            f"{' x '.join(map(str, protocol['size']))} pixels",
            f"mask {protocol['mask']}",
            f"background {protocol['background']}",
            f"tracker {results['tracker']}",
            results["test_tracking"],
        ]
    )


def _value(results: dict[str, Any], path: tuple[str, ...]) -> float | None:
    found: Any = results
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return float(found) if isinstance(found, int | float) else None


def _group(entries: list[_Entry], group: str, marks: dict[str, str], shown: list[int]) -> list[Line]:
    """Lines of entries that stand together, the best figure of those measured alike marked."""

    def cell(entry: _Entry, k: int) -> Cell:
        alike = [other for other in entries if other.protocol == entry.protocol]
        known = [measured for other in alike if (measured := other.values[k]) is not None]
        value, column = entry.values[k], COLUMNS[k]
        if value is None or len(known) < 2 or len({other.condition(column) for other in alike}) > 1:
            return Cell(value)
        return Cell(value, value == (max if column.higher else min)(known))

    return [Line(group, entry.label, marks[entry.protocol], [cell(entry, k) for k in shown]) for entry in entries]


def _common_subjects(entries: list[_Entry]) -> list[str]:
    """The subjects that all methods have been tried on: a mean over others would compare subjects, not methods."""
    subjects = [{entry.subject for entry in entries if entry.label == label} for label in {e.label for e in entries}]
    return sorted(set.intersection(*subjects))


def _means(entries: list[_Entry], subjects: list[str]) -> list[_Entry]:
    """An entry for each method with its means over some subjects, all measured alike."""
    means = []
    for label in dict.fromkeys(entry.label for entry in entries):
        own = [entry for entry in entries if entry.label == label and entry.subject in subjects]
        values = [_mean([entry.values[k] for entry in own]) for k in range(len(COLUMNS))]
        machine, lpips_frames = (
            "; ".join(sorted({getattr(entry, name) for entry in own})) for name in ("machine", "lpips_frames")
        )
        means.append(_Entry("", label, own[0].protocol, machine, lpips_frames, values))
    return means


def _mean(values: list[float | None]) -> float | None:
    """None where any is missing: a mean over fewer subjects is another figure."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None
