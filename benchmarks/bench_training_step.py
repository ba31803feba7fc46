"""Where a training step's time goes: whole steps by phase of training, and the device's busy time in them.

    python benchmarks/bench_training_step.py SEQUENCE --preset paper --device cuda -o result.json

Steps are timed in four states: hard binding, with the offset network, with density statistics, and with the perceptual
loss. Figures are milliseconds: `step` is the median of steps that are waited for, `running` the mean of steps that are
not, as in training, and `frame` the same for each frame of a step. On a GPU `busy` is the sum of a step's kernels as
torch's profiler reports it, and `kernels` their number. `--gaussians` repeats the starting ones up to that number.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import torch

from stavatar import config
from stavatar.density.surgery import rebuild
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
    parser.add_argument("--gaussians", type=int, help="how many; by default those that training starts with")
    parser.add_argument("--steps", type=int, default=30, help="timed steps per state, after ten to warm up")
    parser.add_argument("-o", "--out", type=Path)
    arguments = parser.parse_args()

    sequence = read_sequence(arguments.sequence)
    configuration = config.override(config.preset(arguments.preset), arguments.settings)
    trainer = Trainer(sequence, load_head(sequence.head_model), configuration, device=arguments.device)
    if arguments.gaussians:
        multiply(trainer, arguments.gaussians)
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

    def one_step(number: int, waited: bool = True) -> None:
        trainer.step = round(progress * trainer.steps)  # the same place each time: rates and switches stay
        frames = batches[number % len(batches)]
        trainer.train_step(frames, torch.full((len(frames),), 0 if watched else -1))
        if waited:
            wait(trainer.device)

    for number in range(10):
        one_step(number)
    seconds = []
    for number in range(steps):
        begin = time.perf_counter()
        one_step(number)
        seconds.append(time.perf_counter() - begin)
    begin = time.perf_counter()
    for number in range(steps):
        one_step(number, waited=False)
    wait(trainer.device)
    running = 1e3 * (time.perf_counter() - begin) / steps
    result = {
        "step": round(1e3 * statistics.median(seconds), 2),
        "running": round(running, 2),
        "frame": round(running / trainer.config.training.batch, 2),
    }
    if trainer.device.type == "cuda":
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            for number in range(5):
                one_step(number)
        rows = [row for row in profile.key_averages() if row.device_type == torch.autograd.DeviceType.CUDA]
        kernels = sorted(rows, key=lambda row: -row.self_device_time_total)
        result["busy"] = round(sum(row.self_device_time_total for row in kernels) / 5e3, 2)
        result["kernels"] = sum(row.count for row in kernels) / 5
        result["longest"] = {row.key[:80]: round(row.self_device_time_total / 5e3, 3) for row in kernels[:12]}
    return result


def multiply(trainer: Trainer, count: int) -> None:
    """Give an untrained avatar `count` Gaussians: copies of its own around them, smaller."""
    gaussians, device = trainer.avatar.gaussians, trainer.device
    source = torch.arange(count, device=device) % len(gaussians)
    noise = torch.randn(count, 3, generator=torch.Generator().manual_seed(0)).to(device)
    changed = {
        "position": gaussians.position.detach()[source] + 0.5 * noise,
        "log_scale": gaussians.log_scale.detach()[source] - 0.5,
    }
    born = torch.ones(count, dtype=torch.bool, device=device)
    rebuild(gaussians, trainer.gaussian_optimiser, source, born, changed)
    trainer.density = trainer._density()


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
