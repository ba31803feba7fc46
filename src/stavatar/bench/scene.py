"""What is timed: a rendered performance, and a trainer on it with as many Gaussians as asked for."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from stavatar.config import Config
from stavatar.density import AdaptiveDensity, FixedDensity
from stavatar.density.surgery import rebuild
from stavatar.errors import AssetError
from stavatar.head import load_embedded_head, load_head
from stavatar.sequence import Sequence
from stavatar.synth.performance import make_performance, tracked_sequence
from stavatar.training.trainer import Trainer

FRAMES = 10
"""Of the performance that steps are timed on: eight to train on, as many as the largest batch."""
STEPS = 1000
"""Length of the training whose steps are timed: its moments lie at round numbers."""
_SPREAD = 0.25  # of added Gaussians over their face, in face units


def performance(size: int, frames: int = FRAMES) -> Sequence:
    """A short rendered performance in pictures of `size` pixels, with true tracking."""
    return tracked_sequence(make_performance(load_embedded_head(), frames=frames, size=size), "rendered performance")


def repeated(sequence: Sequence, frames: int) -> Sequence:
    """The same performance over and over, `frames` in all, each with memory of its own; all are trained on."""
    index = torch.arange(frames) % len(sequence)
    everything = torch.arange(frames)
    return replace(
        sequence,
        parameters=sequence.parameters[index],
        images=sequence.images[index],
        masks=sequence.masks[index],
        frame_ids=everything,
        train=everything,
        test=everything[:0],
    )


def timed_config(config: Config, batch: int = 1, *, perceptual: bool = False) -> Config:
    """A configuration with steps of all kinds at known moments (:mod:`stavatar.bench.steps`)."""
    training = replace(
        config.training,
        steps=STEPS,
        batch=batch,
        sh_interval=1,  # all spherical harmonics from the start: what most of a training pays for
        lpips=max(config.training.lpips, 0.05) if perceptual else 0.0,
        lpips_start=0.5,
    )
    return replace(config, training=training)


def make_trainer(
    sequence: Sequence, config: Config, device: torch.device, gaussians: int | None = None
) -> tuple[Trainer, str | None]:
    """A trainer, and why the perceptual loss is missing where it is wanted and cannot be had."""
    missing = None
    head = load_head(sequence.head_model)
    try:
        trainer = Trainer(sequence, head, config, device=device)
    except AssetError as error:
        missing = str(error)
        config = replace(config, training=replace(config.training, lpips=0.0))
        trainer = Trainer(sequence, head, config, device=device)
    if gaussians is not None:
        _resize(trainer, gaussians)
    return trainer, missing


@torch.no_grad()
def _resize(trainer: Trainer, count: int) -> None:
    """Give a new trainer's avatar `count` Gaussians.

    Added ones are copies spread over their face; all are scaled so that together they cover what they covered before.
    """
    avatar = trainer.avatar
    gaussians, device = avatar.gaussians, trainer.device
    draw = torch.Generator().manual_seed(0)
    had = len(gaussians)
    source = torch.cat([torch.randperm(had, generator=draw) for _ in range(math.ceil(count / had))])[:count].to(device)
    born = torch.arange(count, device=device) >= had
    shift = _SPREAD * torch.randn(count, 3, generator=draw).to(device) * born[:, None]
    shift[:, 1] = 0  # a face's second axis is its normal
    changed = {
        "position": gaussians.position[source] + shift,
        "log_scale": gaussians.log_scale[source] - 0.5 * math.log(count / had),
    }
    rebuild(gaussians, trainer.gaussian_optimiser, source, born, changed)
    if not isinstance(trainer.density, FixedDensity):
        training = trainer.config.training
        trainer.density = AdaptiveDensity(
            trainer.config.density, avatar, groups=trainer.plan.group_count, seed=training.seed
        )
