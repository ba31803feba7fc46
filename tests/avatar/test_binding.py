"""The compiled binding against its definition in plain torch: values and gradients."""

import pytest
import torch

from stavatar.avatar.binding import bind, bind_by_formulas
from stavatar.avatar.gaussians import BoundGaussians
from stavatar.avatar.offsets import Offsets

FRAMES, GAUSSIANS = 2, 400


@pytest.fixture(scope="module")
def scene():
    """Two frames of small triangles that look in all directions, one of them without area, and Gaussians on them."""
    draw = torch.Generator().manual_seed(0)
    vertices = 0.1 * torch.randn(FRAMES, 90, 3, generator=draw)
    faces = torch.randint(0, 90, (120, 3), generator=draw)
    faces[7] = torch.tensor([3, 3, 5])  # its edge has no length
    faces[8] = torch.tensor([3, 5, 5])
    face = torch.randint(0, 120, (GAUSSIANS,), generator=draw)
    face[face == 7], face[face == 8] = 1, 2
    values = {
        "position": torch.randn(GAUSSIANS, 3, generator=draw),
        "log_scale": 0.5 * torch.randn(GAUSSIANS, 3, generator=draw),
        "quaternion": 3 * torch.randn(GAUSSIANS, 4, generator=draw),
        "opacity_logit": torch.zeros(GAUSSIANS),
        "sh_dc": torch.zeros(GAUSSIANS, 1, 3),
        "sh_rest": torch.zeros(GAUSSIANS, 0, 3),
    }
    gaussians = BoundGaussians(values, face, torch.zeros(GAUSSIANS, 2), torch.zeros(GAUSSIANS, dtype=torch.bool))
    turn = torch.randn(FRAMES, GAUSSIANS, 3, generator=draw)
    turn[:, ::5] *= 1e-4  # where sine and cosine come from their series
    turn[:, 3] = 0
    offsets = Offsets(
        position=0.02 * torch.randn(FRAMES, GAUSSIANS, 3, generator=draw),
        scale=torch.exp(0.3 * torch.randn(FRAMES, GAUSSIANS, 3, generator=draw)),
        rotation=turn,
        color=torch.zeros(FRAMES, GAUSSIANS, 3),
        opacity=torch.zeros(FRAMES, GAUSSIANS),
    )
    upstream = [torch.randn(FRAMES, GAUSSIANS, width, generator=draw) for width in (3, 4, 3)]
    return vertices, faces, gaussians, offsets, upstream


def answers(function, scene, *, soft, in_face):
    """Results of a binding, and gradients of everything that receives one."""
    vertices, faces, gaussians, offsets, upstream = scene
    vertices = vertices.clone().requires_grad_()
    moved = {name: getattr(offsets, name).clone().requires_grad_() for name in ("position", "scale", "rotation")}
    given = Offsets(**moved, color=offsets.color, opacity=offsets.opacity) if soft else None
    learned = [gaussians.position, gaussians.log_scale, gaussians.quaternion]
    inputs = [vertices, *learned, *(moved.values() if soft else [])]
    outputs = function(vertices, faces, gaussians, given, in_face=in_face)
    return [*outputs, *torch.autograd.grad(outputs, inputs, upstream)]


@pytest.mark.parametrize("soft, in_face", [(False, False), (True, False), (True, True)])
def test_kernels_agree_with_the_formulas(scene, soft, in_face):
    fast = answers(bind, scene, soft=soft, in_face=in_face)
    slow = answers(bind_by_formulas, scene, soft=soft, in_face=in_face)
    names = ["means", "quaternions", "scales", "d_vertices", "d_position", "d_log_scale", "d_quaternion"]
    names += ["d_shift", "d_factor", "d_turn"] if soft else []
    assert len(names) == len(fast) == len(slow)
    for name, ours, theirs in zip(names, fast, slow, strict=True):
        # Thin triangles have large gradients, of which float32 formulas keep fewer digits.
        scale = theirs.abs().amax().clamp_min(1)
        assert torch.isfinite(ours).all(), name
        assert ((ours - theirs).abs() / scale).max() < 2e-5, name


def test_faces_without_area_stay_finite(scene):
    vertices, faces, gaussians, offsets, upstream = scene
    gaussians = BoundGaussians(
        {name: getattr(gaussians, name).detach() for name in BoundGaussians.PARAMETERS},
        torch.full_like(gaussians.face, 7),
        gaussians.uv,
        gaussians.free,
    )
    for result in answers(bind, (vertices, faces, gaussians, offsets, upstream), soft=True, in_face=True):
        assert torch.isfinite(result).all()


def test_one_set_of_offsets_serves_several_frames(scene):
    vertices, faces, gaussians, offsets, _ = scene
    shared = Offsets(**{name: value[:1] for name, value in vars(offsets).items()})
    both = bind(vertices, faces, gaussians, shared, in_face=True)
    second = bind(vertices[1:], faces, gaussians, shared, in_face=True)
    for ours, theirs in zip(both, second, strict=True):
        assert torch.equal(ours[1:], theirs)


def test_gradients_are_the_same_with_one_thread_and_with_two(scene):
    before = torch.get_num_threads()
    results = []
    for count in (1, 2):
        torch.set_num_threads(count)
        results.append(answers(bind, scene, soft=True, in_face=True))
    torch.set_num_threads(before)
    for one, two in zip(*results, strict=True):
        assert torch.equal(one, two)
