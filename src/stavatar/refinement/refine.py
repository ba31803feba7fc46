"""The photometric stage of tracking.

A likeness of the subject, Gaussians bound hard to the head and nothing else, is fitted to the training frames, and then
all frames are aligned to it, by turns: what is sharp in the likeness tells poses, and better poses make it sharper.
Held-out frames are aligned like all others, as trackers of this field do, but the likeness never sees them.

Where the head's relief is wrong, wrong poses suit it: a likeness that was fitted to them shows so little of their error
that a round takes only a tenth of it away. Three things hurry that: many short rounds; Gaussians that hardly leave the
head's surface, since a relief that is learnt from wrong poses confirms them; and corrections taken further than the
alignment says (over-relaxation), by all rounds but the last.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from stavatar.alignment import Descent, Unknowns, align
from stavatar.config import (
    Config,
    DensityConfig,
    NetworkConfig,
    PoseConfig,
    ScheduleConfig,
    TrackingConfig,
    preset,
)
from stavatar.head import HeadModel
from stavatar.interruption import held_back
from stavatar.progress import stage, warn
from stavatar.refinement.checkpoint import Keep, State, fingerprint, kept
from stavatar.sequence import Sequence
from stavatar.training.trainer import Trainer

TRACKER = "photometric-2"
"""Goes into ``Sequence.history`` behind the landmark tracker's name; raised when results change."""


class Round(NamedTuple):
    """Fitting the likeness, and aligning all frames to it.

    Attributes:
        steps: of fitting the likeness.
        iterations: Gauss-Newton steps of all frames.
        face: adjust expression, jaw and gaze as well, not poses only.
        reach: corrections are taken so many times as far as the alignment says.
    """

    steps: int
    iterations: int
    face: bool = True
    reach: float = 1.0


ROUNDS = (
    # Poses only at first: while they are off, a face would pull a wrong expression to make up for it.
    Round(200, 2, face=False, reach=1.6),
    *(Round(100, 1, face=False, reach=1.6),) * 3,
    Round(200, 2, reach=1.6),
    Round(200, 1),
)

POSITION_RATE = 0.1
"""Of the learning rate that Gaussians' places have in a training."""

DOUBTED, LEAST_CONFIDENCE = 3.0, 0.2
"""A frame whose picture differs by so many times the clip's median is trusted by half; frames whose pictures are
trusted less than so much are left out of training."""


def is_refined(sequence: Sequence) -> bool:
    """Whether :func:`refine_tracking` has been over it."""
    return TRACKER in sequence.history.get("tracker", "")


def refine_tracking(
    sequence: Sequence,
    head: HeadModel,
    config: TrackingConfig,
    *,
    device: torch.device | str = "cpu",
    keep: Keep | None = None,
) -> Sequence:
    """Bring poses, expressions and gaze of all frames to where the pixels agree.

    Args:
        sequence: tracked by landmarks; `train` must not be empty.
        head: that it was tracked with.
        config: what is adjusted, and how.
        device: where to work.
        keep: where to keep how far it is, and to go on from what was kept there.

    Returns:
        The sequence with other parameters and confidence and, where frames turned out bad, fewer training frames.

    Raises:
        InputError: what was kept is damaged, or cannot be written.
    """
    small = shrink(sequence, config.size)
    likeness = Trainer(small, head, _likeness_config(sum(each.steps for each in ROUNDS)), device=device)
    state = State(likeness, sequence.parameters.to(likeness.device), torch.empty(0))
    with kept(state, keep, fingerprint(small, config, TRACKER, ROUNDS)) as save_when_due:
        for number in range(state.rounds + 1, len(ROUNDS) + 1):
            _fit(state, number, save_when_due)
            _align(state, number, small, config, save_when_due)
    by_pixels = _confidence(state.error, state.error[sequence.train].median())
    train = sequence.train[by_pixels[sequence.train] >= LEAST_CONFIDENCE]
    if len(train) < len(sequence.train):
        warn(f"{len(sequence.train) - len(train)} frames do not look like the others and are left out of training")
    # A frame is trusted by its landmarks or by its pixels, whichever is less.
    confidence = by_pixels if sequence.confidence is None else torch.minimum(sequence.confidence, by_pixels)
    return replace(sequence, train=train, confidence=confidence).with_parameters(
        state.parameters.to("cpu"), tracker=f"{sequence.history.get('tracker', 'unknown')}, {TRACKER}"
    )


def _fit(state: State, number: int, save_when_due: Callable[[], None]) -> None:
    """The steps of fitting the likeness up to the end of those of a round."""
    likeness, steps = state.likeness, ROUNDS[number - 1].steps
    end = sum(each.steps for each in ROUNDS[:number])
    with stage(f"likeness {number} of {len(ROUNDS)}", steps) as report:
        report(likeness.step - (end - steps))
        while likeness.step < end:
            with held_back():
                likeness.train_step(likeness.plan.batches[likeness.step], likeness.plan.groups[likeness.step])
            report(1)
            save_when_due()


def _align(
    state: State, number: int, small: Sequence, config: TrackingConfig, save_when_due: Callable[[], None]
) -> None:
    """The alignment of all frames that ends a round."""
    likeness, this = state.likeness, ROUNDS[number - 1]
    unknowns = Unknowns.of(likeness.avatar.head, face=config.face and this.face, torso=config.torso)
    frames = torch.arange(len(small), device=likeness.device)

    def keep(descent: Descent) -> None:
        state.descent = descent
        save_when_due()

    with stage(f"aligning frames {number} of {len(ROUNDS)}", len(frames) * (this.iterations + 1)) as report:
        if state.descent is not None:
            report(len(frames) * (state.descent.iterations + 1))
        found = align(
            likeness.avatar,
            small,
            state.parameters,
            frames,
            unknowns=unknowns,
            iterations=this.iterations,
            soft=False,
            sh_degree=likeness.sh_degree,
            matte=config.matte,
            smooth=config.smooth,
            report=report,
            descent=state.descent,
            keep=keep,
        )
    reached = found.parameters
    if this.reach != 1:
        reached = unknowns.apply(state.parameters, this.reach * unknowns.between(state.parameters, reached))
    with held_back():
        likeness.poses.replace(frames, reached)
        state.parameters, state.error = reached, found.error.cpu()
        state.rounds, state.descent = number, None
    save_when_due()


def shrink(sequence: Sequence, most: int) -> Sequence:
    """The sequence with pictures of at most `most` pixels along the longer side."""
    factor = most / max(sequence.width, sequence.height)
    if factor >= 1:
        return sequence
    size = [max(1, round(side * factor)) for side in (sequence.height, sequence.width)]
    scale = [size[1] / sequence.width, size[0] / sequence.height]

    def smaller(values: Tensor) -> Tensor:  # [T, C, H, W] uint8
        parts = (F.interpolate(part.float(), size=size, mode="area").round() for part in values.split(16))
        return torch.cat([part.to(torch.uint8) for part in parts])

    return replace(
        sequence,
        images=smaller(sequence.images.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).contiguous(),
        masks=smaller(sequence.masks[:, None])[:, 0],
        camera=sequence.camera.resized(size[1], size[0]),
        landmarks=None if sequence.landmarks is None else sequence.landmarks * sequence.landmarks.new_tensor(scale),
    )


def _likeness_config(steps: int) -> Config:
    """Hard binding, one Gaussian a face and seeds for hair and shoulders: quick to fit, and sharp enough."""
    cpu = preset("cpu")
    rate, final_rate = (POSITION_RATE * each for each in (cpu.training.lr_position, cpu.training.lr_position_final))
    return replace(
        cpu,
        network=NetworkConfig(enabled=False),
        pose=PoseConfig(refine=False),
        schedule=ScheduleConfig(order="shuffled"),
        density=DensityConfig(control="none"),
        training=replace(cpu.training, steps=steps, network_start=0.0, lr_position=rate, lr_position_final=final_rate),
    )


def _confidence(error: Tensor, usual: Tensor) -> Tensor:
    """How far frames are trusted [T] in [0, 1] that differ by `error` [T] where `usual` is what frames differ by."""
    excess = (error / usual.clamp_min(1e-6) - 1).clamp_min(0)
    return 1 / (1 + (excess / (DOUBTED - 1)).square())
