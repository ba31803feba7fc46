"""Measuring renders against the pictures that they should show."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from stavatar.errors import AssetError
from stavatar.evaluation import metrics
from stavatar.evaluation.lpips import LPIPS, Network
from stavatar.evaluation.metrics import METRICS, REGION_METRICS
from stavatar.progress import stage, warn

CPU_LPIPS_FRAMES = 60
"""On a CPU LPIPS takes most of the time, so that it is computed on this many frames unless told otherwise."""
BATCH = 8


@dataclass(frozen=True)
class Pair:
    """One frame to measure.

    Attributes:
        frame: its index in the sequence.
        truth, render: [H, W, 3] in [0, 1].
        masks: [H, W] of each region to measure apart.
    """

    frame: int
    truth: Tensor
    render: Tensor
    masks: Mapping[str, Tensor]


@dataclass(frozen=True)
class Metrics:
    """What was measured on N frames.

    Attributes:
        values: mean over frames of each of `METRICS`; None where it could not be computed.
        regions: for each region the mean of each of `REGION_METRICS` over the frames whose mask is not empty, and their
            number as ``frames``; the means are None where there is no such frame.
        missing: why a value of `values` is None.
        frames: the N frame indices, in the order they came.
        per_frame: of each of `METRICS` the N values; None in frames that it was not computed on.
        lpips_frames: how many of the frames LPIPS was computed on.
    """

    values: dict[str, float | None]
    regions: dict[str, dict[str, float | int | None]]
    missing: dict[str, str]
    frames: list[int]
    per_frame: dict[str, list[float | None]]
    lpips_frames: int

    @property
    def psnr(self) -> list[float]:
        """Of each frame; the one metric that every frame is certain to have."""
        return [value for value in self.per_frame["psnr"] if value is not None]

    def summary(self) -> dict[str, Any]:
        """The values as results quote them, with the frames that they are means over."""
        count = len(self.frames)
        return {**self.values, "frames": count, "lpips_frames": f"{self.lpips_frames} of {count}"}


@torch.inference_mode()
def evaluate_images(
    pairs: Iterable[Pair],
    count: int,
    *,
    device: torch.device | str = "cpu",
    lpips_frames: int | None = None,
    title: str = "measuring",
) -> Metrics:
    """Compute all metrics in one pass.

    Renders are clamped to [0, 1] first; they are not rounded to 8 bits. A metric whose weights are missing is None in
    the result and named with the reason, and the user is told; nothing stands in for it.

    Args:
        pairs: `count` frames, all of one size and with the same regions.
        count: at least 1.
        device: where to compute.
        lpips_frames: how many of the frames, evenly spaced, LPIPS is computed on. None: all on CUDA, and at most
            :data:`CPU_LPIPS_FRAMES` elsewhere. 0 leaves LPIPS out. The result says how many they were.
        title: of the progress bar.

    Raises:
        ValueError: `pairs` does not hold `count` frames, or a picture is not finite.
    """
    if count < 1:
        raise ValueError("there are no frames to measure")
    device = torch.device(device)
    if lpips_frames is None:
        lpips_frames = count if device.type == "cuda" else CPU_LPIPS_FRAMES
    chosen = _evenly_spaced(count, lpips_frames)
    networks, missing = _load_networks(device) if chosen else ({}, dict.fromkeys(_LPIPS_NETWORKS, "was not asked for"))

    frames: list[int] = []
    per_frame: dict[str, list[float | None]] = {name: [] for name in METRICS}
    regions: dict[str, dict[str, list[float]]] = defaultdict(lambda: {name: [] for name in REGION_METRICS})
    last: _Last | None = None
    with stage(title, count) as report:
        for batch in _batches(pairs):
            truth = torch.stack([pair.truth for pair in batch]).to(device, torch.float32)
            render = torch.stack([pair.render for pair in batch]).to(device, torch.float32).clamp(0, 1)
            for name in ("psnr", "ssim", "l1"):
                per_frame[name] += getattr(metrics, name)(render, truth).tolist()
            for pair, psnr in zip(batch, per_frame["psnr"][-len(batch) :], strict=True):
                if psnr is None or not math.isfinite(psnr):
                    raise ValueError(f"the render of frame {pair.frame} has values that are not finite")
            for region in batch[0].masks:
                for name, inside in _inside(region, batch, render, truth).items():
                    regions[region][name] += inside
            looked_at = [i for i in range(len(batch)) if len(frames) + i in chosen]
            for name in _LPIPS_NETWORKS:
                values: list[float | None] = [None] * len(batch)
                if looked_at and name in networks:
                    found = metrics.lpips(name, networks[name], render[looked_at], truth[looked_at]).tolist()
                    for i, value in zip(looked_at, found, strict=True):
                        values[i] = value
                per_frame[name] += values
            per_frame["flicker"] += _flicker(last, batch, render, truth)
            last = batch[-1].frame, render[-1:], truth[-1:]
            frames += [pair.frame for pair in batch]
            report(len(batch))
    if len(frames) != count:
        raise ValueError(f"{count} frames were announced and {len(frames)} came")

    if all(value is None for value in per_frame["flicker"]):
        missing["flicker"] = "no measured frame follows directly on another"
    return Metrics(
        values={name: _average(values) for name, values in per_frame.items()},
        regions={
            region: {**{name: _average(values) for name, values in found.items()}, "frames": len(found["psnr"])}
            for region, found in regions.items()
        },
        missing=missing,
        frames=frames,
        per_frame=per_frame,
        lpips_frames=len(chosen) if networks else 0,
    )


_Last = tuple[int, Tensor, Tensor]
"""Index, render and truth [1, H, W, 3] of the frame that was measured before."""

_LPIPS_NETWORKS: dict[str, Network] = {name: metric.network for name, metric in METRICS.items() if metric.network}


def _evenly_spaced(count: int, wanted: int) -> set[int]:
    """At most `wanted` of the positions 0 to count - 1, both ends included where there are two or more."""
    return set(torch.linspace(0, count - 1, max(0, min(wanted, count))).round().long().tolist())


def _load_networks(device: torch.device) -> tuple[dict[str, LPIPS], dict[str, str]]:
    """The network of each LPIPS metric, and why those that are not there are missing."""
    loaded: dict[str, LPIPS] = {}
    reasons: dict[str, str] = {}
    for network in sorted(set(_LPIPS_NETWORKS.values())):
        try:
            loaded[network] = LPIPS(network).to(device)
        except AssetError as error:
            reasons[network] = str(error)
            warn(f"LPIPS with {network} is left out of the results: {error}")
    found = {name: loaded[network] for name, network in _LPIPS_NETWORKS.items() if network in loaded}
    missing = {name: reasons[network] for name, network in _LPIPS_NETWORKS.items() if network in reasons}
    return found, missing


def _batches(pairs: Iterable[Pair]) -> Iterator[list[Pair]]:
    iterator = iter(pairs)
    while batch := list(islice(iterator, BATCH)):
        yield batch


def _inside(region: str, batch: list[Pair], render: Tensor, truth: Tensor) -> dict[str, list[float]]:
    """Region metrics of those frames of a batch whose mask of this region has anything in it."""
    mask = torch.stack([pair.masks[region] for pair in batch]).to(render)
    seen = mask.any(2).any(1)
    return {name: getattr(metrics, name)(render[seen], truth[seen], mask[seen]).tolist() for name in REGION_METRICS}


def _flicker(last: _Last | None, batch: list[Pair], render: Tensor, truth: Tensor) -> list[float | None]:
    """Flicker of each frame of a batch; None where the frame before it was not the one measured before."""
    frames = [pair.frame for pair in batch]
    before = [last[0] if last else None, *frames[:-1]]
    if last:
        render, truth = torch.cat([last[1], render]), torch.cat([last[2], truth])
    values = metrics.flicker(render, truth).tolist()
    values = [None] * (len(batch) - len(values)) + values
    return [value if b == frame - 1 else None for value, b, frame in zip(values, before, frames, strict=True)]


def _average(values: list[float | None] | list[float]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
