"""Gauss-Newton from landmarks to identity, focal length, poses and expressions.

Two steps. Identity and focal length, which all frames share, are fitted to frames spread over the clip; the frames'
own unknowns are eliminated by a Schur complement. Then every frame is fitted with the identity held, all frames in one
system that couples neighbours in time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stavatar.block_solver import solve_arrow, solve_block_tridiagonal
from stavatar.rotations import matrix_to_axis_angle, skew
from stavatar.tracking.landmark_model import (
    Bounds,
    LandmarkModel,
    LandmarkPose,
    frame_jacobian,
    frontal_pose,
    point_jacobian,
    project,
    shared_jacobian,
)
from stavatar.tracking.settings import LandmarkSettings
from stavatar.tracking.smoothing import smooth_path

CHUNK = 64
"""Frames whose derivatives are in memory at a time (about 30 MB)."""

DAMPING = 0.3
"""%² against long steps of the expression: it is weakly determined, and its bounds make undamped steps overshoot."""

VELOCITY_FRAMES = 1.5
"""Standard deviation of the Gaussian, in frames, that makes the head's velocity out of its steps."""

LONGEST_FOCAL_STEP = 0.15
"""Most that the logarithm of the focal length changes in one step."""

NEAREST = 0.05
"""Metres that a head stays away from the camera."""


@dataclass(frozen=True)
class LandmarkTarget:
    """What T frames are fitted to.

    Attributes:
        landmarks: [T, L, 3] pixels, all finite; z as MediaPipe gives it.
        unit: [T] pixels in one percent of the outer-eye distance.
        weights: [L], sum 1.
        expression: [T, E] where the expression is pulled to.
        elapsed: [T - 1] time between neighbouring frames, in units of 1/25 s.
        center: [2] principal point.
    """

    landmarks: Tensor
    unit: Tensor
    weights: Tensor
    expression: Tensor
    elapsed: Tensor
    center: Tensor

    def __len__(self) -> int:
        return len(self.landmarks)

    def spread(self, count: int) -> LandmarkTarget:
        """At most `count` of the frames, evenly spread."""
        if len(self) <= count:
            return self
        index = torch.linspace(0, len(self) - 1, count).round().long()
        return replace(
            self,
            landmarks=self.landmarks[index],
            unit=self.unit[index],
            expression=self.expression[index],
            elapsed=self.elapsed.new_zeros(count - 1),
        )


@dataclass(frozen=True)
class LandmarkFit:
    """The result for T frames.

    Attributes:
        shape: [S] identity coefficients.
        bias: [L, 3] where the person's landmarks are besides, metres in head space.
        focal: scalar, pixels.
        pose: T frames.
    """

    shape: Tensor
    bias: Tensor
    focal: Tensor
    pose: LandmarkPose

    def errors(self, model: LandmarkModel, target: LandmarkTarget, *, with_bias: bool) -> Tensor:
        """Distances [T, L] of fitted from detected landmarks, %."""
        person = model.personal(self.shape, self.bias if with_bias else torch.zeros_like(self.bias))
        errors = []
        for frames in _chunks(len(target)):
            pixels = project(self.pose[frames].points(person), self.focal, target.center)
            distance = (pixels - target.landmarks[frames, :, :2]).norm(dim=-1)
            errors.append(distance / target.unit[frames, None])
        return torch.cat(errors)


def fit_landmarks(
    model: LandmarkModel,
    target: LandmarkTarget,
    focal: float,
    settings: LandmarkSettings,
    advance: Callable[[str], None],
) -> LandmarkFit:
    """Fit everything; `advance` is called after each step with a word on how it goes."""
    shape, usual, length = _fit_identity(model, target.spread(settings.identity_frames), focal, settings, advance)
    bias = usual
    person = model.personal(shape, bias)
    pose = frontal_pose(person, target.landmarks, target.expression, length, target.center)
    for step in range(settings.frame_steps):
        pose, error = _step_frames(person, target, pose, length, settings)
        if settings.bias and step < settings.frame_steps - 1:
            bias = _estimate_bias(person, bias, usual, target, pose, length, settings)
            person = model.personal(shape, bias)
        advance(f"{error:.2f} %")
    return LandmarkFit(shape, bias, length, pose)


def _fit_identity(
    model: LandmarkModel,
    target: LandmarkTarget,
    focal: float,
    settings: LandmarkSettings,
    advance: Callable[[str], None],
) -> tuple[Tensor, Tensor, Tensor]:
    """Identity [S], the detector's bias [L, 3] and focal length (scalar) from some frames.

    Each frame is free in pose and expression.
    """
    shape = model.template.new_zeros(model.shape_basis.shape[2])
    habit = model.template.new_zeros(model.detector.modes.shape[2])
    length = model.template.new_tensor(focal)
    pose = frontal_pose(model, target.landmarks, target.expression, length, target.center)
    for _ in range(settings.identity_steps):
        person = model.personal(shape, model.detector.of(habit))
        normal = _normal_equations(person, target, pose, length, settings, shared=True)
        normal.add_expression_prior(pose, target, settings)
        normal.hold_at_bounds(pose, person.bounds(settings))
        frames = len(target)
        # Coefficients of the head and of the detector alike count in standard deviations.
        prior = torch.full((len(shape) + len(habit) + 1,), settings.identity_prior * frames, dtype=torch.float64)
        prior[-1] = 0 if settings.fit_focal else 1e12
        gradient = normal.shared_gradient + prior * torch.cat([shape, habit, shape.new_zeros(1)]).double()
        step, common = solve_arrow(
            normal.frame, -normal.frame_gradient, normal.mixed, normal.shared + prior.diag(), -gradient
        )
        by_shape, by_habit, _ = common.to(shape).split([len(shape), len(habit), 1])
        shape, habit = shape + by_shape, habit + by_habit
        length = length * common[-1].clamp(-LONGEST_FOCAL_STEP, LONGEST_FOCAL_STEP).exp().to(length)
        pose = _in_front(pose.moved(step.to(shape), person.bounds(settings)))
        advance(f"{normal.error:.2f} %")
    return shape, model.detector.of(habit), length


def _step_frames(
    person: LandmarkModel, target: LandmarkTarget, pose: LandmarkPose, focal: Tensor, settings: LandmarkSettings
) -> tuple[LandmarkPose, float]:
    """One step of all frames together; returns the new pose and the error before the step, %."""
    normal = _normal_equations(person, target, pose, focal, settings, shared=False)
    normal.add_expression_prior(pose, target, settings)
    coupling = normal.add_smoothness(pose, target.elapsed, settings)
    free = normal.hold_at_bounds(pose, person.bounds(settings))
    coupling = coupling * free[1:] * free[:-1]
    step = solve_block_tridiagonal(normal.frame.numpy(), coupling.numpy(), -normal.frame_gradient.numpy())
    return _in_front(pose.moved(torch.from_numpy(step).to(focal), person.bounds(settings))), normal.error


def _in_front(pose: LandmarkPose) -> LandmarkPose:
    depth = pose.translation[:, 2:].clamp_min(NEAREST)
    return replace(pose, translation=torch.cat([pose.translation[:, :2], depth], 1))


def _estimate_bias(
    person: LandmarkModel,
    bias: Tensor,
    usual: Tensor,
    target: LandmarkTarget,
    pose: LandmarkPose,
    focal: Tensor,
    settings: LandmarkSettings,
) -> Tensor:
    """Each landmark's constant place [L, 3] besides the head model's, from all frames and shrunk towards `usual`.

    What a rigid motion of the whole head would explain is taken out: that is the pose's.
    """
    matrix = torch.zeros(len(bias), 3, 3)
    right = torch.zeros(len(bias), 3)
    for frames in _chunks(len(target)):
        part = pose[frames]
        points = part.points(person)
        residual = (project(points, focal, target.center) - target.landmarks[frames, :, :2]) / target.unit[
            frames, None, None
        ]
        factor = 1 / target.unit[frames, None].expand(-1, len(bias))
        by_head_point = point_jacobian(points, focal, factor) @ part.rotation[:, None]
        by_head_point = person.by_template(by_head_point, part.expression)
        wanted = (by_head_point @ bias[:, :, None])[..., 0] - residual
        trust = _huber(residual.norm(dim=-1), settings.robust)[..., None]
        matrix += torch.einsum("tlai,tlaj->lij", by_head_point * trust[..., None], by_head_point)
        right += torch.einsum("tlai,tla->li", by_head_point * trust[..., None], wanted)
    shrink = torch.eye(3) / settings.bias_size**2
    own = torch.linalg.solve(matrix / len(target) + shrink, right / len(target) + usual / settings.bias_size**2) - usual
    own[target.weights == 0] = 0
    rigid = torch.cat([torch.eye(3).expand(len(bias), 3, 3), -skew(person.template - bias)], -1)
    rigid = (rigid * target.weights.sqrt()[:, None, None]).flatten(0, 1)
    weighted = (own * target.weights.sqrt()[:, None]).flatten()[:, None]
    # "gels", as the default driver pivots by what happens to lie in memory: two runs would differ in the last digits.
    motion = torch.linalg.lstsq(rigid, weighted, driver="gels").solution
    turn, shift = motion[3:, 0], motion[:3, 0]
    own = own - (shift + torch.linalg.cross(turn.expand_as(bias), person.template - bias))
    own[target.weights == 0] = 0
    return usual + own


@dataclass
class _NormalEquations:
    """Sums of J^T J and J^T r, float64: M = 6 + E unknowns of each frame, K shared ones.

    Attributes:
        frame: [T, M, M].
        frame_gradient: [T, M].
        mixed: [T, M, K].
        shared: [K, K].
        shared_gradient: [K].
        error: root of the weighted mean squared error before the step, %.
    """

    frame: Tensor
    frame_gradient: Tensor
    mixed: Tensor
    shared: Tensor
    shared_gradient: Tensor
    error: float

    def add_expression_prior(self, pose: LandmarkPose, target: LandmarkTarget, settings: LandmarkSettings) -> None:
        self.frame.diagonal(dim1=1, dim2=2)[:, 6:] += settings.expression_prior + DAMPING
        self.frame_gradient[:, 6:] += settings.expression_prior * (pose.expression - target.expression)

    def add_smoothness(self, pose: LandmarkPose, elapsed: Tensor, settings: LandmarkSettings) -> Tensor:
        """Penalise change in time; returns the coupling of neighbours [T - 1, M].

        Expressions are pulled towards their neighbours'. The head is pulled towards moving on with its own velocity, as
        the poses so far have it: pulled towards standing still it would cut the corners of its path by degrees.
        """
        turn = matrix_to_axis_angle(pose.rotation[1:] @ pose.rotation[:-1].transpose(1, 2))
        shift = pose.translation[1:] - pose.translation[:-1]
        steps = torch.cat([turn, shift], 1)
        velocity = smooth_path(steps / elapsed[:, None], torch.ones_like(elapsed), VELOCITY_FRAMES)
        turn, shift = (steps - velocity * elapsed[:, None]).split(3, dim=1)
        change = pose.expression[1:] - pose.expression[:-1]
        weights = []
        for value, size in (
            (turn.norm(dim=1, keepdim=True).expand_as(turn), settings.smooth_rotation),
            (shift.norm(dim=1, keepdim=True).expand_as(shift), settings.smooth_translation),
            (change.abs(), settings.smooth_expression),
        ):
            # Change is a random walk: its expected square grows with the time that passed.
            relative = value / (size * elapsed[:, None].sqrt())
            weights.append((settings.noise / size) ** 2 / elapsed[:, None] * _huber(relative, 2.0))
        coupling = torch.cat(weights, 1).double()
        pull = coupling * torch.cat([turn, shift, change], 1)
        diagonal = self.frame.diagonal(dim1=1, dim2=2)
        diagonal[1:] += coupling
        diagonal[:-1] += coupling
        self.frame_gradient[1:] += pull
        self.frame_gradient[:-1] -= pull
        return coupling

    def hold_at_bounds(self, pose: LandmarkPose, bounds: Bounds) -> Tensor:
        """Take unknowns out that are at a bound and would leave it; returns 1 for the others [T, M], float64."""
        low, high = bounds
        gradient = self.frame_gradient[:, 6:]
        held = ((pose.expression <= low) & (gradient > 0)) | ((pose.expression >= high) & (gradient < 0))
        free = torch.ones_like(self.frame_gradient)
        free[:, 6:][held] = 0
        self.frame *= free[:, :, None] * free[:, None]
        self.frame.diagonal(dim1=1, dim2=2).add_(1 - free)
        self.frame_gradient *= free
        self.mixed *= free[:, :, None]
        return free


def _normal_equations(
    person: LandmarkModel,
    target: LandmarkTarget,
    pose: LandmarkPose,
    focal: Tensor,
    settings: LandmarkSettings,
    *,
    shared: bool,
) -> _NormalEquations:
    """Linearise the landmark errors of all frames. Without `shared`, K = 0."""
    count, unknowns = len(target), 6 + person.coefficients
    columns = person.shape_basis.shape[2] + person.detector.modes.shape[2] + 1 if shared else 0
    normal = _NormalEquations(
        frame=torch.empty(count, unknowns, unknowns, dtype=torch.float64),
        frame_gradient=torch.empty(count, unknowns, dtype=torch.float64),
        mixed=torch.empty(count, unknowns, columns, dtype=torch.float64),
        shared=torch.zeros(columns, columns, dtype=torch.float64),
        shared_gradient=torch.zeros(columns, dtype=torch.float64),
        error=0.0,
    )
    squared = 0.0
    for frames in _chunks(count):
        part = pose[frames]
        points = part.points(person)
        pixels = project(points, focal, target.center)
        unit = target.unit[frames, None]
        residual = (pixels - target.landmarks[frames, :, :2]) / unit[..., None]
        distance = residual.norm(dim=-1)
        squared += float((target.weights * distance.square()).sum())
        root = (target.weights * _huber(distance, settings.robust)).sqrt()
        residual = (residual * root[..., None]).flatten(1)[..., None]
        by_point = point_jacobian(points, focal, root / unit)
        own = frame_jacobian(person, part, by_point)
        normal.frame[frames] = (own.transpose(1, 2) @ own).double()
        normal.frame_gradient[frames] = (own.transpose(1, 2) @ residual)[..., 0].double()
        if shared:
            offset = (pixels - target.center) * (root / unit)[..., None]
            common = shared_jacobian(person, part, by_point, offset)
            normal.mixed[frames] = (own.transpose(1, 2) @ common).double()
            rows = common.flatten(0, 1)
            normal.shared += (rows.T @ rows).double()
            normal.shared_gradient += (rows.T @ residual.flatten()).double()
    normal.error = math.sqrt(squared / count)
    return normal


def _huber(value: Tensor, limit: float) -> Tensor:
    """Weights that make squares beyond `limit` count linearly."""
    return limit / value.clamp_min(limit)


def _chunks(count: int) -> list[slice]:
    return [slice(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]
