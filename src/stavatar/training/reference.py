"""Choosing the reference frame: what the encoder sees, where UV_pos is taken, and where colours start."""

from __future__ import annotations

import torch
from torch import Tensor

from stavatar.sequence import Sequence

_CANDIDATES = 64


def best_reference(sequence: Sequence) -> int:
    """The most frontal, relaxed and sharp of the training frames.

    The first frame, which the paper takes, may be a blink or a profile. Scores are in units of each measure's spread
    over the clip, so that none needs a weight.
    """
    candidates = sequence.train[torch.linspace(0, len(sequence.train) - 1, _CANDIDATES).round().long().unique()]
    parameters = sequence.parameters[candidates]
    turned = (parameters.rotation + parameters.neck).norm(dim=1)
    tense = (parameters.expression - parameters.expression.median(0).values).abs().sum(1)
    blurred = -_sharpness(sequence, candidates)
    score = _standard(turned) + _standard(tense) + _standard(blurred)
    return int(candidates[score.argmin()])


def _sharpness(sequence: Sequence, frames: Tensor) -> Tensor:
    """Mean absolute Laplacian of the person's pixels, per frame."""
    grey = sequence.image(frames).mean(-1)
    laplacian = (
        4 * grey[:, 1:-1, 1:-1] - grey[:, :-2, 1:-1] - grey[:, 2:, 1:-1] - grey[:, 1:-1, :-2] - grey[:, 1:-1, 2:]
    )
    inside = (sequence.masks[frames] > 250)[:, 1:-1, 1:-1]
    return (laplacian.abs() * inside).sum((1, 2)) / inside.sum((1, 2)).clamp_min(1)


def _standard(values: Tensor) -> Tensor:
    return (values - values.mean()) / values.std(correction=0).clamp_min(1e-6)
