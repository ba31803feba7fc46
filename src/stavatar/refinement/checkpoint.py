"""Where a refinement stands, kept in one file from time to time, so that a killed one goes on from there.

On a CPU it then computes the very numbers that it would have computed undisturbed: likeness and alignment follow from
what is kept, and nothing is drawn at random on the way.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from stavatar.alignment import Descent
from stavatar.config import TrackingConfig
from stavatar.head import HeadParameters
from stavatar.interruption import held_back
from stavatar.progress import remark
from stavatar.sequence import Sequence
from stavatar.training import checkpoint
from stavatar.training.trainer import Trainer

NAME = "refinement.safetensors"
_FORMAT = 2


@dataclass
class State:
    """Everything that a refinement has found so far.

    Attributes:
        likeness: being fitted.
        parameters: of all T frames, as the last finished round left them.
        error: [T] what their pictures differ by since; nothing before the first round has ended.
        rounds: that are finished.
        descent: of the alignment that runs; None while the likeness is fitted.
    """

    likeness: Trainer
    parameters: HeadParameters
    error: Tensor
    rounds: int = 0
    descent: Descent | None = None


@dataclass(frozen=True)
class Keep:
    """Where the state is kept.

    Attributes:
        folder: of the run.
        seconds: from one checkpoint to the next; 0 for one at every opportunity.
    """

    folder: Path
    seconds: float

    @property
    def path(self) -> Path:
        return self.folder / NAME

    def clear(self) -> None:
        """The stage is finished: nothing is to be gone on with."""
        self.path.unlink(missing_ok=True)


@contextmanager
def kept(state: State, keep: Keep | None, belongs_to: str) -> Iterator[Callable[[], None]]:
    """Take up what was kept of this refinement; keep it when it is interrupted.

    Args:
        state: just begun; set to what was kept, if there is anything.
        keep: where; None: nowhere, and nothing is taken up.
        belongs_to: as :func:`fingerprint` tells it; what belongs to another refinement is left alone.

    Yields:
        A function to call wherever the state is one to go on from: it writes it when it is time to.

    Raises:
        InputError: what was kept is damaged, or the state cannot be written.
    """
    if keep is None:
        yield lambda: None
        return
    _take_up(state, keep.path, belongs_to)
    saved = time.monotonic()

    def save_when_due() -> None:
        nonlocal saved
        if time.monotonic() - saved >= keep.seconds:
            _save(state, keep.path, belongs_to)
            saved = time.monotonic()

    try:
        yield save_when_due
    except KeyboardInterrupt:
        with held_back():
            _save(state, keep.path, belongs_to)
        raise


def fingerprint(sequence: Sequence, config: TrackingConfig, *more: Any) -> str:
    """A hash of everything that a refinement's result depends on: frames, their tracking, settings, and `more`."""
    facts = [sequence.head_model, asdict(config), *more]
    digest = hashlib.blake2b(json.dumps(facts).encode())
    tensors = [sequence.images, sequence.masks, sequence.shape, sequence.train]
    tensors += [value for _, value in sequence.parameters.items()]
    tensors += [value for value in vars(sequence.camera).values() if isinstance(value, Tensor)]
    if sequence.views is not None:
        tensors.append(sequence.views.timesteps)
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()


def _save(state: State, path: Path, belongs_to: str) -> None:
    fitted, header = checkpoint.state_of(state.likeness)
    tensors = {f"likeness.{name}": value for name, value in fitted.items()}
    tensors |= {f"parameters.{name}": value for name, value in state.parameters.items()}
    tensors["error"] = state.error
    if state.descent is not None:
        tensors |= {f"descent.{name}": value for name, value in state.descent.tensors().items()}
    own = {"format": _FORMAT, "belongs_to": belongs_to, "rounds": state.rounds, "likeness": header}
    checkpoint.write(path, tensors, own)


def _take_up(state: State, path: Path, belongs_to: str) -> None:
    if not path.exists():
        return
    tensors, header = checkpoint.read(path)
    if header.get("format") != _FORMAT or header.get("belongs_to") != belongs_to:
        remark(f"{path} is of other frames or settings, and not used")
        return

    def part(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

    with checkpoint.fitting(path):
        checkpoint.restore_state(state.likeness, part("likeness."), header["likeness"])
        device = state.likeness.device
        parameters = {name: value.to(device) for name, value in part("parameters.").items()}
        for name, value in state.parameters.items():
            if parameters[name].shape != value.shape:
                raise ValueError(f"{name} has shape {list(parameters[name].shape)}")
        state.parameters = replace(state.parameters, **parameters)
        state.error, state.rounds = tensors["error"], int(header["rounds"])
        if state.error.shape != (len(state.parameters) if state.rounds else 0,):
            raise ValueError(f"error has shape {list(state.error.shape)}")
        descent = part("descent.")
        state.descent = Descent.of_tensors(descent, device) if descent else None
    remark("photometric tracking goes on where it was interrupted")
