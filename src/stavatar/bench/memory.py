"""How the memory of training grows: with Gaussians, frames and resolution.

Each figure comes from a process of its own, so that nothing of the one before is counted: a few steps of every kind on
a performance of so many frames, made up of ten rendered ones. On a GPU, where a process counts its own tensors alone,
several are measured side by side.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import repeat
from typing import Any, Literal

import torch

from stavatar.bench.scene import make_trainer, performance, repeated, timed_config
from stavatar.bench.steps import steps
from stavatar.bench.timing import peak_memory_mb, reset_peak_memory
from stavatar.config import Config
from stavatar.progress import stage

_GAUSSIANS = {"cpu": (5_000, 10_000, 20_000, 40_000), "cuda": (20_000, 60_000, 150_000)}
_FRAMES = {"cpu": (300, 1_000, 3_000), "cuda": (300, 1_000, 3_000)}
_SIZES = {"cpu": (128, 256, 512), "cuda": (256, 512, 1_024)}
_STEPS = {"cpu": 2, "cuda": 4}  # of each kind; on a GPU the third is recorded


@dataclass(frozen=True)
class Load:
    """What is trained: number of Gaussians, of frames, the edge of the pictures in pixels, and where those wait."""

    gaussians: int
    frames: int
    size: int
    where: Literal["auto", "host"] = "auto"


def loads(device: str) -> list[Load]:
    """One thing varied at a time about a middle, and the long 512-pixel run that the project states its memory for.

    On a GPU that run once more with its pictures in the computer's memory.
    """
    gaussians, frames, sizes = _GAUSSIANS[device], _FRAMES[device], _SIZES[device]
    middle = Load(gaussians[1], frames[0], sizes[1])
    chosen = [
        *(replace(middle, gaussians=value) for value in gaussians),
        *(replace(middle, frames=value) for value in frames),
        *(replace(middle, size=value) for value in sizes),
        Load(gaussians[1], 3_000, 512),
        *([Load(gaussians[1], 3_000, 512, "host")] if device == "cuda" else []),
    ]
    return list(dict.fromkeys(chosen))


def measure_memory(config: Config, device: torch.device, chosen: list[Load]) -> list[dict[str, Any]]:
    """Peak memory of training under each load."""
    return list(_measured(config, device, chosen))


def _measured(config: Config, device: torch.device, chosen: list[Load]) -> Iterator[dict[str, Any]]:
    workers = 1 if device.type == "cpu" else max(1, min(len(chosen), (os.cpu_count() or 1) // 4))
    spawn = multiprocessing.get_context("spawn")
    with stage("memory", len(chosen)) as report, ProcessPoolExecutor(workers, spawn, max_tasks_per_child=1) as pool:
        for row in pool.map(_peak, repeat(config), repeat(str(device)), chosen):
            yield row
            report()


def _peak(config: Config, device_name: str, load: Load) -> dict[str, Any]:
    """One row; runs in its own process."""
    device = torch.device(device_name)
    sequence = repeated(performance(load.size), load.frames)
    config = timed_config(config, config.training.batch, perceptual=config.training.lpips > 0)
    config = replace(config, training=replace(config.training, frames=load.where))
    reset_peak_memory(device)
    trainer, missing = make_trainer(sequence, config, device, load.gaussians)
    for part in steps(trainer, all_kinds=True):
        for _ in range(_STEPS[device.type]):
            part.work()
    pictures = sequence.images.numel() + sequence.masks.numel()
    return {
        **asdict(load),
        "peak_memory_mb": peak_memory_mb(device),
        "reserved_memory_mb": torch.cuda.max_memory_reserved(device) / 2**20 if device.type == "cuda" else None,
        "pictures_mb": pictures / 2**20,
        "missing": missing,
    }
