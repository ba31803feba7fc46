"""The cuda backend against the reference and the cpu backend."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from itertools import pairwise

import pytest
import torch
from splat_scenes import cameras, draw_and_differentiate, random_scene, relative_error
from test_cpu_rasterizer import SCENES

from stavatar.camera import Camera
from stavatar.splat import rasterize
from stavatar.splat.conventions import ALPHA_LEAST

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
    assert int(bounded.entries) <= counted.entries  # gsplat counts whole boxes
    for name in ("image", "alpha", "extra", "pixel_counts"):
        torch.testing.assert_close(getattr(bounded, name), getattr(counted, name), rtol=0, atol=1e-6)


def test_too_little_room_is_told() -> None:
    scene, camera = random_scene(200), cameras(2, 64, 48)
    on_gpu = {name: tensor.float().cuda() for name, tensor in scene.items()}
    needed = int(rasterize(**on_gpu, camera=camera.to("cuda"), room=10_000).entries)
    assert 10 < needed < 10_000
    bounded = rasterize(**on_gpu, camera=camera.to("cuda"), room=needed // 3)
    assert int(bounded.entries) == needed
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


def needles(batch: int, count: int) -> dict[str, torch.Tensor]:
    """Gaussians of all shapes and sizes on a GPU, some so clear that they are not drawn."""
    generator = torch.Generator().manual_seed(0)
    return {
        "means": 0.1 * torch.randn(batch, count, 3, generator=generator).cuda(),
        "quaternions": torch.randn(batch, count, 4, generator=generator).cuda(),
        "scales": (1.2 * torch.randn(batch, count, 3, generator=generator) - 5).exp().cuda(),
        "opacities": torch.rand(batch, count, generator=generator).pow(4).cuda(),
    }


def narrow(camera: Camera) -> Camera:
    """The same in float32 on a GPU."""
    tensors = {name: getattr(camera, name).float().cuda() for name in ("world_to_camera", "focal", "center")}
    return replace(camera, **tensors)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_drawing_without_gradients_gives_the_same_picture(degree) -> None:
    from stavatar.splat import cuda

    scene, camera = needles(3, 500), narrow(cameras(3, 100, 72))
    scene["means"][0, 3] = float("nan")
    scene["means"][:, 5] = camera.position  # behind the near plane
    generator = torch.Generator().manual_seed(1)
    direct = torch.randn(3, 500, 1, 3, generator=generator).cuda()
    rest = 0.3 * torch.randn(500, (degree + 1) ** 2 - 1, 3, generator=generator).cuda()
    background = torch.tensor([0.2, 0.5, 1.0]).cuda()
    colors = torch.cat([direct, rest.expand(3, -1, -1, -1)], 2)
    truth = rasterize(**scene, colors=colors, camera=camera, sh_degree=degree, background=background)
    for room in (None, 40_000):
        drawn = cuda.draw(**scene, direct=direct, rest=rest, camera=camera, background=background, room=room)
        assert ((drawn.image - truth.image).abs() > 1e-4).float().mean() < 1e-3
        assert (drawn.image - truth.image).abs().max() < 2 / 255
        assert relative_error(drawn.alpha, truth.alpha) < 1e-4
        assert ((drawn.radii - truth.radii).abs() <= 1).all()
        torch.testing.assert_close(drawn.means2d, truth.means2d, rtol=1e-5, atol=1e-3)
        torch.testing.assert_close(drawn.depths, truth.depths, rtol=1e-5, atol=1e-5)


def test_a_tile_has_the_gaussians_that_show_in_it_and_hardly_others() -> None:
    """Against the alpha of every pixel: none is missing, and the margin for rounding lets few in."""
    from stavatar.splat._tiles_triton import ellipses_of, sort_into_tiles

    batch, count, tile, across, down = 3, 300, 16, 6, 5
    scene, camera = needles(batch, count), narrow(cameras(batch, tile * across, tile * down))
    seen = rasterize(**scene, colors=scene["means"], camera=camera)
    truth = rasterize(**scene, colors=scene["means"], camera=camera, backend="reference")
    rows, columns = torch.meshgrid(torch.arange(80) + 0.5, torch.arange(96) + 0.5, indexing="ij")
    offset = torch.stack([columns, rows], -1).cuda()[None, :, :, None] - seen.means2d[:, None, None]
    conics = truth_conics(scene, camera)
    sigma = 0.5 * torch.einsum("bhwni,bnij,bhwnj->bhwn", offset, conics, offset)
    shows = (scene["opacities"][:, None, None] * torch.exp(-sigma) >= ALPHA_LEAST) & (truth.radii > 0)[:, None, None]
    in_tile = shows.unflatten(2, (across, tile)).unflatten(1, (down, tile)).any(4).any(2)
    packed = torch.stack([conics[..., 0, 0], conics[..., 0, 1], conics[..., 1, 1]], -1)
    ellipses = ellipses_of(packed, scene["opacities"], truth.radii, ALPHA_LEAST)
    offsets, indices, needed = sort_into_tiles(seen.means2d, ellipses, seen.depths, across, down, tile, 50_000)
    begins, found = [*offsets.flatten().tolist(), 50_000], torch.zeros_like(in_tile)
    for index, (begin, end) in enumerate(pairwise(begins)):
        frame, row, column = index // (across * down), index // across % down, index % across
        own = indices[begin:end].long()
        assert (own // count == frame).all() and len(own.unique()) == len(own)
        assert (seen.depths[frame, own % count].diff() >= 0).all(), "from front to back"
        found[frame, row, column, own % count] = True
    assert int(found.sum()) == int(needed)
    assert not (in_tile & ~found).any()
    assert (found & ~in_tile).sum() < 0.05 * in_tile.sum()


def truth_conics(scene, camera) -> torch.Tensor:
    """Inverse covariances [B, N, 2, 2] as the reference projects them."""
    from stavatar.splat.reference import _project

    _, conics, _, _ = _project(scene["means"], scene["quaternions"], scene["scales"], scene["opacities"], camera)
    return conics
