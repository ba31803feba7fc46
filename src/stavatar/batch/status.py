"""What the user sees: a table that follows the jobs, a remark as each ends, and the whole table at the end."""

from __future__ import annotations

import time
from dataclasses import dataclass

from rich.live import Live
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from stavatar.batch.engine import Started
from stavatar.batch.manifest import Job
from stavatar.batch.task import Outcome, Task
from stavatar.progress import console, remark, warn

_MOST_RUNNING = 20
_MOST_LINES = 60
_COLOURS = {"finished": "green", "kept": "green", "failed": "red", "lost": "red", "waiting": "yellow"}


@dataclass
class _Running:
    attempt: int
    host: str
    since: float


class Status:
    """A live table of running jobs; where standard error is no terminal, remarks alone."""

    def __init__(self, jobs: list[Job], outcomes: dict[str, Outcome]) -> None:
        """
        Args:
            jobs: all of them.
            outcomes: of those that need not be done.
        """
        self._jobs = {job.name: job for job in jobs}
        self._ended = dict(outcomes)
        self._running: dict[str, _Running] = {}
        self._live = Live(console=console, get_renderable=self._table, refresh_per_second=2, transient=True)

    def __enter__(self) -> Status:
        if console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def started(self, news: Started) -> None:
        if news.name not in self._ended:
            self._running[news.name] = _Running(news.attempt, news.host, time.monotonic())
            remark(f"{news.name}: attempt {news.attempt} on {news.host}, process {news.process}")

    def lost(self, task: Task, outcome: Outcome) -> None:
        self._running.pop(task.job.name, None)
        warn(f"{task.job.name}: {outcome.reason}; it is tried again")

    def ended(self, task: Task, outcome: Outcome) -> None:
        self._running.pop(task.job.name, None)
        self._ended[task.job.name] = outcome
        place = f"{len(self._ended)} of {len(self._jobs)}"
        if outcome.reason:
            warn(f"{place}: {task.job.name} {outcome.state}: {outcome.reason}")
        else:
            remark(f"{place}: {task.job.name} {outcome.state} after {outcome.seconds:.0f} s")

    def _table(self) -> Table:
        waiting = len(self._jobs) - len(self._ended) - len(self._running)
        bad = sum(outcome.state in ("failed", "lost") for outcome in self._ended.values())
        title = f"{len(self._ended)} ended ({bad} of them failed), {len(self._running)} running, {waiting} waiting"
        table = Table("job", "task", "machine", "attempt", Column("seconds", justify="right"), title=title)
        for name, running in list(self._running.items())[:_MOST_RUNNING]:
            seconds = f"{time.monotonic() - running.since:.0f}"
            table.add_row(name, self._jobs[name].task, running.host, str(running.attempt), seconds)
        return table


def final_table(jobs: list[Job], outcomes: dict[str, Outcome]) -> Table:
    """One row for each job; where there are many, only those that did not finish."""
    shown = [job for job in jobs if len(jobs) <= _MOST_LINES or outcomes[job.name].state not in ("finished", "kept")]
    names, seconds = (Column(name, no_wrap=True) for name in ("job", "task")), Column("seconds", justify="right")
    table = Table(*names, "state", "attempts", seconds, Column("reason", overflow="fold"))
    for job in shown:
        outcome = outcomes[job.name]
        state = Text(outcome.state, style=_COLOURS[outcome.state])
        cells = (str(outcome.attempts), f"{outcome.seconds:.0f}", escape(outcome.reason))
        table.add_row(job.name, job.task, state, *cells)
    return table
