"""Measuring renders against the pictures that they should show."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
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

Pair = tuple[int, Tensor, Tensor, Tensor | None]
"""A frame's index, the true picture and the render [H, W, 3] in [0, 1], and the mask [H, W] of the head or None."""


@dataclass(frozen=True)
class Metrics:
    """What was measured on N frames.

    Attributes:
        values: mean over frames of each of `METRICS`; None where it could not be computed.
        head: the same of `REGION_METRICS` inside the head masks, over the frames that have one that is not empty.
        missing: why a value is None; those of the head are called ``head_<name>``.
        frames: the N frame indices, in the order they came.
        psnr: of each of these frames.
        lpips_frames: how many of them LPIPS was computed on.
    """

    values: dict[str, float | None]
    head: dict[str, float | None]
    missing: dict[str, str]
    frames: list[int]
    psnr: list[float]
    lpips_frames: int

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
    """Compute all metrics.

    Renders are clamped to [0, 1] first; they are not rounded to 8 bits. A metric whose weights are missing is None in
    the result and named with the reason, and the user is told; nothing stands in for it.

    Args:
        pairs: `count` frames, all of one size.
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
    values: dict[str, list[float]] = defaultdict(list)
    with stage(title, count) as report:
        for batch in _batches(pairs):
            truth = torch.stack([pair[1] for pair in batch]).to(device, torch.float32)
            render = torch.stack([pair[2] for pair in batch]).to(device, torch.float32).clamp(0, 1)
            for name in ("psnr", "ssim", "l1"):
                values[name] += getattr(metrics, name)(render, truth).tolist()
            for pair, psnr in zip(batch, values["psnr"][-len(batch) :], strict=True):
                if not math.isfinite(psnr):
                    raise ValueError(f"the render of frame {pair[0]} has values that are not finite")
            for name, value in _inside_masks(batch, render, truth).items():
                values[f"head_{name}"] += value
            looked_at = [i for i in range(len(batch)) if len(frames) + i in chosen]
            if looked_at:
                for name, network in networks.items():
                    values[name] += metrics.lpips(name, network, render[looked_at], truth[looked_at]).tolist()
            frames += [pair[0] for pair in batch]
            report(len(batch))
    if len(frames) != count:
        raise ValueError(f"{count} frames were announced and {len(frames)} came")

    if "head_psnr" not in values:
        missing |= {f"head_{name}": "no frame has a mask of the head" for name in REGION_METRICS}
    return Metrics(
        values={name: _average(values.get(name)) for name in METRICS},
        head={name: _average(values.get(f"head_{name}")) for name in REGION_METRICS},
        missing=missing,
        frames=frames,
        psnr=values["psnr"],
        lpips_frames=len(chosen) if networks else 0,
    )


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


def _inside_masks(batch: list[Pair], render: Tensor, truth: Tensor) -> dict[str, list[float]]:
    """Region metrics of the frames of a batch that have a mask with anything in it."""
    masks = {i: mask for i, pair in enumerate(batch) if (mask := pair[3]) is not None and bool(mask.any())}
    if not masks:
        return {}
    mask = torch.stack(list(masks.values())).to(render)
    rows = list(masks)
    return {name: getattr(metrics, name)(render[rows], truth[rows], mask).tolist() for name in REGION_METRICS}


def _average(values: list[float] | None) -> float | None:
    return sum(values) / len(values) if values else None
