"""Several runs at once, in processes of their own: how many, with how many threads, and what becomes of failures."""

import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch

from stavatar import config
from stavatar.ablation import runs, worker
from stavatar.ablation.rows import FULL
from stavatar.ablation.runs import Trial, plan_trials

CPU = torch.device("cpu")


@pytest.fixture
def trials(tmp_path, monkeypatch):
    """Makes trials whose processes run the given Python code, with the trial's folder as `folder`."""

    def make(*codes: str) -> list[Trial]:
        made = [Trial(FULL, k, config.preset("cpu"), tmp_path / f"seed{k}") for k in range(len(codes))]
        before = "import os, pathlib, sys, time; folder = pathlib.Path(sys.argv[1]); "
        monkeypatch.setattr(
            runs,
            "_command",
            lambda trial, device: [sys.executable, "-S", "-c", before + codes[trial.seed], str(trial.folder)],
        )
        return made

    return make


def test_no_more_at_once_than_asked_for_each_with_its_share_of_threads(trials, monkeypatch, tmp_path):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    note = "began = time.time(); time.sleep(0.15); folder.with_suffix('.txt').write_text("
    note += "f'{began} {time.time()} ' + os.environ['OMP_NUM_THREADS'] + ' ' + os.environ['NUMBA_NUM_THREADS'])"
    assert runs._in_processes(trials(note, note, note, note), CPU, 2) == {}
    notes = [(tmp_path / f"seed{k}.txt").read_text().split() for k in range(4)]
    assert {tuple(threads) for _, _, *threads in notes} == {("3", "3")}
    spans = [(float(begin), float(end)) for begin, end, *_ in notes]
    overlaps = [sum(begin <= moment < end for begin, end in spans) for moment, _ in spans]
    assert max(overlaps) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="no signals there")
def test_failures_are_named_with_what_the_process_said_last(trials):
    failed = runs._in_processes(
        trials("pass", "print('noise'); sys.exit('the loss is nan')", "os.kill(os.getpid(), 9)", "sys.exit(3)"), CPU, 4
    )
    assert set(failed) == {"full, seed 1", "full, seed 2", "full, seed 3"}
    assert failed["full, seed 1"].startswith("the loss is nan (see ")
    assert "signal 9" in failed["full, seed 2"]
    assert failed["full, seed 3"].startswith("exit status 3 (see ")


def test_an_interruption_ends_the_processes(trials, monkeypatch):
    started = []

    class Noted(subprocess.Popen):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            started.append(self)

    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "Popen", Noted)
    monkeypatch.setattr(runs, "time", SimpleNamespace(sleep=interrupted, monotonic=time.monotonic))
    with pytest.raises(KeyboardInterrupt):
        runs._in_processes(trials("time.sleep(60)", "time.sleep(60)", "time.sleep(60)"), CPU, 2)
    assert len(started) == 2  # the third was not begun
    assert all(process.wait(timeout=20) != 0 for process in started)


@pytest.mark.skipif(sys.platform == "win32", reason="no signals there")
def test_an_interruption_waits_for_checkpoints_but_not_for_ever(trials, monkeypatch, tmp_path):
    """One process takes its time and ends well, another does not want to end."""
    monkeypatch.setattr(runs, "_GRACE_SECONDS", 2.0)
    ready = "pathlib.Path(str(folder) + '.ready').touch(); time.sleep(60)"
    slow = "import signal; stop = lambda *_: (time.sleep(0.3), folder.with_suffix('.txt').touch(), sys.exit(0)); "
    deaf = "import signal; stop = signal.SIG_IGN; "
    planned = trials(*(kind + "signal.signal(signal.SIGTERM, stop); " + ready for kind in (slow, deaf)))

    def interrupted(_):
        while len(list(tmp_path.glob("*.ready"))) < 2:
            time.sleep(0.02)
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "time", SimpleNamespace(sleep=interrupted, monotonic=time.monotonic))
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        runs._in_processes(planned, CPU, 2)
    assert (tmp_path / "seed0.txt").exists()
    assert time.monotonic() - begin < 30


def test_a_process_finds_its_standard_input_closed_when_its_parent_is_gone(trials):
    process = runs._start_process(trials("sys.stdin.read(); sys.exit(7)")[0], CPU, 1)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    process.stdin.close()  # as the system does when it ends a process
    assert process.wait(20) == 7


def test_the_worker_says_what_is_wrong_in_its_last_line(tmp_path, capsys):
    assert worker.main(str(tmp_path), "cpu") == 2
    assert capsys.readouterr().err.strip().endswith("is not a stavatar run: it has no config.yaml")


def test_trials_differ_in_row_and_seed_alone(tmp_path):
    base = config.preset("cpu")
    own = runs.Row("narrow", "own", ("network.width=0.125",), "")
    planned = plan_trials(tmp_path, base, [FULL, own], [3, 5])
    assert [(trial.row.name, trial.seed) for trial in planned] == [
        ("full", 3),
        ("narrow", 3),
        ("full", 5),
        ("narrow", 5),
    ]
    assert planned[3].folder == tmp_path / "narrow" / "seed5"
    assert planned[3].config == config.override(base, ["network.width=0.125", "training.seed=5"])
