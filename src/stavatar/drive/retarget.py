"""Carrying a performance over to an avatar.

What is carried over is the difference to the driver's own rest, added to the avatar's rest; so a driver who always
frowns a little does not make the avatar frown. Torso and camera stay the avatar's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stavatar.avatar.storage import Motion
from stavatar.drive.driver import Driver
from stavatar.drive.reach import Reach
from stavatar.drive.rest import BLINKS, Rest
from stavatar.errors import InputError
from stavatar.head import HeadModel, HeadParameters
from stavatar.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from stavatar.tracking.smoothing import smooth_path

GAZE_LIMIT = 0.6
"""Radians that each component of an eye's rotation may reach."""


@dataclass(frozen=True)
class Retargeting:
    """How a performance is carried over.

    Attributes:
        strength: factor on expression, jaw and head turns; blinks and gaze keep theirs.
        smoothing: seconds, standard deviation of a symmetric Gaussian, which adds no delay; blinks stay sharp.
        limit: how far to go beyond what the avatar was trained on: 1 is the end of that range on each principal axis,
            infinity sets no limit.
        head_motion: take the driver's head turns along, relative to their mean.
    """

    strength: float = 1.0
    smoothing: float = 0.0
    limit: float = 1.25
    head_motion: bool = False


class Retargeter:
    """Carries performances over to one avatar.

    Args:
        motion: the avatar's recorded motion: says what its rest is and what it was trained on.
        head: its head model.
        options: how to carry over.
    """

    def __init__(self, motion: Motion, head: HeadModel, options: Retargeting | None = None) -> None:
        self.head = head
        self.options = options or Retargeting()
        seen = motion.parameters[motion.train if len(motion.train) else slice(None)].to("cpu")
        self.rest = Rest.of(seen.expression, seen.jaw, seen.eyes, head.expression_names)
        self._seen_expression = seen.expression.amin(0), seen.expression.amax(0)
        self._blinks = [head.expression_names.index(name) for name in BLINKS if name in head.expression_names]
        without_blinks = seen.expression.clone()
        without_blinks[:, self._blinks] = self.rest.expression[self._blinks]
        self._expression_reach = Reach(without_blinks, self.rest.expression)
        self._jaw_reach = Reach(seen.jaw, self.rest.jaw)
        self._pose = seen.map(lambda value: value.mean(0, keepdim=True))
        self._neck_reach = Reach(seen.neck, self._pose.neck[0])

    def require(self, name: str, head_model: str | None, expression_names: tuple[str, ...]) -> None:
        """Refuse a driver, told by its attributes, whose coefficients mean something else than the avatar's.

        Raises:
            InputError: no map leads from the one to the other.
        """
        if head_model == self.head.name or _named_as_arkit(expression_names, self.head.expression_names):
            return
        what = "ARKit coefficients" if head_model is None else f"expressions of head model {head_model}"
        raise InputError(
            f"{name} holds {what}, and the avatar has head model {self.head.name}: there is no map between the two; "
            f"drive it by a sequence or avatar of head model {self.head.name}"
        )

    def follow(self, driver: Driver, *, neutral_frame: int | None = None) -> HeadParameters:
        """The avatar's parameters for a whole performance, T frames on the CPU.

        Args:
            driver: the performance.
            neutral_frame: its frame without expression; found where None.

        Raises:
            InputError: the driver does not fit the avatar, has no such frame, or shows no head motion where that is
                asked for.
        """
        self.require(driver.name, driver.head_model, driver.expression_names)
        if self.options.head_motion and driver.head is None:
            raise InputError(
                f"{driver.name} says nothing about the head's motion that could be relied on: leave out --head-motion"
            )
        rest = Rest.of(driver.expression, driver.jaw, driver.eyes, driver.expression_names, neutral_frame)
        expression = self.expression(driver, rest)
        jaw = self._jaw_reach.keep(self.rest.jaw + self.options.strength * (driver.jaw - rest.jaw), self.options.limit)
        eyes = self.gaze(driver, rest)
        neck = self._pose.neck.expand(len(driver), 3)
        if self.options.head_motion and driver.head is not None:
            neck = self.neck(driver.head, mean_rotation(driver.head))
        smooth = torch.cat([expression, jaw, eyes, neck], 1)
        if self.options.smoothing > 0 and len(driver) > 1:
            smooth = smooth_path(smooth, torch.ones(len(driver)), self.options.smoothing * driver.fps)
            smooth[:, self._blinks] = expression[:, self._blinks]
        expression, jaw, eyes, neck = smooth.split([expression.shape[1], 3, 6, 3], 1)
        return self.posed(expression, jaw, eyes, neck)

    def expression(self, driver: Driver, rest: Rest) -> Tensor:
        """The avatar's expression coefficients [T, E'], limited."""
        moved = self._own(driver.expression - rest.expression, driver.expression_names)
        expression = self._expression_reach.keep(
            self.rest.expression + self.options.strength * moved, self.options.limit
        )
        low, high = self._seen_expression
        if _named_as_arkit(self.head.expression_names):
            low, high = low.clamp_max(0), high.clamp_min(1)
            expression = expression.clamp(low, high)
        for blink in self._blinks:
            name = self.head.expression_names[blink]
            index = driver.expression_names.index(name)
            opening = (rest.shut[index] - rest.expression[index]).clamp_min(1e-3)
            share = (driver.expression[:, index] - rest.expression[index]) / opening
            open_, shut = self.rest.expression[blink], self.rest.shut[blink]
            expression[:, blink] = open_ + share.clamp(-0.5, 1) * (shut - open_)
        return expression

    def gaze(self, driver: Driver, rest: Rest) -> Tensor:
        """The avatar's eye rotations [T, 6]."""
        return (self.rest.eyes + driver.eyes - rest.eyes).clamp(-GAZE_LIMIT, GAZE_LIMIT)

    def neck(self, head: Tensor, mean: Tensor) -> Tensor:
        """The avatar's neck rotations [T, 3] for head rotations [T, 3, 3] that usually are `mean` [3, 3]."""
        turn = self.options.strength * matrix_to_axis_angle(mean.T @ head)
        usual = axis_angle_to_matrix(self._pose.neck)
        return self._neck_reach.keep(matrix_to_axis_angle(usual @ axis_angle_to_matrix(turn)), self.options.limit)

    def posed(self, expression: Tensor, jaw: Tensor, eyes: Tensor, neck: Tensor) -> HeadParameters:
        """Full parameters of T frames: the given ones on the avatar's own torso."""
        still = self._pose.map(lambda value: value.expand(len(expression), -1))
        return still.replaced(expression=expression, jaw=jaw, eyes=eyes, neck=neck)

    @property
    def usual_neck(self) -> Tensor:
        """[1, 3] how the avatar holds its head on average."""
        return self._pose.neck

    def _own(self, values: Tensor, names: tuple[str, ...]) -> Tensor:
        """Coefficients [T, E] by the driver's names in the order of the avatar's, zero where the driver has none."""
        if tuple(self.head.expression_names) == names:
            return values
        own = values.new_zeros(len(values), len(self.head.expression_names))
        for index, name in enumerate(self.head.expression_names):
            if name in names:
                own[:, index] = values[:, names.index(name)]
        return own


def mean_rotation(rotations: Tensor) -> Tensor:
    """The rotation [3, 3] nearest to the mean of some [T, 3, 3] (chordal mean)."""
    left, _, right = torch.linalg.svd(rotations.mean(0))
    sign = torch.linalg.det(left @ right).sign()
    return left @ torch.diag(torch.stack([torch.ones_like(sign), torch.ones_like(sign), sign])) @ right


def _named_as_arkit(*lists: tuple[str, ...] | list[str]) -> bool:
    """Whether all of these hold the coefficients that no ARKit face goes without."""
    return all({"jawOpen", "mouthSmileLeft", *BLINKS} <= set(names) for names in lists)
