"""One attempt in this process: object storage, evaluation of a copy, ablations, and what counts as done."""

from __future__ import annotations

import json
from pathlib import Path

import fsspec
import pytest

from stavatar.batch import records, worker
from stavatar.batch.task import Task
from stavatar.run import Run


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

    def full(*_: object) -> None:
        raise OSError("no room")

    monkeypatch.setattr(type(store), "put", full)
    outcome = worker.attempt(Task(here, device="cpu", work=str(tmp_path)))
    assert outcome.state == "failed"
    assert "memory://done/cut cannot be reached: OSError: no room" in outcome.reason
    assert json.loads(store.cat_file("/done/cut.job.json"))["state"] == "failed"
    assert not records.finished(here)
    monkeypatch.undo()
    assert tmp_path.glob("*/anna/results.json"), "what was computed waits for the next attempt"


def test_a_half_finished_job_goes_on(job, talk, tmp_path: Path, monkeypatch) -> None:
    from stavatar import pipeline

    here = job(source=talk, out=tmp_path / "anna")

    def killed(*_: object, **__: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "evaluate", killed)
        outcome = worker.attempt(Task(here, device="cpu"))
    assert outcome.state == "lost"
    assert "memory ran out" in outcome.reason
    assert records.read_record(here) is None, "whoever gives it up writes the record"
    trained = Run.open(tmp_path / "anna").seconds["training"]
    written = (tmp_path / "anna" / "avatar" / "avatar.safetensors").stat().st_mtime_ns
    assert worker.attempt(Task(here, device="cpu").again()).state == "finished"
    assert (tmp_path / "anna" / "avatar" / "avatar.safetensors").stat().st_mtime_ns == written
    assert Run.open(tmp_path / "anna").seconds["training"] == trained


def test_measuring_again_leaves_the_run_as_it_is(job, talk, tmp_path: Path) -> None:
    first = job(source=talk, out=tmp_path / "anna")
    assert worker.attempt(Task(first, device="cpu")).state == "finished"
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "anna").rglob("*")}
    again = job("again", "evaluate", tmp_path / "anna", tmp_path / "again", settings=(), preset="auto")
    assert worker.attempt(Task(again, device="cpu")).state == "finished"
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "anna").rglob("*")} == before
    results = [json.loads((tmp_path / name / "results.json").read_text()) for name in ("anna", "again")]
    assert results[0]["metrics"]["psnr"] == pytest.approx(results[1]["metrics"]["psnr"])


def test_an_ablation_is_a_job(job, talk, tmp_path: Path) -> None:
    here = job("abl", "ablate", talk, tmp_path / "abl", rows="no_soft_binding", seeds=(0,))
    assert worker.attempt(Task(here, device="cpu")).state == "finished"
    assert records.finished(here)
    assert set(json.loads((tmp_path / "abl" / "ablation.json").read_text())["rows"]) == {"full", "no_soft_binding"}


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
