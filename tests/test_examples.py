"""Every example runs, on a tiny avatar, and leaves what it says."""

import runpy
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

import stavatar
from stavatar.sequence import write_sequence

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def run(monkeypatch):
    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        return runpy.run_path(str(EXAMPLES / name))

    return run


def frames(path):
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]).astype(int)


def test_every_example_has_a_test_and_a_place_in_the_order():
    names = sorted(path.name for path in EXAMPLES.glob("*.py"))
    assert [name[:3] for name in names] == [f"{number:02d}_" for number in range(1, len(names) + 1)]
    source = Path(__file__).read_text()
    assert all(f'run("{name}"' in source for name in names)


def test_load_and_render(run, small_avatar_folder, tmp_path):
    run("01_load_and_render.py", small_avatar_folder, tmp_path / "smile.png")
    assert Image.open(tmp_path / "smile.png").size == (512, 512)


def test_expression_sweep(run, small_avatar_folder, tmp_path):
    run("02_expression_sweep.py", small_avatar_folder, tmp_path / "sweep.mp4", "jawOpen")
    pictures = frames(tmp_path / "sweep.mp4")
    assert len(pictures) == 50
    # Half way the mouth is open, at the end shut as in the beginning.
    half, end = np.abs(pictures[25] - pictures[0]).mean(), np.abs(pictures[49] - pictures[0]).mean()
    assert half > 1.4 * end


def test_turntable(run, small_avatar_folder, tmp_path):
    run("03_turntable.py", small_avatar_folder, tmp_path / "views", 4)
    views = [np.asarray(Image.open(path)) for path in sorted((tmp_path / "views").iterdir())]
    assert [view.shape[2] for view in views] == [4] * 4
    assert all(view[..., 3].mean() > 50 and view[0, 0, 3] < 128 for view in views)


def test_drive_by_csv(run, small_avatar_folder, tmp_path, head):
    lines = ["seconds," + ",".join(head.expression_names)]
    jaw = head.expression_names.index("jawOpen")
    for index in range(5):
        values = ["0"] * len(head.expression_names)
        values[jaw] = str(0.2 * index)
        lines.append(f"{index / 30}," + ",".join(values))
    (tmp_path / "take.csv").write_text("\n".join(lines))
    run("04_drive_by_csv.py", small_avatar_folder, tmp_path / "take.csv", tmp_path / "driven.mp4")
    assert len(frames(tmp_path / "driven.mp4")) == 5


def test_interpolate(run, small_avatar_folder, tmp_path):
    run("05_interpolate.py", small_avatar_folder, tmp_path / "glide.mp4", 0, 4, 9)
    assert len(frames(tmp_path / "glide.mp4")) == 50


def test_custom_density(run, small_sequence, tmp_path):
    write_sequence(small_sequence, tmp_path / "sequence")
    small = ["training.steps=12", "network.uv_size=32", "network.width=0.125", "pose.passes=[]", "pose.iterations=1"]
    left = run("06_custom_density.py", tmp_path / "sequence", tmp_path / "pruned", *small)
    events = left["trainer"].events
    assert events and sum(event.pruned for event in events) > 0
    assert len(stavatar.load_avatar(tmp_path / "pruned").avatar.gaussians) == events[-1].gaussians
