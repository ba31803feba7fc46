"""The numbers that pose a head, for T frames at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class HeadParameters:
    """Pose and expression of T frames; identity is kept apart, because it is one per subject.

    Rotations are axis-angle vectors in radians, translations are metres. The root turns everything about the root joint
    (base of the neck); the neck turns the head on the torso; ``translation`` is added last, to every vertex.

    Attributes:
        expression: [T, E] coefficients, in the head model's own expression space.
        rotation: [T, 3] of the root, that is of the torso.
        neck: [T, 3] of the head against the torso.
        jaw: [T, 3]; has no effect on heads that open the mouth by expression (``HeadModel.jaw_by_expression``).
        eyes: [T, 6] left eye, then right eye.
        translation: [T, 3].
        neck_translation: [T, 3] shift of the neck joint in the torso's frame. A spine bends along its length, which one
            ball joint cannot; this is what is left over. Not part of FLAME: zero wherever data come from elsewhere.
    """

    expression: Tensor
    rotation: Tensor
    neck: Tensor
    jaw: Tensor
    eyes: Tensor
    translation: Tensor
    neck_translation: Tensor

    @staticmethod
    def zeros(
        frames: int, expressions: int, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> HeadParameters:
        """The neutral pose, `frames` times."""
        widths = {"expression": expressions, "eyes": 6}
        return HeadParameters(
            **{
                field.name: torch.zeros(frames, widths.get(field.name, 3), device=device, dtype=dtype)
                for field in fields(HeadParameters)
            }
        )

    def __len__(self) -> int:
        return len(self.expression)

    def map(self, function: Callable[[Tensor], Tensor]) -> HeadParameters:
        """Apply `function` to every field."""
        return HeadParameters(**{name: function(value) for name, value in self.items()})

    def items(self) -> list[tuple[str, Tensor]]:
        """(name, tensor) of every field, in a fixed order."""
        return [(field.name, getattr(self, field.name)) for field in fields(self)]

    def __getitem__(self, index: slice | Tensor | list[int]) -> HeadParameters:
        """Pick frames; the batch dimension stays."""
        return self.map(lambda value: value[index])

    def to(self, device: torch.device | str) -> HeadParameters:
        return self.map(lambda value: value.to(device))

    def detach(self) -> HeadParameters:
        return self.map(Tensor.detach)

    def replaced(self, **changes: Tensor) -> HeadParameters:
        """A copy with some fields exchanged."""
        return replace(self, **changes)

    @staticmethod
    def concatenate(parts: list[HeadParameters]) -> HeadParameters:
        """Join along time."""
        return HeadParameters(
            **{name: torch.cat([getattr(part, name) for part in parts]) for name, _ in parts[0].items()}
        )
