"""Carrying out many runs, one after the other or several at a time, whatever becomes of each."""

from __future__ import annotations

import contextlib
import gc
import os
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

import torch

from stavatar import config, pipeline
from stavatar.ablation.rows import Row
from stavatar.config import Config
from stavatar.errors import StavatarError
from stavatar.files import write_text
from stavatar.head import load_head
from stavatar.progress import remark, stage, warn
from stavatar.run import Run, claimed
from stavatar.sequence import read_sequence
from stavatar.training.trainer import Trainer

_LOOK_SECONDS = 0.1  # between looks at which processes have ended
_GRACE_SECONDS = 30.0  # for processes that are asked to end to write their checkpoints
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass(frozen=True)
class Trial:
    """One row with one seed: an ordinary run that shares the ablation's sequence.

    Attributes:
        row, seed: what it is.
        config: all its settings.
        folder: where it lies.
    """

    row: Row
    seed: int
    config: Config
    folder: Path

    @property
    def name(self) -> str:
        return f"{self.row.name}, seed {self.seed}"

    @property
    def log(self) -> Path:
        """Beside the run's folder: what its process printed, or why it stopped."""
        return self.folder.with_suffix(".log")

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do; the report is written last."""
        run = Run(self.folder)
        return run.results.exists() and run.report.exists()


def plan_trials(folder: Path, base: Config, rows: list[Row], seeds: list[int]) -> list[Trial]:
    """All runs of an ablation, seed by seed, so that an early stop leaves whole comparisons.

    Raises:
        InputError: a row has a setting that does not exist, or a value that it cannot take.
    """
    return [
        Trial(row, seed, seeded(config.override(base, list(row.settings)), seed), folder / row.name / f"seed{seed}")
        for seed in seeds
        for row in rows
    ]


def seeded(settings: Config, seed: int) -> Config:
    """The same settings with another seed."""
    return config.override(settings, [f"training.seed={seed}"])


def carry_out(trials: list[Trial], whole: Run, device: torch.device, jobs: int) -> dict[str, str]:
    """Train and measure all runs that are not finished; return why those that failed did, by their name.

    Args:
        trials: what to run.
        whole: the ablation's folder, whose sequence they share.
        device: for all of them.
        jobs: how many at once. One runs in this process and shows its progress; several run in processes of their own,
            with a share of the CPU's threads each, and write logs.
    """
    failures: dict[str, str] = {}
    for trial in trials:
        try:
            Run.start(trial.folder, trial.config, {}, resume=True, shared=whole)
        except StavatarError as error:
            failures[trial.name] = str(error)
    left = [trial for trial in trials if trial.name not in failures and not trial.finished]
    remark(f"{len(left)} of {len(trials)} runs to do")
    if left:
        _warm_up(whole, left[0].config, device)
        failures |= _in_processes(left, device, jobs) if jobs > 1 else _in_this_process(left, device)
    for name, reason in failures.items():
        warn(f"{name} failed: {reason}")
    return failures


def finish(run: Run, device: torch.device) -> None:
    """Train and measure a run that was started, from wherever it stands."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)  # results tell a run's own
    with claimed(run.folder):
        pipeline.train(run, config.load(run.config_path), device=device)
        pipeline.evaluate(run, device=device, video=False)


def _warm_up(whole: Run, settings: Config, device: torch.device) -> None:
    """Train two steps for nothing: kernels are compiled now, and not on the clock of whichever run comes first."""
    brief = ["training.steps=2", "training.network_start=0", "training.lpips_start=0", "pose.passes=[]"]
    sequence = read_sequence(whole.sequence)
    remark("warming up")
    with contextlib.suppress(Exception):  # what is wrong will be said of the run that it stops
        Trainer(sequence, load_head(sequence.head_model), config.override(settings, brief), device=device).run()


def _in_this_process(trials: list[Trial], device: torch.device) -> dict[str, str]:
    """Run one after the other. A bug of ours keeps its traceback in the log."""
    failures: dict[str, str] = {}
    for place, trial in enumerate(trials, 1):
        remark(f"run {place} of {len(trials)}: {trial.name}")
        try:
            finish(Run.open(trial.folder), device)
        except StavatarError as error:
            failures[trial.name] = str(error)
        except Exception as error:  # one row must not take the others along, whatever is wrong with it
            write_text(trial.log, traceback.format_exc())
            failures[trial.name] = f"{type(error).__name__}: {error} (see {trial.log})"
        if device.type == "cuda":
            gc.collect()  # what is held in cycles keeps memory of the GPU, which triggers no collection by itself
    return failures


def _in_processes(trials: list[Trial], device: torch.device, jobs: int) -> dict[str, str]:
    """Run in processes of their own, `jobs` at a time; an interruption ends those that are running."""
    threads = max(1, torch.get_num_threads() // jobs)
    failures: dict[str, str] = {}
    waiting, running = list(trials), dict[str, tuple[Trial, subprocess.Popen]]()
    try:
        with stage(f"runs, {jobs} at once", len(trials)) as report:
            while waiting or running:
                while waiting and len(running) < jobs:
                    trial = waiting.pop(0)
                    running[trial.name] = trial, _start_process(trial, device, threads)
                for trial, process in list(running.values()):
                    if process.poll() is None:
                        continue
                    del running[trial.name]
                    report(1, note=trial.name)
                    if process.returncode != 0:
                        failures[trial.name] = _reason(trial, process.returncode)
                time.sleep(_LOOK_SECONDS)
    finally:
        _end([process for _, process in running.values()])
    return failures


def _end(processes: list[subprocess.Popen]) -> None:
    """Ask processes to end, and see to it that they do."""
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + _GRACE_SECONDS
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()


def _start_process(trial: Trial, device: torch.device, threads: int) -> subprocess.Popen:
    """A process that also ends when this one is killed: it then finds its standard input closed."""
    environment = {**os.environ, **dict.fromkeys(_THREADS, str(threads))}
    with trial.log.open("w", encoding="utf-8") as log:
        return subprocess.Popen(
            _command(trial, device), env=environment, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT
        )


def _reason(trial: Trial, status: int) -> str:
    """Why a process ended badly: the last thing it said."""
    if status < 0:
        return f"its process was ended by signal {-status}, perhaps for want of memory (see {trial.log})"
    lines = trial.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return f"{lines[-1].strip() if lines else f'exit status {status}'} (see {trial.log})"


def _command(trial: Trial, device: torch.device) -> list[str]:
    # A whole path, since a name may begin like an option.
    return [sys.executable, "-m", "stavatar.ablation.worker", str(trial.folder.resolve()), device.type]
