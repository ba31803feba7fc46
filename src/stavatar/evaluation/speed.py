"""How fast an avatar is posed and rendered: medians after a warm-up."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stavatar.avatar.avatar import Avatar
from stavatar.avatar.runtime import Runtime
from stavatar.avatar.storage import Motion
from stavatar.camera import Camera
from stavatar.head import HeadParameters

BATCH = 8
WARM_UP = 3
REPEATS = 30
FEWEST, MOST_SECONDS = 5, 3.0
"""On a slow machine measuring ends early: after so many seconds, if there were at least so many repeats."""


def measure_speed(avatar: Avatar, parameters: HeadParameters, camera: Camera) -> dict[str, Any]:
    """Frames per second of posing and rendering, one at a time and in batches, from head parameters to pictures.

    Medians after a warm-up. The pictures stay on the device: reading parameters and writing a video are not included.
    """
    device = avatar.shape.device
    parameters, camera = parameters.to("cpu"), camera[[0]].to("cpu")
    nothing = torch.empty(0, dtype=torch.int64)
    # A runtime takes its avatar's gradients away: this one's may still be needed.
    runtime = Runtime(copy.deepcopy(avatar), Motion(parameters, camera, 25.0, nothing, nothing))

    def draw(frames: Tensor) -> None:
        runtime.render(parameters[frames % len(parameters)])

    single = median_time(lambda k: draw(torch.tensor([k])), device)
    batched = median_time(lambda k: draw(BATCH * k + torch.arange(BATCH)), device)
    return {
        "definition": "frames per second from head parameters to a picture on the device: pose, offset network, "
        "splatting; median after a warm-up",
        "single_fps": 1 / single.seconds,
        "batched_fps": BATCH / batched.seconds,
        "batch": BATCH,
        "repeats": {"single": single.repeats, "batched": batched.repeats},
        "size": [camera.width, camera.height],
    }


@dataclass(frozen=True)
class Timing:
    """Median seconds of one call, and how many calls it is the median of."""

    seconds: float
    repeats: int


def median_time(work: Callable[[int], object], device: torch.device | str = "cpu") -> Timing:
    """Time ``work(0)``, ``work(1)``, ..., each until the device has finished it.

    The first :data:`WARM_UP` calls (kernels compiled, memory allocated) are not counted.
    """
    device = torch.device(device)
    seconds: list[float] = []
    for repeat in range(WARM_UP + REPEATS):
        begin = time.perf_counter()
        work(repeat)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if repeat >= WARM_UP:
            seconds.append(time.perf_counter() - begin)
        if len(seconds) >= FEWEST and sum(seconds) > MOST_SECONDS:
            break
    return Timing(statistics.median(seconds), len(seconds))
