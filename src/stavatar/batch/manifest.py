"""The manifest: a CSV file in which each row is one job. All of it is checked before anything is started."""

from __future__ import annotations

import csv
import io
import math
import re
import reprlib
import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from stavatar import config
from stavatar.batch import storage
from stavatar.errors import InputError, StavatarError, reason
from stavatar.files import read_content
from stavatar.progress import warn

COLUMNS = {
    "name": "unique; also the name of the row's folder and log",
    "task": "reconstruct, train, evaluate or ablate, as the commands of these names",
    "input": "video, sequence or run: a path (relative to the manifest) or a URL",
    "out": "the row's folder: a path (relative to --out) or a URL; OUT/NAME by default",
    "subject": "who it is, where several rows show one person; the row's name by default",
    "method": "what the row is called in the summary's table; the preset by default",
    "preset": "as --preset; auto by default",
    "set": "as --set; several are separated by semicolons",
    "head": "as --head",
    "holdout": "as --holdout",
    "protocol": "as --protocol",
    "seed": "training.seed; for ablate all seeds, separated by commas",
    "rows": "as --rows of ablate",
    "cpus": "CPU cores to set aside, 0.5 is half of one; used by ray",
    "gpus": "GPUs to set aside, 0.25 lets four rows share one, 0 keeps the row on the CPU",
}
"""Every column and what it holds; the first three are required, and an empty field is a column left out."""

_REQUIRED = ("name", "task", "input")
TASKS = ("reconstruct", "train", "evaluate", "ablate")
_UNUSED = {
    "evaluate": ("preset", "set", "holdout", "seed", "rows"),
    "ablate": ("holdout", "protocol"),
    "reconstruct": ("rows",),
    "train": ("rows",),
}
_TAKEN = (".log", ".json", ".md", ".html")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_MOST_BYTES, _MOST_ROWS, _MOST_TOLD = 32 << 20, 100_000, 20
_MOST_LETTERS = 4096  # of a field: as long as paths may be
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Job:
    """One row, checked.

    Attributes:
        line: of the manifest.
        name: unique.
        task: one of :data:`TASKS`.
        input: absolute path or URL.
        out: absolute path or URL of the folder to make.
        subject, method: where it stands in the summary's table; two jobs never share both.
        preset: name, or ``auto``.
        settings: assignments as ``--set`` takes them.
        head: as ``--head`` takes it; empty for what suits the input.
        holdout, protocol: the split; None for the default.
        seeds: of training; none for the preset's.
        rows: of an ablation; empty for all other tasks.
        cpus, gpus: shares to set aside; None for the batch's default.
    """

    line: int
    name: str
    task: str
    input: str
    out: str
    subject: str
    method: str
    preset: str = "auto"
    settings: tuple[str, ...] = ()
    head: str = ""
    holdout: int | None = None
    protocol: str | None = None
    seeds: tuple[int, ...] = ()
    rows: str = ""
    cpus: float | None = None
    gpus: float | None = None


def read_manifest(path: Path, out: str) -> list[Job]:
    """Read and check all rows.

    Args:
        path: the CSV file; lines that start with # are remarks.
        out: folder or URL below which rows go that name no other place.

    Raises:
        InputError: it is no such table, or rows have faults; names all of them with their lines.
    """
    path = Path(path)
    faults: list[str] = []
    jobs: list[Job] = []
    for line, fields in _rows(path, faults):
        row = _Row(line, fields, path.parent.resolve(), out)
        job = row.job()
        if not row.faults:
            jobs.append(job)
        faults += [f"line {line}: {fault}" for fault in row.faults]
    faults += _clashes(jobs)
    _refuse(path, sorted(faults, key=lambda fault: int(re.findall(r"\d+", fault)[0])))
    if not jobs:
        raise InputError(f"{path} holds no rows below its heading")
    return jobs


def _refuse(path: Path, faults: list[str]) -> None:
    """Stop where there are faults, each of which begins with its line: tell all, unless there are very many."""
    if len(faults) == 1:
        raise InputError(f"{path}, {faults[0]}")
    if faults:
        for fault in faults[:_MOST_TOLD]:
            warn(fault)
        more = f", the first {_MOST_TOLD} of them above" if len(faults) > _MOST_TOLD else " (see above)"
        raise InputError(f"{path} has {len(faults):,} faults{more}; nothing was started")


def _rows(path: Path, faults: list[str]) -> list[tuple[int, dict[str, str]]]:
    """(line, column -> text) of each row; empty fields are left out, and rows of another length are faults."""
    heading: list[str] = []
    rows = []
    content = read_content(path, most_bytes=_MOST_BYTES)
    try:
        reader = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        for fields in reader:
            texts = [field.strip() for field in fields]
            if not any(texts) or texts[0].startswith("#"):
                continue
            if not heading:
                heading = texts
                _check_heading(path, heading)
            elif len(texts) != len(heading):
                faults.append(
                    f"line {reader.line_num}: {len(texts)} fields, but the heading has {len(heading)}; put a field "
                    "that holds a comma in double quotes"
                )
            else:
                pairs = zip(heading, texts, strict=True)
                rows.append((reader.line_num, {column: text for column, text in pairs if text}))
            if len(rows) + len(faults) > _MOST_ROWS:
                raise InputError(f"{path} has more than {_MOST_ROWS:,} rows: share them out among several manifests")
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a CSV table in UTF-8: {reason(error)}") from error
    if not heading:
        raise InputError(f"{path} holds no heading: its first line must name the columns, such as name,task,input")
    return rows


def _check_heading(path: Path, heading: list[str]) -> None:
    if len(heading) == 1 and (sign := re.search("[;\t]", heading[0])):
        raise InputError(f"{path} separates its columns by {sign[0]!r}: save it with commas")
    unknown = [column for column in heading if column not in COLUMNS]
    missing = [column for column in _REQUIRED if column not in heading]
    twice = [column for column, times in Counter(heading).items() if times > 1]
    for columns, fault in ((unknown, "unknown"), (twice, "there twice"), (missing, "missing")):
        if columns:
            told = ", ".join(map(reprlib.repr, columns[:_MOST_TOLD]))
            raise InputError(f"{path}: columns {fault}: {told}; known are {', '.join(COLUMNS)}")


class _Row:
    """The fields of a row on their way to a job; what is wrong with them gathers in `faults`."""

    def __init__(self, line: int, fields: dict[str, str], home: Path, out: str) -> None:
        self.line, self.fields, self.home, self.out = line, fields, home, out
        self.faults: list[str] = []

    def job(self) -> Job:
        """The job; it can only be used where there are no faults."""
        fields = self.fields
        self.faults += [f"{column} is empty" for column in _REQUIRED if column not in fields]
        self._drop_illegible()
        name, task, preset = fields.get("name", "-"), fields.get("task", "train"), fields.get("preset", "auto")
        if "name" in fields and not _NAME.fullmatch(name):
            self.faults.append(f"name {name!r}: use letters, digits, dots, dashes and underscores, up to a hundred")
            name = "-"
        if task not in TASKS:
            self.faults.append(f"task {task!r}: expected {', '.join(TASKS)}")
        idle = [column for column in _UNUSED.get(task, ()) if column in fields]
        if idle:
            self.faults.append(f"{', '.join(idle)} means nothing to {task}: leave it empty")
        settings = tuple(part.strip() for part in fields.get("set", "").split(";") if part.strip())
        seeds = self._parsed("seed", _seeds, "a whole number from 0 on") or ()
        self._checked(_check_settings, preset, (*settings, *(f"training.seed={seed}" for seed in seeds)))
        if len(seeds) > 1 and task != "ablate":
            self.faults.append(f"seed {fields['seed']}: {task} takes one; give each seed a row, or use ablate")
        holdout = self._parsed("holdout", _from_one, "a whole number from 1 on")
        if "protocol" in fields:
            self._checked(_check_protocol, fields["protocol"], holdout)
        rows = fields.get("rows", "paper") if task == "ablate" else ""
        if task == "ablate":
            self._checked(_check_rows, rows)
        return Job(
            line=self.line,
            name=name,
            task=task,
            input=self._checked(_input, fields.get("input", "."), self.home) or "",
            out=self._checked(_out, fields.get("out", name), self.out) or "",
            subject=fields.get("subject", name),
            method=fields.get("method", preset),
            preset=preset,
            settings=settings,
            head=self._checked(_head, fields.get("head", ""), self.home) or "",
            holdout=holdout,
            protocol=fields.get("protocol"),
            seeds=seeds or ((0,) if task == "ablate" else ()),
            rows=rows,
            cpus=self._share("cpus"),
            gpus=self._share("gpus"),
        )

    def _drop_illegible(self) -> None:
        """Note as faults the fields that nobody can have meant, and go on without them."""
        for column, text in list(self.fields.items()):
            if len(text) > _MOST_LETTERS:
                self.faults.append(f"{column} has more than {_MOST_LETTERS:,} characters")
                del self.fields[column]
            elif any(unicodedata.category(sign) == "Cc" for sign in text):
                self.faults.append(f"{column} {text!r}: it holds a control character")
                del self.fields[column]

    def _checked(self, function: Callable[..., _Value], *arguments: object) -> _Value | None:
        """What the function gives; None, and a fault noted, where it refuses."""
        try:
            return function(*arguments)
        except StavatarError as error:
            self.faults.append(str(error))
            return None

    def _parsed(self, column: str, parse: Callable[[str], _Value], expected: str) -> _Value | None:
        """A field's value; None where it is empty or, with a fault noted, of the wrong kind."""
        if column not in self.fields:
            return None
        try:
            return parse(self.fields[column])
        except ValueError:
            self.faults.append(f"{column} {self.fields[column]!r}: expected {expected}")
            return None

    def _share(self, column: str) -> float | None:
        share = self._parsed(column, float, "a number")
        if share is not None:
            self._checked(check_share, column, share)
        return share


def _check_settings(preset: str, settings: tuple[str, ...]) -> None:
    # What auto will be is known where the job runs; every preset takes the same settings.
    config.override(config.preset("cpu" if preset == "auto" else preset), list(settings))


def _check_rows(rows: str) -> None:
    from stavatar.ablation.rows import choose_rows

    choose_rows(rows, [])


def _from_one(text: str) -> int:
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


def _seeds(text: str) -> tuple[int, ...]:
    seeds = tuple(int(part) for part in text.split(","))
    if min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise ValueError(text)
    return seeds


def check_share(what: str, share: float) -> None:
    """Refuse shares that no engine can set aside.

    Raises:
        InputError: it is negative, none at all of a CPU, or a fraction above one.
    """
    lowest = 0 if "gpus" in what else 0.01
    if not lowest <= share < math.inf or (share > 1 and share != int(share)):
        raise InputError(f"{what} {share:g}: expected a share such as 0.25, or a whole number from 1 on")


def _check_protocol(name: str, holdout: int | None) -> None:
    from stavatar.sequence import protocols

    protocols.protocol(name).require_no_holdout(holdout)


def _input(text: str, home: Path) -> str:
    if storage.is_url(text):
        storage.check_driver(text)
        return text
    path = home / _expanded("input", text)
    if not _found(path.exists):
        raise InputError(f"input {text} does not exist{'' if Path(text).is_absolute() else f' in {home}'}")
    return str(path)


def _head(text: str, home: Path) -> str:
    if text in ("", "embedded", "flame"):
        return text
    path = home / _expanded("head", text)
    if not _found(path.is_file):
        raise InputError(f"head {text} is no file")
    return str(path)


def _out(text: str, base: str) -> str:
    if text.lower().rstrip("/").endswith(_TAKEN):
        raise InputError(f"out {text}: a folder cannot end in {', '.join(_TAKEN)}, as logs, records and summaries do")
    if storage.is_url(text):
        storage.check_driver(text)
        return text.rstrip("/")
    path = _expanded("out", text)
    if ".." in path.parts:
        raise InputError(f"out {text} leads out of --out: give an absolute path without .., or a URL, instead")
    if path.is_absolute():
        return str(path)
    return storage.join(base, path.as_posix())


def _expanded(column: str, text: str) -> Path:
    """The path with ``~`` resolved."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:  # there is no such user
        raise InputError(f"{column} {text}: {error}") from error


def _found(look: Callable[[], bool]) -> bool:
    """What a look at a file says; what no file system takes for a name is nowhere."""
    try:
        return look()
    except OSError:
        return False


def _clashes(jobs: list[Job]) -> list[str]:
    """Rows that would write to one place, or stand in one place of the summary."""
    faults = []
    names: dict[str, int] = {}
    places: dict[str, int] = {}
    lines: dict[tuple[str, str], int] = {}
    for job in jobs:
        first = names.setdefault(job.name, job.line)
        if first != job.line:
            faults.append(f"line {job.line}: name {job.name} is that of line {first}")
            continue
        first = places.setdefault(job.out, job.line)
        if first != job.line:
            faults.append(f"line {job.line}: out {job.out} is that of line {first}")
        method = "ablation" if job.task == "ablate" else f"method {job.method}"  # whose runs are called by its rows
        first = lines.setdefault((job.subject, method), job.line)
        if first != job.line:
            told = "another subject" if job.task == "ablate" else "another method"
            faults.append(f"line {job.line}: subject {job.subject} has {method} in line {first}: give it {told}")
        if job.out == job.input:
            faults.append(f"line {job.line}: input and out are the same place")
    for job in jobs:
        above = job.out
        while above := above.rpartition("/")[0]:
            if above in places:
                faults.append(f"line {job.line}: out {job.out} lies within that of line {places[above]}")
    return faults
