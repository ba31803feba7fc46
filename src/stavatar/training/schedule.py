"""Learning rates over training."""

from __future__ import annotations

import math

from stavatar.config import TrainingConfig


def exponential(start: float, end: float, progress: float) -> float:
    """From `start` to `end` along a straight line in the logarithm; `progress` is in [0, 1]."""
    return start * math.exp(math.log(end / start) * min(max(progress, 0.0), 1.0))


def common_factor(config: TrainingConfig, progress: float) -> float:
    """Factor on every rate but the position's: 1 until `decay_start`, then down to `decay` at the end."""
    late = (progress - config.decay_start) / max(1e-9, 1 - config.decay_start)
    return exponential(1.0, config.decay, late)


def batch_factor(config: TrainingConfig) -> float:
    """Factor on the rates of Gaussians and network for steps that see several frames.

    A mean over B frames has a gradient of less noise, and there are B times fewer steps. Where noise rules, Adam's
    steps may be longer by the root of B, with moments that forget B times as fast (Malladi et al., "On the SDEs and
    Scaling Rules for Adaptive Gradient Algorithms", 2022); where the way is long and clear, B times as long.
    """
    return {"sqrt": math.sqrt(config.batch), "linear": float(config.batch), "same": 1.0}[config.batch_rates]


def batch_betas(config: TrainingConfig) -> tuple[float, float]:
    """Adam's decay rates that go with :func:`batch_factor`."""
    betas = (0.9, 0.999)
    if config.batch == 1 or config.batch_rates != "sqrt":
        return betas
    first, second = (max(0.0, 1 - config.batch * (1 - beta)) for beta in betas)
    return first, second
