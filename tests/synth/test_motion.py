"""Rendered people move like people: bounded, smooth, blinking, and the same way every time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stavatar.errors import InputError
from stavatar.head import HeadModel, HeadParameters
from stavatar.rotations import axis_angle_to_matrix
from stavatar.synth import perform
from stavatar.synth._scenes import play_scenes
from stavatar.synth.motion import GAZE_ANGLES, HEAD_ANGLES, Style


def track(head: HeadModel, parameters: HeadParameters, name: str) -> np.ndarray:
    return parameters.expression[:, head.expression_names.index(name)].numpy()


def test_is_the_same_for_a_seed_and_other_for_another(head: HeadModel) -> None:
    once, again, other = perform(head, 60, seed=3), perform(head, 60, seed=3), perform(head, 60, seed=4)
    for (name, value), (_, same) in zip(once.items(), again.items(), strict=True):
        assert torch.equal(value, same), name
    assert (once.expression - other.expression).abs().max() > 0.3
    assert (once.neck - other.neck).abs().max() > 0.05


def test_a_longer_performance_begins_with_the_shorter_one(head: HeadModel) -> None:
    short, long = perform(head, 40, seed=2), perform(head, 90, seed=2)[:40]
    for (name, value), (_, same) in zip(short.items(), long.items(), strict=True):
        torch.testing.assert_close(value, same, atol=1e-6, rtol=0, msg=name)


def test_another_rate_samples_the_same_motion(head: HeadModel) -> None:
    coarse, fine = perform(head, 30, fps=25, seed=5), perform(head, 60, fps=50, seed=5)[::2]
    torch.testing.assert_close(coarse.neck, fine.neck, atol=1e-6, rtol=0)
    torch.testing.assert_close(coarse.expression, fine.expression, atol=1e-6, rtol=0)


@pytest.mark.parametrize("seed", range(4))
def test_stays_within_what_a_face_can_do(head: HeadModel, seed: int) -> None:
    p = perform(head, 750, seed=seed)
    assert p.expression.min() >= 0
    assert p.expression.max() <= 1
    forward = axis_angle_to_matrix(p.neck)[:, :, 2]  # where the nose points
    yaw, pitch = torch.atan2(forward[:, 0], forward[:, 2]), torch.asin(-forward[:, 1])
    assert 0.15 < yaw.abs().max() <= HEAD_ANGLES[1] + 1e-3
    assert 0.08 < pitch.abs().max() <= HEAD_ANGLES[0] + 1e-3
    assert p.rotation.norm(dim=1).max() < 0.04  # the torso hardly moves
    assert p.translation.norm(dim=1).max() < 0.01
    assert p.eyes.norm(dim=1).max() < 2**0.5 * (np.hypot(*GAZE_ANGLES) + 0.3 * np.hypot(*HEAD_ANGLES[:2]))
    assert torch.equal(p.eyes[:, :3], p.eyes[:, 3:])
    assert (p.jaw == 0).all()
    assert (p.neck_translation == 0).all()


def test_blinks_shut_both_eyes_for_150_to_300_ms(head: HeadModel) -> None:
    fps = 400
    p = perform(head, 20 * fps, fps=fps, seed=0)
    left, right = track(head, p, "eyeBlinkLeft"), track(head, p, "eyeBlinkRight")
    np.testing.assert_array_equal(left, right)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], left > 0, [0]])))
    lengths = (edges[1::2] - edges[::2]) / fps
    assert 4 <= len(lengths) <= 15
    assert lengths[:-1].min() > 0.15
    assert lengths.max() < 0.31
    assert all(left[a:b].max() > 0.99 for a, b in zip(edges[:-2:2], edges[1:-2:2], strict=True))


def test_speech_opens_and_shuts_the_mouth_several_times_a_second(head: HeadModel) -> None:
    jaw = track(head, perform(head, 500, seed=1), "jawOpen")
    assert jaw.max() > 0.45
    rising = np.sum((jaw[1:] > 0.2) & (jaw[:-1] <= 0.2))
    assert 15 < rising < 80  # in 20 seconds


def test_lids_follow_the_gaze(head: HeadModel) -> None:
    p = perform(head, 500, seed=6)
    gaze = axis_angle_to_matrix(p.eyes[:, :3])[:, :, 2].numpy()
    to_left, down = gaze[:, 0], -gaze[:, 1]  # +x is the subject's left
    for name, direction in (
        ("eyeLookOutLeft", to_left),
        ("eyeLookInRight", to_left),
        ("eyeLookInLeft", -to_left),
        ("eyeLookOutRight", -to_left),
        ("eyeLookDownLeft", down),
        ("eyeLookUpRight", -down),
    ):
        coefficient = track(head, p, name)
        assert (coefficient[direction < -0.01] == 0).all(), name
        strong = direction > 0.1
        assert strong.any(), name
        assert (coefficient[strong] > 0.15).all(), name


def test_heads_without_arkit_names_are_refused(head: HeadModel) -> None:
    renamed = HeadModel(
        name="other",
        template=head.template.numpy(),
        shape_basis=np.zeros((1, len(head.template), 3)),
        expression_basis=np.zeros((2, len(head.template), 3)),
        expression_names=["expr0", "expr1"],
        joints=head.joint_template.numpy(),
        joint_basis=np.zeros((1, 5, 3)),
        weights=head.weights.numpy(),
        faces=head.faces.numpy(),
        uv=head.uv.numpy(),
        uv_faces=head.uv_faces.numpy(),
        regions=head.regions.numpy(),
        jaw_by_expression=False,
    )
    with pytest.raises(InputError, match=r"other has no expression .* ARKit"):
        perform(renamed, 10)


@pytest.mark.parametrize(("frames", "fps"), [(0, 25.0), (10, 0.0)])
def test_nothing_to_perform_is_refused(head: HeadModel, frames: int, fps: float) -> None:
    with pytest.raises(InputError, match="positive rate"):
        perform(head, frames, fps)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("frames", [300, 600])
def test_both_parts_of_an_expressive_performance_show_everything(head: HeadModel, frames: int, seed: int) -> None:
    p = perform(head, frames, seed=seed, style="expressive")
    assert p.expression.min() >= 0
    assert p.expression.max() <= 1
    border = round(0.8 * frames)

    def rare(present: np.ndarray) -> bool:
        """In both parts, but in few frames."""
        return bool(present[:border].any() and present[border:].any() and present.mean() < 0.2)

    yaw = axis_angle_to_matrix(p.neck)[:, 0, 2].numpy()
    jaw, smile = track(head, p, "jawOpen"), track(head, p, "mouthSmileLeft")
    teeth = track(head, p, "mouthUpperUpLeft")
    assert rare(jaw > 0.75)
    assert rare((teeth > 0.6) & (smile > 0.6))
    assert rare((smile > 0.5) & (teeth < 0.1) & (jaw < 0.1))
    assert rare(track(head, p, "browInnerUp") > 0.7)
    assert rare(track(head, p, "browDownRight") > 0.7)
    assert rare(yaw > 0.25)
    assert rare(yaw < -0.25)
    assert ((jaw > 0.6) | (teeth > 0.5)).mean() < 0.16


def test_expressive_people_blink_slowly_and_wink_too(head: HeadModel) -> None:
    fps = 100
    p = perform(head, 60 * fps, fps=fps, seed=0, style="expressive")
    left, right = track(head, p, "eyeBlinkLeft"), track(head, p, "eyeBlinkRight")
    closed = np.maximum(left, right) > 0
    edges = np.flatnonzero(np.diff(np.concatenate([[0], closed, [0]])))
    blinks = list(zip(edges[::2], edges[1::2], strict=True))
    both = [(b - a) / fps for a, b in blinks if min(left[a:b].max(), right[a:b].max()) > 0.95]
    winks = [min(left[a:b].max(), right[a:b].max()) for a, b in blinks if (left != right)[a:b].any()]
    assert min(both) < 0.35
    assert max(both) > 0.55
    assert winks
    assert max(winks) < 0.5
    assert closed.mean() < 0.3


def test_scenes_are_told_apart_by_head_parameters(head: HeadModel) -> None:
    """Frames lie nearer to their own scene's mean than to any other's, nearly always."""
    seconds = np.arange(600) / 25
    p = perform(head, 600, seed=1, style="expressive")
    features = torch.cat([p.expression, 3 * p.neck], 1).numpy()
    scenes = play_scenes(np.random.default_rng([1, 2, 6]), seconds)
    signals = {
        "gape": scenes.face["jawOpen"] - 0.5 * scenes.face["mouthSmileLeft"],
        "laugh": np.minimum(scenes.face["mouthUpperUpLeft"], scenes.face["mouthSmileLeft"]),
        "smile": scenes.face["mouthDimpleLeft"] / 0.3,
        "surprise": scenes.face["browInnerUp"],
        "frown": scenes.face["browDownLeft"],
        "left": scenes.turn[:, 1] / 0.42,
        "right": -scenes.turn[:, 1] / 0.42,
    }
    stack = np.stack(list(signals.values()), 1)
    label = np.where(stack.max(1) > 0.6, stack.argmax(1), -1)  # -1: talking, or on the way
    means = np.stack([features[label == scene].mean(0) for scene in range(len(signals))])
    own = label >= 0
    nearest = np.linalg.norm(features[own, None] - means, axis=-1).argmin(1)
    assert (nearest == label[own]).mean() > 0.95


def test_an_unknown_style_is_refused(head: HeadModel) -> None:
    with pytest.raises(InputError, match=r"no style 'opera' .* talking, expressive"):
        perform(head, 10, style="opera")  # type: ignore[arg-type]


def test_a_still_head_talks_and_blinks_without_moving(head: HeadModel) -> None:
    p = perform(head, 200, seed=3, style="still")
    for name in ("rotation", "neck", "translation", "neck_translation"):
        assert not getattr(p, name).any(), name
    assert track(head, p, "jawOpen").std() > 0.1
    assert track(head, p, "eyeBlinkLeft").max() > 0.8
    assert p.eyes.std() > 0.01


@pytest.mark.parametrize("style", ["talking", "expressive", "still"])
def test_a_shift_in_time_looks_between_the_frames(head: HeadModel, style: Style) -> None:
    """Half a frame later is every other frame of twice the rate."""
    between = perform(head, 30, seed=5, style=style, shift=0.02)
    fine = perform(head, 60, fps=50, seed=5, style=style)[1::2]
    torch.testing.assert_close(between.neck, fine.neck, atol=1e-5, rtol=0)
    torch.testing.assert_close(between.expression, fine.expression, atol=1e-5, rtol=0)
