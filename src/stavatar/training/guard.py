"""Keeping what is no number out of what is learned."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stavatar.errors import TrainingError
from stavatar.training.plan import Plan


class Guard:
    """Notes the first step in which a loss or a gradient is no number; from then on nothing is to be learned.

    Steps need not wait for the device: :attr:`tripped` stays there, where Adam's fused kernels read it and leave the
    parameters and their moments as they are. :meth:`check` then says what happened, in which step and frames.

    Args:
        device: where training happens.

    Attributes:
        tripped: 1 once something was no number, else 0; the optimisers' ``found_inf``.
    """

    def __init__(self, device: torch.device) -> None:
        self.tripped = torch.zeros((), device=device)
        self._step = torch.zeros((), device=device, dtype=torch.int64)
        self._names: tuple[str, ...] = ()
        self._values = torch.zeros(0, device=device)

    @torch.no_grad()
    def look(self, step: int, losses: dict[str, Tensor], gradients: dict[str, Tensor]) -> None:
        """Look at the parts of a step's loss and at the gradients by what they belong to, before anything moves."""
        names = (*(f"the {name} loss" for name in losses), *(f"the gradient of {name}" for name in gradients))
        largest = torch._foreach_norm(list(gradients.values()), math.inf)  # all in one kernel; NaN stays NaN
        values = torch.stack([*losses.values(), *largest])
        if names != self._names:  # another part takes part from now on
            if bool(self.tripped):
                return
            self._names, self._values = names, torch.zeros_like(values)
        first = ~values.isfinite().all() & (self.tripped == 0)
        self._values = torch.where(first, values, self._values)
        self._step = torch.where(first, step, self._step)
        self.tripped.copy_(torch.where(first, 1.0, self.tripped))

    def check(self, plan: Plan) -> None:
        """Stop where something was no number; this waits for the device.

        Raises:
            TrainingError: what it was, in which step, and which frames the step saw.
        """
        if not bool(self.tripped):
            return
        step = int(self._step)
        found = dict(zip(self._names, self._values.tolist(), strict=True))
        name, value = next(((name, value) for name, value in found.items() if not math.isfinite(value)))
        raise TrainingError(
            f"{name} is {value} at step {step} (frames {plan.batches[step].tolist()}); "
            "the last checkpoint is intact: lower the learning rates and resume"
        )
