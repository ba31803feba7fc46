"""Scheduling, whatever the engine: lost work is tried again, other failures are not, and nobody waits for anybody."""

from __future__ import annotations

from concurrent.futures import Future

from stavatar.batch.engine import Started, carry_out
from stavatar.batch.task import Outcome, Task


class Script:
    """An engine whose jobs end as written down: name -> states, one for each attempt."""

    def __init__(self, states: dict[str, list[str]]) -> None:
        self.states = states
        self.submitted: list[tuple[str, int]] = []
        self._news: list[Started] = []

    def submit(self, task: Task) -> Future[Outcome]:
        self.submitted.append((task.job.name, task.attempt))
        self._news.append(Started(task.job.name, task.attempt, "here", 1))
        future: Future[Outcome] = Future()
        state = self.states[task.job.name][task.attempt - 1]
        future.set_result(Outcome(state, "" if state == "finished" else f"it was {state}"))
        return future

    def news(self) -> list[Started]:
        told, self._news = self._news, []
        return told

    def close(self) -> None:
        raise AssertionError("whoever made the engine closes it")


class Notes:
    def __init__(self) -> None:
        self.told: list[tuple] = []

    def started(self, news: Started) -> None:
        self.told.append(("started", news.name, news.attempt))

    def lost(self, task: Task, outcome: Outcome) -> None:
        self.told.append(("lost", task.job.name, task.attempt))

    def ended(self, task: Task, outcome: Outcome) -> None:
        self.told.append((outcome.state, task.job.name, task.attempt))


def test_only_what_was_lost_is_tried_again(job) -> None:
    engine = Script({"a": ["finished"], "b": ["failed"], "c": ["lost", "finished"], "d": ["lost", "lost", "lost"]})
    notes = Notes()
    outcomes = carry_out([Task(job(name)) for name in "abcd"], engine, 2, notes)
    assert {name: (o.state, o.attempts) for name, o in outcomes.items()} == {
        "a": ("finished", 1),
        "b": ("failed", 1),
        "c": ("finished", 2),
        "d": ("lost", 3),
    }
    assert sorted(engine.submitted) == [("a", 1), ("b", 1), ("c", 1), ("c", 2), ("d", 1), ("d", 2), ("d", 3)]
    assert notes.told.count(("lost", "d", 3)) == 1  # as its end, not as something to try again
    assert ("lost", "c", 1) in notes.told
    assert ("started", "c", 2) in notes.told


def test_no_retries_are_no_retries(job) -> None:
    engine = Script({"a": ["lost", "finished"]})
    assert carry_out([Task(job("a"))], engine, 0, Notes())["a"].state == "lost"
    assert engine.submitted == [("a", 1)]


def test_a_task_travels_as_text(job) -> None:
    task = Task(job(seeds=(3,), holdout=4), device="cpu", threads=2, gpus=0.25, work="/w", attempt=2)
    assert Task.from_json(task.to_json()) == task
