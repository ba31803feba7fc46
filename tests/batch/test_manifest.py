"""The manifest: what a row means, and every fault found at once with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from stavatar.batch.manifest import read_manifest
from stavatar.errors import InputError


@pytest.fixture
def manifest(tmp_path: Path):
    """Write a manifest beside a video and a sequence."""
    (tmp_path / "a.mp4").write_bytes(b"video")
    (tmp_path / "seq").mkdir()

    def write(*lines: str) -> Path:
        path = tmp_path / "manifest.csv"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return write


@pytest.fixture
def faults_of(capsys):
    """What is said of a manifest, of all its faults."""

    def say(path: Path) -> str:
        with pytest.raises(InputError) as caught:
            read_manifest(path, "/out")
        return capsys.readouterr().err + str(caught.value)

    return say


def test_a_row_becomes_a_job(manifest, tmp_path: Path) -> None:
    path = manifest(
        "\ufeffname,task,input,set,seed,holdout,gpus,subject,method,out",
        "# a remark, with commas",
        "",
        'anna-1,reconstruct,a.mp4,"training.steps=9; pose.passes=[0.5,1]",3,7,0.25,anna,long,',
        "bob,train,seq,,,,,,,sub/bob",
        "cleo,reconstruct,memory://clips/cleo.mp4,,,,,,,memory://done/cleo/",
    )
    anna, bob, cleo = read_manifest(path, "/out")
    assert (anna.line, anna.name, anna.task, anna.input) == (4, "anna-1", "reconstruct", str(tmp_path / "a.mp4"))
    assert (anna.out, anna.subject, anna.method) == ("/out/anna-1", "anna", "long")
    assert anna.settings == ("training.steps=9", "pose.passes=[0.5,1]")
    assert (anna.seeds, anna.holdout, anna.gpus, anna.cpus) == ((3,), 7, 0.25, None)
    assert (bob.out, bob.subject, bob.method, bob.preset, bob.seeds) == ("/out/sub/bob", "bob", "auto", "auto", ())
    assert (cleo.input, cleo.out) == ("memory://clips/cleo.mp4", "memory://done/cleo")


def test_out_may_be_a_url(manifest) -> None:
    (job,) = read_manifest(manifest("name,task,input", "anna,train,seq"), "s3://bucket/out/")
    assert job.out == "s3://bucket/out/anna"


def test_seeds_and_rows_belong_to_an_ablation(manifest) -> None:
    (job,) = read_manifest(manifest("name,task,input,seed,rows", 'a,ablate,seq,"0,2",no_adc'), "/out")
    assert (job.seeds, job.rows) == ((0, 2), "no_adc")


ROWS = {
    ",train,seq,,,,,": "name is empty",
    "../up,train,seq,,,,,": "name '../up'",
    "ok1,tain,seq,,,,,": "task 'tain': expected reconstruct",
    "ok2,train,nowhere,,,,,": "input nowhere does not exist",
    "ok3,train,seq,speedy,,,,": "speedy",
    "ok4,train,seq,,training.step=3,,,": "training.step",
    "ok5,train,seq,,training.steps=many,,,": "steps must be of type int",
    "ok6,train,seq,,,x,,": "holdout 'x'",
    "ok7,train,seq,,,0,,": "holdout '0'",
    'ok8,train,seq,,,,"1,2",': "takes one",
    "ok9,evaluate,seq,cpu,,,,": "preset means nothing to evaluate",
    "ok10,train,seq,,,,,1.5": "gpus 1.5",
    "ok11,train,seq,,,,,-1": "gpus -1",
    "ok12,train,seq,,,,,nan": "gpus nan",
    "ok13,reconstruct,gopher3://x/y.mp4,,,,,": "no kind of storage",
    "ok14.log,train,seq,,,,,": "a folder cannot end in .log",
    "twin,train,seq,,,,,": None,
    " twin,train,seq,,,,, ": "name twin is that of line",
}


def test_all_faults_are_told_at_once_with_their_lines(manifest, faults_of) -> None:
    told = faults_of(manifest("name,task,input,preset,set,holdout,seed,gpus", *ROWS))
    for line, fault in enumerate(ROWS.values(), 2):
        lines = [text for text in told.splitlines() if text.startswith(f"warning: line {line}: ")]
        assert bool(lines) == (fault is not None), (line, told)
        assert fault is None or fault in lines[0]
    assert told.endswith(" faults (see above); nothing was started")


def test_of_very_many_faults_the_first_are_told(manifest, faults_of) -> None:
    told = faults_of(manifest("name,task,input", *(f"a{k},train,nowhere" for k in range(1000))))
    assert told.count("warning: line ") == 20 and "warning: line 21: " in told
    assert told.endswith("has 1,000 faults, the first 20 of them above; nothing was started")


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        (["name,task,input,colour", "a,train,seq,red"], "columns unknown: 'colour'"),
        (["name,input", "a,seq"], "columns missing: 'task'"),
        (["name,task,input,name", "a,train,seq,b"], "there twice: 'name'"),
        (["name,task,input", "a,train,seq,set=1,2"], "line 2: 5 fields, but the heading has 3"),
        (["name,task,input", 'a,train,"seq'], "cannot be read as a CSV table"),
        (["name,task,input"], "holds no rows"),
        (["name,task,input,out", "a,train,seq,../b"], "leads out of --out"),
        (["name,task,input,out", "a,train,seq,x", "b,train,seq,x"], "line 3: out /out/x is that of line 2"),
        (
            ["name,task,input,out", "a,train,seq,x", "b,train,seq,x/y"],
            "line 3: out /out/x/y lies within that",
        ),
        (["name,task,input,subject", "a,train,seq,s", "b,train,seq,s"], "line 3: subject s has method auto in line 2"),
        (["name,task,input,subject", "a,ablate,seq,s", "b,ablate,seq,s"], "line 3: subject s has ablation in line 2"),
        (["name,task,input,protocol,holdout", "a,train,seq,stavatar,3"], "holdout"),
        (["name,task,input,rows", "a,ablate,seq,nonsense"], "nonsense"),
    ],
)
def test_tables_that_cannot_be_used(manifest, faults_of, lines: list[str], fault: str) -> None:
    assert fault in faults_of(manifest(*lines))


def test_what_is_no_table(faults_of, tmp_path: Path) -> None:
    assert "does not exist" in faults_of(tmp_path / "none.csv")
    (tmp_path / "picture.csv").write_bytes(b"\x89PNG\r\n\xff\xfe\x00\x00")
    assert "CSV table in UTF-8" in faults_of(tmp_path / "picture.csv")


def test_a_row_with_several_faults_has_them_all_told(manifest, faults_of) -> None:
    told = faults_of(manifest("name,task,input,holdout,gpus,set", "a b,train,nowhere,x,1.5,no.such=1"))
    assert told.count("warning: line 2: ") == 5, told
