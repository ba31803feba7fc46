"""A trainer's whole state in one file, written atomically.

Tensors are kept by name in safetensors (no pickle), numbers in its header as JSON. Reading it back continues training
with the very numbers it would have used: the order of frames follows from the plan, and what density control draws from
the step, so no random state is needed.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from stavatar.avatar.storage import gaussians_from_tensors, load_tensors, not_numbers, tensors_of_avatar
from stavatar.density import DensityEvent
from stavatar.errors import InputError, TrainingError, reason
from stavatar.files import write_bytes

if TYPE_CHECKING:
    from stavatar.training.trainer import Trainer

NAME = "checkpoint.safetensors"
_FORMAT = 3


def save(trainer: Trainer, folder: Path) -> None:
    """Write `folder`/checkpoint.safetensors.

    Of several processes that train together all call this, and the first one writes what all of them know: the file
    does not tell how many they were, and any number can go on from it.

    Raises:
        InputError: it cannot be written; the one before stays.
        TrainingError: something in the state is no number; the one before stays.
    """
    found = state_of(trainer)
    if trainer.ranks.first:
        write(folder / NAME, *found)


def restore(trainer: Trainer, folder: Path) -> bool:
    """Bring a trainer to the state of `folder`'s checkpoint; False where there is none.

    Raises:
        InputError: the file is damaged, or belongs to another sequence or configuration.
    """
    path = folder / NAME
    if not path.exists():
        return False
    tensors, header = read(path)
    if header.get("format") != _FORMAT or header.get("steps") != trainer.steps:
        raise InputError(f"{path} belongs to another run (other frames or settings); delete it to start over")
    with fitting(path):
        restore_state(trainer, tensors, header)
    return True


def state_of(trainer: Trainer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A trainer's whole state: tensors by name, and what JSON can hold.

    Raises:
        TrainingError: something in it is no number.
    """
    trainer.require_numbers()
    statistics = dict(trainer.density.state())
    for name, how in trainer.density.reductions.items():
        statistics[name] = trainer.ranks.reduce(statistics[name], how)
    tensors = {f"avatar.{name}": value for name, value in tensors_of_avatar(trainer.avatar).items()}
    tensors |= {f"poses.{name}": value for name, value in trainer.poses.state_dict().items()}
    tensors |= _optimiser_tensors("gaussians", trainer.gaussian_optimiser, trainer.avatar.gaussians)
    if trainer.network_optimiser is not None and trainer.avatar.network is not None:
        tensors |= _optimiser_tensors("network", trainer.network_optimiser, trainer.avatar.network)
    tensors |= {f"density.{name}": value for name, value in statistics.items()}
    tensors["assignment"] = trainer.clusters.assignment
    broken = not_numbers(tensors)
    if broken:
        raise TrainingError(
            f"{broken} holds values that are no numbers after step {trainer.step}; the last checkpoint is intact: "
            "lower the learning rates and resume"
        )
    return tensors, {
        "format": _FORMAT,
        "step": trainer.step,
        "steps": trainer.steps,
        "passes_done": trainer.passes_done,
        "seconds": trainer.seconds,
        "curve": trainer.curve.state(),
        "events": [dataclasses.asdict(event) for event in trainer.events],
    }


def restore_state(trainer: Trainer, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    """Bring a trainer to a state that :func:`state_of` gave; call it within :func:`fitting`."""
    _restore(trainer, tensors)
    trainer.curve.restore(header["curve"])
    trainer.events = [DensityEvent(**event) for event in header["events"]]
    trainer.step, trainer.passes_done = int(header["step"]), int(header["passes_done"])
    trainer.seconds = float(header["seconds"])


def write(path: Path, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    """Keep tensors and what JSON can hold in one file, atomically."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_bytes(path, to_safetensors(tensors, {"stavatar": json.dumps(header)}))


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What :func:`write` has kept.

    Raises:
        InputError: the file is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("stavatar", "{}"))
            # Copies, as the file may be replaced while they are in use, and theirs is its memory.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RuntimeError, RecursionError) as error:
        raise InputError(f"{path} is not a readable checkpoint ({reason(error)}); delete it to start over") from error
    return tensors, header if isinstance(header, dict) else {}


@contextmanager
def fitting(path: Path) -> Iterator[None]:
    """What goes wrong in this block is that the content of `path` does not fit.

    Raises:
        InputError: it did.
    """
    try:
        yield
    except (LookupError, RuntimeError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(f"{path} does not fit this run ({reason(error)}); delete it to start over") from error


def _restore(trainer: Trainer, tensors: dict[str, Tensor]) -> None:
    def part(prefix: str) -> dict[str, Tensor]:
        start = f"{prefix}."
        return {name[len(start) :]: value for name, value in tensors.items() if name.startswith(start)}

    avatar = part("avatar")
    trainer.avatar.gaussians = gaussians_from_tensors(avatar).to(trainer.device)
    load_tensors(trainer.avatar, avatar)
    trainer.poses.load_state_dict(part("poses"))
    trainer.gaussian_optimiser, trainer.network_optimiser = trainer._optimisers()
    _restore_optimiser(part("gaussians"), trainer.gaussian_optimiser, trainer.avatar.gaussians)
    if trainer.network_optimiser is not None and trainer.avatar.network is not None:
        _restore_optimiser(part("network"), trainer.network_optimiser, trainer.avatar.network)
    trainer.density.restore(part("density"))
    trainer.forget_recordings()
    if not trainer.ranks.first:  # which has seen it all
        state = trainer.density.state()
        for name in trainer.density.reductions:
            state[name].zero_()
    if not torch.equal(tensors["assignment"], trainer.clusters.assignment):
        raise ValueError("its frames were clustered differently")


def _optimiser_tensors(prefix: str, optimiser: torch.optim.Optimizer, module: nn.Module) -> dict[str, Tensor]:
    return {
        f"{prefix}.{name}.{key}": torch.as_tensor(value)
        for name, parameter in module.named_parameters()
        for key, value in optimiser.state.get(parameter, {}).items()
    }


def _restore_optimiser(tensors: dict[str, Tensor], optimiser: torch.optim.Optimizer, module: nn.Module) -> None:
    parameters = dict(module.named_parameters())
    for full, value in tensors.items():
        name, _, key = full.rpartition(".")
        parameter = parameters[name]
        if key != "step" and value.shape != parameter.shape:
            raise ValueError(f"{full} has shape {list(value.shape)}")
        # Adam keeps its moments where the parameter is and as it is laid out; a fused one its step count there too.
        moment = value if key == "step" else torch.empty_like(parameter).copy_(value)
        optimiser.state[parameter][key] = moment.to(parameter.device)
