"""What a process holds: files and threads are the same in number after any amount of work."""

from __future__ import annotations

import dataclasses
import gc
import threading
import weakref
from pathlib import Path

import pytest
import torch

from stavatar import pipeline
from stavatar.evaluation import speed
from stavatar.sequence import write_sequence
from stavatar.training.trainer import Trainer

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts what Linux shows under /proc")


def held() -> tuple[list[str], int]:
    """What open files are, and how many threads this process has, those of libraries included."""
    gc.collect()
    files = []
    for handle in Path("/proc/self/fd").iterdir():
        try:
            files.append(str(handle.readlink()))
        except FileNotFoundError:  # the listing's own
            continue
    return sorted(files), len(list(Path("/proc/self/task").iterdir()))


@pytest.fixture
def settings(small_config):
    return dataclasses.replace(
        small_config,
        pose=dataclasses.replace(small_config.pose, passes=(), iterations=1),
        training=dataclasses.replace(small_config.training, steps=2, checkpoint_seconds=0.0),
    )


def test_a_whole_run_leaves_no_file_open_and_no_thread_running(small_sequence, settings, tmp_path, monkeypatch):
    """The second of two, as libraries may keep what the first has opened."""
    monkeypatch.setattr(speed, "REPEATS", 2)
    monkeypatch.setenv("STAVATAR_CACHE", str(tmp_path / "cache"))
    source = tmp_path / "source"
    write_sequence(small_sequence, source)
    counts = []
    for name in ("first", "second"):
        pipeline.train_sequence(source, tmp_path / name, settings, device=torch.device("cpu"))
        pipeline.render_motion(tmp_path / name, tmp_path / f"{name}.mp4", frames=2, device=torch.device("cpu"))
        counts.append(held())
    assert counts[1] == counts[0]


@pytest.mark.parametrize("count", [5, pytest.param(100, marks=pytest.mark.slow)])
def test_trainers_leave_nothing_behind(small_sequence, head, settings, count):
    Trainer(small_sequence, head, settings)
    before = held()
    made = [weakref.ref(Trainer(small_sequence, head, settings)) for _ in range(count)]
    assert held() == before
    assert [one() for one in made] == [None] * count


def test_a_leak_would_be_seen(tmp_path):
    """The measure itself: an open file and a thread count."""
    before = held()
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    with (tmp_path / "file").open("w"):
        thread.start()
        files, threads = held()
    over.set()
    thread.join()
    assert files == sorted([*before[0], str(tmp_path / "file")]) and threads == before[1] + 1
    assert held() == before
