"""Named evaluation protocols: which frames are held out, and what else a result must be measured on to carry the name.

Figures of different protocols cannot be compared, so that a protocol either holds or is refused; where it holds but for
the size of the pictures, the result says so (`Protocol.deviations`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from stavatar.errors import InputError
from stavatar.sequence.sequence import Sequence
from stavatar.sequence.split import split_holdout

HISTORY = "protocol"
"""Under this key a sequence's history names the protocol that its split follows."""


@dataclass(frozen=True)
class Protocol:
    """What a name stands for.

    Attributes:
        name: on the command line and in results.
        definition: in words.
        last: how many frames at the end of the clip are held out; None where the user or the data set decides.
        size: edge of the square pictures in pixels; None where any will do.
        by_data: the data set itself says which of its recordings are held out.
    """

    name: str
    definition: str
    last: int | None = None
    size: int | None = None
    by_data: bool = False

    def split(self, sequence: Sequence, holdout: int | None = None) -> Sequence:
        """The sequence split as the protocol asks, with its name in the history.

        Args:
            sequence: with any split.
            holdout: for `custom`: hold out so many frames; None keeps the split that the sequence has, or holds out a
                fifth where it has none.

        Raises:
            InputError: the clip is too short, frames of it were skipped, or it lacks the split that it should bring.
        """
        self.require_no_holdout(holdout)
        if self.by_data and (len(sequence.test) == 0 or len(sequence.train) == 0):
            raise InputError(
                f"the protocol {self.name} needs a data set that says which of its recordings are held out, and "
                f"{sequence.name} does not"
            )
        if self.last is not None:
            if len(sequence) > 1 and int(sequence.frame_ids.diff().median()) > 1:
                raise InputError(
                    f"the protocol {self.name} counts every frame of a clip, and of {sequence.name} some were skipped: "
                    "track it again with --set capture.max_frames=null"
                )
            self.require_frames(sequence.name, len(sequence.train) + len(sequence.test))
            holdout = self.last
        if holdout is not None or len(sequence.test) == 0:
            sequence = split_holdout(sequence, holdout)
        return replace(sequence, history={**sequence.history, HISTORY: self.name})

    def require_no_holdout(self, holdout: int | None) -> None:
        """Refuse a number of frames to hold out besides a protocol that says what is held out.

        Raises:
            InputError: there is such a number.
        """
        if holdout is not None and self.name != CUSTOM.name:
            raise InputError(f"--holdout goes with --protocol {CUSTOM.name}: {self.name} itself says what is held out")

    def require_frames(self, clip: str, usable: int) -> None:
        """Refuse a clip that is too short.

        Raises:
            InputError: after holding out what the protocol asks for, no frame would be left to train on.
        """
        if self.last is not None and usable <= self.last:
            raise InputError(
                f"{clip} is too short for the protocol {self.name}, which holds out the last {self.last} frames: "
                f"it has {usable} usable ones, and some must be left to train on"
            )

    def deviations(self, sequence: Sequence) -> list[str]:
        """In what a result on this sequence differs from the protocol all the same."""
        if self.size is None or (sequence.width, sequence.height) == (self.size, self.size):
            return []
        return [
            f"pictures of {sequence.width} x {sequence.height} pixels instead of {self.size} x {self.size} "
            f"(--set capture.size={self.size})"
        ]


CUSTOM = Protocol(
    "custom", "the end of the clip is held out: a fifth of the usable frames, or as many as --holdout says"
)
PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        CUSTOM,
        Protocol(
            "stavatar",
            "the last 450 usable frames of each clip are held out, 512 x 512 pixels; the paper's table feeds LPIPS "
            "(AlexNet) with [0, 1]: compare its LPIPS with lpips_alex_01",
            last=450,
            size=512,
        ),
        Protocol(
            "splattingavatar",
            "the last 350 usable frames of each clip are held out, 512 x 512 pixels; LPIPS (AlexNet) on [-1, 1]: "
            "compare it with lpips_alex",
            last=350,
            size=512,
        ),
        Protocol(
            "nersemble-mono",
            "Monocular FLAME Avatar task of the NeRSemble benchmark: participants 393, 404, 461, 477, 486; trained on "
            "18 recordings from camera 222200037, 512 x 512 pixels without background; held out are the recordings "
            "EMO-1-shout+laugh, FREE, SEN-09-frown_events_bad and SEN-10-port_strong_smokey, from that camera and "
            "from 222200046, 220700191 and 222200039. Their pictures are not public, so that the benchmark's server "
            "computes the official figures from submitted videos",
            size=512,
            by_data=True,
        ),
    )
}
"""The protocols by name."""


def protocol(name: str) -> Protocol:
    """The protocol called `name`.

    Raises:
        InputError: there is none.
    """
    if name not in PROTOCOLS:
        raise InputError(f"there is no protocol {name!r}; choose one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def protocol_of(sequence: Sequence) -> Protocol:
    """The protocol that a sequence says its split follows, if it does; `custom` otherwise."""
    named = PROTOCOLS.get(sequence.history.get(HISTORY, ""), CUSTOM)
    try:
        claim(sequence, named)
    except InputError:
        return CUSTOM
    return named


def claim(sequence: Sequence, wanted: Protocol) -> Sequence:
    """The sequence under the name of a protocol that its split follows already.

    Raises:
        InputError: the split is not that of the protocol.
    """
    asked = wanted.split(sequence)
    if not (torch.equal(asked.train, sequence.train) and torch.equal(asked.test, sequence.test)):
        raise InputError(
            f"{sequence.name} was not split as the protocol {wanted.name} asks: the avatar has seen frames that it "
            "holds out, or too few of the others; train it again with --protocol"
        )
    return asked
