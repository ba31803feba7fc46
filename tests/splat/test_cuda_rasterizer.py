"""The cuda backend against the reference and the cpu backend."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch
from splat_scenes import cameras, draw_and_differentiate, random_scene, relative_error
from test_cpu_rasterizer import SCENES

from stavatar.splat import rasterize

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
    pytest.mark.skipif(find_spec("gsplat") is None, reason="needs gsplat: pip install stavatar[cuda]"),
    pytest.mark.timeout(900),  # the first call compiles gsplat
]


@pytest.mark.parametrize("build", SCENES, ids=lambda build: build.__name__)
def test_agrees_with_the_reference(build) -> None:
    scene, camera = build()
    background = torch.tensor([0.2, 0.5, 1.0])
    truth, true_gradients = draw_and_differentiate(scene, camera, "reference", torch.float64, background=background)
    on_gpu = {name: tensor.cuda() for name, tensor in scene.items()}
    result, gradients = draw_and_differentiate(
        on_gpu, camera.to("cuda"), "cuda", torch.float32, background=background.cuda()
    )
    # a Gaussian at the very edge of visibility (alpha = 1/255) may fall on either side of it in fast float32
    assert ((result.image.cpu() - truth.image).abs() > 1e-5).float().mean() < 1e-3
    assert (result.image.cpu() - truth.image).abs().max() < 2 / 255 if truth.image.numel() else True
    assert relative_error(result.alpha, truth.alpha) < 1e-4
    assert relative_error(result.extra, truth.extra) < 1e-4
    assert ((result.radii.cpu() - truth.radii).abs() <= 1).all()
    torch.testing.assert_close(result.means2d.double().cpu(), truth.means2d, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(result.depths.double().cpu(), truth.depths, rtol=1e-5, atol=1e-5)
    assert relative_error(result.blending_weights, truth.blending_weights) < 1e-4
    for name, gradient in gradients.items():
        if gradient.numel():
            assert relative_error(gradient, true_gradients[name]) < 1e-3, name


@pytest.mark.parametrize("build", SCENES, ids=lambda build: build.__name__)
def test_pixels_are_counted_one_by_one(build) -> None:
    """Borders, occlusion and ended pixels included; one at the very edge of visibility may fall on either side."""
    scene, camera = build()
    truth, _ = draw_and_differentiate(scene, camera, "reference", torch.float64)
    on_gpu = {name: tensor.cuda() for name, tensor in scene.items()}
    result, _ = draw_and_differentiate(on_gpu, camera.to("cuda"), "cuda", torch.float32)
    difference = (result.pixel_counts.double().cpu() - truth.pixel_counts).abs()
    assert difference.sum() <= 1e-3 * truth.pixel_counts.sum()
    assert (difference <= 2).all()


def test_many_extra_channels_are_drawn_in_parts() -> None:
    scene, camera = random_scene(80), cameras(1, 40, 30)
    scene["extra"] = torch.randn(1, 80, 40, dtype=torch.float64)
    truth, true_gradients = draw_and_differentiate(scene, camera, "reference", torch.float64)
    on_gpu = {name: tensor.cuda() for name, tensor in scene.items()}
    result, gradients = draw_and_differentiate(on_gpu, camera.to("cuda"), "cuda", torch.float32)
    assert relative_error(result.extra, truth.extra) < 1e-4
    for name, gradient in gradients.items():
        assert relative_error(gradient, true_gradients[name]) < 1e-3, name


def test_spherical_harmonics_agree_with_the_cpu_backend() -> None:
    scene = {name: tensor.float() for name, tensor in random_scene(80, batch=2).items() if name != "extra"}
    scene["colors"] = torch.randn(2, 80, 16, 3)
    camera = cameras(2, 40, 30)
    on_cpu = rasterize(**scene, camera=camera, sh_degree=3)
    on_gpu = rasterize(**{name: tensor.cuda() for name, tensor in scene.items()}, camera=camera.to("cuda"), sh_degree=3)
    assert relative_error(on_gpu.image, on_cpu.image.double()) < 1e-4


@pytest.mark.parametrize("build", SCENES, ids=lambda build: build.__name__)
def test_sorting_into_given_room_draws_the_same(build) -> None:
    scene, camera = build()
    on_gpu = {name: tensor.float().cuda() for name, tensor in scene.items()}
    if on_gpu["means"].shape[1] == 0:
        pytest.skip("nothing to sort")
    counted = rasterize(**on_gpu, camera=camera.to("cuda"), statistics=True)
    bounded = rasterize(**on_gpu, camera=camera.to("cuda"), statistics=True, room=2 * counted.entries + 100)
    assert int(bounded.entries) == counted.entries
    for name in ("image", "alpha", "extra", "pixel_counts"):
        torch.testing.assert_close(getattr(bounded, name), getattr(counted, name), rtol=0, atol=1e-6)


def test_too_little_room_is_told() -> None:
    scene, camera = random_scene(200), cameras(2, 64, 48)
    on_gpu = {name: tensor.float().cuda() for name, tensor in scene.items()}
    counted = rasterize(**on_gpu, camera=camera.to("cuda"))
    bounded = rasterize(**on_gpu, camera=camera.to("cuda"), room=max(1, counted.entries // 3))
    assert int(bounded.entries) == counted.entries
    assert bounded.image.isfinite().all()


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_spherical_harmonics_are_those_of_the_reference(degree) -> None:
    from stavatar.splat import cuda, spherical_harmonics

    generator = torch.Generator().manual_seed(0)
    coefficients, directions = (
        torch.randn(2, 50, 16, 3, generator=generator),
        torch.randn(2, 50, 3, generator=generator),
    )
    results = []
    for color in (spherical_harmonics.color, cuda.color):
        leaves = [value.cuda().requires_grad_() for value in (coefficients, directions)]
        colors = color(*leaves, degree)
        gradients = torch.autograd.grad(colors.square().sum(), leaves, allow_unused=True)
        results.append([colors, *(gradient for gradient in gradients if gradient is not None)])
    for value, truth in zip(*reversed(results), strict=True):
        torch.testing.assert_close(value, truth, rtol=1e-4, atol=1e-4)
