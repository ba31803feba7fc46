"""The local engine with a worker made of a few lines: outcomes, crashes, GPUs in turn, and the end of everything."""

from __future__ import annotations

import json
import os
import sys
import time
from concurrent.futures import wait
from pathlib import Path

import pytest

from stavatar.batch.local import LocalEngine
from stavatar.batch.task import Task

WORKER = """
import json, os, sys, time
task = json.loads(sys.stdin.readline())
do, name = task["job"]["rows"], task["job"]["name"]
print("working on", name, flush=True)
if do == "crash": os.kill(os.getpid(), 9)
if do == "leave": sys.exit(7)
if do == "sleep": time.sleep(60)
if do == "meet":  # goes on when there are two
    open(f"{task['work']}/{name}", "w").close()
    while len(os.listdir(task["work"])) < 2: time.sleep(0.01)
json.dump({"state": "finished", "host": os.environ.get("CUDA_VISIBLE_DEVICES", "none")}, open(sys.argv[1], "w"))
"""


@pytest.fixture
def start():
    engines = []

    def make(workers, gpus=()):
        engines.append(LocalEngine(workers, gpus, worker=(sys.executable, "-c", WORKER)))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


@pytest.fixture
def task(job, tmp_path: Path):
    def make(name, do):
        (tmp_path / "work").mkdir(exist_ok=True)
        return Task(job(name, out=tmp_path / name, rows=do), work=str(tmp_path / "work"))

    return make


def test_crashes_take_nobody_along(start, task, tmp_path: Path) -> None:
    engine = start(2)
    tasks = [task("a", "crash"), task("b", "leave"), task("c", ""), task("d", "")]
    a, b, c, d = (engine.submit(each).result(30) for each in tasks)
    assert (a.state, b.state, c.state, d.state) == ("lost", "lost", "finished", "finished")
    assert "ended by signal 9, perhaps for want of memory" in a.reason
    assert "ended with status 7" in b.reason
    assert str(tmp_path / "b.log") in b.reason
    assert (tmp_path / "a.log").read_text() == "working on a\n"
    news = engine.news()
    assert [each.name for each in news] == ["a", "b", "c", "d"]
    assert all(each.process != os.getpid() for each in news)
    assert engine.news() == []


def test_so_many_at_a_time_with_gpus_in_turn(start, task) -> None:
    engine = start(2, gpus=["3", "5"])
    futures = [engine.submit(task(name, "meet")) for name in "ab"]  # each waits for the other
    wait(futures, 30)
    assert sorted(future.result().host for future in futures) == ["3", "5"]


def test_closing_ends_what_runs_and_what_waits(start, task) -> None:
    engine = start(1)
    running, waiting = engine.submit(task("a", "sleep")), engine.submit(task("b", "sleep"))
    while not (news := engine.news()):
        time.sleep(0.01)
    engine.close()
    assert running.result(10).state == "lost"
    assert waiting.cancelled()
    with pytest.raises(ProcessLookupError):
        os.kill(news[0].process, 0)


def test_a_worker_that_cannot_be_started_is_lost(task) -> None:
    engine = LocalEngine(1, worker=("/no/such/program",))
    outcome = engine.submit(task("a", "")).result(30)
    engine.close()
    assert (outcome.state, "could not be started" in outcome.reason) == ("lost", True)


def test_what_the_worker_is_told_is_a_line_of_json(job) -> None:
    text = Task(job()).to_json()
    assert "\n" not in text
    assert json.loads(text)["job"]["name"] == "anna"
