"""Holding out the end of a sequence."""

from __future__ import annotations

import pytest
import torch

from stavatar.camera import Camera
from stavatar.errors import InputError
from stavatar.head.parameters import HeadParameters
from stavatar.sequence import Sequence, split_holdout


def sequence_of(frames: int, unusable: tuple[int, ...] = ()) -> Sequence:
    usable = torch.tensor([i for i in range(frames) if i not in unusable], dtype=torch.int64)
    return Sequence(
        name="someone",
        head_model="embedded-1",
        shape=torch.zeros(1),
        parameters=HeadParameters.zeros(frames, 1),
        camera=Camera.frontal(1, 10, 2, 2),
        images=torch.zeros(frames, 2, 2, 3, dtype=torch.uint8),
        masks=torch.zeros(frames, 2, 2, dtype=torch.uint8),
        frame_ids=torch.arange(frames),
        train=usable,
        test=usable[:0],
        fps=25,
    )


def test_a_fifth_from_the_end_by_default() -> None:
    split = split_holdout(sequence_of(10))
    assert split.train.tolist() == list(range(8)) and split.test.tolist() == [8, 9]
    assert split.train.dtype == split.test.dtype == torch.int64


def test_the_share_is_rounded_and_never_empty() -> None:
    assert len(split_holdout(sequence_of(714)).test) == 143
    assert split_holdout(sequence_of(2)).test.tolist() == [1]


def test_unusable_frames_are_in_neither() -> None:
    split = split_holdout(sequence_of(10, unusable=(0, 4, 8)), 2)
    assert split.train.tolist() == [1, 2, 3, 5, 6] and split.test.tolist() == [7, 9]


def test_splitting_again_starts_afresh() -> None:
    once = split_holdout(sequence_of(10, unusable=(3,)), 5)
    again = split_holdout(once, 1)
    assert again.test.tolist() == [9] and again.train.tolist() == [0, 1, 2, 4, 5, 6, 7, 8]


@pytest.mark.parametrize("holdout", [0, -3])
def test_fewer_than_one_frame(holdout: int) -> None:
    with pytest.raises(InputError, match="at least 1"):
        split_holdout(sequence_of(10), holdout)


@pytest.mark.parametrize("holdout", [9, 10, 1000])
def test_nothing_left_to_train_on(holdout: int) -> None:
    with pytest.raises(InputError, match="of the 9 usable frames"):
        split_holdout(sequence_of(10, unusable=(2,)), holdout)


def test_an_empty_sequence() -> None:
    with pytest.raises(InputError, match="0 usable frames"):
        split_holdout(sequence_of(3, unusable=(0, 1, 2)))
