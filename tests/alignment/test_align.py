"""Gauss-Newton over a clip finds the poses, expressions and gaze that were rendered."""

import dataclasses

import pytest
import torch

from stavatar.alignment import Unknowns, align
from stavatar.avatar.avatar import render


def disturbed(parameters, scale=1.0, expression=0.0):
    """Off by as much in all frames, as a landmark tracker is in neighbouring ones."""
    generator = torch.Generator().manual_seed(3)

    def noise(value, size):
        return value + scale * size * torch.randn(value.shape[1:], generator=generator)

    return parameters.replaced(
        neck=noise(parameters.neck, 0.015),
        rotation=noise(parameters.rotation, 0.005),
        translation=noise(parameters.translation, 0.002),
        neck_translation=noise(parameters.neck_translation, 0.002),
        expression=noise(parameters.expression, expression),
    )


def aligned(avatar, sequence, start, frames, *, face=False, iterations=6, **options):
    unknowns = Unknowns.of(avatar.head, face=face)
    return align(
        avatar, sequence, start, frames, unknowns=unknowns, iterations=iterations, soft=False, sh_degree=0, **options
    )


def picture_error(avatar, sequence, parameters, frames):
    with torch.no_grad():
        image = render(avatar(parameters), sequence.camera).image
    return (image - sequence.image(frames)).square().mean().sqrt()


def vertex_error(avatar, parameters, truth, *regions):
    """Mean distance across the picture, metres."""
    part = avatar.head.faces[avatar.head.faces_in(*regions)].unique()
    with torch.no_grad():
        found, true = (avatar.head(avatar.shape, values).vertices[:, part, :2] for values in (parameters, truth))
    return (found - true).norm(dim=-1).mean()


def test_a_disturbed_pose_is_found_again(true_avatar, small_sequence):
    frames = torch.arange(4)
    truth = small_sequence.parameters
    start = disturbed(truth)
    found = aligned(true_avatar, small_sequence, start, frames, iterations=10)
    before = picture_error(true_avatar, small_sequence, start[frames], frames)
    after = picture_error(true_avatar, small_sequence, found.parameters, frames)
    assert after < 0.1 * before, f"the image error went from {before:.4f} to {after:.4f} only"
    assert vertex_error(true_avatar, found.parameters, truth[frames], "face", "nose") < 3e-4
    assert (found.error < found.start_error).all()


def test_expression_is_found_as_well_where_it_is_asked_for(true_avatar, small_sequence):
    frames = torch.arange(4)
    truth = small_sequence.parameters
    start = disturbed(truth, 0.3, expression=0.15)
    found = aligned(true_avatar, small_sequence, start, frames, face=True, iterations=8).parameters
    before = vertex_error(true_avatar, start[frames], truth[frames], "lips", "eyes")
    after = vertex_error(true_avatar, found, truth[frames], "lips", "eyes")
    assert after < 0.4 * before, f"lips and lids were off by {before * 1000:.2f} mm and are by {after * 1000:.2f} mm"


def test_poses_alone_leave_expression_and_gaze(true_avatar, small_sequence):
    start = disturbed(small_sequence.parameters)
    found = aligned(true_avatar, small_sequence, start, torch.tensor([5]), iterations=2).parameters
    for name in ("expression", "eyes", "jaw"):
        assert torch.equal(getattr(found, name)[0], getattr(start, name)[5])


def test_what_is_expected_is_where_frames_start(true_avatar, small_sequence):
    """A constant error that is known beforehand needs no steps any more."""
    truth = small_sequence.parameters
    wrong = truth.replaced(neck=truth.neck + torch.tensor([0.02, -0.03, 0.01]))
    known = Unknowns.of(true_avatar.head, face=False).between(wrong[[0]], truth[[0]])[0]
    frames = torch.arange(3)
    found = aligned(true_avatar, small_sequence, wrong, frames, iterations=1, expected=known).parameters
    cold = aligned(true_avatar, small_sequence, wrong, frames, iterations=1).parameters
    assert (found.neck - truth.neck[:3]).abs().max() < 0.2 * (cold.neck - truth.neck[:3]).abs().max()


def test_what_is_out_of_sight_stays_where_the_tracker_put_it(true_avatar, small_sequence):
    """With the torso cut off below the picture, nothing says where it is."""
    camera = small_sequence.camera
    shifted = dataclasses.replace(camera, center=camera.center + torch.tensor([[0.0, 22.0]]))
    with torch.no_grad():
        view = render(true_avatar(small_sequence.parameters), shifted)
    noise = 0.1 * torch.randn(view.image.shape, generator=torch.Generator().manual_seed(0))
    images = ((view.image + noise).clamp(0, 1) * 255).round().to(torch.uint8)
    masks = (view.alpha * 255).round().to(torch.uint8)
    sequence = dataclasses.replace(small_sequence, camera=shifted, images=images, masks=masks)
    frames = torch.arange(10)
    truth = sequence.parameters[frames]
    found = aligned(true_avatar, sequence, sequence.parameters, frames).parameters
    assert (found.translation - truth.translation).norm(dim=1).max() < 0.01
    assert (found.rotation - truth.rotation).norm(dim=1).max() < 0.05


def test_a_frame_that_tracking_put_elsewhere_does_no_harm(true_avatar, small_sequence):
    """Beside the picture, behind the camera, and with a vertex in the very plane of the camera."""
    start = disturbed(small_sequence.parameters, 0.3)
    vertices = true_avatar.head(true_avatar.shape, start).vertices
    moved = (true_avatar.head.expression_basis.abs().amax((0, 2)) > 1e-3).nonzero()[0, 0]
    translation = start.translation.clone()
    translation[3, 0] += 5
    translation[5, 2] += 3
    translation[7, 2] += 1 - vertices[7, moved, 2]
    frames = torch.arange(10)
    found = aligned(
        true_avatar, small_sequence, start.replaced(translation=translation), frames, face=True, iterations=3
    )
    for name, value in found.parameters.items():
        assert value.isfinite().all(), name
    assert (found.error[:3] < 0.5 * found.start_error[:3]).all()


def test_a_still_head_is_held_still(true_avatar, small_sequence):
    """Noise of the pictures shakes frames that are solved for one by one more than frames that follow each other."""
    still = small_sequence.parameters[torch.zeros(8, dtype=torch.int64)]
    with torch.no_grad():
        view = render(true_avatar(still), small_sequence.camera)
    noise = 0.1 * torch.randn(view.image.shape, generator=torch.Generator().manual_seed(0))
    images = ((view.image + noise).clamp(0, 1) * 255).round().to(torch.uint8)
    masks = (view.alpha * 255).round().to(torch.uint8)
    frames = torch.arange(8)
    sequence = dataclasses.replace(small_sequence, parameters=still, images=images, masks=masks)
    together = aligned(true_avatar, sequence, still, frames).parameters
    # Every other frame of a clip twice as long: no two of them are neighbours.
    spread = torch.arange(8).repeat_interleave(2)
    apart = dataclasses.replace(sequence, parameters=still[spread], images=images[spread], masks=masks[spread])
    alone = aligned(true_avatar, apart, still[spread], 2 * frames).parameters

    def shake(parameters):
        return (parameters.neck[1:] - parameters.neck[:-1]).norm(dim=1).mean()

    assert shake(together) < 0.8 * shake(alone)


def test_a_named_expression_stays_within_its_bounds(head):
    unknowns = Unknowns.of(head, face=True)
    far = torch.full((1, len(unknowns)), 100.0)
    start = head.neutral()
    assert unknowns.apply(start, far).expression.max() == pytest.approx(1.2)
    assert unknowns.apply(start, -far).expression.min() == pytest.approx(-0.15)
    beyond = start.replaced(expression=start.expression + 1.5)
    assert torch.equal(unknowns.apply(beyond, torch.zeros_like(far)).expression, beyond.expression)


def test_corrections_are_what_lies_between(head):
    unknowns = Unknowns.of(head, face=True)
    correction = torch.linspace(-0.5, 0.5, len(unknowns))[None]
    start = head.neutral().replaced(expression=head.neutral().expression + 0.5)
    assert torch.allclose(unknowns.between(start, unknowns.apply(start, correction)), correction, atol=1e-4)
