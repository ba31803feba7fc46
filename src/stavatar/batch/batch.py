"""A batch from manifest to summary."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from stavatar.batch import records, storage
from stavatar.batch.engine import Engine, carry_out
from stavatar.batch.local import LocalEngine, visible_gpus
from stavatar.batch.manifest import Job, check_share, read_manifest
from stavatar.batch.on_ray import RayEngine
from stavatar.batch.status import Status
from stavatar.batch.summary import write_summary
from stavatar.batch.task import Outcome, Task
from stavatar.errors import InputError, StavatarError
from stavatar.files import cannot_write
from stavatar.progress import remark

ENGINES = ("local", "ray")
_LOOKS_AT_ONCE = 16  # at records, which may lie far away


@dataclass(frozen=True)
class Settings:
    """How a batch is carried out; none of it changes a result.

    Attributes:
        engine: one of :data:`ENGINES`.
        workers: jobs at a time, of local; None: one for each GPU, or one.
        address: of ray; None starts a cluster on this machine.
        cpus, gpus: shares of a job whose row names none, of ray; None: one CPU, and one GPU where the cluster has any.
        device: auto, cpu or cuda, of local; a job of ray gets a GPU if it has a share of one.
        retries: of a job that was lost.
        work: folder for what comes from or goes to a URL; None for one in the cache of each machine.
        resume: keep finished jobs and take up others.
        part: (k, n): only the k-th of n parts of the rows, from 1, and no summary.
    """

    engine: str = "local"
    workers: int | None = None
    address: str | None = None
    cpus: float | None = None
    gpus: float | None = None
    device: str = "auto"
    retries: int = 2
    work: str | None = None
    resume: bool = False
    part: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise InputError(f"--engine {self.engine}: expected {' or '.join(ENGINES)}")
        strangers = ("address", "cpus", "gpus") if self.engine == "local" else ("workers",)
        for name in strangers:
            if getattr(self, name) is not None:
                option = name if name in ("address", "workers") else f"{name}-per-task"
                raise InputError(f"--{option} means nothing to --engine {self.engine}: leave it out")
        for name in ("cpus", "gpus"):
            if getattr(self, name) is not None:
                check_share(f"--{name}-per-task", getattr(self, name))
        if self.part is not None and not 1 <= self.part[0] <= self.part[1]:
            raise InputError(f"--part {self.part[0]}/{self.part[1]}: expected K/N with K from 1 to N")


def plan(manifest: Path, out: str, settings: Settings) -> list[Job]:
    """The jobs of a manifest, or of a part of it; see :func:`stavatar.batch.manifest.read_manifest`."""
    if storage.is_url(out):
        storage.check_driver(out)
    jobs = read_manifest(manifest, _absolute(out))
    if settings.part is not None:
        first, step = settings.part
        jobs = jobs[first - 1 :: step]
    return jobs


def run_batch(manifest: Path, out: str, settings: Settings) -> tuple[list[Job], dict[str, Outcome]]:
    """Carry out what is not finished, and write ``batch.md``, ``batch.html`` and ``batch.json`` into `out`.

    Args:
        manifest: the CSV file.
        out: folder or URL: new, or that of a batch to resume.
        settings: how.

    Returns:
        The jobs, and how each ended, by its name.

    Raises:
        InputError: the manifest has faults, `out` cannot be written, or holds results and ``resume`` is off.
        BackendError: the engine is not there.
    """
    jobs = plan(manifest, out, settings)
    _require_place(out)
    if not settings.resume and any(storage.exists(records.place(job)) for job in jobs):
        raise InputError(f"{out} holds results of these jobs; add --resume to go on with them, or choose another place")
    outcomes = _known(jobs)
    left = [job for job in jobs if job.name not in outcomes]
    remark(f"{len(left)} of {len(jobs)} jobs to do")
    if left:
        engine, tasks = _prepare(left, settings)
        try:
            with Status(jobs, outcomes) as status:
                outcomes |= carry_out(tasks, engine, settings.retries, status)
        finally:
            engine.close()
    for job in left:
        if outcomes[job.name].state == "lost":  # nobody else was left to note it
            records.write_record(job, outcomes[job.name])
    if settings.part is None:
        write_summary(jobs, _absolute(out))
    return jobs, outcomes


def summarise(manifest: Path, out: str) -> tuple[list[Job], dict[str, Outcome]]:
    """Write the summary of what is there, as after the parts of an array job."""
    jobs = plan(manifest, out, Settings())
    return jobs, write_summary(jobs, _absolute(out))


def _absolute(out: str) -> str:
    return out.rstrip("/") if storage.is_url(out) else str(Path(out).expanduser().absolute())


def _require_place(out: str) -> None:
    """Make the folder, where it is one of this machine."""
    if not storage.is_url(out):
        try:
            Path(_absolute(out)).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(out, error) from error


def _known(jobs: list[Job]) -> dict[str, Outcome]:
    """Outcomes of jobs that need not be done, or cannot be, as what is in their place shows."""

    def look(job: Job) -> Outcome | None:
        try:
            if not records.finished(job):
                return None
            before = records.read_outcome(job)
            assert before is not None
            return Outcome("kept", "", before.seconds, before.host, before.attempts, before.bytes)
        except StavatarError as error:
            return Outcome("failed", str(error))

    with ThreadPoolExecutor(_LOOKS_AT_ONCE) as pool:
        found = zip(jobs, pool.map(look, jobs), strict=True)
        return {job.name: outcome for job, outcome in found if outcome is not None}


def _prepare(jobs: list[Job], settings: Settings) -> tuple[Engine, list[Task]]:
    """The engine, and the jobs as it takes them."""
    if settings.engine == "ray":
        return _prepare_ray(jobs, settings)
    gpus = visible_gpus(settings.device)
    workers = settings.workers or max(1, len(gpus))
    threads = max(1, _cores() // workers)

    def device(job: Job) -> str:
        return "cpu" if job.gpus == 0 else settings.device

    return LocalEngine(workers, gpus), _tasks(jobs, settings, lambda job: {"device": device(job), "threads": threads})


def _prepare_ray(jobs: list[Job], settings: Settings) -> tuple[Engine, list[Task]]:
    engine = RayEngine(settings.address)
    usual_cpus = 1.0 if settings.cpus is None else settings.cpus
    usual_gpus = float(engine.gpus > 0) if settings.gpus is None else settings.gpus

    def shares(job: Job) -> dict[str, object]:
        cpus = usual_cpus if job.cpus is None else job.cpus
        gpus = usual_gpus if job.gpus is None else job.gpus
        device = "cuda" if gpus else "cpu"
        return {"device": device, "threads": max(1, int(cpus)), "cpus": cpus, "gpus": gpus}

    tasks = _tasks(jobs, settings, shares)
    engine.warn_of_the_impossible(tasks)
    return engine, tasks


def _tasks(jobs: list[Job], settings: Settings, shares: Callable[[Job], dict]) -> list[Task]:
    return [Task(job, work=settings.work, resume=settings.resume, **shares(job)) for job in jobs]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
