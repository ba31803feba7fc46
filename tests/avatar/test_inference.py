"""The GPU's way from head parameters to Gaussians against the ordinary one."""

import copy
import dataclasses
from importlib.util import find_spec

import pytest
import torch

pytest.importorskip("triton", reason="needs Triton")

from stavatar.avatar import inference, network_gpu
from stavatar.avatar.avatar import render
from stavatar.avatar.network import SplitConv

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
    pytest.mark.skipif(find_spec("gsplat") is None, reason="needs gsplat: pip install stavatar[cuda]"),
]


@pytest.fixture
def avatar(small_avatar):
    """With numbers everywhere, so that nothing left out goes unnoticed."""
    avatar = copy.deepcopy(small_avatar).requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for value in [*avatar.gaussians.parameters(), *(p for p in avatar.network.parameters() if p.dim() == 1)]:
        value += 0.2 * torch.randn(value.shape, generator=generator)
    avatar.gaussians.uv[:50] = torch.rand(50, 2, generator=generator)
    return avatar.cuda()


@pytest.mark.parametrize("variant", ["posed", "expression", "global only", "hard", "no network"])
def test_gaussians_are_those_of_the_ordinary_way(avatar, small_motion, variant, monkeypatch):
    """In float32, to tell errors from what bfloat16 loses."""
    monkeypatch.setattr(network_gpu, "HALF", torch.float32)
    monkeypatch.setattr(inference, "HALF", torch.float32)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    if variant == "expression":
        network = dataclasses.replace(avatar.config.network, displacement="expression", offset_frame="face")
        avatar.config = dataclasses.replace(avatar.config, network=network)
    if variant == "no network":
        avatar.network = None
    if variant == "global only":
        both, avatar.network.boxes = avatar.network.fuse_first, []
        alone = SplitConv(both.inputs[:1], both.conv.out_channels).cuda().requires_grad_(False)
        alone.conv.weight.copy_(both.conv.weight[:, : both.inputs[0]])
        alone.conv.bias.copy_(both.conv.bias)
        avatar.network.fuse_first = alone
    parameters = small_motion.parameters[[1, 4, 7]].to("cuda")
    soft = variant not in ("hard", "no network")
    truth = avatar(parameters, soft=soft)
    found = inference.Inference(avatar).pose(parameters, soft=soft)
    assert (found.offsets is None) == (truth.offsets is None) == (not soft)
    for name in ("means", "quaternions", "scales", "opacities", "sh"):
        torch.testing.assert_close(getattr(found, name), getattr(truth, name), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found.mesh.vertices, truth.mesh.vertices, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.mesh.joints, truth.mesh.joints, rtol=0, atol=1e-5)
    if soft:
        for item in dataclasses.fields(truth.offsets):
            value = getattr(truth.offsets, item.name)
            assert value.std() > 0, item.name
            torch.testing.assert_close(getattr(found.offsets, item.name), value, rtol=2e-3, atol=2e-3)


def test_pictures_are_those_of_the_ordinary_way(avatar, small_motion):
    parameters, camera = small_motion.parameters[[0, 3, 8]].to("cuda"), small_motion.camera.to("cuda")
    background = torch.tensor([0.1, 0.6, 0.9]).cuda()
    truth = render(avatar(parameters), camera, background=background)
    found = inference.Inference(avatar).picture(parameters, camera, background, soft=True, room=None)
    assert (found.image - truth.image).abs().mean() < 1e-3
    assert (found.alpha - truth.alpha).abs().mean() < 1e-3
    assert ((found.radii > 0) == (truth.radii > 0)).float().mean() > 0.99
