"""Videos with truth: round trip through the disk, and what MediaPipe sees in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from stavatar import assets
from stavatar.capture.landmarks import track_face
from stavatar.capture.video import Frame, open_source
from stavatar.errors import AssetError, InputError
from stavatar.head import HeadModel, load_embedded_landmarks
from stavatar.synth import Renderer, load_truth, make_performance, write_performance, write_truth


def test_video_and_truth_come_back(head: HeadModel, tmp_path: Path) -> None:
    performance = make_performance(head, frames=6, size=96, seed=1, fps=30)
    truth_path = write_performance(tmp_path / "clip.mp4", performance)
    assert truth_path == tmp_path / "clip.npz"
    decoded = [frame.rgb for frame in open_source(tmp_path / "clip.mp4").frames()]
    rendered = list(performance.render())
    assert len(decoded) == 6
    error = np.abs(np.stack(decoded).astype(float) - np.stack(rendered))
    assert error.mean() < 4  # of 255: compression only

    truth, expected = load_truth(truth_path), performance.truth
    assert (truth.head_model, truth.seed, truth.fps) == (head.name, 1, 30)
    assert torch.equal(truth.shape, expected.shape)
    for (name, value), (_, wanted) in zip(truth.parameters.items(), expected.parameters.items(), strict=True):
        assert torch.equal(value, wanted), name
    assert torch.equal(truth.camera.world_to_camera, expected.camera.world_to_camera)
    assert torch.equal(truth.camera.focal, expected.camera.focal)
    assert torch.equal(truth.camera.center, expected.camera.center)
    assert (truth.camera.width, truth.camera.height) == (96, 96)


@pytest.mark.parametrize("damage", ["missing", "not a zip", "cut off", "other format", "key missing", "pickle"])
def test_damaged_truth_is_refused(head: HeadModel, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "truth.npz"
    write_truth(path, make_performance(head, frames=2, size=64).truth)
    with np.load(path) as data:
        arrays = dict(data)
    if damage == "missing":
        path.unlink()
    elif damage == "not a zip":
        path.write_text("hello")
    elif damage == "cut off":
        path.write_bytes(path.read_bytes()[:-200])
    elif damage == "other format":
        np.savez(path, **(arrays | {"format": np.array("something-else")}))
    elif damage == "key missing":
        np.savez(path, **{key: value for key, value in arrays.items() if key != "neck"})
    else:
        np.savez(path, **(arrays | {"neck": np.array([{"a": 1}], dtype=object)}), allow_pickle=True)
    with pytest.raises(InputError, match=r"truth\.npz"):
        load_truth(path)


@pytest.mark.parametrize(("option", "value"), [("size", 8), ("noise", 0.9), ("noise", -0.1), ("frames", 0)])
def test_senseless_numbers_are_refused(head: HeadModel, option: str, value: float) -> None:
    with pytest.raises(InputError):
        make_performance(head, **{option: value})  # type: ignore[arg-type]


def test_mediapipe_sees_the_face_and_its_expressions(head: HeadModel, renderer: Renderer) -> None:
    try:
        model = assets.path("face_landmarker")
    except AssetError as reason:
        pytest.skip(str(reason))
    performance = make_performance(head, frames=100, size=320, seed=1)
    truth = performance.truth
    frames = renderer.frames(truth.parameters, truth.camera)
    seen = track_face(
        (Frame(index=i, seconds=i / truth.fps, rgb=rgb) for i, rgb in enumerate(frames)), model, lambda *_, **__: None
    )
    assert seen.detected.mean() >= 0.99

    def agreement(name: str) -> float:
        column = truth.parameters.expression[:, head.expression_names.index(name)].numpy()[seen.detected]
        return float(np.corrcoef(seen.blendshapes[seen.detected, seen.names.index(name)], column)[0, 1])

    assert agreement("eyeBlinkLeft") > 0.85
    assert agreement("eyeBlinkRight") > 0.85
    assert agreement("jawOpen") > 0.75

    # And the landmarks lie where the embedding puts them, for another identity than it was made with.
    vertices = head(truth.shape[None], truth.parameters).vertices
    embedded = truth.camera.project(load_embedded_landmarks().points(head, vertices)).numpy()
    outer_eyes = np.linalg.norm(embedded[:, 33] - embedded[:, 263], axis=1)
    error = np.linalg.norm(embedded - seen.points[..., :2], axis=2)[:, :468] / outer_eyes[:, None]
    assert np.nanmean(error) < 0.03
