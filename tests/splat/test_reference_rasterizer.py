"""The reference against pictures worked out by hand, and its gradients against finite differences."""

from __future__ import annotations

import math

import pytest
import torch
from splat_scenes import cameras, random_scene
from torch import Tensor

from stavatar.camera import Camera
from stavatar.splat import rasterize

CAMERA = Camera.frontal(distance=1.0, focal=100.0, width=21, height=15)
CENTER = torch.tensor([10.5, 7.5])  # the middle of pixel (row 7, column 10), which looks at the origin


def layers(*depths: float, scale: float = 0.02, opacity: float = 0.8) -> dict[str, Tensor]:
    """Round Gaussians on the optical axis, `depths` metres behind the origin, coloured red, green, blue in turn."""
    count = len(depths)
    return {
        "means": torch.tensor([[[0.0, 0.0, -depth] for depth in depths]]).double(),
        "quaternions": torch.tensor([1.0, 0, 0, 0]).double().expand(1, count, 4),
        "scales": torch.full((1, count, 3), scale).double(),
        "opacities": torch.full((1, count), opacity).double(),
        "colors": torch.eye(3).double()[None, torch.arange(count) % 3],
    }


@pytest.fixture(params=["reference", "cpu"])
def draw(request):
    def call(scene: dict[str, Tensor], camera: Camera = CAMERA, **options):
        dtype = torch.float64 if request.param == "reference" else torch.float32
        inputs = [tensor.to(dtype) for tensor in scene.values()]
        return rasterize(*inputs, camera, backend=request.param, statistics=True, **options)

    return call


def test_round_gaussian_has_the_profile_of_its_projection(draw) -> None:
    result = draw(layers(0.0))
    variance = (100 * 0.02) ** 2 + 0.3  # (focal * scale / distance)², and the blur
    torch.testing.assert_close(result.means2d[0, 0].double(), CENTER.double())
    assert result.depths[0, 0] == 1
    for step in range(7):
        expected = 0.8 * math.exp(-(step**2) / (2 * variance))
        expected = expected if expected >= 1 / 255 else 0.0
        for pixel in (result.alpha[0, 7, 10 + step], result.alpha[0, 7 - step, 10]):
            assert pixel.item() == pytest.approx(expected, rel=1e-5)
    assert result.image[0, 7, 10].tolist() == pytest.approx([0.8, 0, 0], rel=1e-5)
    assert result.radii[0, 0] == math.ceil(math.sqrt(2 * math.log(255 * 0.8) * variance))


def test_ellipse_lies_along_its_rotated_axis(draw) -> None:
    scene = layers(0.0)
    scene["scales"] = torch.tensor([[[0.04, 0.004, 0.004]]]).double()
    half = math.pi / 8  # a turn by 45 degrees about z, anticlockwise with y up
    scene["quaternions"] = 3 * torch.tensor([[[math.cos(half), 0, 0, math.sin(half)]]]).double()
    alpha = draw(scene).alpha[0]
    assert alpha[7 - 2, 10 + 2] > 0.4 > 0.01 > alpha[7 + 2, 10 + 2]
    exponent = (2 * math.sqrt(2)) ** 2 / (2 * (4**2 + 0.3))
    assert alpha[5, 12].item() == pytest.approx(0.8 * math.exp(-exponent), rel=1e-4)


def test_layers_are_composited_front_to_back_over_the_background(draw) -> None:
    result = draw(layers(0.1, 0.0), background=torch.tensor([0.0, 0.0, 1.0]))  # green lies in front of red
    assert result.image[0, 7, 10].tolist() == pytest.approx([0.2 * 0.8, 0.8, 0.2 * 0.2], rel=1e-5)
    assert result.alpha[0, 7, 10].item() == pytest.approx(0.96, rel=1e-5)


def test_equal_depths_keep_their_order(draw) -> None:
    assert draw(layers(0.0, 0.0)).image[0, 7, 10].tolist() == pytest.approx([0.8, 0.16, 0], rel=1e-5)


def test_solid_gaussians_stop_short_of_the_last_ten_thousandth(draw) -> None:
    """0.999 is the most one Gaussian covers; the second would leave 1e-6, so it is not blended."""
    result = draw(layers(0.0, 0.1, opacity=1.0))
    assert result.image[0, 7, 10].tolist() == pytest.approx([0.999, 0, 0], rel=1e-6)
    assert result.pixel_counts[0, 1] < result.pixel_counts[0, 0]


def test_a_stopped_pixel_takes_no_later_gaussian_however_faint(draw) -> None:
    scene = layers(0.0, 0.1, 0.2, opacity=1.0)
    scene["opacities"][0, 2] = 0.01
    scene["scales"][0, 2] = 0.002
    result = draw(scene)
    assert result.image[0, 7, 10].tolist() == pytest.approx([0.999, 0, 0], rel=1e-6)
    assert result.blending_weights[0, 2] == 0


def test_statistics_of_one_gaussian_are_sums_over_its_pixels(draw) -> None:
    result = draw(layers(0.0, scale=0.005))
    assert result.pixel_counts[0, 0] == (result.alpha > 0).sum()
    assert result.blending_weights[0, 0].item() == pytest.approx(result.alpha.sum().item(), rel=1e-5)


def test_near_plane(draw) -> None:
    result = draw(layers(-0.985, -0.995, scale=1e-5))  # 15 mm and 5 mm from the camera
    assert (result.radii > 0).tolist() == [[True, False]]
    assert result.means2d[0, 1].tolist() == [0, 0]


def test_gradients_are_the_finite_differences() -> None:
    scene = random_scene(4, 1, size=0.03)
    camera = cameras(1, 6, 5)
    background = torch.tensor([0.1, 0.2, 0.3])

    def outputs(means, quaternions, scales, opacities, colors, extra):
        result = rasterize(
            means, quaternions, scales, opacities, colors, camera,
            background=background, extra=extra, backend="reference",
        )  # fmt: skip
        return result.image, result.alpha, result.extra, result.means2d

    assert torch.autograd.gradcheck(outputs, [tensor.requires_grad_() for tensor in scene.values()])
