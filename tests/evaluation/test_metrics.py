"""Metrics on pictures whose values are known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from stavatar.evaluation import metrics


def grey(*levels: float) -> Tensor:
    """One picture [8, 8, 3] for each level."""
    return torch.tensor(levels).reshape(-1, 1, 1, 1).expand(-1, 8, 8, 3).clone()


def test_psnr_is_per_picture() -> None:
    values = metrics.psnr(grey(0.5, 0.6, 0.51), grey(0.5, 0.5, 0.5))
    assert values.tolist() == pytest.approx([100, 20, 40], abs=1e-3)


def test_averages_of_psnr_are_not_psnr_of_averages() -> None:
    """The mean error of the two is 0.005, which would be 23 dB."""
    assert metrics.psnr(grey(0.6, 0.5), grey(0.5, 0.5)).mean().item() == pytest.approx(60, abs=1e-3)


def test_l1() -> None:
    assert metrics.l1(grey(0.25, 1.0), grey(0.5, 0.5)).tolist() == pytest.approx([0.25, 0.5])


def test_a_mask_leaves_out_what_is_outside() -> None:
    truth, render = grey(0.5), grey(0.5)
    render[0, :2] += 0.1
    render[0, 4:] = 1.0
    mask = torch.zeros(1, 8, 8)
    mask[0, :4] = 1
    assert metrics.l1(render, truth, mask).item() == pytest.approx(0.05)
    assert metrics.psnr(render, truth, mask).item() == pytest.approx(-10 * math.log10(0.005), abs=1e-4)
    assert metrics.psnr(render, truth, torch.ones(1, 8, 8)).item() == pytest.approx(metrics.psnr(render, truth).item())


def test_flicker_is_what_changes_between_frames_and_not_in_the_truth() -> None:
    truth = grey(0.2, 0.5, 0.8)
    assert metrics.flicker(truth + 0.1, truth).tolist() == pytest.approx([0, 0], abs=1e-6), "a constant error"
    assert metrics.flicker(grey(0.5, 0.5, 0.5), truth).tolist() == pytest.approx([0.3, 0.3]), "a frozen render"
    assert metrics.flicker(truth + grey(0.1, -0.1, 0.1), truth).tolist() == pytest.approx([0.2, 0.2])


def test_ssim_is_one_for_equal_pictures_and_falls_with_noise() -> None:
    truth = torch.rand(1, 32, 32, 3, generator=torch.Generator().manual_seed(0))
    noise = torch.rand(truth.shape, generator=torch.Generator().manual_seed(1)) - 0.5
    series = [metrics.ssim((truth + strength * noise).clamp(0, 1), truth).item() for strength in (0.0, 0.2, 1.0)]
    assert series[0] == pytest.approx(1, abs=1e-6)
    assert series[0] > series[1] > series[2]


def test_ssim_takes_channels_last() -> None:
    """Between pictures that differ in one channel only, exactly one third of the dissimilarity is left."""
    truth = torch.rand(1, 32, 32, 3, generator=torch.Generator().manual_seed(0))
    one, all_three = truth.clone(), 1 - truth
    one[..., 1] = 1 - one[..., 1]
    other = [1 - metrics.ssim(torch.where(torch.arange(3) == c, 1 - truth, truth), truth).item() for c in range(3)]
    assert sum(other) == pytest.approx(1 - metrics.ssim(all_three, truth).item(), rel=1e-4)
    assert 1 - metrics.ssim(one, truth).item() == pytest.approx(other[1])


@pytest.mark.parametrize(("name", "rescale"), [("lpips_alex", True), ("lpips_vgg", True), ("lpips_alex_01", False)])
def test_lpips_is_fed_the_declared_range(name: str, rescale: bool) -> None:
    calls = []

    def network(render: Tensor, truth: Tensor, *, rescale: bool) -> Tensor:
        calls.append((render.shape, rescale))
        return torch.zeros(len(render))

    metrics.lpips(name, network, grey(0.1, 0.2), grey(0.1, 0.2))  # type: ignore[arg-type]
    assert calls == [((2, 3, 8, 8), rescale)]


def test_every_metric_says_what_it_is() -> None:
    assert list(metrics.METRICS) == ["psnr", "ssim", "l1", "lpips_alex", "lpips_vgg", "lpips_alex_01", "flicker"]
    for name, metric in metrics.METRICS.items():
        assert (metric.network is not None) == name.startswith("lpips")
        assert metric.definition
