"""One summary over all jobs: figures with means over subjects, failures with their reasons, times, pictures.

It is made from records and result files alone, so that it can be written at any time, by whoever sees them.
"""

from __future__ import annotations

import os
import re
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from stavatar.batch import records, storage
from stavatar.batch.manifest import Job
from stavatar.batch.task import Outcome
from stavatar.errors import InputError, StavatarError, reason
from stavatar.evaluation.results_file import read_results
from stavatar.files import read_json_object, write_json, write_text
from stavatar.report import media, tables
from stavatar.report.compare import Comparison, Source, compare_sources
from stavatar.report.templates import environment

NAMES = ("batch.md", "batch.html", "batch.json")
FORMAT = "stavatar-batch-1"
MOST_PICTURES = 60
"""Jobs whose held-out frames the page shows; of more, those of the lowest and of the highest PSNR."""
_PICTURE_WIDTH = 640
_FETCHES_AT_ONCE = 16
_ROW = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class Line:
    """A job and what became of it.

    Attributes:
        job, outcome: of a job without a record, the outcome is that it waits.
        sources: results to compare: one, or those of all runs of an ablation.
        psnr: on held-out frames, where there is one.
        picture: of held-out frames, where there is one.
        link: to its page, seen from the summary; empty where it has none.
    """

    job: Job
    outcome: Outcome
    sources: list[Source]
    psnr: float | None = None
    picture: Path | None = None
    link: str = ""


def write_summary(jobs: list[Job], out: str) -> dict[str, Outcome]:
    """Write :data:`NAMES` into `out`, a folder or a URL; returns how each job ended, by its name."""
    with tempfile.TemporaryDirectory(prefix="stavatar-batch-") as scratch:
        with ThreadPoolExecutor(_FETCHES_AT_ONCE) as pool:
            lines = list(pool.map(lambda job: _line(job, out, Path(scratch) / job.name), jobs))
        content = _content(lines)
        folder = Path(scratch) / "summary" if storage.is_url(out) else Path(out)
        markdown, page, numbers = (folder / name for name in NAMES)
        write_text(markdown, _markdown(content))
        template = environment().get_template("batch.html.jinja")
        functions = {"headings": tables.headings, "texts": tables.texts}
        write_text(page, template.render(**content, **functions, pictures=_pictures(lines)))
        write_json(numbers, _numbers(lines, content))
        if storage.is_url(out):
            storage.upload(folder, out)
    return {line.job.name: line.outcome for line in lines}


def _line(job: Job, out: str, scratch: Path) -> Line:
    """Read one job's record and results; what cannot be read is its reason to have failed."""
    try:
        outcome = records.read_outcome(job) or Outcome("waiting", "no attempt has ended yet", attempts=0)
        if outcome.state != "finished":
            return Line(job, outcome, [])
        if not records.finished(job):
            return Line(job, replace(outcome, state="failed", reason=f"{records.result(job)} is gone"), [])
        result = storage.fetch(records.result(job), scratch / "result")
        if job.task == "ablate":
            return Line(job, outcome, _ablation_sources(job, result, scratch), link=_link(job, out, "ablation.md"))
        psnr = read_results(result)["metrics"].get("psnr")
        sheet = storage.join(job.out, "contact_sheet.png")
        picture = storage.fetch(sheet, scratch / "picture") if storage.exists(sheet) else None
        source = Source(result, job.method, job.subject)
        return Line(job, outcome, [source], psnr, picture, _link(job, out, "report.html"))
    except StavatarError as error:
        return Line(job, Outcome("failed", str(error)), [])


def _ablation_sources(job: Job, result: Path, scratch: Path) -> list[Source]:
    """The runs of an ablation, called by their rows, and by seeds as well where there are several."""
    sources = []
    for row, seed in _runs(result, records.result(job)):
        place = storage.join(job.out, row, f"seed{seed}", "results.json")
        label = row if len(job.seeds) == 1 else f"{row}, seed {seed}"
        fetched = storage.fetch(place, scratch / row / seed)
        read_results(fetched)  # what is wrong with it is wrong with this job alone
        sources.append(Source(fetched, label, job.subject))
    return sources


def _runs(result: Path, called: str) -> list[tuple[str, str]]:
    """Row and seed of each finished run that an ablation's result file names; errors call the file `called`.

    Raises:
        InputError: it is no such file, or the names are not those of folders within the ablation.
    """
    runs = []
    try:
        for row, content in read_json_object(result)["rows"].items():
            runs += [(row, str(seed)) for seed in content["runs"]]
    except (LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{called} is no result of an ablation: {reason(error)}") from error
    for row, seed in runs:
        if not _ROW.fullmatch(row) or not seed.isdecimal():
            raise InputError(f"{called}: no run of an ablation is called {row}, {seed}")
    return runs


def _link(job: Job, out: str, page: str) -> str:
    place = storage.join(job.out, page)
    if not storage.is_url(place) and not storage.is_url(out):
        return Path(os.path.relpath(place, out)).as_posix()
    return place.removeprefix(f"{out}/")


def _content(lines: list[Line]) -> dict[str, Any]:
    """What the templates show."""
    runs = [source for line in lines if line.job.task != "ablate" for source in line.sources]
    ablations = [source for line in lines if line.job.task == "ablate" for source in line.sources]
    compared = [("Figures", runs), ("Ablations", ablations)]
    comparisons = {title: compare_sources(sources) for title, sources in compared if sources}
    states = [line.outcome.state for line in lines]
    return {
        "lines": lines,
        "counts": {state: states.count(state) for state in dict.fromkeys(sorted(states))},
        "comparisons": comparisons,
        "seconds": sum(line.outcome.seconds for line in lines),
        "bytes": sum(line.outcome.bytes for line in lines),
        "bad": [line for line in lines if line.outcome.state != "finished"],
    }


def _markdown(content: dict[str, Any]) -> str:
    """The same without pictures."""
    lines: list[Line] = content["lines"]
    counts = ", ".join(f"{count} {state}" for state, count in content["counts"].items())
    hours, gigabytes = content["seconds"] / 3600, content["bytes"] / 1e9
    whole = f"{counts}; {hours:.2f} hours of all jobs, {gigabytes:.2f} GB left by them"
    parts = [f"# Batch of {len(lines)} jobs", whole]
    if content["bad"]:
        reasons = [
            f"- {line.job.name} (line {line.job.line}) {end.state}: {tables.markdown_escape(end.reason)}"
            for line in content["bad"]
            for end in [line.outcome]
        ]
        parts += ["## Not finished", "\n".join(reasons)]
    for title, comparison in content["comparisons"].items():
        parts += [f"## {title}", tables.markdown(comparison).strip()]
    rows = ["| job | task | state | seconds | MB | attempts | machine |", "|---|---|---|---:|---:|---:|---|"]
    for line in lines:
        name = f"[{line.job.name}](<{line.link}>)" if line.link else line.job.name
        end = line.outcome
        figures = [f"{end.seconds:.0f}", f"{end.bytes / 1e6:.1f}", str(end.attempts), tables.markdown_escape(end.host)]
        rows.append("| " + " | ".join([name, line.job.task, end.state, *figures]) + " |")
    parts += ["## Jobs", "Seconds are those of the last attempt.", "\n".join(rows)]
    return "\n\n".join(parts) + "\n"


def _pictures(lines: list[Line]) -> list[tuple[Line, media.Picture]]:
    """Held-out frames, the lowest PSNR first."""
    ranked = sorted((line for line in lines if line.picture), key=lambda line: line.psnr or 0.0)
    if len(ranked) > MOST_PICTURES:
        half = MOST_PICTURES // 2
        ranked = ranked[:half] + ranked[-half:]
    return [(line, media.picture_file(line.picture, _PICTURE_WIDTH)) for line in ranked if line.picture]


def _numbers(lines: list[Line], content: dict[str, Any]) -> dict[str, Any]:
    comparisons: dict[str, Comparison] = content["comparisons"]
    return {
        "format": FORMAT,
        "counts": content["counts"],
        "seconds": round(content["seconds"], 2),
        "bytes": content["bytes"],
        "jobs": [{**asdict(line.job), "psnr": line.psnr, **asdict(line.outcome)} for line in lines],
        "comparisons": {title: asdict(comparison) for title, comparison in comparisons.items()},
    }
