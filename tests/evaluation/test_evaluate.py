"""Measuring a stream of renders: means, masks, stated subsets, and what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from stavatar.errors import AssetError
from stavatar.evaluation import evaluate, metrics
from stavatar.evaluation.evaluate import Pair, evaluate_images


class CountingNetwork:
    """Stands where LPIPS would be and remembers how many pictures it saw."""

    def __init__(self, network: str) -> None:
        self.network = network
        self.seen: list[float] = []

    def to(self, device: torch.device) -> CountingNetwork:
        return self

    def __call__(self, render: Tensor, truth: Tensor, *, rescale: bool) -> Tensor:
        if rescale:
            self.seen += truth[:, 0, 0, 0].tolist()
        return torch.full((len(render),), {"alexnet": 0.1, "vgg16": 0.2}[self.network] + (0 if rescale else 1))


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch) -> dict[str, CountingNetwork]:
    made: dict[str, CountingNetwork] = {}

    def make(network: str) -> CountingNetwork:
        return made.setdefault(network, CountingNetwork(network))

    monkeypatch.setattr(evaluate, "LPIPS", make)
    return made


def stream(count: int, *, error: float = 0.1, masks: bool = False) -> Iterator[Pair]:
    """Frames 100, 101, ... of level i/100; the render of frame i is off by `error` in its upper half."""
    for i in range(count):
        truth = torch.full((16, 12, 3), i / 100)
        render = truth.clone()
        render[:8] += error
        mask = torch.zeros(16, 12)
        mask[:8, :4] = i % 2  # every other mask is empty
        yield Pair(100 + i, truth, render, {"upper": mask, "never": 0 * mask} if masks else {})


def test_means_over_more_frames_than_a_batch(networks: dict[str, CountingNetwork]) -> None:
    result = evaluate_images(stream(19), 19)
    assert result.frames == list(range(100, 119))
    assert result.psnr == pytest.approx([-10 * torch.tensor(0.005).log10().item()] * 19, abs=1e-3)
    assert result.values["psnr"] == pytest.approx(sum(result.psnr) / 19)
    assert result.values["l1"] == pytest.approx(0.05)
    pictures = list(stream(19))
    truth, render = (torch.stack([getattr(pair, k) for pair in pictures]) for k in ("truth", "render"))
    assert result.values["ssim"] == pytest.approx(metrics.ssim(render, truth).mean().item(), abs=1e-6)
    assert (result.values["lpips_alex"], result.values["lpips_vgg"]) == pytest.approx((0.1, 0.2))
    assert result.values["lpips_alex_01"] == pytest.approx(1.1)
    assert result.summary()["lpips_frames"] == "19 of 19" and result.summary()["frames"] == 19


def test_a_subset_for_lpips_is_evenly_spaced_and_stated(networks: dict[str, CountingNetwork]) -> None:
    result = evaluate_images(stream(21), 21, lpips_frames=5)
    assert networks["vgg16"].seen == pytest.approx([0, 0.05, 0.1, 0.15, 0.2])
    assert result.lpips_frames == 5 and result.summary()["lpips_frames"] == "5 of 21"
    assert len(result.psnr) == 21


def test_a_cpu_looks_at_sixty_frames_unless_told_otherwise(networks: dict[str, CountingNetwork]) -> None:
    assert evaluate_images(stream(70), 70).summary()["lpips_frames"] == "60 of 70"
    assert evaluate_images(stream(70), 70, lpips_frames=1000).summary()["lpips_frames"] == "70 of 70"


def test_lpips_can_be_left_out_and_is_then_missing() -> None:
    result = evaluate_images(stream(3), 3, lpips_frames=0)
    assert result.values["lpips_vgg"] is None and result.missing["lpips_vgg"] == "was not asked for"
    assert result.summary()["lpips_frames"] == "0 of 3"


def test_missing_weights_are_null_with_their_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("STAVATAR_ASSET_LPIPS_VGG16", str(tmp_path / "nothing"))

    def make(network: str) -> CountingNetwork:
        if network == "vgg16":
            raise AssetError("no weights here")
        return CountingNetwork(network)

    monkeypatch.setattr(evaluate, "LPIPS", make)
    result = evaluate_images(stream(3), 3)
    assert result.values["lpips_vgg"] is None and result.missing["lpips_vgg"] == "no weights here"
    assert result.values["lpips_alex"] == pytest.approx(0.1) and "lpips_alex" not in result.missing
    assert "vgg16 is left out" in " ".join(capsys.readouterr().err.split())


def test_without_any_weights_no_frame_counts_as_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(network: str) -> None:
        raise AssetError("no weights here")

    monkeypatch.setattr(evaluate, "LPIPS", refuse)
    result = evaluate_images(stream(3), 3)
    assert result.summary()["lpips_frames"] == "0 of 3"
    assert set(result.missing) >= {"lpips_alex", "lpips_alex_01", "lpips_vgg"}


def test_regions_average_the_frames_that_show_them() -> None:
    result = evaluate_images(stream(19, masks=True), 19, lpips_frames=0)
    assert result.regions["upper"] == pytest.approx({"psnr": 20, "l1": 0.1, "frames": 9}, abs=1e-3)
    assert result.regions["never"] == {"psnr": None, "l1": None, "frames": 0}


def test_every_frame_has_its_own_values(networks: dict[str, CountingNetwork]) -> None:
    result = evaluate_images(stream(5), 5, lpips_frames=2)
    assert result.per_frame["lpips_vgg"] == pytest.approx([0.2, None, None, None, 0.2])
    assert result.per_frame["l1"] == pytest.approx([0.05] * 5)
    assert set(result.per_frame) == set(metrics.METRICS)


@pytest.mark.parametrize("start", [0, 3])
def test_flicker_compares_neighbours_across_batches_and_not_across_gaps(start: int) -> None:
    """The error of frame i is 0.01 i in the upper half, so each step is 0.01 / 2; a frame is missing in between."""
    pairs = []
    for i in range(start, 19 + start):
        frame = 100 + i + (i >= start + 11)
        render = torch.full((16, 12, 3), 0.3)
        render[:8] += 0.01 * (frame - 100)
        pairs.append(Pair(frame, torch.full((16, 12, 3), 0.3), render, {}))
    result = evaluate_images(pairs, 19, lpips_frames=0)
    expected = [0.005] * 19
    expected[0] = expected[11] = None  # type: ignore[call-overload]
    assert result.per_frame["flicker"] == [None if e is None else pytest.approx(e, abs=1e-6) for e in expected]
    assert result.values["flicker"] == pytest.approx(0.005, abs=1e-6)


def test_a_single_frame_does_not_flicker() -> None:
    result = evaluate_images(stream(1), 1, lpips_frames=0)
    assert result.values["flicker"] is None and "no measured frame follows" in result.missing["flicker"]


def test_renders_are_clamped() -> None:
    white = torch.ones(16, 16, 3)
    assert evaluate_images([Pair(0, white, 3 * white, {})], 1, lpips_frames=0).psnr == [100]


@pytest.mark.parametrize("announced", [2, 4])
def test_another_number_of_frames_than_announced(announced: int) -> None:
    with pytest.raises(ValueError, match="3 came"):
        evaluate_images(stream(3), announced, lpips_frames=0)


def test_nothing_to_measure() -> None:
    with pytest.raises(ValueError, match="no frames"):
        evaluate_images([], 0)


def test_a_render_that_is_not_finite_is_named() -> None:
    frames = list(stream(3))
    frames[1].render[0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="frame 101"):
        evaluate_images(frames, 3, lpips_frames=0)
