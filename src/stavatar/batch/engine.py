"""What scheduling asks of an engine, and the scheduling itself: all that is left is to try lost jobs again."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, replace
from typing import Protocol

from stavatar.batch.task import Outcome, Task

_LOOK_SECONDS = 0.5  # between looks at what has started meanwhile


@dataclass(frozen=True)
class Started:
    """A task that now runs: its job's name, which attempt, and the process that does it."""

    name: str
    attempt: int
    host: str
    process: int


class Engine(Protocol):
    """Carries tasks out, as many at a time as it has room for."""

    def submit(self, task: Task) -> Future[Outcome]:
        """Queue a task. The future never raises: a worker that went away is an outcome whose state is ``lost``."""

    def news(self) -> list[Started]:
        """What has started since this was asked last."""

    def close(self) -> None:
        """End what still runs and give back what the engine holds."""


class Watcher(Protocol):
    """Is told what happens."""

    def started(self, news: Started) -> None: ...

    def lost(self, task: Task, outcome: Outcome) -> None: ...

    def ended(self, task: Task, outcome: Outcome) -> None: ...


def carry_out(tasks: Iterable[Task], engine: Engine, retries: int, watcher: Watcher) -> dict[str, Outcome]:
    """Have all tasks carried out, whatever becomes of each; lost ones again, up to `retries` times.

    Returns:
        The last outcome of each, by its job's name.
    """
    pending = {engine.submit(task): task for task in tasks}
    outcomes: dict[str, Outcome] = {}
    while pending:
        done, _ = wait(pending, timeout=_LOOK_SECONDS, return_when=FIRST_COMPLETED)
        for news in engine.news():
            watcher.started(news)
        for future in done:
            task, outcome = pending.pop(future), future.result()
            if outcome.state == "lost" and task.attempt <= retries:
                watcher.lost(task, outcome)
                again = task.again()
                pending[engine.submit(again)] = again
            else:
                outcomes[task.job.name] = replace(outcome, attempts=task.attempt)
                watcher.ended(task, outcomes[task.job.name])
    return outcomes
