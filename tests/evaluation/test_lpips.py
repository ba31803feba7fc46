"""LPIPS against published values, a numpy re-implementation, and what any measure of difference must do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from safetensors.torch import load_file, save_file
from torch import Tensor

from stavatar import assets
from stavatar.errors import AssetError
from stavatar.evaluation.lpips import LPIPS, Network

NETWORKS: tuple[Network, ...] = ("vgg16", "alexnet")


def load(network: Network) -> LPIPS:
    try:
        return LPIPS(network)
    except AssetError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module", params=NETWORKS)
def lpips(request: pytest.FixtureRequest) -> LPIPS:
    return load(request.param)


@pytest.fixture
def picture() -> Tensor:
    """A smooth coloured pattern with an edge, [1, 3, 48, 48]."""
    y, x = torch.meshgrid(torch.linspace(0, 1, 48), torch.linspace(0, 1, 48), indexing="ij")
    pattern = torch.stack([x, (6 * x * y).sin().abs(), (x > y).float()])
    return pattern[None]


def test_published_values_of_vgg16() -> None:
    """Values printed by the authors' package (v0.1, VGG) for numpy's noise with seed 123, to four digits.

    They stand in a public comparison of image metrics together with the lines that make the noise.
    """
    lpips = load("vgg16")
    noise = np.random.RandomState(123)
    first, second = (torch.tensor(noise.rand(10, 3, 100, 100), dtype=torch.float32) for _ in range(2))
    published = [0.3497, 0.3494, 0.3473, 0.3558, 0.3437, 0.3366, 0.3716, 0.3516, 0.3472, 0.3413]
    with torch.inference_mode():
        distances = lpips(first, second)
    assert [f"{distance:.4f}" for distance in distances.tolist()] == [f"{value:.4f}" for value in published]
    assert f"{distances.mean().item():.4f}" == "0.3494", "printed by another package too"


def numpy_distance(network: Network, a: np.ndarray, b: np.ndarray) -> float:
    """LPIPS in float64 with im2col convolutions, written from the paper: [3, H, W] in [-1, 1]."""
    weights = {key: value.double().numpy() for key, value in load_file(assets.path(f"lpips_{network}")).items()}
    if network == "vgg16":
        layers: list = [0, 2, "tap", "pool", 5, 7, "tap", "pool", 10, 12, 14, "tap", "pool", 17, 19, 21, "tap", "pool"]
        layers += [24, 26, 28, "tap"]
        pool, geometry = 2, {}
    else:
        layers = [0, "tap", "pool", 3, "tap", "pool", 6, "tap", 8, "tap", 10, "tap"]
        pool, geometry = 3, {0: (4, 2), 3: (1, 2)}

    def taps(image: np.ndarray) -> list[np.ndarray]:
        mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
        # ImageNet's constants for [0, 1]; LPIPS has them rounded to three digits for [-1, 1].
        shift, scale = np.round(2 * mean - 1, 3), np.round(2 * deviation, 3)
        signal = (image - shift[:, None, None]) / scale[:, None, None]
        found = []
        for layer in layers:
            if layer == "tap":
                found.append(signal / (np.sqrt((signal**2).sum(0)) + 1e-10))
            elif layer == "pool":
                signal = sliding_window_view(signal, (pool, pool), axis=(1, 2))[:, ::2, ::2].max((3, 4))
            else:
                weight, bias = weights[f"features.{layer}.weight"], weights[f"features.{layer}.bias"]
                stride, padding = geometry.get(layer, (1, 1))
                padded = np.pad(signal, ((0, 0), (padding, padding), (padding, padding)))
                patches = sliding_window_view(padded, weight.shape[2:], axis=(1, 2))[:, ::stride, ::stride]
                summed = np.einsum("chwij,ocij->ohw", patches, weight, optimize=True)
                signal = np.maximum(summed + bias[:, None, None], 0)
        return found

    return sum(
        float(np.einsum("chw,c->hw", (p - q) ** 2, weights[f"heads.{k}.weight"][0, :, 0, 0]).mean())
        for k, (p, q) in enumerate(zip(taps(a), taps(b), strict=True))
    )


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("rescale", [True, False])
def test_agrees_with_a_numpy_implementation(network: Network, rescale: bool) -> None:
    lpips = load(network)
    a, b = torch.rand(2, 1, 3, 37, 42, generator=torch.Generator().manual_seed(0)).unbind(0)
    factor, offset = (2, -1) if rescale else (1, 0)
    expected = numpy_distance(network, *((factor * x[0].double() + offset).numpy() for x in (a, b)))
    with torch.inference_mode():
        assert lpips(a, b, rescale=rescale).item() == pytest.approx(expected, rel=1e-4)


def test_is_zero_for_equal_pictures_and_symmetric(lpips: LPIPS, picture: Tensor) -> None:
    with torch.inference_mode():
        assert lpips(picture, picture).tolist() == [0]
        other = picture.flip(3)
        assert lpips(picture, other).item() == pytest.approx(lpips(other, picture).item(), rel=1e-5)


def test_grows_with_blur_and_with_noise(lpips: LPIPS, picture: Tensor) -> None:
    noise = torch.randn(picture.shape, generator=torch.Generator().manual_seed(0))
    blurred = [torch.nn.functional.avg_pool2d(picture, k, 1, k // 2, count_include_pad=False) for k in (3, 7, 15)]
    noisy = [(picture + strength * noise).clamp(0, 1) for strength in (0.02, 0.1, 0.3)]
    with torch.inference_mode():
        for series in (blurred, noisy):
            distances = lpips(torch.cat(series), picture.expand(3, -1, -1, -1)).tolist()
            assert 0 < distances[0] < distances[1] < distances[2]


def test_cached_features_and_batches_change_nothing(lpips: LPIPS, picture: Tensor) -> None:
    pair = torch.cat([picture, picture.flip(3)])
    truth = pair.flip(2)
    with torch.inference_mode():
        together = lpips(pair, truth)
        torch.testing.assert_close(lpips(pair, lpips.features(truth)), together)
        torch.testing.assert_close(torch.cat([lpips(pair[:1], truth[:1]), lpips(pair[1:], truth[1:])]), together)


def test_gradient_agrees_with_a_finite_difference_and_weights_get_none(lpips: LPIPS, picture: Tensor) -> None:
    lpips = lpips.double()
    try:
        picture = picture.double()
        generator = torch.Generator().manual_seed(0)
        render = (0.8 * picture + 0.2 * torch.rand(picture.shape, generator=generator)).requires_grad_()
        direction = torch.randn(picture.shape, generator=generator, dtype=torch.float64)
        lpips(render, picture).sum().backward()
        assert render.grad is not None
        with torch.no_grad():
            step = 1e-9 * direction  # small, for a kink of a ReLU inside the step would spoil the comparison
            slope = (lpips(render + step, picture) - lpips(render - step, picture)).item() / 2e-9
        assert (render.grad * direction).sum().item() == pytest.approx(slope, rel=1e-4)
        assert not list(lpips.parameters()) and not lpips.state_dict()
    finally:
        lpips.float()


def test_equal_pictures_give_finite_gradients(lpips: LPIPS) -> None:
    """White meets white in most of a portrait, and features may be zero there."""
    white = torch.ones(1, 3, 48, 48, requires_grad=True)
    lpips(white, torch.ones(1, 3, 48, 48)).sum().backward()
    assert white.grad is not None and torch.isfinite(white.grad).all()


def test_bfloat16_autocast_stays_close(lpips: LPIPS, picture: Tensor) -> None:
    other = (picture + 0.1 * torch.randn(picture.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    with torch.inference_mode():
        exact = lpips(picture, other)
        with torch.autocast("cpu", torch.bfloat16):
            rough = lpips(picture, other)
    assert rough.dtype == torch.float32
    assert rough.item() == pytest.approx(exact.item(), rel=0.03)


class TestFaultyWeights:
    """Through a small AlexNet file of zeros, so that no download is needed."""

    @pytest.fixture
    def weights(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        path = tmp_path / "weights.safetensors"
        monkeypatch.setenv("STAVATAR_ASSET_LPIPS_ALEXNET", str(path))
        shapes = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}
        tensors = {}
        for k, (index, (outputs, inputs, kernel)) in enumerate(shapes.items()):
            tensors[f"features.{index}.weight"] = torch.zeros(outputs, inputs, kernel, kernel)
            tensors[f"features.{index}.bias"] = torch.zeros(outputs)
            tensors[f"heads.{k}.weight"] = torch.zeros(1, outputs, 1, 1)
        save_file(tensors, path)
        return path

    def test_the_intact_file_loads(self, weights: Path) -> None:
        white = torch.ones(1, 3, 64, 64)
        assert LPIPS("alexnet")(white, 0 * white).item() == 0

    def test_missing(self, weights: Path) -> None:
        weights.unlink()
        with pytest.raises(AssetError, match="missing"):
            LPIPS("alexnet")

    def test_not_safetensors(self, weights: Path) -> None:
        weights.write_bytes(b"\x80\x04pickle")
        with pytest.raises(AssetError, match="cannot be read as safetensors"):
            LPIPS("alexnet")

    def test_another_shape(self, weights: Path) -> None:
        save_file({**load_file(weights), "features.8.bias": torch.zeros(3)}, weights)
        with pytest.raises(AssetError, match=r"features\.8\.bias"):
            LPIPS("alexnet")

    def test_a_tensor_missing(self, weights: Path) -> None:
        save_file({key: value for key, value in load_file(weights).items() if key != "heads.3.weight"}, weights)
        with pytest.raises(AssetError, match=r"heads\.3\.weight"):
            LPIPS("alexnet")

    def test_negative_heads(self, weights: Path) -> None:
        save_file({**load_file(weights), "heads.0.weight": -torch.ones(1, 64, 1, 1)}, weights)
        with pytest.raises(AssetError, match="negative"):
            LPIPS("alexnet")

    def test_an_unknown_network(self) -> None:
        with pytest.raises(ValueError, match="squeeze"):
            LPIPS("squeeze")  # type: ignore[arg-type]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_reduced_on_a_gpu_it_is_nearly_the_same() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(2, 3, 64, 80, generator=generator).cuda()
    results = []
    for reduced in (False, True):
        render = (0.8 * truth + 0.1).requires_grad_()
        distance = LPIPS("vgg16", reduced=reduced).cuda()(render, truth)
        distance.sum().backward()
        results.append((distance.detach(), render.grad))
    torch.testing.assert_close(results[1][0], results[0][0], rtol=0.02, atol=1e-4)
    assert (results[1][1] - results[0][1]).norm() < 0.2 * results[0][1].norm()
