"""What is said about unsuited clips, and that nothing is said about a good one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from landmark_clip import Clip, make_clip

from stavatar.capture.conditions import Conditions, conditions_of, thumbnail
from stavatar.capture.observations import Observations
from stavatar.head import HeadModel, LandmarkEmbedding
from stavatar.rotations import axis_angle_to_matrix
from stavatar.synth import Renderer, Subject, make_performance
from stavatar.tracking import LandmarkSettings, track_with_report
from stavatar.tracking.advice import Advice, advise, frame_ranges

QUICK = LandmarkSettings(identity_steps=2, frame_steps=2)
FRAMES = 60


@contextmanager
def silent(title: str, total: int | None) -> Iterator[Callable[..., None]]:
    yield lambda advance=1, note=None: None


@pytest.fixture(scope="module")
def good(head: HeadModel, embedding: LandmarkEmbedding) -> Clip:
    clip = make_clip(head, embedding, frames=FRAMES, seed=4)
    still = torch.zeros(FRAMES, 2)
    conditions = Conditions(
        other_faces=torch.zeros(FRAMES, dtype=torch.int64),
        outside=torch.zeros(FRAMES),
        background=still,
        torso=still,
        sharpness=torch.full((FRAMES,), 0.4),
        brightness=torch.full((FRAMES,), 0.5),
        clipped=torch.zeros(FRAMES),
    )
    return replace(clip, observations=replace(clip.observations, conditions=conditions))


def said(clip: Clip, **changes: torch.Tensor) -> tuple[Advice, ...]:
    """Advice on a clip some of whose conditions or observations are others."""
    seen = clip.observations
    assert seen.conditions is not None
    own = {name: value for name, value in changes.items() if name in Conditions.__dataclass_fields__}
    others = {name: value for name, value in changes.items() if name not in own}
    observations = replace(seen, conditions=replace(seen.conditions, **own), **others)
    return track_with_report(observations, clip.head, clip.embedding, name="clip", settings=QUICK, progress=silent)[
        1
    ].advice


def half(value: float, otherwise: float) -> torch.Tensor:
    """`value` from frame 20 to 49, `otherwise` elsewhere."""
    values = torch.full((FRAMES,), float(otherwise))
    values[20:50] = value
    return values


def test_a_good_clip_is_not_talked_about(good: Clip) -> None:
    assert said(good) == ()


@pytest.mark.parametrize(
    ("topic", "changes", "words"),
    [
        ("second face", {"other_faces": half(1, 0).long()}, "30 of 60 frames show more than one face"),
        ("cut by the border", {"outside": half(0.1, 0)}, "in 30 of 60 frames"),
        ("motion blur", {"sharpness": half(0.1, 0.4)}, "30 of 60"),
        ("moving camera", {"background": torch.stack([half(12, 0), half(0, 0)], 1)}, "by up to 12 %"),
        ("moving torso", {"torso": torch.stack([half(0, 0), half(-20, 0)], 1)}, "by up to 20 %"),
    ],
)
def test_faults_of_some_frames_name_them(good: Clip, topic: str, changes: dict[str, torch.Tensor], words: str) -> None:
    [advice] = said(good, **changes)
    assert advice.topic == topic
    assert words in advice.reason
    assert advice.frames == tuple(range(20, 50)) or topic.startswith("moving")
    assert "20-49" in str(advice) or topic.startswith("moving")


@pytest.mark.parametrize(
    ("topic", "changes"),
    [
        ("blur", {"sharpness": torch.full((FRAMES,), 0.08)}),
        ("too dark", {"brightness": torch.full((FRAMES,), 0.05)}),
        ("over-exposed", {"clipped": torch.full((FRAMES,), 0.4)}),
    ],
)
def test_faults_of_the_whole_clip(good: Clip, topic: str, changes: dict[str, torch.Tensor]) -> None:
    [advice] = said(good, **changes)
    assert advice.topic == topic and len(advice.frames) == FRAMES


def test_what_was_not_measured_is_not_complained_of(good: Clip) -> None:
    nothing = torch.full((FRAMES,), torch.nan)
    unknown = dict.fromkeys(("outside", "sharpness", "brightness", "clipped"), nothing)
    assert said(good, **unknown, background=nothing[:, None].expand(FRAMES, 2)) == ()


def test_a_camera_that_shakes_without_going_far(good: Clip) -> None:
    shake = torch.zeros(FRAMES, 2)
    shake[::2, 0] = 1.5
    assert [advice.topic for advice in said(good, background=shake)] == ["moving camera"]


def test_a_face_that_holds_still(good: Clip) -> None:
    scores = good.observations.blendshapes[:1].expand(FRAMES, -1)
    noise = 0.005 * torch.randn(FRAMES, scores.shape[1], generator=torch.Generator().manual_seed(0))
    assert "held expression" in [advice.topic for advice in said(good, blendshapes=(scores + noise).clamp(0, 1))]


def test_a_small_face(good: Clip) -> None:
    [advice] = said(good, landmarks=0.5 * good.observations.landmarks)
    assert advice.topic == "small face" and "px apart" in advice.reason


def test_a_face_that_is_lost_again_and_again(head: HeadModel, embedding: LandmarkEmbedding, good: Clip) -> None:
    gone = (*range(3, 10), *range(14, 44))
    clip = make_clip(head, embedding, frames=FRAMES, seed=4, undetected=gone)
    report = track_with_report(clip.observations, head, embedding, name="clip", settings=QUICK, progress=silent)[1]
    topics = {advice.topic: advice for advice in report.advice}
    assert topics.keys() == {"gaps", "few usable frames"}
    assert "lost 2 times, 37 of 60 frames" in topics["gaps"].reason and "30 lie in gaps" in topics["gaps"].reason
    assert topics["gaps"].frames == gone and topics["gaps"].numbers == "3-43"


def test_a_face_in_profile(good: Clip) -> None:
    observations: Observations = good.observations
    sequence, _ = track_with_report(observations, good.head, good.embedding, name="c", settings=QUICK, progress=silent)
    frontal = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    for degrees, topics in ((0, []), (30, []), (60, ["profile only"]), (-60, ["profile only"])):
        turn = axis_angle_to_matrix(torch.tensor([0.0, degrees, 0.0]).deg2rad())
        turns = (frontal @ turn).expand(FRAMES, 3, 3)
        assert [a.topic for a in advise(observations, sequence, turns=turns, residual=0.5)] == topics, degrees


def test_a_head_that_does_not_fit(good: Clip) -> None:
    sequence, _ = track_with_report(
        good.observations, good.head, good.embedding, name="c", settings=QUICK, progress=silent
    )
    turns = torch.diag(torch.tensor([1.0, -1.0, -1.0])).expand(FRAMES, 3, 3)
    [advice] = advise(good.observations, sequence, turns=turns, residual=4.0)
    assert advice.topic == "poor fit" and advice.numbers == ""


def test_ranges_are_short_to_read() -> None:
    assert frame_ranges(torch.tensor([3, 4, 6, 20])) == "3-6, 20"
    assert frame_ranges(torch.tensor([], dtype=torch.int64)) == ""
    assert frame_ranges(torch.arange(0, 100, 10)) == "0, 10, 20, 30 and 6 more places"


# ---------------------------------------------------------------------------------------------- injected into pictures


@pytest.fixture(scope="module")
def filmed(head: HeadModel, embedding: LandmarkEmbedding) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pictures [T, S, S, 3] before a textured wall, the same over white, mattes, and true landmarks [T, 478, 3]."""
    performance = make_performance(head, frames=12, size=256, seed=1)
    renderer = Renderer(head, Subject.random(head, 1))
    truth = performance.truth
    cut = list(renderer.cutouts(truth.parameters, truth.camera))
    white, mattes = np.stack([picture for picture, _ in cut]), np.stack([matte for _, matte in cut])
    wall = np.random.default_rng(0).integers(60, 200, (36, 36, 3)).astype(np.uint8)
    wall = cv2.resize(wall, (288, 288), interpolation=cv2.INTER_CUBIC)
    alpha = mattes[..., None] / 255
    pictures = (white - 255 * (1 - alpha) + (1 - alpha) * wall[16:272, 16:272]).clip(0, 255).astype(np.uint8)
    points = truth.camera.project(embedding.points(head, head(truth.shape, truth.parameters).vertices)).numpy()
    return pictures, white, mattes, np.concatenate([points, np.zeros_like(points[..., :1])], -1)


def seen_in(filmed: tuple[np.ndarray, ...], change: Callable[[np.ndarray, int], np.ndarray]) -> Conditions:
    """Conditions of pictures that are changed by ``change(picture, t)``."""
    pictures, white, mattes, landmarks = filmed
    return conditions_of(
        images=np.stack([change(picture, t) for t, picture in enumerate(white)]),
        mattes=mattes,
        thumbnails=[thumbnail(change(picture, t)) for t, picture in enumerate(pictures)],
        inside=np.ones(mattes.shape[1:], bool),
        landmarks=landmarks,
        outside=np.zeros(len(white), np.float32),
        other_faces=np.zeros(len(white), np.int64),
    )


@pytest.mark.parametrize(
    ("topic", "change"),
    [
        (None, lambda picture, t: picture),
        ("blur", lambda picture, t: cv2.GaussianBlur(picture, (0, 0), 3)),
        ("motion blur", lambda picture, t: cv2.blur(picture, (25, 1)) if t % 3 == 0 else picture),
        ("too dark", lambda picture, t: (picture * 0.12).astype(np.uint8)),
        ("over-exposed", lambda picture, t: (picture * 2.6).clip(0, 255).astype(np.uint8)),
        (
            "moving camera",
            lambda picture, t: cv2.warpAffine(picture, np.float32([[1, 0, 3 * t], [0, 1, -2 * t]]), (256, 256)),
        ),
    ],
)
def test_faults_are_seen_in_pictures(
    filmed: tuple[np.ndarray, ...], good: Clip, topic: str | None, change: Callable[[np.ndarray, int], np.ndarray]
) -> None:
    found = seen_in(filmed, change)
    conditions = Conditions(**{name: value.repeat_interleave(5, 0) for name, value in vars(found).items()})
    clip = replace(good, observations=replace(good.observations, conditions=conditions))
    topics = [advice.topic for advice in said(clip)]
    if topic is None:
        assert topics == []
        assert found.background.norm(dim=1).max() < 0.3, "a wall that stands still"
    else:
        assert topic in topics
    if topic == "moving camera":
        step = found.background.diff(dim=0).mean(0)
        torch.testing.assert_close(step, torch.tensor([3.0, -2.0]) / 256 * 100, atol=0.1, rtol=0)
