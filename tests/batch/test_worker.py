"""One attempt in this process: object storage, evaluation of a copy, ablations, and what counts as done."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import fsspec
import pytest
from batch_settings import TINY

from stavatar.batch import records, worker
from stavatar.batch.manifest import Job
from stavatar.batch.task import Task
from stavatar.files import write_json


@pytest.fixture(scope="module", autouse=True)
def quickly(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stavatar.evaluation.speed.MOST_SECONDS", 0.0)
        patch.setenv("STAVATAR_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def store(talk):
    """Object storage that holds the sequence."""
    files = fsspec.filesystem("memory")
    files.store.clear()
    files.put(str(talk), "/data/talk", recursive=True)
    return files


def test_a_job_from_url_to_url(job, store, tmp_path: Path, monkeypatch) -> None:
    task = Task(job(source="memory://data/talk", out="memory://done/anna"), device="cpu", work=str(tmp_path))
    outcome = worker.attempt(task)
    assert (outcome.state, outcome.reason) == ("finished", "")
    record = json.loads(store.cat_file("/done/anna.job.json"))
    assert record["job"]["input"] == "memory://data/talk"
    assert record["files"]["results.json"] == store.info("/done/anna/results.json")["size"]
    listed = {path.removeprefix("/done/anna/") for path in store.find("/done/anna")}
    assert set(record["files"]) == listed
    assert sum(record["files"].values()) == outcome.bytes
    assert list(tmp_path.iterdir()) == [], "what was fetched or uploaded does not stay"
    monkeypatch.setattr(worker, "_carry_out", None)
    assert worker.attempt(task).state == "kept"


def test_without_its_record_a_folder_in_storage_is_not_complete(job, store, tmp_path: Path, monkeypatch) -> None:
    here = job(source="memory://data/talk", out="memory://done/cut")
    store.pipe_file("/done/cut/results.json", b"{}")
    assert not records.finished(here)

    def computed(task: Task) -> None:
        task.folder.mkdir(parents=True)
        (task.folder / "results.json").write_text("{}")

    def full(*_: object) -> None:
        raise OSError("no room")

    monkeypatch.setattr(worker, "_carry_out", computed)
    monkeypatch.setattr(type(store), "put", full)
    outcome = worker.attempt(Task(here, device="cpu", work=str(tmp_path)))
    assert outcome.state == "failed"
    assert "memory://done/cut cannot be reached: OSError: no room" in outcome.reason
    assert json.loads(store.cat_file("/done/cut.job.json"))["state"] == "failed"
    assert not records.finished(here)
    assert list(tmp_path.glob("*/out/anna/results.json")), "what was computed waits for the next attempt"


@pytest.fixture(scope="module")
def taken_up(talk, tmp_path_factory):
    """A run whose memory ran out when it was to be measured, before and after the second attempt."""
    from stavatar import pipeline

    folder = tmp_path_factory.mktemp("runs") / "anna"
    task = Task(Job(2, "anna", "train", str(talk), str(folder), "anna", "cpu", "cpu", TINY), device="cpu")

    def out_of_memory(*_: object, **__: object) -> None:
        raise MemoryError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "evaluate", out_of_memory)
        first = worker.attempt(task)
    record = records.read_record(task.job)
    written = (folder / "avatar" / "avatar.safetensors").stat().st_mtime_ns
    return folder, first, record, written, worker.attempt(task.again())


def test_a_half_finished_job_goes_on(taken_up) -> None:
    folder, first, record, written, second = taken_up
    assert (first.state, "memory ran out" in first.reason) == ("lost", True)
    assert record is None, "whoever gives it up writes the record"
    assert (second.state, second.attempts) == ("finished", 2)
    assert (folder / "results.json").exists()
    assert (folder / "avatar" / "avatar.safetensors").stat().st_mtime_ns == written


def test_measuring_again_leaves_the_run_as_it_is(taken_up, job) -> None:
    folder = taken_up[0]
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    again = job("again", "evaluate", folder, folder.parent / "again", settings=(), preset="auto")
    assert worker.attempt(Task(again, device="cpu")).state == "finished"
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    results = [json.loads((folder.parent / name / "results.json").read_text()) for name in ("anna", "again")]
    assert results[0]["metrics"]["psnr"] == pytest.approx(results[1]["metrics"]["psnr"])


def test_two_that_measure_in_one_folder_are_refused(job, tmp_path: Path, monkeypatch) -> None:
    """Whether the second one comes while the first copies the run, or while it measures."""
    from stavatar import config, pipeline

    config.save(config.preset("cpu"), tmp_path / "run" / "config.yaml")
    (tmp_path / "run" / ".lock").write_text("of a killed process")
    task = Task(job("again", "evaluate", tmp_path / "run", tmp_path / "again", settings=(), preset="auto"))
    copy, refused = shutil.copytree, []

    def meanwhile(work):
        def both(*arguments, **options):
            if len(refused) < 2:  # else this is the second one, let in
                refused.append(worker.attempt(task))
            return work(*arguments, **options)

        return both

    monkeypatch.setattr(shutil, "copytree", meanwhile(copy))
    monkeypatch.setattr(pipeline, "evaluate", meanwhile(lambda run, **_: write_json(run.results, {})))
    outcome = worker.attempt(task)
    assert (outcome.state, outcome.reason) == ("finished", "")
    assert [attempt.state for attempt in refused] == ["failed", "failed"]
    for attempt in refused:
        assert attempt.reason.startswith(f"{tmp_path / 'again'} is in use by process {os.getpid()} on "), attempt
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == ["config.yaml", "results.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "again.job.json", "run"]


def test_what_is_no_run_is_not_copied(job, tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    outcome = worker.attempt(Task(job("anna", "evaluate", tmp_path / "letters", tmp_path / "anna", settings=())))
    assert outcome.state == "failed"
    assert outcome.reason == f"{tmp_path / 'letters'} is not a stavatar run: it has no config.yaml"
    assert not (tmp_path / "anna").exists()


@pytest.mark.slow
def test_an_ablation_is_a_job(job, talk, tmp_path: Path) -> None:
    here = job("abl", "ablate", talk, tmp_path / "abl", rows="no_soft_binding", seeds=(0,))
    assert worker.attempt(Task(here, device="cpu")).state == "finished"
    assert records.finished(here)
    assert set(json.loads((tmp_path / "abl" / "ablation.json").read_text())["rows"]) == {"full", "no_soft_binding"}


def test_runs_of_an_ablation_that_fail_are_told(job, talk, tmp_path: Path, monkeypatch) -> None:
    asked = {}

    def ablate(source, folder, settings, rows, seeds, **options):
        asked.update(options, rows=[row.name for row in rows], seeds=seeds, steps=settings.training.steps)
        return {"no_adc, seed 2": "loss is nan"}

    monkeypatch.setattr("stavatar.ablation.ablate", ablate)
    here = job("abl", "ablate", talk, tmp_path / "abl", rows="no_adc", seeds=(0, 2))
    outcome = worker.attempt(Task(here, device="cpu").again())
    assert (outcome.state, outcome.reason) == (
        "failed",
        "1 runs of the ablation failed: no_adc, seed 2: loss is nan",
    )
    assert (asked["rows"], asked["seeds"], asked["steps"], asked["resume"]) == (["full", "no_adc"], [0, 2], 3, True)


def test_another_input_of_the_same_name_is_not_the_same_job(job, tmp_path: Path) -> None:
    video = tmp_path / "a.mp4"
    video.write_bytes(b"one")
    here = job(task="reconstruct", source=video, out=tmp_path / "anna")
    (tmp_path / "anna").mkdir()
    (tmp_path / "anna" / "results.json").write_text("{}")
    records.write_record(here, worker.Outcome("finished"))
    assert records.finished(here)
    video.write_bytes(b"another")
    outcome = worker.attempt(Task(here, device="cpu"))
    assert outcome.state == "failed"
    assert "was made with bytes 3, not 7" in outcome.reason


def test_a_bug_of_ours_stops_nobody(job, talk, tmp_path: Path, monkeypatch, capsys) -> None:
    def broken(_: Task) -> None:
        raise KeyError("oops")

    monkeypatch.setattr(worker, "_carry_out", broken)
    outcome = worker.attempt(Task(job(source=talk, out=tmp_path / "anna"), device="cpu"))
    assert outcome.state == "failed"
    assert outcome.reason.startswith("KeyError: 'oops' (see ")
    assert "Traceback" in capsys.readouterr().err
