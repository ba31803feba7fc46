"""A trainer's whole state in one file, written atomically.

Tensors are kept by name in safetensors (no pickle), numbers in its header as JSON. Reading it back continues training
with the very numbers it would have used: the order of frames follows from the plan, and what density control draws from
the step, so no random state is needed.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

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
_FORMAT = 2


def save(trainer: Trainer, folder: Path) -> None:
    """Write `folder`/checkpoint.safetensors.

    Of several processes that train together all call this, and the first one writes what all of them know: the file
    does not tell how many they were, and any number can go on from it.

    Raises:
        InputError: it cannot be written; the one before stays.
        TrainingError: something in the state is no number; the one before stays.
    """
    trainer.require_numbers()
    statistics = dict(trainer.density.state())
    for name, how in trainer.density.reductions.items():
        statistics[name] = trainer.ranks.reduce(statistics[name], how)
    if not trainer.ranks.first:
        return
    tensors = {f"avatar.{name}": value for name, value in tensors_of_avatar(trainer.avatar).items()}
    tensors |= {f"poses.{name}": value for name, value in trainer.poses.state_dict().items()}
    tensors |= _optimiser_tensors("gaussians", trainer.gaussian_optimiser, trainer.avatar.gaussians)
    if trainer.network_optimiser is not None and trainer.avatar.network is not None:
        tensors |= _optimiser_tensors("network", trainer.network_optimiser, trainer.avatar.network)
    tensors |= {f"density.{name}": value for name, value in statistics.items()}
    tensors["assignment"] = trainer.clusters.assignment
    header = {
        "format": _FORMAT,
        "step": trainer.step,
        "steps": trainer.steps,
        "passes_done": trainer.passes_done,
        "seconds": trainer.seconds,
        "curve": trainer.curve.state(),
        "events": [dataclasses.asdict(event) for event in trainer.events],
    }
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    broken = not_numbers(tensors)
    if broken:
        raise TrainingError(
            f"{broken} holds values that are no numbers after step {trainer.step}; the last checkpoint is intact: "
            "lower the learning rates and resume"
        )
    write_bytes(folder / NAME, to_safetensors(tensors, {"stavatar": json.dumps(header)}))


def restore(trainer: Trainer, folder: Path) -> bool:
    """Bring a trainer to the state of `folder`'s checkpoint; False where there is none.

    Raises:
        InputError: the file is damaged, or belongs to another sequence or configuration.
    """
    path = folder / NAME
    if not path.exists():
        return False
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("stavatar", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RuntimeError, RecursionError) as error:
        raise InputError(f"{path} is not a readable checkpoint ({reason(error)}); delete it to start over") from error
    if not isinstance(header, dict) or header.get("format") != _FORMAT or header.get("steps") != trainer.steps:
        raise InputError(f"{path} belongs to another run (other frames or settings); delete it to start over")
    try:
        _restore(trainer, tensors)
        trainer.curve.restore(header["curve"])
        trainer.events = [DensityEvent(**event) for event in header["events"]]
        trainer.step, trainer.passes_done = int(header["step"]), int(header["passes_done"])
        trainer.seconds = float(header["seconds"])
    except (LookupError, RuntimeError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(f"{path} does not fit this run ({reason(error)}); delete it to start over") from error
    return True


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
