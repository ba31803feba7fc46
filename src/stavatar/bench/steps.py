"""Whole training steps, at the moments of training where they consist of different parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from stavatar.bench.parts import Part
from stavatar.training.trainer import Trainer

HARD, SOFT, WATCHED, PERCEPTUAL = "hard binding", "without LPIPS", "with density statistics", "with LPIPS"


def steps(trainer: Trainer, *, all_kinds: bool) -> Iterator[Part]:
    """Whole steps of a trainer with the settings of :func:`stavatar.bench.scene.timed_config`.

    Without `all_kinds` only what most steps consist of, and the same with the perceptual loss.
    """
    training = trainer.config.training
    moments = {
        HARD: (0.0, False),
        SOFT: (training.network_start, False),
        WATCHED: (training.network_start, True),
        PERCEPTUAL: (max(training.lpips_start, training.network_start), False),
    }
    for name, (progress, watched) in moments.items():
        if name in (HARD, WATCHED) and not all_kinds:
            continue
        if (name == HARD and training.network_start == 0) or (name == PERCEPTUAL and trainer.lpips is None):
            continue
        # Three steps past the moment: rounding must not fall before it.
        yield Part("step", name, _step_at(trainer, round(progress * trainer.steps) + 3, watched), None, training.batch)


def _step_at(trainer: Trainer, moment: int, watched: bool) -> Callable[[], None]:
    """A function that does the step of that moment again and again, each time with other frames."""
    batches = [batch for batch in trainer.plan.batches if len(batch) == trainer.config.training.batch]
    groups = torch.full_like(batches[0], 0 if watched else -1)
    done = 0

    def one_step() -> None:
        nonlocal done
        trainer.step = moment
        trainer.train_step(batches[done % len(batches)], groups)
        done += 1

    return one_step
