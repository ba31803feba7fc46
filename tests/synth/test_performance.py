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
from stavatar.mesh import rasterize_mesh
from stavatar.sequence import read_sequence, write_sequence
from stavatar.synth import (
    Renderer,
    load_truth,
    make_performance,
    tracked_sequence,
    write_performance,
    write_truth,
)
from stavatar.synth import render as synth_render
from stavatar.synth._skin import paint_head
from stavatar.synth.performance import GROUND_TRUTH


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


def test_a_tracked_sequence_comes_back_and_its_mesh_fills_its_matte(
    head: HeadModel, expressive: Renderer, tmp_path: Path
) -> None:
    performance = make_performance(head, frames=10, size=96, seed=1, style="expressive")
    made = tracked_sequence(performance, "someone")
    write_sequence(made, tmp_path / "sequence")
    read = read_sequence(tmp_path / "sequence")
    assert (read.name, read.head_model, read.fps) == ("someone", head.name, 25)
    assert read.history["tracker"] == GROUND_TRUTH
    assert read.landmarks is None
    assert (read.train.tolist(), read.test.tolist()) == (list(range(8)), [8, 9])
    assert torch.equal(read.images, made.images)
    assert torch.equal(read.masks, made.masks)
    assert torch.equal(read.shape, performance.truth.shape)
    for (name, value), (_, wanted) in zip(read.parameters.items(), performance.truth.parameters.items(), strict=True):
        assert torch.equal(value, wanted), name

    bald = head(read.shape[None], read.parameters).vertices
    for frame, vertices in enumerate(expressive.pose(read.parameters)):
        matte = read.masks[frame] > 127
        drawn = rasterize_mesh(vertices, expressive._faces, read.camera).face >= 0
        assert (drawn & matte).sum() / (drawn | matte).sum() > 0.98
        # The mesh that an avatar is bound to has no hair, and sticks out nowhere.
        mesh = rasterize_mesh(bald[frame], head.faces, read.camera).face >= 0
        assert (mesh & matte).sum() / (mesh | matte).sum() > 0.88
        assert (mesh & ~matte).sum() < 0.01 * mesh.sum()


def test_an_expressive_performance_is_repeatable(
    head: HeadModel, expressive: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synth_render, "paint_head", paint_head)  # anew, though the other tests share one painting
    once, again = (make_performance(head, frames=2, size=64, seed=1, noise=0.01, style="expressive") for _ in range(2))
    truth = again.truth
    frames = expressive.frames(truth.parameters, truth.camera, noise=0.01, seed=1)
    for picture, same in zip(once.render(), frames, strict=True):
        assert np.array_equal(picture, same)


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


@pytest.mark.slow
def test_an_open_shutter_blurs_what_moves_and_nothing_else(head: HeadModel) -> None:
    """The picture is the mean light of the instants around its own, which the truth stays true to."""
    sharp = make_performance(head, frames=12, size=96, seed=1)
    blurred = make_performance(head, frames=12, size=96, seed=1, shutter=1.0)
    assert torch.equal(sharp.truth.parameters.neck, blurred.truth.parameters.neck)
    instants = blurred.exposure.neck.view(12, 5, 3)
    torch.testing.assert_close(instants[:, 2], sharp.truth.parameters.neck, atol=1e-6, rtol=0)
    steps = sharp.truth.parameters.neck.diff(dim=0)
    torch.testing.assert_close((instants[:, 4] - instants[:, 0])[1:], 0.8 * steps, atol=2e-3, rtol=0)

    moving = int(steps.norm(dim=1).argmax())
    one, other = list(sharp.render())[moving], list(blurred.render())[moving]
    assert np.array_equal(one[:4], other[:4]), "the wall stands still"
    assert not np.array_equal(one, other)
    drawn = np.stack(list(Renderer(head, sharp.subject).frames(blurred.exposure, sharp.truth.camera)))
    light = (drawn[5 * moving : 5 * moving + 5] / 255.0) ** 2.2
    assert np.abs(light.mean(0) ** (1 / 2.2) * 255 - other).max() <= 0.6


def test_a_blurred_matte_still_lays_the_person_over_white(head: HeadModel) -> None:
    performance = make_performance(head, frames=3, size=64, seed=1, shutter=1.0)
    sequence = tracked_sequence(performance, "blurred")
    outside = sequence.masks == 0
    assert (sequence.images[outside] == 255).all()
    coverage = sequence.masks.double() / 255
    lightest = 255 * (1 - coverage)[..., None]  # where the person is black
    assert (sequence.images >= lightest - 2).all()


def test_identity_says_who_and_seed_says_how(head: HeadModel) -> None:
    one, same_motion, same_person = (
        make_performance(head, frames=5, size=64, seed=seed, identity=identity)
        for seed, identity in ((1, 7), (1, 8), (2, 7))
    )
    assert torch.equal(one.truth.parameters.expression, same_motion.truth.parameters.expression)
    assert not torch.equal(one.truth.parameters.expression, same_person.truth.parameters.expression)
    assert torch.equal(one.truth.shape, same_person.truth.shape) and one.subject.skin == same_person.subject.skin
    neutral = head(torch.stack([one.truth.shape, same_motion.truth.shape]), head.neutral(2)).vertices
    assert (neutral[0] - neutral[1]).norm(dim=1).mean() > 0.002
    assert one.subject.skin != same_motion.subject.skin


@pytest.mark.slow
def test_strong_compression_costs_bytes_and_detail(head: HeadModel, tmp_path: Path) -> None:
    sizes, errors = [], []
    for crf in (18, 40):
        performance = make_performance(head, frames=4, size=128, seed=1, noise=0.02, crf=crf)
        write_performance(tmp_path / "clip.mp4", performance)
        decoded = [frame.rgb for frame in open_source(tmp_path / "clip.mp4").frames()]
        sizes.append((tmp_path / "clip.mp4").stat().st_size)
        errors.append(np.abs(np.stack(decoded).astype(float) - np.stack(list(performance.render()))).mean())
    assert sizes[1] < 0.4 * sizes[0]
    assert errors[1] > 1.3 * errors[0]


@pytest.mark.parametrize(
    ("option", "value"),
    [("size", 8), ("noise", 0.9), ("noise", -0.1), ("frames", 0), ("shutter", 1.5), ("shutter", -0.1), ("crf", 60)],
)
def test_senseless_numbers_are_refused(head: HeadModel, option: str, value: float) -> None:
    with pytest.raises(InputError):
        make_performance(head, **{option: value})  # type: ignore[arg-type]


def test_mediapipe_sees_expressive_faces(head: HeadModel, expressive: Renderer) -> None:
    try:
        model = assets.path("face_landmarker")
    except AssetError as reason:
        pytest.skip(str(reason))
    truth = make_performance(head, frames=300, size=320, seed=1, style="expressive").truth
    some = torch.arange(0, 300, 12)
    frames = expressive.frames(truth.parameters[some], truth.camera)
    seen = track_face(
        (Frame(index=i, seconds=0.48 * i, rgb=rgb) for i, rgb in enumerate(frames)), model, lambda *_, **__: None
    )
    assert seen.detected.mean() >= 0.96


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
