"""The cpu backend against the reference in float64: pictures, statistics and gradients."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from splat_scenes import cameras, draw_and_differentiate, random_scene, relative_error
from torch import Tensor

from stavatar.camera import Camera
from stavatar.jit import threads
from stavatar.splat import rasterize
from stavatar.splat._blending_kernels import HIGH, WIDE, by_depth, cut_into_strips, lay_out, sort_into_tiles
from stavatar.splat.conventions import ALPHA_LEAST

BACKGROUND = torch.tensor([0.2, 0.5, 1.0])


def several() -> tuple[dict[str, Tensor], Camera]:
    return random_scene(200), cameras(1, 70, 45)


def one_tile() -> tuple[dict[str, Tensor], Camera]:
    return random_scene(60, 1), cameras(1, 16, 16)


def one_more_than_tiles() -> tuple[dict[str, Tensor], Camera]:
    return random_scene(60, 2), cameras(1, 33, 17)


def one_pixel() -> tuple[dict[str, Tensor], Camera]:
    return random_scene(30, 3, size=0.05), cameras(1, 1, 1)


def single() -> tuple[dict[str, Tensor], Camera]:
    scene = random_scene(1, 4)
    scene["means"] *= 0
    return scene, cameras(1, 20, 20)


def none() -> tuple[dict[str, Tensor], Camera]:
    return random_scene(0), cameras(1, 20, 18)


def all_off_screen() -> tuple[dict[str, Tensor], Camera]:
    scene = random_scene(20, 5)
    scene["means"][..., 1] += 50
    return scene, cameras(1, 20, 20)


def partly_behind() -> tuple[dict[str, Tensor], Camera]:
    scene = random_scene(60, 6)
    scene["means"][:, ::2] *= 40  # up to several metres away: behind the camera, close to it, or far off
    return scene, cameras(1, 40, 40)


def far_off_axis() -> tuple[dict[str, Tensor], Camera]:
    """Outside the image by more than the clamping margin, but large enough to reach into it."""
    scene = random_scene(12, 7, size=0.2)
    scene["means"] = scene["means"] * torch.tensor([10.0, 10.0, 1.0])
    return scene, cameras(1, 40, 30)


def huge() -> tuple[dict[str, Tensor], Camera]:
    return random_scene(5, 8, size=0.3), cameras(1, 50, 40)


def below_a_pixel() -> tuple[dict[str, Tensor], Camera]:
    return random_scene(300, 9, size=1e-5), cameras(1, 40, 40)


def clear_and_solid() -> tuple[dict[str, Tensor], Camera]:
    scene = random_scene(40, 10)
    scene["opacities"][:, ::2] = 0
    scene["opacities"][:, 1::2] = 1
    return scene, cameras(1, 40, 40)


def opaque_pile() -> tuple[dict[str, Tensor], Camera]:
    """Most pixels end long before the last Gaussian."""
    scene = random_scene(300, 11, size=0.03)
    scene["opacities"] = 0.9 + 0.1 * scene["opacities"]
    return scene, cameras(1, 40, 40)


def capped() -> tuple[dict[str, Tensor], Camera]:
    """One Gaussian so wide and solid that many pixels reach the largest alpha, where it stops having a gradient."""
    scene = random_scene(2, 15)
    scene["means"] *= torch.tensor([0.1, 0.1, 0.1])
    scene["scales"][:, 0] = 1.0
    scene["opacities"] = torch.tensor([[1.0, 0.5]]).double()
    return scene, cameras(1, 40, 30)


def batch() -> tuple[dict[str, Tensor], Camera]:
    return random_scene(50, 12, batch=3), cameras(3, 40, 28)


SCENES = (
    several, one_tile, one_more_than_tiles, one_pixel, single, none, all_off_screen, partly_behind, far_off_axis, huge,
    below_a_pixel, clear_and_solid, opaque_pile, capped, batch,
)  # fmt: skip


@pytest.mark.parametrize("extended", [True, False], ids=["more channels", "colours alone"])
@pytest.mark.parametrize("build", SCENES, ids=lambda build: build.__name__)
def test_agrees_with_the_reference(build, extended) -> None:
    scene, camera = build()
    if not extended:
        del scene["extra"]
    truth, true_gradients = draw_and_differentiate(scene, camera, "reference", torch.float64, background=BACKGROUND)
    result, gradients = draw_and_differentiate(scene, camera, "cpu", torch.float32, background=BACKGROUND)

    assert (result.image - truth.image).abs().max() < 5e-6
    assert (result.alpha - truth.alpha).abs().max() < 5e-6
    if extended:
        assert (result.extra - truth.extra).abs().max() < 2e-5
    assert torch.equal(result.radii, truth.radii)
    torch.testing.assert_close(result.means2d.double(), truth.means2d, rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(result.depths.double(), truth.depths, rtol=1e-6, atol=1e-6)
    assert torch.equal(result.pixel_counts.double(), truth.pixel_counts)
    torch.testing.assert_close(result.blending_weights.double(), truth.blending_weights, rtol=1e-5, atol=1e-5)
    for name, gradient in gradients.items():
        assert relative_error(gradient, true_gradients[name]) < 1e-4, name


def test_the_scenes_are_what_they_say() -> None:
    def drawn(build) -> Tensor:
        scene, camera = build()
        return draw_and_differentiate(scene, camera, "reference", torch.float64)[0]

    assert (drawn(all_off_screen).radii == 0).all()
    assert 0 < (drawn(partly_behind).radii == 0).float().mean() < 1
    pile = drawn(opaque_pile)
    assert (pile.alpha > 0.99).float().mean() > 0.3
    assert (pile.pixel_counts[pile.radii > 0] == 0).any()
    assert (drawn(huge).alpha > 0).all()
    assert (drawn(capped).alpha >= 0.999).float().mean() > 0.02
    scene, camera = far_off_axis()
    position = camera.project(scene["means"]) - camera.center
    limit = 0.5 * 1.3 * torch.tensor([camera.width, camera.height])
    seen = drawn(far_off_axis).pixel_counts > 0
    assert ((position.abs() > limit + 2).any(-1) & seen).any()


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_spherical_harmonics_have_the_same_gradients(degree: int) -> None:
    scene, camera = random_scene(60, 13), cameras(1, 40, 28)
    draw = torch.Generator().manual_seed(1)
    scene["colors"] = 0.5 * torch.randn(1, 60, 16, 3, generator=draw, dtype=torch.float64)
    truth, true_gradients = draw_and_differentiate(scene, camera, "reference", torch.float64, sh_degree=degree)
    result, gradients = draw_and_differentiate(scene, camera, "cpu", torch.float32, sh_degree=degree)
    assert (result.image - truth.image).abs().max() < 1e-5
    for name, gradient in gradients.items():
        assert relative_error(gradient, true_gradients[name]) < 1e-4, name
    assert (gradients["colors"][..., (degree + 1) ** 2 :, :] == 0).all()


def test_without_extra_and_background_the_picture_is_the_same() -> None:
    scene, camera = several()
    full, _ = draw_and_differentiate(scene, camera, "cpu", torch.float32, background=BACKGROUND)
    del scene["extra"]
    plain, _ = draw_and_differentiate(scene, camera, "cpu", torch.float32)
    assert plain.extra is None
    torch.testing.assert_close(plain.image + (1 - plain.alpha)[..., None] * BACKGROUND, full.image)


def test_forward_only_gives_the_same_picture_and_keeps_no_graph() -> None:
    scene, camera = several()
    trained, _ = draw_and_differentiate(scene, camera, "cpu", torch.float32)
    leaves = {name: tensor.float().requires_grad_() for name, tensor in scene.items()}
    with torch.no_grad():
        extra = leaves.pop("extra")
        shown = rasterize(*leaves.values(), camera, extra=extra, backend="cpu")
        alone = rasterize(*leaves.values(), camera, backend="cpu")
    assert torch.equal(shown.image, trained.image) and torch.equal(alone.image, trained.image)
    assert shown.image.grad_fn is None and shown.means2d.grad_fn is None
    assert shown.pixel_counts is None and shown.blending_weights is None


def test_gradient_of_a_silent_channel_is_the_weighted_sum_of_an_image() -> None:
    """Upstream gradient E on an extra channel of value zero returns the sum over pixels of weight * E."""
    scene, camera = several()
    inputs = [scene[name].float() for name in ("means", "quaternions", "scales", "opacities", "colors")]
    silent = torch.zeros(1, 200, 1, requires_grad=True)
    result = rasterize(*inputs, camera, extra=silent, backend="cpu", statistics=True)
    (weights,) = torch.autograd.grad(result.extra, silent, torch.ones_like(result.extra))
    torch.testing.assert_close(weights[..., 0], result.blending_weights, rtol=1e-5, atol=1e-5)


def test_a_gaussian_that_is_not_a_number_is_not_drawn_and_a_colour_that_is_not_shows() -> None:
    scene, camera = several()
    inputs = {name: scene[name].float() for name in ("means", "quaternions", "scales", "opacities", "colors")}
    for name in ("means", "quaternions", "scales", "opacities"):
        broken = {key: tensor.clone() for key, tensor in inputs.items()}
        broken[name][0, 3] = float("nan")
        result = rasterize(*broken.values(), camera, backend="cpu")
        assert result.radii[0, 3] == 0, name
        assert result.image.isfinite().all(), name
    inputs["colors"][0, 3] = float("nan")
    assert rasterize(*inputs.values(), camera, backend="cpu").image.isnan().any()


def test_result_does_not_depend_on_the_number_of_threads() -> None:
    scene, camera = random_scene(400, 14), cameras(1, 90, 70)
    before = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            with threads() as used:
                assert used <= count
            results.append(draw_and_differentiate(scene, camera, "cpu", torch.float32))
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(before)
    (first, first_gradients), (second, second_gradients) = results
    assert torch.equal(first.image, second.image)
    assert torch.equal(first.blending_weights, second.blending_weights)
    for name, gradient in first_gradients.items():
        assert torch.equal(gradient, second_gradients[name]), name


def test_many_extra_channels_are_blended_as_few_are() -> None:
    """From some number on they are laid out differently."""
    scene, camera = several()
    channels = torch.randn(*scene["means"].shape[:2], 20, generator=torch.Generator().manual_seed(0))
    del scene["extra"]
    scene = {name: value.float() for name, value in scene.items()}

    def blended(part: Tensor) -> Tensor:
        extra = rasterize(*scene.values(), camera, extra=part.contiguous(), backend="cpu").extra
        assert extra is not None
        return extra

    together, apart = blended(channels), [blended(part) for part in channels.split(4, -1)]
    torch.testing.assert_close(together, torch.cat(apart, -1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("count", [0, 1, 3000])
def test_drawn_gaussians_are_sorted_by_depth_and_equal_depths_by_index(count: int) -> None:
    draw = np.random.default_rng(0)
    depths = np.exp(draw.normal(0, 3, count)).astype(np.float32)
    depths[1::2] = depths[: len(depths[1::2])]  # each depth at least twice
    radii = draw.integers(0, 3, count).astype(np.int32)
    expected = np.argsort(depths, kind="stable")
    assert np.array_equal(by_depth(depths, radii), expected[radii[expected] > 0])


def test_rows_of_a_tile_are_those_that_a_gaussian_reaches_and_hardly_others() -> None:
    """Of thin and round ones, at any angle, faint and opaque, in, at and beyond the border of the picture."""
    width, height, count = 61, 45, 400
    draw = np.random.default_rng(0)
    means = draw.uniform((-15, -15), (width + 15, height + 15), (count, 2)).astype(np.float32)
    angle, long = draw.uniform(0, np.pi, count), np.exp(draw.uniform(-1, 4, count))
    short = np.minimum(long, np.exp(draw.uniform(-1, 1.5, count)))
    turn = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], -1).reshape(-1, 2, 2)
    inverse = turn @ (np.stack([long, short], -1)[:, :, None] ** -2.0 * turn.swapaxes(1, 2))
    conics = np.stack([inverse[:, 0, 0], inverse[:, 0, 1], inverse[:, 1, 1]], -1).astype(np.float32)
    opacities = draw.choice([0.003, 0.005, 0.05, 0.9, 1.0], count).astype(np.float32)
    nothing = np.zeros((count, 3), np.float32)
    order = np.arange(count, dtype=np.int32)
    splats, ellipses, columns = lay_out(order, means, conics, opacities, nothing, nothing[:, :0], width)
    firsts, strips = cut_into_strips(splats, ellipses, columns, height)
    slots, starts, entries, loads = sort_into_tiles(columns, firsts, strips, 3, width, height)

    across = -(-width // WIDE)
    listed = np.zeros((count, height, across), bool)
    for tile, (begin, end) in enumerate(pairwise(starts)):
        assert (np.diff(entries[begin:end, 0]) > 0).all(), "front to back, each once"
        assert loads[tile] == (entries[begin:end, 3] - entries[begin:end, 2]).sum()
        for m, slot, first, last in entries[begin:end]:
            assert slots[m] <= slot < slots[m + 1]
            top = tile // across * HIGH
            listed[m, top + first : top + last, tile % across] = True
    assert sorted(entries[:, 1]) == list(range(len(entries)))

    y, x = np.mgrid[:height, :width] + 0.5
    dx, dy = x - means[:, 0, None, None].astype(float), y - means[:, 1, None, None].astype(float)
    a, b, c = (part[:, None, None].astype(float) for part in conics.T)
    alpha = opacities[:, None, None] * np.exp(-0.5 * (a * dx * dx + c * dy * dy) - b * dx * dy)
    reached = np.zeros((count, height, across * WIDE), bool)
    reached[..., :width] = alpha >= ALPHA_LEAST
    reached = reached.reshape(count, height, across, WIDE).any(-1)
    assert reached.sum() > 5_000
    assert not (reached & ~listed).any()
    assert listed.sum() < 1.03 * reached.sum()
