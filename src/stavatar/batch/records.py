"""``NAME.job.json`` beside a job's folder: which job this is and how it ended.

It is written when everything else is in place. So it marks a folder in object storage as complete, and a job whose
record says finished is never done again.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any, get_args

from stavatar.batch import storage
from stavatar.batch.manifest import Job
from stavatar.batch.task import Outcome, State
from stavatar.errors import InputError

FORMAT = "stavatar-job-1"
_FIELDS: dict[str, Any] = {
    **{"job": dict, "state": str, "reason": str, "host": str},
    **{"seconds": (int, float), "attempts": int, "bytes": int},
}
_LARGEST = 1e18  # of its numbers


def place(job: Job) -> str:
    """Where a job's record is."""
    return f"{job.out}.job.json"


def result(job: Job) -> str:
    """The file that a finished job has left."""
    return storage.join(job.out, "ablation.json" if job.task == "ablate" else "results.json")


def identity(job: Job) -> dict[str, Any]:
    """Everything that a job's result depends on; inputs of this machine are told by name and size."""
    whole = storage.is_url(job.input)
    return {
        "task": job.task,
        "input": job.input if whole else PurePosixPath(job.input).name,
        "bytes": storage.size(job.input),
        "preset": job.preset,
        "settings": list(job.settings),
        "head": job.head,
        "holdout": job.holdout,
        "protocol": job.protocol,
        "seeds": list(job.seeds),
        "rows": job.rows,
    }


def read_record(job: Job) -> dict[str, Any] | None:
    """What the record says; None where there is none.

    Raises:
        InputError: the file is no such record.
    """
    if not storage.exists(place(job)):
        return None
    record = storage.read(place(job))
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise InputError(f"{place(job)} is no record of a job: move it away")
    for name, kind in _FIELDS.items():
        value = record.get(name)
        if not isinstance(value, kind) or (kind not in (dict, str) and not 0 <= value < _LARGEST):
            raise InputError(f"{place(job)}: {name} is missing or not what it should be: remove the file")
    if record["state"] not in get_args(State):
        raise InputError(f"{place(job)}: state is missing or not what it should be: remove the file")
    return record


def finished(job: Job) -> bool:
    """Whether the very same job was finished before.

    Raises:
        InputError: another job was finished there.
    """
    record = read_record(job)
    if record is None or record["state"] != "finished" or not storage.exists(result(job)):
        return False
    now = identity(job)
    for name in now:
        if record["job"].get(name) != now[name]:
            raise InputError(
                f"{job.out} was made with {name} {record['job'].get(name)}, not {now[name]}; choose another out, or "
                f"delete it and {place(job)}"
            )
    return True


def write_record(job: Job, outcome: Outcome, files: dict[str, int] | None = None) -> None:
    """Note how a job ended; `files` has the bytes of each uploaded file."""
    content = {
        "format": FORMAT,
        "name": job.name,
        "job": identity(job),
        "state": outcome.state,
        "reason": outcome.reason,
        "seconds": round(outcome.seconds, 2),
        "host": outcome.host,
        "attempts": outcome.attempts,
        "bytes": outcome.bytes,
        "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    storage.write(place(job), content if files is None else content | {"files": files})


def read_outcome(job: Job) -> Outcome | None:
    """How a job ended, from its record."""
    record = read_record(job)
    if record is None:
        return None
    names = ("state", "reason", "seconds", "host", "attempts", "bytes")
    return Outcome(**{name: record[name] for name in names})
