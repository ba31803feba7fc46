"""The whole way on FLAME: sequence in, avatar out, saved, loaded and rendered, on the CPU and on a GPU.

The head is made up (``made_up_flame``), so that nothing of FLAME's is needed. On a GPU:

    python -m pytest tests/test_flame_whole_way.py -m gpu
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json

import pytest
import torch

from stavatar import pipeline
from stavatar.avatar.avatar import render
from stavatar.avatar.storage import load_avatar
from stavatar.errors import InputError
from stavatar.head.library import VARIABLE
from stavatar.rendering import CameraMove
from stavatar.sequence import read_sequence, write_sequence


@pytest.fixture
def settings(small_config):
    return dataclasses.replace(
        small_config,
        # LPIPS would need its weights; one pass over the poses shows that they can be aligned.
        training=dataclasses.replace(small_config.training, steps=30, lpips=0.0),
        pose=dataclasses.replace(small_config.pose, passes=(0.5,), iterations=2),
    )


@pytest.fixture(autouse=True)
def known_flame(flame_head, flame_file, flame_cache_folder, monkeypatch):
    monkeypatch.setenv("STAVATAR_CACHE", str(flame_cache_folder))
    monkeypatch.setenv(VARIABLE, str(flame_file))


def from_sequence_to_video(flame_sequence, settings, folder, device):
    """Train 30 steps, measure, load, render; returns the held-out PSNR and that of a white picture."""
    write_sequence(flame_sequence, folder / "sequence")
    run = pipeline.train_sequence(folder / "sequence", folder / "run", settings, device=device)

    avatar, motion = load_avatar(run.avatar, device)
    assert avatar.head.name == flame_sequence.head_model
    assert avatar.network is not None
    last = motion.test[-1:]
    with torch.no_grad():
        view = render(avatar(motion.parameters[last].to(device)), motion.camera.to(device))
    truth = flame_sequence.image(last)
    assert (view.image[0].cpu() - truth[0]).abs().mean() < 0.08

    pipeline.render_motion(run.folder, folder / "motion.mp4", move=CameraMove(orbit=True), frames=3, device=device)
    av = pytest.importorskip("av", reason="the rest needs PyAV to read the video back")
    with av.open(str(folder / "motion.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == 3
    results = json.loads(run.results.read_text())
    white = -10 * torch.log10((1 - flame_sequence.image(flame_sequence.test)).square().mean())
    return results["metrics"]["psnr"], float(white)


def test_an_avatar_on_flame_on_the_cpu(flame_sequence, settings, tmp_path):
    found, white = from_sequence_to_video(flame_sequence, settings, tmp_path, torch.device("cpu"))
    assert found > white + 6


@pytest.mark.gpu
def test_an_avatar_on_flame_on_a_gpu(flame_sequence, settings, tmp_path):
    if not torch.cuda.is_available() or importlib.util.find_spec("gsplat") is None:
        pytest.skip("needs a CUDA GPU and the cuda extra")
    found, white = from_sequence_to_video(flame_sequence, settings, tmp_path, torch.device("cuda"))
    assert found > white + 6


def test_data_from_elsewhere_with_fewer_coefficients(flame_sequence, flame_head, settings, tmp_path, monkeypatch):
    """A folder that only says which version of FLAME it is for becomes one of the user's file."""
    short = flame_sequence.parameters.replaced(expression=flame_sequence.parameters.expression[:, :2])
    foreign = dataclasses.replace(flame_sequence, head_model="flame-unknown", parameters=short)
    write_sequence(foreign, tmp_path / "sequence")
    monkeypatch.setattr(pipeline, "train", lambda *_, **__: None)
    monkeypatch.setattr(pipeline, "evaluate", lambda *_, **__: None)
    run = pipeline.train_sequence(tmp_path / "sequence", tmp_path / "run", settings, device=torch.device("cpu"))
    taken = read_sequence(run.sequence)
    assert taken.head_model == flame_head.name
    assert taken.parameters.expression.shape == (10, flame_head.expression_count)
    assert taken.parameters.expression[:, :2].equal(short.expression)
    assert not taken.parameters.expression[:, 2:].any()


def test_a_sequence_whose_file_is_not_known_says_how_to_give_it(flame_sequence, settings, tmp_path, monkeypatch):
    write_sequence(flame_sequence, tmp_path / "sequence")
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv("STAVATAR_CACHE", str(tmp_path / "cache"))
    with pytest.raises(InputError, match=rf"{flame_sequence.head_model} is not known here: give your FLAME file"):
        pipeline.train_sequence(tmp_path / "sequence", tmp_path / "run", settings, device=torch.device("cpu"))
    assert not (tmp_path / "run").exists()
