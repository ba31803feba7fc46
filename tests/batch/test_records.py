"""Records and results that somebody else may have written: a summary names them, and goes on."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from stavatar.batch import records, summarise
from stavatar.batch.task import Outcome


@pytest.fixture
def summary_of(job, tmp_path: Path):
    """(state, reason) of a finished job in the summary, whose record and result are what is given."""

    def summary(task: str, change=None, result: str = "{}", text: str | None = None) -> tuple[str, str]:
        manifest, out = tmp_path / "manifest.csv", tmp_path / "out"
        manifest.write_text(f"name,task,input\nanna,{task},.\nbob,train,.\n")
        (out / "anna").mkdir(parents=True)
        whole = {"settings": (), "preset": "auto", "source": tmp_path, "out": out / "anna"}
        if task == "ablate":
            whole |= {"seeds": (0,), "rows": "paper"}
        here = job("anna", task, **whole)
        records.write_record(here, Outcome("finished", host="a|b"))
        Path(records.result(here)).write_text(result)
        file = Path(records.place(here))
        record = json.loads(file.read_text())
        if change is not None:
            change(record)
        file.write_text(json.dumps(record) if text is None else text)
        _, outcomes = summarise(manifest, str(out))
        assert outcomes["bob"].state == "waiting", "one that cannot be read stops no other"
        assert json.loads((out / "batch.json").read_text())["jobs"][0]["state"] == outcomes["anna"].state
        return outcomes["anna"].state, outcomes["anna"].reason

    return summary


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("state", "splendid"), ("state", ["finished"]), ("seconds", math.nan), ("seconds", -1), ("seconds", "1")],
        *[("bytes", 10**400), ("bytes", None), ("attempts", -3), ("job", []), ("reason", 3), ("host", None)],
    ],
)
def test_a_field_of_a_record_that_cannot_be(summary_of, field: str, value: object) -> None:
    state, reason = summary_of("train", lambda record: record.update({field: value}))
    assert state == "failed" and f"anna.job.json: {field} is missing or not what it should be" in reason


@pytest.mark.parametrize("text", ["", '{"format": "st', "[]", "[" * 10_000, '{"format": "another"}'])
def test_what_is_no_record(summary_of, text: str) -> None:
    state, reason = summary_of("train", text=text)
    assert state == "failed" and "anna.job.json" in reason


@pytest.mark.parametrize(
    "result",
    [
        *["[]", "{}", '{"rows": 3}', '{"rows": {"full": []}}', '{"rows": {"full": {"runs": 3}}}', '{"rows": {"a": 1}}'],
        *['{"rows": {"../../etc": {"runs": {"0": 1}}}}', '{"rows": {"full": {"runs": {"../0": 1}}}}'],
        '{"rows": {"full": {"runs": [null]}}}',
    ],
)
def test_what_is_no_ablation(summary_of, result: str) -> None:
    state, reason = summary_of("ablate", result=result)
    assert state == "failed" and "ablation.json" in reason


def test_an_ablation_whose_run_is_gone(summary_of) -> None:
    state, reason = summary_of("ablate", result='{"rows": {"full": {"runs": {"0": {}}}}}')
    assert state == "failed" and reason.endswith("anna/full/seed0/results.json does not exist")


def test_what_is_no_result_file(summary_of) -> None:
    state, reason = summary_of("train", result='{"metrics": []}')
    assert state == "failed" and "results.json" in reason
