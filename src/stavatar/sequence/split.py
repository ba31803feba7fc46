"""Which frames are trained on and which are held out."""

from __future__ import annotations

from dataclasses import replace

import torch

from stavatar.errors import InputError
from stavatar.sequence.sequence import Sequence

DEFAULT_SHARE = 0.2


def split_holdout(sequence: Sequence, holdout: int | None = None) -> Sequence:
    """Hold out the end of a sequence, as the field does: nothing that training saw lies behind the held-out frames.

    Only usable frames count, those in either of the present splits: `test` becomes the last `holdout` of them and
    `train` those before.

    Args:
        sequence: with any split.
        holdout: how many frames; None holds out a fifth, rounded, but at least one.

    Raises:
        InputError: the number leaves nothing to test on or to train on.
    """
    usable = torch.cat([sequence.train, sequence.test]).sort().values
    if holdout is None:
        holdout = max(1, round(DEFAULT_SHARE * len(usable)))
    if holdout < 1:
        raise InputError(f"cannot hold out {holdout} frames: at least 1 is needed to measure the result")
    if holdout >= len(usable):
        raise InputError(
            f"cannot hold out {holdout} of the {len(usable)} usable frames of {sequence.name}: none is left to train on"
        )
    return replace(sequence, train=usable[:-holdout], test=usable[-holdout:])
