"""The photometric stage of tracking, on a performance with known truth."""

import dataclasses

import pytest
import torch

from stavatar import config
from stavatar.alignment import Unknowns
from stavatar.refinement import is_refined, refine, refine_tracking
from stavatar.refinement.refine import Round, shrink
from stavatar.sequence import Views, read_sequence, write_sequence

TRACKING = config.preset("cpu").tracking


@pytest.fixture(scope="module")
def refined(shaken, head):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(refine, "ROUNDS", (Round(150, 2, face=False, reach=1.6), Round(100, 2), Round(100, 2)))
        return refine_tracking(shaken[0], head, TRACKING)


def face_error(head, sequence, truth, frames):
    """How far the face is off, across the picture, more than it is on the mean: that part belongs to the likeness."""
    part = head.faces[head.faces_in("face", "nose", "lips")].unique()
    posed = [head(sequence.shape, values).vertices[:, part, :2] for values in (sequence.parameters, truth)]
    off = posed[0] - posed[1]
    return (off - off[sequence.train].mean(0))[frames].norm(dim=-1).mean()


def test_frames_come_closer_to_the_truth_and_held_out_ones_too(shaken, refined, head):
    tracked, truth = shaken
    for frames in (tracked.train, tracked.test):
        before, after = (face_error(head, sequence, truth, frames) for sequence in (tracked, refined))
        assert after < 0.6 * before, f"{before * 1000:.2f} mm before, {after * 1000:.2f} mm after"


def test_the_sequence_says_so_and_keeps_the_rest(shaken, refined):
    tracked, _ = shaken
    assert is_refined(refined) and not is_refined(tracked)
    assert refined.history["tracker"] == "landmarks-1, photometric-2"
    assert torch.equal(refined.images, tracked.images) and torch.equal(refined.test, tracked.test)
    assert (refined.confidence <= tracked.confidence).all()


def test_a_frame_that_shows_something_else_is_left_out(shaken, head, monkeypatch, capsys):
    tracked, _ = shaken
    monkeypatch.setattr(refine, "ROUNDS", (Round(40, 1, face=False),))
    images = tracked.images.clone()
    images[4] = 255 - images[4]
    found = refine_tracking(dataclasses.replace(tracked, images=images), head, TRACKING)
    assert found.confidence[4] < refine.LEAST_CONFIDENCE
    assert 4 not in found.train.tolist() and len(found.train) == 9
    assert "1 frames do not look like the others" in capsys.readouterr().err


def test_frames_whose_landmarks_were_poor_stay_where_their_pictures_are_like_the_others(shaken, head, monkeypatch):
    tracked, _ = shaken
    monkeypatch.setattr(refine, "ROUNDS", (Round(10, 1, face=False),))
    found = refine_tracking(dataclasses.replace(tracked, confidence=torch.full((12,), 0.1)), head, TRACKING)
    assert torch.equal(found.train, tracked.train)
    assert (found.confidence <= 0.1).all()


def test_pictures_of_one_moment_keep_the_same_parameters(shaken, head, monkeypatch, tmp_path):
    """Two cameras, each of which sees other noise: the sequence can be written, and says of each moment one thing."""
    tracked, _ = shaken
    monkeypatch.setattr(refine, "ROUNDS", (Round(20, 1, face=False), Round(10, 1)))
    twice = torch.arange(5).repeat_interleave(2)
    noise = torch.randint(0, 40, (10, *tracked.images.shape[1:]), generator=torch.Generator().manual_seed(0))
    two = dataclasses.replace(
        tracked,
        parameters=tracked.parameters[twice],
        camera=tracked.camera[twice],
        images=(tracked.images[twice].int() + noise).clamp_max(255).to(torch.uint8),
        masks=tracked.masks[twice],
        frame_ids=twice,
        train=torch.arange(0, 6),
        test=torch.tensor([8, 9]),
        val=torch.tensor([6, 7]),
        confidence=None,
        views=Views(twice, torch.arange(10) % 2, {0: "left", 1: "right"}),
    )
    found = refine_tracking(two, head, TRACKING)
    for name, value in found.parameters.items():
        assert torch.equal(value[0::2], value[1::2]), f"{name} differs between pictures of one moment"
    assert not torch.equal(found.parameters.neck, two.parameters.neck)
    write_sequence(found, tmp_path / "two")
    assert torch.equal(read_sequence(tmp_path / "two").parameters.neck, found.parameters.neck)


def test_corrections_are_taken_further_where_a_round_says_so(shaken, head, monkeypatch):
    tracked, _ = shaken
    unknowns = Unknowns.of(head, face=False)
    corrections = []
    for reach in (1.0, 1.6):
        monkeypatch.setattr(refine, "ROUNDS", (Round(20, 1, face=False, reach=reach),))
        found = refine_tracking(tracked, head, TRACKING)
        corrections.append(unknowns.between(tracked.parameters, found.parameters))
    assert corrections[0].abs().max() > 0.1
    torch.testing.assert_close(corrections[1], 1.6 * corrections[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("height", "width", "most"), [(45, 31, 20), (300, 1, 8)])
def test_shrinking_takes_any_size(small_sequence, height, width, most):
    images = torch.full((2, height, width, 3), 200, dtype=torch.uint8)
    landmarks = torch.tensor([[[width / 2, height / 4]], [[torch.nan, torch.nan]]])
    camera = dataclasses.replace(small_sequence.camera, width=width, height=height)
    sequence = dataclasses.replace(
        small_sequence, images=images, masks=images[..., 0], camera=camera, landmarks=landmarks
    )
    small = shrink(sequence, most)
    assert max(small.width, small.height) == most and min(small.width, small.height) >= 1
    assert (small.images == 200).all() and (small.masks == 200).all()
    assert (small.camera.width, small.camera.height) == (small.width, small.height)
    assert small.landmarks[0, 0].tolist() == pytest.approx([small.width / 2, small.height / 4])
    assert small.landmarks[1].isnan().all()


def test_shrinking_keeps_what_the_camera_sees(small_sequence):
    small = shrink(small_sequence, 32)
    assert small.images.shape[1:3] == (32, 32) == small.masks.shape[1:]
    point = torch.tensor([[[0.02, 0.05, 0.1]]])
    torch.testing.assert_close(small.camera.project(point) * 2, small_sequence.camera.project(point))
    assert shrink(small_sequence, 1000) is small_sequence
