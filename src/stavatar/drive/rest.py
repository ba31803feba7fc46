"""What a face looks like when it does nothing: the zero that both sides of retargeting are measured from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stavatar.errors import InputError

BLINKS = ("eyeBlinkLeft", "eyeBlinkRight")

_RELAXED = 0.2  # share of the frames, those with the least expression, that rest is taken from
_SHUT_ABOVE_OPEN = 0.3  # a clip whose lids never move by this much holds no blink
_SHUT = 0.98  # quantile of a clip with blinks that shows shut eyes


@dataclass(frozen=True)
class Rest:
    """A face at rest.

    Attributes:
        expression: [E].
        jaw: [3] axis-angle.
        eyes: [6] axis-angle; the usual gaze of the whole clip.
        shut: [E] the coefficients with shut eyes; 1 where the clip holds no blink. Only blinks are read.
    """

    expression: Tensor
    jaw: Tensor
    eyes: Tensor
    shut: Tensor

    @staticmethod
    def of(
        expression: Tensor, jaw: Tensor, eyes: Tensor, names: tuple[str, ...] | list[str], frame: int | None = None
    ) -> Rest:
        """Find rest in a clip: the median of its most relaxed frames, or the frame that somebody chose.

        Args:
            expression, jaw, eyes: [T, E], [T, 3] and [T, 6].
            names: of the expressions; lids and lids' following of gaze say nothing about rest and are not counted.
            frame: the chosen one.

        Raises:
            InputError: there is no such frame.
        """
        count = len(expression)
        if frame is None:
            counted = [index for index, name in enumerate(names) if not name.startswith(("eyeBlink", "eyeLook"))]
            effort = torch.cat([expression[:, counted], jaw], 1).norm(dim=1)
            relaxed = effort.argsort()[: max(1, round(_RELAXED * count))]
        elif 0 <= frame < count:
            relaxed = torch.tensor([frame])
        else:
            raise InputError(f"there is no frame {frame} to take for the neutral face: the motion has {count}")
        still = expression[relaxed].median(0).values
        shut = expression.quantile(_SHUT, dim=0)
        shut = torch.where(shut > still + _SHUT_ABOVE_OPEN, shut, torch.ones_like(shut))
        return Rest(still, jaw[relaxed].median(0).values, eyes.median(0).values, shut)
