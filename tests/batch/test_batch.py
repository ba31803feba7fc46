"""Whole batches, with true work: what finishes, what fails, what is kept, and what is summed up."""

from __future__ import annotations

import dataclasses
import json
import sys
from concurrent.futures import Future
from pathlib import Path

import pytest
from batch_settings import TINY

from stavatar import cli
from stavatar.batch import Settings, run_batch, summarise, worker
from stavatar.batch.engine import Started
from stavatar.batch.local import LocalEngine
from stavatar.batch.task import Outcome, Task
from stavatar.errors import InputError
from stavatar.run import Run

SET = "; ".join(TINY)


def snapshot(folder: Path) -> dict[str, float]:
    """Path -> when it was written last, of everything below a folder."""
    return {str(path.relative_to(folder)): path.stat().st_mtime for path in folder.rglob("*") if path.is_file()}


class Here:
    """An engine that works in this process, one job after the other: starting others would take most of the time."""

    def __init__(self, *_: object) -> None:
        pass

    def submit(self, task: Task) -> Future[Outcome]:
        future: Future[Outcome] = Future()
        future.set_result(worker.attempt(dataclasses.replace(task, threads=None)))
        return future

    def news(self) -> list[Started]:
        return []

    def close(self) -> None:
        pass


@pytest.fixture(scope="module", autouse=True)
def quickly(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stavatar.batch.batch.LocalEngine", Here)
        patch.setattr("stavatar.evaluation.speed.MOST_SECONDS", 0.0)
        patch.setenv("STAVATAR_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def manifest(talk, tmp_path_factory):
    folder = tmp_path_factory.mktemp("manifest")
    (folder / "broken.mp4").write_bytes(b"\x00\x00\x00\x18ftypmp42" + bytes(2000))
    path = folder / "manifest.csv"
    rows = [
        "name,task,input,preset,set,seed",
        f'anna,train,{talk},cpu,"{SET}",1',
        f'bob,reconstruct,broken.mp4,cpu,"{SET}",',
        f'cleo,train,{talk},cpu,"{SET}",2',
    ]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def done(manifest, tmp_path_factory):
    """A batch of two that train and a video that is none."""
    out = tmp_path_factory.mktemp("batches") / "out"
    return out, *run_batch(manifest, str(out), Settings(workers=2, device="cpu"))


def test_a_job_that_fails_stops_no_other(done) -> None:
    out, _, outcomes = done
    assert {name: outcome.state for name, outcome in outcomes.items()} == {
        "anna": "finished",
        "bob": "failed",
        "cleo": "finished",
    }
    assert "broken.mp4" in outcomes["bob"].reason
    assert outcomes["bob"].attempts == 1, "bad input is not tried again"
    assert not (out / "bob").exists()
    assert Run.open(out / "anna").results.exists()
    assert outcomes["anna"].bytes == sum(path.stat().st_size for path in (out / "anna").rglob("*") if path.is_file())


def test_rows_have_their_own_settings(done) -> None:
    out, _, _ = done
    seeds = [json.loads((out / name / "results.json").read_text())["seed"] for name in ("anna", "cleo")]
    assert seeds == [1, 2]


def test_the_summary_names_everybody(done) -> None:
    out, _, _ = done
    numbers = json.loads((out / "batch.json").read_text())
    assert numbers["counts"] == {"failed": 1, "finished": 2}
    assert [job["state"] for job in numbers["jobs"]] == ["finished", "failed", "finished"]
    (table,) = numbers["comparisons"].values()
    psnr = [line["cells"][0]["value"] for line in table["lines"]]
    assert [line["group"] for line in table["lines"]] == ["anna", "cleo", "mean over 2 subjects"]
    assert psnr[2] == pytest.approx((psnr[0] + psnr[1]) / 2)
    assert psnr[0] == json.loads((out / "anna" / "results.json").read_text())["metrics"]["psnr"]
    markdown, page = (out / "batch.md").read_text(), (out / "batch.html").read_text()
    assert "bob (line 3) failed: " in markdown
    assert "[anna](<anna/report.html>)" in markdown
    assert page.count("data:image/webp") == 2
    assert 'href="cleo/report.html"' in page
    assert "line 3 of the manifest" in page


def test_nothing_is_done_twice_and_what_failed_is_tried_again(done, manifest) -> None:
    out, _, _ = done
    before = {name: snapshot(out / name) for name in ("anna", "cleo")}
    _, outcomes = run_batch(manifest, str(out), Settings(workers=2, device="cpu", resume=True))
    assert {name: outcome.state for name, outcome in outcomes.items()} == {
        "anna": "kept",
        "bob": "failed",
        "cleo": "kept",
    }
    assert {name: snapshot(out / name) for name in ("anna", "cleo")} == before
    assert outcomes["anna"].seconds > 0, "what is kept keeps its time"


def test_results_are_not_written_over(done, manifest, tmp_path: Path) -> None:
    out, _, _ = done
    before = snapshot(out)
    with pytest.raises(InputError, match="--resume"):
        run_batch(manifest, str(out), Settings())
    other = tmp_path / "manifest.csv"
    changed = (
        manifest.read_text().replace("steps=3", "steps=4").replace("broken.mp4", str(manifest.parent / "broken.mp4"))
    )
    other.write_text(changed)
    jobs, outcomes = run_batch(other, str(out), Settings(device="cpu", resume=True, part=(1, 3)))
    assert [job.name for job in jobs] == ["anna"]
    assert outcomes["anna"].state == "failed"
    assert "made with settings" in outcomes["anna"].reason
    assert snapshot(out) == before, "a part writes no summary"
    _, outcomes = summarise(other, str(tmp_path / "elsewhere"))
    assert outcomes["anna"].state == "waiting"


def test_the_summary_of_parts(done, manifest) -> None:
    out, _, _ = done
    (out / "batch.json").unlink()
    (out / "cleo.job.json").rename(out / "away")
    _, outcomes = summarise(manifest, str(out))
    (out / "away").rename(out / "cleo.job.json")
    assert {name: outcome.state for name, outcome in outcomes.items()} == {
        "anna": "finished",
        "bob": "failed",
        "cleo": "waiting",
    }
    assert json.loads((out / "batch.json").read_text())["counts"] == {"failed": 1, "finished": 1, "waiting": 1}
    assert "no attempt has ended yet" in (out / "batch.md").read_text()


def test_the_local_engine_does_it_in_a_process_of_its_own(job, talk, tmp_path: Path) -> None:
    engine = LocalEngine(1)
    outcome = engine.submit(Task(job(source=talk, out=tmp_path / "anna"), device="cpu", threads=1)).result(250)
    engine.close()
    assert (outcome.state, outcome.reason, outcome.attempts) == ("finished", "", 1)
    assert Run.open(tmp_path / "anna").results.exists()
    log = (tmp_path / "anna.log").read_text()
    assert "anna, attempt 1: finished" in log
    assert json.loads((tmp_path / "anna.job.json").read_text())["state"] == "finished"


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"engine": "slurm"}, "--engine slurm: expected local or ray"),
        ({"address": "auto"}, "--address means nothing to --engine local"),
        ({"gpus": 0.5}, "--gpus-per-task means nothing"),
        ({"engine": "ray", "workers": 2}, "--workers means nothing to --engine ray"),
        ({"engine": "ray", "gpus": 1.5}, "--gpus-per-task 1.5"),
        ({"part": (3, 2)}, "--part 3/2"),
    ],
)
def test_options_that_contradict_each_other(changes, fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        Settings(**changes)


def call(monkeypatch, capsys, *arguments: object) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["stavatar", "batch", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    written = capsys.readouterr()
    return int(stop.value.code or 0), written.out, written.err


def test_the_command_ends_with_a_table_and_names_who_failed(done, manifest, monkeypatch, capsys) -> None:
    out, _, _ = done
    code, shown, errors = call(monkeypatch, capsys, manifest, "-o", out, "--summary")
    assert code == 5
    assert "error: 1 of 3 jobs failed: bob;" in errors
    assert "anna" in shown
    assert "finished" in shown
    code, shown, _ = call(monkeypatch, capsys, manifest, "-o", out, "--check")
    assert (code, f"{manifest}: 3 jobs, no faults" in shown) == (0, True)
    code, _, errors = call(monkeypatch, capsys, manifest, "-o", out, "--part", "x")
    assert (code, "--part x: expected K/N" in errors) == (2, True)
