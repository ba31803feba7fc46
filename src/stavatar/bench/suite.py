"""Everything that `stavatar bench` measures, in one go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from stavatar.avatar.runtime import Runtime
from stavatar.avatar.storage import Motion
from stavatar.bench.inference import ANIMATE, inference
from stavatar.bench.machine import Machine, busy, circumstances, measure_machine
from stavatar.bench.memory import loads, measure_memory
from stavatar.bench.parts import BOTH, Part, parts
from stavatar.bench.result_file import FORMAT
from stavatar.bench.scene import make_trainer, performance, timed_config
from stavatar.bench.steps import HARD, PERCEPTUAL, steps
from stavatar.bench.timing import Effort, measure, profile
from stavatar.bench.whole_training import time_training
from stavatar.config import Config
from stavatar.errors import InputError
from stavatar.progress import remark, stage, warn
from stavatar.sequence import Sequence, read_sequence

QUICK = Effort(warm_up=2, repeats=20, seconds=0.6)
THOROUGH = Effort(warm_up=5, repeats=100, seconds=4.0)
BATCHES = (1, 4, 8)
_NOT_IN_A_STEP = ("SSIM alone", "LPIPS")
"""Parts that are in another part, or in some steps only."""


@dataclass(frozen=True)
class Wanted:
    """What to measure.

    Attributes:
        gaussians: how many; None takes what a training of the preset starts with.
        full: all kinds of steps and batches, with many repeats; else what answers in a minute.
        train: also a whole training.
        to_psnr: PSNR in dB of its training frames whose time is wanted.
        memory: also the memory of training under growing loads.
        sequence: a tracked sequence to train on in place of a rendered performance.
        frames: of the rendered performance to train on.
        run: a run or avatar whose inference is measured in place of an untrained avatar's.
    """

    gaussians: int | None = None
    full: bool = False
    train: bool = False
    to_psnr: float | None = None
    memory: bool = False
    sequence: Path | None = None
    frames: int = 120
    run: Path | None = None


def benchmark(config: Config, device: torch.device, wanted: Wanted) -> dict[str, Any]:
    """Measure and return the content of the result file."""
    facts = circumstances(device)
    if busy(facts):
        warn(f"the machine is busy (load {facts['load']:.1f}): these times are worth little, cpu times somewhat more")
    effort = THOROUGH if wanted.full else QUICK
    size = config.capture.size
    machine = measure_machine(device, effort)
    sequence = performance(size)
    missing: dict[str, str] = {}
    rows, gaussians = _training_rows(sequence, config, device, machine, effort, wanted, missing)
    rows += _inference_rows(sequence, config, device, effort, wanted)
    training = _training(config, device, wanted) if wanted.train else None
    memory = measure_memory(config, device, loads(device.type)) if wanted.memory else None
    return {
        "format": FORMAT,
        **facts,
        "settings": {
            "preset": config.preset,
            "size": size,
            "uv": config.network.uv_size,
            "network_width": config.network.width,
            "gaussians": gaussians,
            "sh_degree": config.gaussians.sh_degree,
            "precision": config.training.precision if machine.reduced_operations else "fp32",
            "full": wanted.full,
        },
        "machine": asdict(machine),
        "rows": rows,
        "missing": missing,
        "training": training,
        "memory": memory,
    }


def _training_rows(
    sequence: Sequence,
    config: Config,
    device: torch.device,
    machine: Machine,
    effort: Effort,
    wanted: Wanted,
    missing: dict[str, str],
) -> tuple[list[dict[str, Any]], int]:
    """Parts of a step and whole steps, and how many Gaussians they are measured with."""
    rows: list[dict[str, Any]] = []
    for batch in BATCHES:
        timed = timed_config(config, batch, perceptual=True)
        trainer, why = make_trainer(sequence, timed, device, wanted.gaussians)
        if why is not None:
            missing["LPIPS"] = why
        if batch == 1 or wanted.full:
            with stage(f"parts, batch {batch}", None) as report:
                rows += [_row(part, device, effort, machine, report) for part in parts(trainer, batch)]
        with stage(f"steps, batch {batch}", None) as report:
            kinds = steps(trainer, all_kinds=wanted.full)
            for part in kinds:
                if part.variant == PERCEPTUAL and batch > 1 and device.type == "cpu" and not wanted.full:
                    continue  # a second a frame there
                row = _row(part, device, effort, machine, report)
                row["floor"] = _floor_of_step(rows, row)
                rows.append(row | (profile(part.work, device) if wanted.full else {}))
    return rows, len(trainer.avatar.gaussians)


def _floor_of_step(rows: list[dict[str, Any]], step: dict[str, Any]) -> float | None:
    """The sum of its parts' floors, where these were measured for its batch."""
    own = [row for row in rows if row["frames"] == step["frames"] and row["part"] != "step"]
    whole = [row for row in own if row["variant"] == BOTH or row["part"] in ("pictures", "optimiser")]
    left_out = list(_NOT_IN_A_STEP)
    if step["variant"] == PERCEPTUAL:
        left_out.remove("LPIPS")
    if step["variant"] == HARD:
        left_out += ["UV maps", "offset network"]
    return sum(row["floor"] for row in whole if row["part"] not in left_out) if whole else None


def _inference_rows(
    sequence: Sequence, config: Config, device: torch.device, effort: Effort, wanted: Wanted
) -> list[dict[str, Any]]:
    if wanted.run is not None:
        runtime = Runtime.load(wanted.run, device)
    else:
        trainer, _ = make_trainer(sequence, timed_config(config), device, wanted.gaussians)
        motion = Motion(sequence.parameters, sequence.camera, sequence.fps, sequence.train, sequence.test)
        runtime = Runtime(trainer.avatar, motion)
    with stage("inference", None) as report:
        rows = [_row(part, device, effort, None, report) for part in inference(runtime, config.capture.size)]
    for row in rows:
        if row["part"] == ANIMATE:
            row["frames_per_second"] = 1e3 * row["frames"] / row["median"]
    return rows


def _row(
    part: Part, device: torch.device, effort: Effort, machine: Machine | None, report: Callable[..., None]
) -> dict[str, Any]:
    report(1, note=f"{part.name}, {part.variant}")
    row = {"part": part.name, "variant": part.variant, "frames": part.frames}
    row |= asdict(measure(part.work, device, effort))
    least = part.floor
    if least is not None and machine is not None:
        seconds = machine.seconds(least.moved, least.operations, reduced=least.reduced)
        row |= {"floor": 1e3 * seconds, "moved_bytes": least.moved, "operations": least.operations}
    return row


def _training(config: Config, device: torch.device, wanted: Wanted) -> dict[str, Any]:
    if wanted.sequence is None:
        sequence = performance(config.capture.size, wanted.frames)
    else:
        sequence = read_sequence(wanted.sequence)
        if len(sequence.train) == 0:
            raise InputError(f"{wanted.sequence} has no frames to train on")
    remark(f"training on {len(sequence.train)} frames of {sequence.name}")
    return {"sequence": sequence.name} | time_training(sequence, config, device, wanted.to_psnr)
