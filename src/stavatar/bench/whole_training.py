"""A whole training, and how long it takes to a given quality."""

from __future__ import annotations

from typing import Any

import torch

from stavatar.bench.timing import peak_memory_mb, reset_peak_memory
from stavatar.config import Config
from stavatar.head import load_head
from stavatar.sequence import Sequence
from stavatar.training.trainer import Trainer

NEARLY = 0.95


def time_training(sequence: Sequence, config: Config, device: torch.device, goal: float | None) -> dict[str, Any]:
    """Train to the end and read from the learning curve when what was reached.

    PSNR is that of training frames while they are trained on, averaged over a hundredth of the training: it costs
    nothing, and trainings of the same data compare by it. Held-out frames are what `stavatar evaluate` is for.

    Args:
        sequence: what to train on.
        config: of the training.
        device: where.
        goal: PSNR in dB whose time is wanted as well.
    """
    trainer = Trainer(sequence, load_head(sequence.head_model), config, device=device)
    reset_peak_memory(device)
    trainer.run()
    curve = trainer.curve.rows
    last = curve["psnr"][-1]
    return {
        "frames": len(sequence.train),
        "size": [sequence.width, sequence.height],
        "steps": trainer.steps,
        "batch": config.training.batch,
        "gaussians": len(trainer.avatar.gaussians),
        "seconds": trainer.seconds,
        "frames_per_second": curve["frames"][-1] / trainer.seconds,
        "final_psnr": last,
        "to_95_percent": first_reach(curve, NEARLY * last),
        "goal": None if goal is None else {"psnr": goal, **(first_reach(curve, goal) or {"seconds": None})},
        "curve": curve,
        "peak_memory_mb": peak_memory_mb(device),
    }


def first_reach(curve: dict[str, list[float]], psnr: float) -> dict[str, float] | None:
    """The first point of a learning curve that is as good as `psnr`: its seconds, steps and frames; None: never."""
    for index, value in enumerate(curve["psnr"]):
        if value >= psnr:
            return {"seconds": curve["seconds"][index], "step": curve["step"][index], "frames": curve["frames"][index]}
    return None
