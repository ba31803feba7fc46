"""Where a training step's time goes: whole steps by phase of training, and the device's busy time in them.

    python benchmarks/bench_training_step.py SEQUENCE --preset paper --device cuda -o result.json

Steps are timed in four states: hard binding, with the offset network, with density statistics, and with the perceptual
loss. Figures are medians over steps in milliseconds; on a GPU each step is waited for, and `busy` is the sum of its
kernels' times as torch's profiler reports it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import torch

from stavatar import config
from stavatar.evaluation.results import versions
from stavatar.files import write_json
from stavatar.head import load_head
from stavatar.sequence import read_sequence
from stavatar.training.trainer import Trainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sequence", type=Path)
    parser.add_argument("--preset", default="paper")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--steps", type=int, default=30, help="timed steps per state, after ten to warm up")
    parser.add_argument("-o", "--out", type=Path)
    arguments = parser.parse_args()

    sequence = read_sequence(arguments.sequence)
    configuration = config.override(config.preset(arguments.preset), arguments.settings)
    trainer = Trainer(sequence, load_head(sequence.head_model), configuration, device=arguments.device)
    states = {
        "hard binding": (0.0, False),
        "with network": (configuration.training.network_start + 1e-3, False),
        "with network and density statistics": (configuration.training.network_start + 1e-3, True),
        "with network and perceptual loss": (max(configuration.training.lpips_start, 0.5) + 1e-3, False),
    }
    results = {
        "gaussians": len(trainer.avatar.gaussians),
        "batch": configuration.training.batch,
        "size": [sequence.width, sequence.height],
        "preset": configuration.preset,
        "settings": arguments.settings,
        "states": {name: measure(trainer, *state, arguments.steps) for name, state in states.items()},
        "versions": versions(arguments.device),
    }
    print(json.dumps(results, indent=2))
    if arguments.out:
        write_json(arguments.out, results)


def measure(trainer: Trainer, progress: float, watched: bool, steps: int) -> dict:
    """Median milliseconds of a step at some progress of training, and the kernels that take longest."""
    batches = [batch for batch in trainer.plan.batches if len(batch) == trainer.config.training.batch]

    def one_step(number: int) -> None:
        trainer.step = round(progress * trainer.steps)  # the same place each time: rates and switches stay
        frames = batches[number % len(batches)]
        trainer.train_step(frames, torch.full((len(frames),), 0 if watched else -1))
        wait(trainer.device)

    for number in range(10):
        one_step(number)
    seconds = []
    for number in range(steps):
        begin = time.perf_counter()
        one_step(number)
        seconds.append(time.perf_counter() - begin)
    result = {"step": round(1e3 * statistics.median(seconds), 2)}
    if trainer.device.type == "cuda":
        activities = [torch.profiler.ProfilerActivity.CUDA, torch.profiler.ProfilerActivity.CPU]
        with torch.profiler.profile(activities=activities) as profile:
            for number in range(5):
                one_step(number)
        kernels = sorted(profile.key_averages(), key=lambda row: -row.self_device_time_total)
        result["busy"] = round(sum(row.self_device_time_total for row in kernels) / 5e3, 2)
        result["launches"] = sum(row.count for row in kernels if row.key == "cudaLaunchKernel") / 5
        result["longest"] = {row.key[:80]: round(row.self_device_time_total / 5e3, 3) for row in kernels[:12]}
    return result


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
