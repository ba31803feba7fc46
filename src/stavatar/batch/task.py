"""What an engine is given and what it gives back: plain data, which travels to other processes and machines."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from stavatar import assets
from stavatar.batch import storage
from stavatar.batch.manifest import Job

State = Literal["finished", "kept", "failed", "lost", "waiting"]


@dataclass(frozen=True)
class Task:
    """One attempt at a job.

    Attributes:
        job: what to do.
        device: auto, cpu or cuda.
        threads: of the CPU; None for as many as there are cores.
        cpus, gpus: shares to set aside where the engine does that.
        work: folder for what comes from or goes to a URL; None for one in the cache of the machine.
        resume: take up a run that is there already.
        attempt: from 1; later ones always take up what the one before left.
    """

    job: Job
    device: str = "auto"
    threads: int | None = None
    cpus: float = 1
    gpus: float = 0
    work: str | None = None
    resume: bool = False
    attempt: int = 1

    @property
    def workplace(self) -> Path:
        """A folder of this job alone for what comes from or goes to a URL; kept while the job is unfinished."""
        work = Path(self.work) if self.work else assets.cache_folder() / "batch"
        told = json.dumps([self.job.out, self.job.input])
        return work / f"{self.job.name}-{hashlib.sha256(told.encode()).hexdigest()[:12]}"

    @property
    def folder(self) -> Path:
        """Where the run is made: its place, or one to upload it from."""
        return self.workplace / "out" / self.job.name if storage.is_url(self.job.out) else Path(self.job.out)

    @property
    def log(self) -> Path:
        """What is printed meanwhile, beside the folder."""
        return self.folder.with_name(self.folder.name + ".log")

    @property
    def takes_up(self) -> bool:
        """Whether a run that is there already is gone on with."""
        return self.resume or self.attempt > 1

    def again(self) -> Task:
        """The next attempt."""
        return replace(self, attempt=self.attempt + 1)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Task:
        fields: dict[str, Any] = json.loads(text)
        job = fields.pop("job")
        return Task(Job(**job | {"settings": tuple(job["settings"]), "seeds": tuple(job["seeds"])}), **fields)


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended.

    Attributes:
        state: ``finished``; ``kept``: an earlier batch had finished it; ``failed``: trying again would not help;
            ``lost``: its process or machine went away, or memory ran out; ``waiting``: there has been no attempt.
        reason: one sentence; empty where it went well.
        seconds: that the attempt took.
        host: the machine.
        attempts: so many were made, this one included.
        bytes: of the files that a finished job left.
    """

    state: State
    reason: str = ""
    seconds: float = 0.0
    host: str = ""
    attempts: int = 1
    bytes: int = 0
