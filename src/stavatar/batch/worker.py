"""One attempt at a job, in the process that it is given: ``python -m stavatar.batch.worker OUTCOME.json``.

As a program it reads the task from standard input, which its starter then holds open: when the starter is gone, so is
the worker, and no two ever work in one folder. Engines with processes of their own call :func:`attempt`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sys
import threading
import time
import traceback
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from stavatar.batch import records, storage
from stavatar.batch.task import Outcome, Task
from stavatar.errors import InputError, StavatarError, TrainingError
from stavatar.files import atomic_folder, write_json
from stavatar.locks import sole_writer
from stavatar.run import Run, claimed

if TYPE_CHECKING:
    import torch

    from stavatar.config import Config

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def attempt(task: Task) -> Outcome:
    """Carry a job out and leave its record; whatever is wrong with it ends in an outcome.

    Nothing that computes has been imported before, so that the number of threads can still be chosen.
    """
    if task.threads is not None:
        os.environ |= dict.fromkeys(THREADS, str(task.threads))
    begin = time.monotonic()
    outcome = Outcome("finished", host=socket.gethostname(), attempts=task.attempt)
    files: dict[str, int] | None = None
    try:
        if records.finished(task.job):
            return replace(outcome, state="kept")
        _carry_out(task)
        outcome = replace(outcome, bytes=_bytes_below(task.folder))
        if storage.is_url(task.job.out):
            storage.remove(records.place(task.job))
            files = storage.upload(task.folder, task.job.out)
    except StavatarError as error:
        outcome = replace(outcome, state="failed", reason=str(error))
    except Exception as error:  # one job must not take the others along, whatever is wrong with it
        traceback.print_exc()
        if _memory_ran_out(error):
            outcome = replace(outcome, state="lost", reason=f"memory ran out: {error} (see {task.log})")
        else:
            outcome = replace(outcome, state="failed", reason=f"{type(error).__name__}: {error} (see {task.log})")
    outcome = replace(outcome, seconds=time.monotonic() - begin)
    print(f"{task.job.name}, attempt {task.attempt}: {outcome.state} {outcome.reason}".strip(), file=sys.stderr)
    return _recorded(task, outcome, files)


def _carry_out(task: Task) -> None:
    """What the command of the task's name would do."""
    from stavatar import config, doctor, pipeline
    from stavatar.sequence.protocols import CUSTOM

    job = task.job
    source = storage.fetch(job.input, task.workplace / "input")
    device = pipeline.choose_device(task.device)
    if job.head and job.task != "reconstruct":
        pipeline.choose_head(job.head)  # known by its name from here on
    if job.task == "evaluate":
        _copy(source, task.folder)
        with claimed(task.folder):
            pipeline.evaluate(Run.open(task.folder), device=device, protocol=job.protocol)
        return
    preset = doctor.suitable_preset(task.device) if job.preset == "auto" else job.preset
    settings = config.override(config.preset(preset), list(job.settings))
    if job.task == "ablate":
        _ablate(task, source, settings, device)
        return
    if job.seeds:
        settings = config.override(settings, [f"training.seed={job.seeds[0]}"])
    if job.task == "train":
        pipeline.train_sequence(
            source,
            task.folder,
            settings,
            holdout=job.holdout,
            protocol=job.protocol,
            device=device,
            resume=task.takes_up,
        )
    else:
        pipeline.reconstruct(
            source,
            task.folder,
            settings,
            head=job.head or None,
            holdout=job.holdout,
            protocol=job.protocol or CUSTOM.name,
            device=device,
            resume=task.takes_up,
        )


def _ablate(task: Task, source: Path, settings: Config, device: torch.device) -> None:
    from stavatar.ablation import ablate
    from stavatar.ablation.rows import choose_rows

    rows, seeds = choose_rows(task.job.rows, []), list(task.job.seeds)
    failures = ablate(source, task.folder, settings, rows, seeds, device=device, resume=task.takes_up)
    if failures:
        told = "; ".join(f"{name}: {reason}" for name, reason in failures.items())
        raise TrainingError(f"{len(failures)} runs of the ablation failed: {told}")


def _copy(run: Path, folder: Path) -> None:
    """A run to measure, so that the one that was given stays as it is; an earlier attempt may have copied it."""
    with sole_writer(folder):
        if folder.exists():
            return
        try:
            with atomic_folder(folder) as arriving:  # without its lock and what killed processes left in it
                shutil.copytree(Run.open(run).folder, arriving, ignore=shutil.ignore_patterns(".*"), dirs_exist_ok=True)
        except OSError as error:
            raise InputError(f"{run} cannot be copied to {folder}: {error}") from error


def _recorded(task: Task, outcome: Outcome, files: dict[str, int] | None) -> Outcome:
    """Leave record and log where they belong; of a finished job, nothing else stays behind in the workplace."""
    job = task.job
    try:
        if storage.is_url(job.out) and task.log.exists():
            storage.upload_file(task.log, f"{job.out}.log")
        if outcome.state != "lost":  # whoever gives it up says so
            records.write_record(job, outcome, files)
    except StavatarError as error:
        return replace(outcome, state="failed", reason=outcome.reason or f"the outcome could not be kept: {error}")
    if outcome.state == "finished":
        shutil.rmtree(task.workplace, ignore_errors=True)
    return outcome


def _bytes_below(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _memory_ran_out(error: Exception) -> bool:
    torch = sys.modules.get("torch")
    return isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError))


def _end_with_starter() -> None:
    """Standard input ends when the process that holds it does."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdin.read()
    os._exit(1)


def main(outcome: Path) -> None:
    """The process."""
    task = Task.from_json(sys.stdin.readline())
    threading.Thread(target=_end_with_starter, daemon=True).start()
    write_json(outcome, asdict(attempt(task)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
