"""One subject on one and on several GPUs of this machine: how fast, and how good.

    python benchmarks/gpu_scaling.py SEQUENCE OUT [--ranks 2] [--batch 4] [--seeds 0,1] [--set section.field=value ...]

Three trainings a seed: one GPU with the batch, one with the batch times the number of ranks, and all with that same
large batch. The last two follow one plan, so their avatars should agree as two seeds do, and what one takes longer than
the other is what the other GPUs are good for. The first and the last draw equally many frames per GPU and step.

Writes OUT/scaling.json and OUT/scaling.md, and keeps what is there: run it again to fill in what is missing. Needs no
video packages, so that it runs on a machine with torch, gsplat and little else. NVLink's multicast stays off.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from stavatar import config
from stavatar.avatar.avatar import render
from stavatar.evaluation.metrics import psnr
from stavatar.files import read_json, write_json, write_text
from stavatar.head import load_head
from stavatar.sequence import read_sequence
from stavatar.training.ranks import Ranks, joined
from stavatar.training.trainer import Trainer

_EXCHANGES = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sequence", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--batch", type=int, default=4, help="frames per step and GPU")
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--preset", default="gpu")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--device", default="cuda", help="cpu to try this script out")
    parser.add_argument("--measure", type=Path, help="train once, in this very process; what torchrun starts")
    given = parser.parse_args()
    if given.measure is not None:
        _train(
            given.sequence, given.measure, config.override(config.preset(given.preset), given.settings), given.device
        )
        return
    large = given.batch * given.ranks
    cells = {
        f"{ranks}x{batch // ranks}": (ranks, batch)
        for ranks, batch in ((1, given.batch), (1, large), (given.ranks, large))
    }
    measured: dict[str, list[dict]] = {name: [] for name in cells}
    for seed in given.seeds.split(","):
        for name, (ranks, batch) in cells.items():
            file = given.out / f"{name}_seed{seed}.json"
            if not file.exists():
                settings = [*given.settings, f"training.batch={batch}", f"training.seed={seed}"]
                options = [
                    given.sequence,
                    given.out,
                    "--measure",
                    file,
                    "--preset",
                    given.preset,
                    "--device",
                    given.device,
                ]
                _start(ranks, [*map(str, options), *(part for item in settings for part in ("--set", item))])
            measured[name].append(read_json(file))
    write_json(given.out / "scaling.json", measured)
    table = _table(measured)
    write_text(given.out / "scaling.md", table)
    print(table)


def _start(ranks: int, arguments: list[str]) -> None:
    """Train in processes of their own, with output as it comes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    launcher = ["-m", "torch.distributed.run", f"--nproc-per-node={ranks}", f"--master-port={port}"]
    environment = {"NCCL_NVLS_ENABLE": "0", "OMP_NUM_THREADS": "4"} | os.environ
    subprocess.run([sys.executable, *launcher, __file__, *arguments], env=environment, check=True)


def _train(source: Path, file: Path, settings: config.Config, device: str) -> None:
    """Train with the processes that were started, and write down what it took and gave."""
    sequence = read_sequence(source)
    with joined(torch.device(device)) as ranks:
        trainer = Trainer(sequence, load_head(sequence.head_model), settings, device=device, ranks=ranks)
        trainer.run()
        count, exchange = ranks.count, _exchange_seconds(trainer, ranks)
    if not ranks.first:
        return
    rows = trainer.curve.rows
    half = len(rows["step"]) // 2  # by then kernels are compiled, graphs recorded, and the network takes part
    frames, seconds = (rows[name][-1] - rows[name][half] for name in ("frames", "seconds"))
    result = {
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "torch": torch.__version__,
        "ranks": count,
        "batch": settings.training.batch,
        "seed": settings.training.seed,
        "steps": trainer.steps,
        "training_seconds": trainer.seconds,
        "frames_per_second": frames / max(seconds, 1e-9),
        "exchange_ms": 1000 * exchange,
        "gaussians": len(trainer.avatar.gaussians),
        "training_psnr": rows["psnr"][-1],
        "held_out_psnr": _held_out_psnr(trainer),
        "peak_memory_gb": torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else None,
    }
    write_json(file, result)
    print(json.dumps(result))


def _exchange_seconds(trainer: Trainer, ranks: Ranks) -> float:
    """Seconds of one exchange of as many numbers as a step learns."""
    count = sum(parameter.numel() for parameter in trainer.avatar.parameters())
    numbers = torch.zeros(count, device=trainer.device)
    begin = 0.0
    for repeat in range(_EXCHANGES + 5):
        if repeat == 5:
            _wait(trainer.device)
            begin = time.monotonic()
        ranks.reduce(numbers, "sum")
    _wait(trainer.device)
    return (time.monotonic() - begin) / _EXCHANGES


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@torch.no_grad()
def _held_out_psnr(trainer: Trainer) -> float:
    """Mean PSNR of the held-out frames, their poses aligned photometrically."""
    sequence, device = trainer.sequence, trainer.device
    parameters = trainer.track_held_out()
    values = []
    for frame in sequence.test.tolist():
        posed = trainer.avatar(parameters[[frame]])
        image = render(posed, sequence.camera[[frame]].to(device)).image.clamp(0, 1)
        values.append(psnr(image, sequence.image([frame], device)).item())
    return statistics.mean(values)


def _table(measured: dict[str, list[dict]]) -> str:
    """One line per way to train, means over seeds."""
    lines = [
        "| GPUs x frames | steps | training s | frames/s | exchange ms | Gaussians | PSNR training | held out | GB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    digits = {"steps": 0, "training_seconds": 1, "frames_per_second": 1, "exchange_ms": 2, "gaussians": 0}
    digits |= {"training_psnr": 2, "held_out_psnr": 2, "peak_memory_gb": 2}
    for name, runs in measured.items():
        cells = [_cell([run[key] for run in runs], places) for key, places in digits.items()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    _, one, many = (statistics.mean(run["frames_per_second"] for run in runs) for runs in measured.values())
    lines += ["", f"Same batch, more GPUs: {many / one:.2f} times the frames per second."]
    return "\n".join([*lines, ""])


def _cell(values: list[float | None], digits: int) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    spread = f" ± {statistics.stdev(known):.{digits}f}" if len(known) > 1 else ""
    return f"{statistics.mean(known):.{digits}f}{spread}"


if __name__ == "__main__":
    main()
