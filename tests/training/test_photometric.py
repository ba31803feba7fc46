"""Gauss-Newton on the image finds the pose that was rendered."""

import dataclasses

import pytest
import torch

from stavatar.avatar.avatar import render
from stavatar.training.photometric import align_poses, correction_between


def disturbed(parameters, scale=1.0):
    generator = torch.Generator().manual_seed(3)

    def noise(value, size):
        return value + scale * size * torch.randn(value.shape, generator=generator)

    return parameters.replaced(
        neck=noise(parameters.neck, 0.015),
        rotation=noise(parameters.rotation, 0.005),
        translation=noise(parameters.translation, 0.002),
        neck_translation=noise(parameters.neck_translation, 0.002),
    )


def error(avatar, sequence, parameters, frames):
    with torch.no_grad():
        image = render(avatar(parameters), sequence.camera).image
    return (image - sequence.image(frames)).square().mean().sqrt()


def test_a_disturbed_pose_is_found_again(true_avatar, small_sequence):
    frames = torch.arange(4)
    truth = small_sequence.parameters
    start = disturbed(truth)
    found = align_poses(
        true_avatar, small_sequence, start, frames, iterations=8, soft=False, sh_degree=0, correction=None
    )
    before = error(true_avatar, small_sequence, start[frames], frames)
    after = error(true_avatar, small_sequence, found, frames)
    assert after < 0.1 * before, f"the image error went from {before:.4f} to {after:.4f} only"
    with torch.no_grad():
        face = true_avatar.head.faces[true_avatar.head.faces_in("face", "nose")].unique()
        shape = true_avatar.shape
        off = (
            true_avatar.head(shape, found).vertices[:, face] - true_avatar.head(shape, truth[frames]).vertices[:, face]
        )
    assert off[..., :2].norm(dim=-1).mean() < 3e-4, "the face must be back in place to a third of a millimetre"


@pytest.mark.parametrize("soft", [False, True])
def test_frames_aligned_together_come_out_as_one_by_one(true_avatar, small_avatar, small_sequence, soft):
    avatar = small_avatar if soft else true_avatar
    start, frames = disturbed(small_sequence.parameters), torch.tensor([0, 3, 4, 6, 7])
    options = {"iterations": 3, "soft": soft, "sh_degree": 0}
    alone = align_poses(avatar, small_sequence, start, frames, **options)
    done = []
    together = align_poses(avatar, small_sequence, start, frames, together=3, report=done.append, **options)
    assert done == [3, 2]
    for name, value in together.items():
        torch.testing.assert_close(value, getattr(alone, name), rtol=0, atol=2e-4)
    assert not torch.equal(together.neck, start.neck[frames])


def test_expression_and_gaze_are_left_alone(true_avatar, small_sequence):
    start = disturbed(small_sequence.parameters)
    found = align_poses(true_avatar, small_sequence, start, torch.tensor([5]), iterations=2, soft=False, sh_degree=0)
    for name in ("expression", "eyes", "jaw"):
        assert torch.equal(getattr(found, name)[0], getattr(start, name)[5])


def test_following_starts_from_the_correction_before(true_avatar, small_sequence):
    """A constant error in all frames is found in the first, so that the next ones need no steps of their own."""
    truth = small_sequence.parameters
    wrong = truth.replaced(neck=truth.neck + torch.tensor([0.02, -0.03, 0.01]))
    known = correction_between(wrong[[0]], truth[[0]])
    frames = torch.arange(3)
    found = align_poses(
        true_avatar, small_sequence, wrong, frames, iterations=1, soft=False, sh_degree=0, correction=known
    )
    cold = align_poses(true_avatar, small_sequence, wrong, frames, iterations=1, soft=False, sh_degree=0)
    assert (found.neck - truth.neck[:3]).abs().max() < 0.2 * (cold.neck - truth.neck[:3]).abs().max()


def test_what_is_out_of_sight_stays_where_the_tracker_put_it(true_avatar, small_sequence):
    """With the torso cut off below the picture, nothing says where it is: following on must not carry it away."""
    camera = small_sequence.camera
    shifted = dataclasses.replace(camera, center=camera.center + torch.tensor([[0.0, 22.0]]))
    with torch.no_grad():
        view = render(true_avatar(small_sequence.parameters), shifted)
    noise = 0.1 * torch.randn(view.image.shape, generator=torch.Generator().manual_seed(0))
    images = ((view.image + noise).clamp(0, 1) * 255).round().to(torch.uint8)
    sequence = dataclasses.replace(small_sequence, camera=shifted, images=images)
    frames = torch.arange(10).repeat_interleave(3)
    truth = sequence.parameters[frames]
    found = align_poses(
        true_avatar,
        sequence,
        sequence.parameters,
        frames,
        iterations=6,
        soft=False,
        sh_degree=0,
        correction=torch.zeros(12),
    )
    assert (found.translation - truth.translation).norm(dim=1).max() < 0.01
    assert (found.rotation - truth.rotation).norm(dim=1).max() < 0.05
