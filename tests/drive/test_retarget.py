"""Carrying performances over: what must arrive, what must not."""

import copy
import dataclasses
import math

import pytest
import torch

from stavatar.avatar.storage import Motion
from stavatar.drive import Driver, Retargeter, Retargeting
from stavatar.drive.rest import Rest
from stavatar.drive.retarget import mean_rotation
from stavatar.errors import InputError
from stavatar.rotations import axis_angle_to_matrix, matrix_to_axis_angle

UNLIMITED = Retargeting(limit=math.inf)
FRAMES = 60


@pytest.fixture(scope="module")
def names(head):
    return tuple(head.expression_names)


@pytest.fixture(scope="module")
def performance(head, names):
    """A second and more: speech, one smile, two blinks, gaze, head turns; rest is not quite zero."""
    t = torch.linspace(0, 1, FRAMES)
    parameters = head.neutral(FRAMES)
    expression = parameters.expression.clone()
    expression[:, names.index("browDownLeft")] = 0.2
    expression[:, names.index("jawOpen")] = 0.05 + 0.5 * torch.sin(6 * math.pi * t).clamp_min(0)
    expression[:, names.index("mouthSmileLeft")] = 0.6 * torch.exp(-(((t - 0.4) / 0.1) ** 2))
    for side in ("Left", "Right"):
        expression[:, names.index(f"eyeBlink{side}")] = 0.1
        expression[[10, 11, 40, 41], names.index(f"eyeBlink{side}")] = 0.8
    eyes = parameters.eyes.clone()
    eyes[:, 1] = eyes[:, 4] = 0.2 * torch.sin(2 * math.pi * t)
    neck = parameters.neck.clone()
    neck[:, 1] = 0.1 + 0.2 * torch.sin(2 * math.pi * t)
    return parameters.replaced(expression=expression, eyes=eyes, neck=neck)


@pytest.fixture(scope="module")
def motion(performance, small_motion):
    return Motion(performance, small_motion.camera, 25.0, torch.arange(FRAMES), torch.arange(0))


@pytest.fixture(scope="module")
def own(head, names, performance):
    """The avatar's own performance as its driver."""
    return Driver.from_parameters("own", head.name, names, performance, 25.0)


def test_an_avatar_driven_by_itself_does_what_it_did(motion, head, own, performance):
    parameters = Retargeter(motion, head, Retargeting(limit=1.5, head_motion=True)).follow(own)
    torch.testing.assert_close(parameters.expression, performance.expression, atol=0.01, rtol=0)
    torch.testing.assert_close(parameters.eyes, performance.eyes, atol=1e-5, rtol=0)
    torch.testing.assert_close(parameters.neck, performance.neck, atol=0.01, rtol=0)


def test_the_drivers_rest_becomes_the_avatars(motion, head, names, own):
    """A driver who frowns all the time and never opens the eyes fully says nothing by that."""
    frowning = own.expression.clone()
    frowning[:, names.index("browDownRight")] += 0.3
    frowning[:, names.index("mouthPucker")] += 0.2
    driver = dataclasses.replace(own, expression=frowning)
    retarget = Retargeter(motion, head, UNLIMITED)
    torch.testing.assert_close(retarget.follow(driver).expression, retarget.follow(own).expression, atol=1e-5, rtol=0)


def test_strength_scales_what_differs_from_rest_but_no_blink(motion, head, names, own):
    single = Retargeter(motion, head, UNLIMITED).follow(own).expression
    half = Retargeter(motion, head, dataclasses.replace(UNLIMITED, strength=0.5)).follow(own).expression
    rest = Retargeter(motion, head, UNLIMITED).rest.expression
    blinks = [names.index("eyeBlinkLeft"), names.index("eyeBlinkRight")]
    others = [i for i in range(len(names)) if i not in blinks]
    torch.testing.assert_close((half - rest)[:, others], 0.5 * (single - rest)[:, others], atol=1e-5, rtol=0)
    torch.testing.assert_close(half[:, blinks], single[:, blinks])


def test_shut_eyes_stay_shut(motion, head, names, own):
    """A driver whose blinks peak at 0.5 shuts the avatar's eyes as far as the avatar knows: 0.8."""
    lazy = own.expression.clone()
    blink = names.index("eyeBlinkLeft")
    lazy[:, blink] = 0.05
    lazy[[20, 21, 50, 51], blink] = 0.5
    retarget = Retargeter(motion, head, Retargeting(smoothing=0.3))
    found = retarget.follow(dataclasses.replace(own, expression=lazy)).expression[:, blink]
    assert found[[20, 21, 50, 51]].tolist() == pytest.approx([0.8] * 4, abs=1e-3)
    assert found[30] == pytest.approx(0.1, abs=1e-3)


def test_unseen_expressions_stay_near_what_was_seen(motion, head, names, own):
    """The avatar never puffed its cheeks; a driver who does must neither blow it up nor keep it from talking."""
    wild = own.expression.clone()
    wild[:30, names.index("cheekPuff")] = 1.0
    limited = Retargeter(motion, head, Retargeting(limit=1.25)).follow(dataclasses.replace(own, expression=wild))
    free = Retargeter(motion, head, UNLIMITED).follow(dataclasses.replace(own, expression=wild))
    assert free.expression[:, names.index("cheekPuff")].max() == pytest.approx(1.0)
    assert limited.expression[:, names.index("cheekPuff")].max() < 0.2
    jaw = names.index("jawOpen")
    torch.testing.assert_close(limited.expression[:, jaw], own.expression[:, jaw], atol=0.05, rtol=0)


def test_exaggeration_ends_at_the_limit(motion, head, names, own):
    jaw = names.index("jawOpen")
    seen = float(own.expression[:, jaw].max())
    for limit in (1.0, 1.5):
        options = Retargeting(strength=3.0, limit=limit)
        found = float(Retargeter(motion, head, options).follow(own).expression[:, jaw].max())
        assert 0.9 * limit * seen < found < 1.05 * limit * seen


def test_smoothing_adds_no_delay(motion, head, names, own):
    smile = names.index("mouthSmileLeft")
    smooth = Retargeter(motion, head, Retargeting(smoothing=0.08, limit=math.inf)).follow(own).expression[:, smile]
    raw = own.expression[:, smile]
    assert abs(int(smooth.argmax()) - int(raw.argmax())) <= 1
    assert smooth.max() < 0.97 * raw.max()
    jitter = torch.diff(smooth, n=2).abs().max() / torch.diff(raw, n=2).abs().max()
    assert jitter < 0.8


def test_the_head_is_still_unless_asked_and_the_torso_always_the_avatars(motion, head, own, performance):
    turned = dataclasses.replace(own, head=axis_angle_to_matrix(torch.tensor([[0.0, 0.5, 0.0]])) @ own.head)
    still = Retargeter(motion, head, UNLIMITED).follow(turned)
    assert torch.equal(still.neck, performance.neck.mean(0, keepdim=True).expand(FRAMES, 3))
    moving = Retargeter(motion, head, Retargeting(limit=math.inf, head_motion=True)).follow(turned)
    # The driver sits turned by half a radian: relative to its mean that is nothing.
    torch.testing.assert_close(moving.neck, performance.neck, atol=1e-3, rtol=0)
    for parameters in (still, moving):
        for field in ("rotation", "translation", "neck_translation"):
            mean = getattr(performance, field).mean(0)
            torch.testing.assert_close(getattr(parameters, field), mean.expand(FRAMES, 3))


def test_head_motion_of_a_recording_without_it_is_refused(motion, head, own):
    with pytest.raises(InputError, match="leave out --head-motion"):
        Retargeter(motion, head, Retargeting(head_motion=True)).follow(dataclasses.replace(own, head=None))


def test_a_chosen_neutral_frame_is_the_zero(motion, head, names, own):
    """Taking the widest smile for rest, that frame shows the avatar's rest."""
    retarget = Retargeter(motion, head, UNLIMITED)
    smile = int(own.expression[:, names.index("mouthSmileLeft")].argmax())
    found = retarget.follow(own, neutral_frame=smile).expression[smile]
    torch.testing.assert_close(found, retarget.rest.expression, atol=1e-5, rtol=0)
    with pytest.raises(InputError, match="no frame 60"):
        retarget.follow(own, neutral_frame=FRAMES)


def test_rest_is_found_among_relaxed_frames_and_ignores_lids(names, performance):
    rest = Rest.of(performance.expression, performance.jaw, performance.eyes, names)
    assert rest.expression[names.index("jawOpen")] == pytest.approx(0.05, abs=0.01)
    assert rest.expression[names.index("eyeBlinkLeft")] == pytest.approx(0.1)
    assert rest.shut[names.index("eyeBlinkLeft")] == pytest.approx(0.8)
    assert rest.shut[names.index("cheekPuff")] == 1


def test_expressions_of_another_head_model_are_refused(motion, head, own):
    retarget = Retargeter(motion, head)
    foreign = dataclasses.replace(own, head_model="flame-2023", expression_names=("expression_0", "expression_1"))
    with pytest.raises(InputError, match="head model flame-2023, and the avatar has head model embedded-1"):
        retarget.follow(foreign)
    retarget.follow(dataclasses.replace(own, head_model="other-arkit"))  # the names say what they mean


def test_arkit_coefficients_are_refused_by_a_head_without_them(motion, head, own):
    flame = copy.copy(head)
    flame.name, flame.expression_names = "flame-2023", [f"expression_{index}" for index in range(52)]
    retarget = Retargeter(motion, flame)
    with pytest.raises(InputError, match="ARKit coefficients, and the avatar has head model flame-2023"):
        retarget.follow(dataclasses.replace(own, head_model=None))


def test_columns_are_matched_by_name(motion, head, names, own):
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(0)).tolist()
    shuffled = dataclasses.replace(
        own,
        head_model=None,
        expression_names=(*(names[i] for i in order), "_neutral"),
        expression=torch.cat([own.expression[:, order], torch.ones(FRAMES, 1)], 1),
    )
    retarget = Retargeter(motion, head, UNLIMITED)
    found = retarget.follow(shuffled).expression
    # `_neutral` is at one throughout and so changes nothing.
    torch.testing.assert_close(found, retarget.follow(own).expression, atol=1e-5, rtol=0)


def test_the_mean_rotation_of_symmetric_turns_is_the_middle():
    axis = torch.tensor([0.1, 1.0, -0.3])
    middle = axis_angle_to_matrix(torch.tensor([0.3, -0.2, 0.1]))
    turns = middle @ axis_angle_to_matrix(torch.stack([axis * angle for angle in (-0.6, -0.1, 0.1, 0.6)]))
    torch.testing.assert_close(mean_rotation(turns), middle, atol=1e-5, rtol=0)
    assert matrix_to_axis_angle(mean_rotation(turns)).isfinite().all()
