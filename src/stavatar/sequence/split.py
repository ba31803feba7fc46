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
    `train` those before. With several cameras a moment counts once, and all its pictures go to the same side.

    Args:
        sequence: with any split.
        holdout: how many moments; None holds out a fifth, rounded, but at least one.

    Raises:
        InputError: the number leaves nothing to test on or to train on.
    """
    usable = torch.cat([sequence.train, sequence.test]).sort().values
    moment = usable if sequence.views is None else sequence.views.timesteps[usable]
    moments = moment.unique()
    if holdout is None:
        holdout = max(1, round(DEFAULT_SHARE * len(moments)))
    if holdout < 1:
        raise InputError(f"cannot hold out {holdout} frames: at least 1 is needed to measure the result")
    if holdout >= len(moments):
        raise InputError(
            f"cannot hold out {holdout} of the {len(moments)} usable frames of {sequence.name}: none is left to train "
            "on"
        )
    late = moment >= moments[-holdout]
    return replace(sequence, train=usable[~late], test=usable[late])
