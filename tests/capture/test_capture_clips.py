"""The whole of capture on real clips, which are not in the repository: STAVATAR_CLIPS names their folder."""

from __future__ import annotations

import importlib
import os
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from stavatar import assets
from stavatar.capture import capture
from stavatar.capture.video import find_shot, open_source
from stavatar.errors import AssetError, InputError


@contextmanager
def silent(title, total):
    yield lambda advance=1, note=None: None


def clip(name: str) -> Path:
    folder = os.environ.get("STAVATAR_CLIPS")
    if not folder or not (Path(folder) / name).is_file():
        pytest.skip(f"{name} is not there: STAVATAR_CLIPS does not name a folder with it")
    try:
        assets.path("face_landmarker"), assets.path("selfie_segmenter")
    except AssetError as reason:
        pytest.skip(str(reason))
    return Path(folder) / name


def test_a_clip_becomes_observations(capfd):
    seen = capture(clip("glasses.mp4"), size=128, max_frames=30, progress=silent)
    assert len(seen) == 30
    assert seen.images.shape == (30, 128, 128, 3)
    assert seen.size == (128, 128)
    assert seen.fps == pytest.approx(30 / 20, rel=0.01)
    assert seen.detected.all()
    assert seen.blendshape_names[0] == "_neutral"
    assert len(seen.blendshape_names) == 52
    assert (seen.blendshapes >= 0).all() and (seen.blendshapes <= 1).all()
    assert not torch.isnan(seen.landmarks).any()

    # a face is higher than wide and lies, like the hair above it, on the person
    boxes = seen.landmarks[..., :2].amin(1), seen.landmarks[..., :2].amax(1)
    extent = (boxes[1] - boxes[0]).median(0).values
    assert 1.0 < extent[1] / extent[0] < 1.6
    for t in (0, 15, 29):
        x, y = seen.landmarks[t, :, :2].long().clamp(0, 127).unbind(1)
        assert (seen.mattes[t, y, x] > 250).float().mean() > 0.95
    # wall at the upper corners, chest at the middle of the lower border
    assert seen.mattes[:, :20, :10].max() == 0
    assert seen.images[:, :20, :10].min() == 255
    assert seen.mattes[:, -4:, 54:74].min() == 255
    # MediaPipe's chatter stays off the terminal
    assert "W0000" not in capfd.readouterr().err


def test_the_edit_in_the_anchor_clip_is_found(capfd):
    shot = find_shot(open_source(clip("anchor.mp4")), 714, silent)
    assert shot.indices[0] == 0
    assert 1420 < shot.indices[-1] < 1429
    assert 700 < len(shot) <= 714
    assert "cut at 57.2 s" in " ".join(capfd.readouterr().err.split())


def test_pulldown_repeats_in_the_expressions_clip_are_dropped():
    shot = find_shot(open_source(clip("expressions.mp4")), None, silent)
    steps = np.diff(shot.indices)
    assert 0.1 < (steps == 2).mean() < 0.17, "about one frame in six repeats"


def test_a_tiny_memory_limit_is_refused_with_the_number_of_frames_that_fit(monkeypatch):
    monkeypatch.setattr(importlib.import_module("stavatar.capture.capture"), "MOST_BYTES", 50 * 64 * 64 * 4)
    with pytest.raises(InputError, match="allow at most 50 frames"):
        capture(clip("glasses.mp4"), size=64, progress=silent)
