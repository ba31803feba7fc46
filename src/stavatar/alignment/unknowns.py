"""Which numbers of a frame are adjusted, how far each may be expected to move, and within which bounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from stavatar.head import HeadModel, HeadParameters

POSE = {"rotation": 0.01, "translation": 0.002, "neck": 0.01, "neck_translation": 0.002}
"""Radians and metres that landmark poses are off by, about; what an unknown counts in."""

EXPRESSION, UNNAMED_EXPRESSION = 0.1, 0.3
"""Likewise for coefficients of ARKit's expressions, in [0, 1], and for those in standard deviations (FLAME)."""

JAW, EYES = 0.02, 0.03
"""Likewise, radians."""

MOST_EXPRESSIONS = 60
"""Expressions beyond these are left alone: FLAME's later ones hardly move a face."""

NAMED_BOUNDS = (-0.15, 1.2)
UNNAMED_BOUNDS = (-3.0, 3.0)


@dataclass(frozen=True)
class Unknowns:
    """P numbers of every frame, counted in units of how far they are expected to move.

    Attributes:
        columns: field of HeadParameters -> [p] long, the columns that are adjusted; in the order of the unknowns.
        unit: [P] radians, metres or coefficients in one unit.
        bounds: of the expression coefficients; a coefficient that starts outside stays where it is.
    """

    columns: dict[str, Tensor]
    unit: Tensor
    bounds: tuple[float, float]

    @staticmethod
    def of(head: HeadModel, *, face: bool, torso: bool = True) -> Unknowns:
        """What is adjusted on `head`.

        Args:
            face: expression, jaw and gaze besides the poses of head and torso.
            torso: the torso has a pose of its own; without, head and torso move as one.
        """
        named = head.jaw_by_expression
        units = {name: size for name, size in POSE.items() if torso or not name.startswith("neck")}
        if face:
            units["expression"] = EXPRESSION if named else UNNAMED_EXPRESSION
            units["eyes"] = EYES
            if not named:
                units["jaw"] = JAW
        widths = {"expression": min(head.expression_count, MOST_EXPRESSIONS), "eyes": 6}
        columns = {name: torch.arange(widths.get(name, 3), device=head.template.device) for name in units}
        unit = torch.cat([torch.full((len(columns[name]),), size) for name, size in units.items()])
        return Unknowns(columns, unit.to(head.template.device), NAMED_BOUNDS if named else UNNAMED_BOUNDS)

    @property
    def pose_count(self) -> int:
        """How many of the unknowns, the first ones, place head and torso; the others move the face alone."""
        return sum(len(columns) for name, columns in self.columns.items() if name in POSE)

    def __len__(self) -> int:
        return len(self.unit)

    def columns_of(self, wanted: Callable[[str], bool]) -> Tensor:
        """Which of the P unknowns belong to fields that are wanted: [p] long."""
        names = [name for name, columns in self.columns.items() for _ in columns]
        chosen = [k for k, name in enumerate(names) if wanted(name)]
        return torch.tensor(chosen, dtype=torch.int64, device=self.unit.device)

    def apply(self, start: HeadParameters, correction: Tensor) -> HeadParameters:
        """The parameters of B frames, or of one, with corrections [B, P] added."""
        count = len(correction)
        changed = {}
        parts = (correction * self.unit).split([len(columns) for columns in self.columns.values()], 1)
        for (name, columns), part in zip(self.columns.items(), parts, strict=True):
            value = getattr(start, name).expand(count, -1)
            moved = value.index_add(1, columns, part)
            if name == "expression":
                low, high = self.bounds
                moved = moved.maximum(value.clamp_max(low)).minimum(value.clamp_min(high))
            changed[name] = moved
        return start.map(lambda value: value.expand(count, -1)).replaced(**changed)

    def between(self, before: HeadParameters, after: HeadParameters) -> Tensor:
        """The corrections [B, P] that lead from one set of B frames to another."""
        parts = [(getattr(after, name) - getattr(before, name))[:, columns] for name, columns in self.columns.items()]
        return torch.cat(parts, 1) / self.unit
