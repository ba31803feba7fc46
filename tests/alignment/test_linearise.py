"""The motion field against pictures that were rendered before and after a step."""

import copy

import pytest
import torch

from stavatar.alignment import Unknowns
from stavatar.alignment.linearise import Frames, Window, compare, linearise
from stavatar.alignment.motion import Carrier, vertex_motion
from stavatar.avatar.avatar import render


@pytest.fixture(params=["embedded", "flame"])
def any_head(request):
    return request.getfixturevalue("head" if request.param == "embedded" else "flame_head")


def lively(head, frames=2):
    generator = torch.Generator().manual_seed(0)
    neutral = head.neutral(frames)
    return neutral.map(lambda value: value + 0.1 * torch.rand(value.shape, generator=generator))


def test_vertices_move_as_differences_say(any_head, true_avatar):
    class Holder:
        head, shape = any_head, torch.zeros(any_head.shape_count)

    unknowns = Unknowns.of(any_head, face=True)
    start = lively(any_head)
    correction = 0.3 * torch.ones(2, len(unknowns))
    vertices = any_head(Holder.shape, unknowns.apply(start, correction)).vertices
    motion = vertex_motion(Holder, start, unknowns, correction, vertices)
    # FLAME's expressions move its joints a little, which is left out.
    tolerance = 0.02 if any_head.jaw_by_expression else 0.1
    for k in range(len(unknowns)):
        step = torch.zeros(len(unknowns))
        step[k] = 0.2
        ends = [any_head(Holder.shape, unknowns.apply(start, correction + sign * step)).vertices for sign in (1, -1)]
        slope = (ends[0] - ends[1]) / 0.4
        assert (motion[..., k] - slope).norm() <= tolerance * slope.norm() + 1e-6, f"unknown {k}"


def test_identities_may_be_fewer_than_the_head_has(any_head):
    start, few = lively(any_head), torch.ones(2)
    whole = torch.cat([few, torch.zeros(any_head.shape_count - 2)])
    assert torch.equal(any_head.expression_motion(few, start), any_head.expression_motion(whole, start))


def test_gaussians_go_where_binding_carries_them(true_avatar, small_sequence):
    """Also those with a long lever."""
    gaussians = true_avatar.gaussians
    unknowns = Unknowns.of(true_avatar.head, face=False)
    start = small_sequence.parameters[[0]]
    free = torch.arange(len(gaussians)) % 7 == 0
    moved = gaussians.position.clone()
    moved[free] += torch.tensor([2.0, 9.0, -3.0])
    changed, was = gaussians.position.data, gaussians.free
    gaussians.position.data, gaussians.free = moved, free
    try:
        correction = torch.zeros(1, len(unknowns))
        mesh = true_avatar.head(true_avatar.shape, start)
        motion = vertex_motion(true_avatar, start, unknowns, correction, mesh.vertices)
        told = Carrier.of(true_avatar).on_screen(mesh.vertices, motion, small_sequence.camera)[0]
        resting = small_sequence.camera.project(true_avatar.bind(mesh, None).means)[0]
        for k in (0, 4, 6, 8):
            step = torch.zeros(1, len(unknowns))
            step[0, k] = 0.05
            posed = true_avatar.bind(true_avatar.head(true_avatar.shape, unknowns.apply(start, step)), None)
            went = (small_sequence.camera.project(posed.means)[0] - resting) / 0.05
            off = (told[:, :, k] - went).norm(dim=1)
            assert off[free].mean() < 0.1 * went[free].norm(dim=1).mean()
            assert off[~free].mean() < 0.1 * went[~free].norm(dim=1).mean()
    finally:
        gaussians.position.data, gaussians.free = changed, was


def test_a_face_without_area_carries_by_its_centroid(true_avatar):
    avatar = copy.deepcopy(true_avatar)
    avatar.head.faces[7, 1] = avatar.head.faces[7, 0]
    weights = Carrier.of(avatar).weights
    assert weights.isfinite().all()
    on_it = (avatar.gaussians.face == 7).nonzero()[0, 0]
    torch.testing.assert_close(weights[on_it], torch.tensor([1, 1, 1, 0]) / 3)


@pytest.mark.parametrize("face", [False, True])
@torch.no_grad()
def test_gradient_and_cost_agree_with_small_steps(true_avatar, small_sequence, face):
    unknowns = Unknowns.of(true_avatar.head, face=face)
    start = small_sequence.parameters[[2]]
    view = render(true_avatar(start), small_sequence.camera)
    picture = torch.cat([view.image, view.alpha[..., None]], -1)
    window = Window(torch.tensor([[16, 8]]), 32, 48)
    frames = Frames(start, picture, small_sequence.camera, window, None)
    at = 0.5 * torch.ones(1, len(unknowns))
    found = linearise(true_avatar, Carrier.of(true_avatar), frames, unknowns, at, 0, "auto")
    slopes = []
    for k in range(len(unknowns)):
        step = torch.zeros(1, len(unknowns))
        step[0, k] = 0.2
        ends = [compare(true_avatar, frames, unknowns, at + sign * step, 0, "auto") for sign in (1, -1)]
        slopes.append((ends[0].cost - ends[1].cost) / 0.4 / 2)
    slope = torch.cat(slopes)
    likeness = torch.cosine_similarity(slope, found.gradient[0], dim=0)
    assert likeness > 0.9, f"the gradient points elsewhere: cosine {likeness:.2f}"
    assert found.cost == pytest.approx(compare(true_avatar, frames, unknowns, at, 0, "auto").cost.item(), rel=1e-5)
