"""Named protocols: what they hold out, when they refuse, and what they call themselves."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from stavatar.camera import Camera
from stavatar.errors import InputError
from stavatar.head.parameters import HeadParameters
from stavatar.sequence import Sequence, protocols
from stavatar.sequence.protocols import CUSTOM, PROTOCOLS, claim, protocol_of


def clip(frames: int, *, size: int = 2, step: int = 1, unusable: tuple[int, ...] = (), test: int = 0) -> Sequence:
    usable = torch.tensor([i for i in range(frames) if i not in unusable], dtype=torch.int64)
    return Sequence(
        name="someone",
        head_model="embedded-1",
        shape=torch.zeros(1),
        parameters=HeadParameters.zeros(frames, 1),
        camera=Camera.frontal(1, 10, size, size),
        images=torch.zeros(1, 1, 1, 3, dtype=torch.uint8).expand(frames, size, size, 3),
        masks=torch.zeros(1, 1, 1, dtype=torch.uint8).expand(frames, size, size),
        frame_ids=step * torch.arange(frames),
        train=usable[: len(usable) - test],
        test=usable[len(usable) - test :],
        fps=25,
    )


@pytest.mark.parametrize(("name", "last"), [("stavatar", 450), ("splattingavatar", 350)])
def test_the_last_usable_frames_are_held_out(name: str, last: int) -> None:
    split = PROTOCOLS[name].split(clip(500, unusable=(3, 499)))
    assert len(split.test) == last and len(split.train) == 498 - last
    assert split.train[-1] < split.test[0] and split.test[-1] == 498
    assert split.history["protocol"] == name
    assert protocol_of(split).name == name


def test_a_clip_that_is_too_short_is_refused_with_its_length() -> None:
    with pytest.raises(InputError, match=r"someone is too short .* last 450 .* has 450 usable"):
        PROTOCOLS["stavatar"].split(clip(451, unusable=(0,)))
    assert len(PROTOCOLS["stavatar"].split(clip(451)).train) == 1


def test_a_protocol_that_counts_frames_wants_all_of_them() -> None:
    with pytest.raises(InputError, match="some were skipped"):
        PROTOCOLS["splattingavatar"].split(clip(500, step=2))
    assert len(CUSTOM.split(clip(500, step=2)).test) == 100


def test_custom_keeps_what_is_there_or_does_as_told() -> None:
    assert len(CUSTOM.split(clip(50)).test) == 10, "a fifth where nothing is held out"
    assert len(CUSTOM.split(clip(50, test=4)).test) == 4
    assert len(CUSTOM.split(clip(50, test=4), holdout=7).test) == 7
    with pytest.raises(InputError, match="--holdout goes with --protocol custom"):
        PROTOCOLS["stavatar"].split(clip(500), holdout=7)


def test_nersemble_takes_the_split_of_the_data() -> None:
    given = clip(30, test=5, size=512)
    split = PROTOCOLS["nersemble-mono"].split(given)
    assert torch.equal(split.test, given.test) and protocol_of(split).name == "nersemble-mono"
    assert PROTOCOLS["nersemble-mono"].deviations(split) == []
    with pytest.raises(InputError, match="says which of its recordings"):
        PROTOCOLS["nersemble-mono"].split(clip(30))


def test_another_size_is_a_deviation() -> None:
    (deviation,) = PROTOCOLS["stavatar"].deviations(clip(3, size=256))
    assert "256 x 256 pixels instead of 512 x 512" in deviation
    assert CUSTOM.deviations(clip(3, size=256)) == []


def test_a_name_that_the_split_does_not_bear_out_is_not_believed() -> None:
    """History comes from files, which people edit."""
    split = PROTOCOLS["stavatar"].split(clip(500))
    moved = dataclasses.replace(split, train=split.train[:-1], test=torch.cat([split.train[-1:], split.test]))
    assert protocol_of(moved) is CUSTOM
    assert protocol_of(dataclasses.replace(moved, history={"protocol": "best ever"})) is CUSTOM
    assert protocol_of(clip(3)) is CUSTOM


def test_a_split_may_claim_the_protocol_that_it_follows() -> None:
    assert claim(CUSTOM.split(clip(500), holdout=350), PROTOCOLS["splattingavatar"]).history["protocol"] == (
        "splattingavatar"
    )
    with pytest.raises(InputError, match="was not split as the protocol stavatar asks"):
        claim(CUSTOM.split(clip(500), holdout=350), PROTOCOLS["stavatar"])


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match="'mine'; choose one of custom, stavatar, splattingavatar, nersemble-mono"):
        protocols.protocol("mine")
