"""The exact estimator: blending-weighted error per Gaussian through the rasteriser's backward pass, by brute force."""

from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch

from stavatar.camera import Camera
from stavatar.splat import rasterize
from stavatar.splat.reference import _blending_weights, _project

WIDTH, HEIGHT = 40, 30


def scene(count=70, batch=2, seed=0):
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(batch, count, *shape, generator=draw)

    return {
        "means": 0.06 * normal(3),
        "quaternions": normal(4),
        "scales": 0.012 * (0.5 * normal(3)).exp(),
        "opacities": torch.sigmoid(1.5 * normal()),
        "colors": torch.rand(batch, count, 3, generator=draw),
    }


@pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda",
            marks=[
                pytest.mark.gpu,
                pytest.mark.skipif(
                    not torch.cuda.is_available() or find_spec("gsplat") is None, reason="needs a CUDA GPU and gsplat"
                ),
                pytest.mark.timeout(900),
            ],
        ),
    ],
)
def test_the_probe_collects_weight_times_error_and_leaves_other_gradients_alone(device):
    gaussians, camera = scene(), Camera.frontal(1.0, 90.0, WIDTH, HEIGHT).expand(2)
    error = torch.rand(2, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1))

    leaves = {name: value.to(device).requires_grad_() for name, value in gaussians.items()}
    probe = torch.zeros(2, 70, 1, device=device, requires_grad=True)
    view = rasterize(**leaves, camera=camera.to(device), extra=probe, statistics=True)
    (view.image.square().sum() + (view.extra[..., 0] * error.to(device)).sum()).backward()

    plain = {name: value.to(device).requires_grad_() for name, value in scene().items()}
    rasterize(**plain, camera=camera.to(device)).image.square().sum().backward()
    for name, leaf in leaves.items():
        torch.testing.assert_close(leaf.grad, plain[name].grad, rtol=1e-4, atol=1e-5, msg=name)

    double = {name: value.double() for name, value in gaussians.items()}
    exact = replace(
        camera,
        world_to_camera=camera.world_to_camera.double(),
        focal=camera.focal.double(),
        center=camera.center.double(),
    )
    means2d, conics, depths, radii = _project(
        double["means"], double["quaternions"], double["scales"], double["opacities"], exact
    )
    weights = _blending_weights(means2d, conics, double["opacities"], depths, radii, exact)
    expected = torch.einsum("bhwn,bhw->bn", weights, error.double())
    torch.testing.assert_close(probe.grad[..., 0].double().cpu(), expected, rtol=2e-3, atol=2e-3)
    assert expected.max() > 1
