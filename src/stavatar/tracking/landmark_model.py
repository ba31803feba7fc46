"""A head model cut down to its landmarks: 478 points that move with identity, expression and a rigid pose.

Camera-space landmarks of frame t are ``R_t (L(shape, expression_t) + bias - pivot) + t_t``, their pixels
``focal * (x, y) / z + center``. Tracking solves for these unknowns; the derivatives here are analytic. On heads whose
mouth opens by the jaw joint, three unknowns of it follow the expression's coefficients and count as some of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stavatar.errors import InputError
from stavatar.head.landmarks import LandmarkEmbedding
from stavatar.head.model import HeadModel
from stavatar.head.posing import JOINTS
from stavatar.rotations import axis_angle_to_matrix
from stavatar.tracking.detector_bias import DetectorBias
from stavatar.tracking.landmark_jaw import LandmarkJaw
from stavatar.tracking.settings import LandmarkSettings

Bounds = tuple[Tensor, Tensor]
"""Smallest and largest values of the expression's unknowns, [E] each or one for all."""


@dataclass(frozen=True)
class LandmarkModel:
    """The L = 478 landmarks of a head in its own space, metres.

    Attributes:
        template: [L, 3] of the mean neutral head, relative to `pivot`.
        shape_basis: [L, 3, S] of the first S identity coefficients.
        expression_basis: [L, 3, E].
        pivot: [3] the centre of the landmarks. Turning about it keeps rotation and translation nearly independent.
        detector: where they are found besides.
        jaw: the jaw joint, where the mouth opens by it; None where expressions open it.
    """

    template: Tensor
    shape_basis: Tensor
    expression_basis: Tensor
    pivot: Tensor
    detector: DetectorBias
    jaw: LandmarkJaw | None = None

    @staticmethod
    def of(
        head: HeadModel,
        embedding: LandmarkEmbedding,
        identities: int,
        expressions: int | None = None,
        detector: DetectorBias | None = None,
    ) -> LandmarkModel:
        """The landmarks of `head`, with its first `identities` and `expressions` coefficients (or all that it has).

        Without a `detector` they are found where they are.
        """
        points = embedding.points(head, head.template[None])[0]
        pivot = points.mean(0)
        shape = embedding.points(head, head.shape_basis[:identities])
        expression = embedding.points(head, head.expression_basis[:expressions])
        return LandmarkModel(
            template=points - pivot,
            shape_basis=shape.permute(1, 2, 0).contiguous(),
            expression_basis=expression.permute(1, 2, 0).contiguous(),
            pivot=pivot,
            detector=detector or DetectorBias.none(),
            jaw=None if head.jaw_by_expression else LandmarkJaw.of(head, embedding, pivot, identities),
        )

    @property
    def coefficients(self) -> int:
        """How many unknowns the expression has, those of the jaw included."""
        return self.expression_basis.shape[2] + (0 if self.jaw is None else 3)

    def bounds(self, settings: LandmarkSettings) -> Bounds:
        """Where the expression's unknowns are kept."""
        if self.jaw is None:
            low, high = settings.expression_bounds
            return torch.tensor(low), torch.tensor(high)
        jaw_low, jaw_high = self.jaw.bounds()
        reach = torch.full((self.expression_basis.shape[2],), settings.unnamed_bound)
        return torch.cat([-reach, jaw_low]), torch.cat([reach, jaw_high])

    def double(self) -> LandmarkModel:
        """The same in float64."""
        return LandmarkModel(
            self.template.double(),
            self.shape_basis.double(),
            self.expression_basis.double(),
            self.pivot.double(),
            self.detector.double(),
            None if self.jaw is None else self.jaw.double(),
        )

    def personal(self, shape: Tensor, bias: Tensor) -> LandmarkModel:
        """The landmarks of one person, whose template is the neutral face with `shape` [S] and `bias` [L, 3]."""
        return replace(
            self,
            template=self.template + self.shape_basis @ shape + bias,
            jaw=None if self.jaw is None else self.jaw.personal(shape),
        )

    def expressed(self, expression: Tensor) -> Tensor:
        """Landmarks [T, L, 3] relative to the pivot, with expressions [T, E] and their jaw."""
        points = self._without_jaw(expression)
        return points if self.jaw is None else self.jaw.moved(points, expression[:, -3:])

    def by_template(self, by_point: Tensor, expression: Tensor) -> Tensor:
        """Derivatives by expressed landmarks [T, L, 2, 3] -> by those of the template."""
        return by_point if self.jaw is None else self.jaw.through(by_point, expression[:, -3:])

    def by_expression(self, by_point: Tensor, expression: Tensor) -> Tensor:
        """Derivatives by expressed landmarks [T, L, 2, 3] -> by the expression's unknowns [T, 2 L, E]."""
        linear = _times_basis(self.by_template(by_point, expression), self.expression_basis)
        if self.jaw is None:
            return linear
        jaw = self.jaw.jacobian(by_point, self._without_jaw(expression), expression[:, -3:])
        return torch.cat([linear, jaw.flatten(1, 2)], -1)

    def by_shape(self, by_point: Tensor, expression: Tensor) -> Tensor:
        """Derivatives by expressed landmarks [T, L, 2, 3] -> by identity [T, 2 L, S]."""
        linear = _times_basis(self.by_template(by_point, expression), self.shape_basis)
        if self.jaw is None:
            return linear
        return linear + self.jaw.by_shape(by_point, expression[:, -3:]).flatten(1, 2)

    def by_detector(self, by_point: Tensor, expression: Tensor) -> Tensor:
        """Derivatives by expressed landmarks [T, L, 2, 3] -> by the detector's coefficients [T, 2 L, R]."""
        return _times_basis(self.by_template(by_point, expression), self.detector.modes)

    def _without_jaw(self, expression: Tensor) -> Tensor:
        offsets = expression[:, : self.expression_basis.shape[2]] @ self.expression_basis.flatten(0, 1).T
        return self.template + offsets.unflatten(1, (-1, 3))


@dataclass(frozen=True)
class LandmarkPose:
    """Unknowns of T frames: where the landmarks are in camera space (OpenCV axes, metres).

    Attributes:
        rotation: [T, 3, 3] from head space to camera space.
        translation: [T, 3] camera-space position of the model's pivot.
        expression: [T, E] coefficients, and behind them the jaw's unknowns where the model has a jaw.
    """

    rotation: Tensor
    translation: Tensor
    expression: Tensor

    def __len__(self) -> int:
        return len(self.rotation)

    def __getitem__(self, index: slice | Tensor) -> LandmarkPose:
        return LandmarkPose(self.rotation[index], self.translation[index], self.expression[index])

    def moved(self, step: Tensor, bounds: Bounds) -> LandmarkPose:
        """Apply a step [T, 6 + E]: a rotation vector on the left, a translation, and expression kept in `bounds`."""
        return LandmarkPose(
            rotation=axis_angle_to_matrix(step[:, :3]) @ self.rotation,
            translation=self.translation + step[:, 3:6],
            expression=(self.expression + step[:, 6:]).clamp(bounds[0], bounds[1]),
        )

    def points(self, model: LandmarkModel) -> Tensor:
        """Camera-space landmarks [T, L, 3]."""
        return self.turned(model) + self.translation[:, None]

    def turned(self, model: LandmarkModel) -> Tensor:
        """Landmarks relative to the pivot, along the camera's axes [T, L, 3]."""
        return model.expressed(self.expression) @ self.rotation.transpose(1, 2)


def project(points: Tensor, focal: Tensor, center: Tensor) -> Tensor:
    """Camera-space points [..., 3] -> pixels [..., 2]."""
    return focal * points[..., :2] / points[..., 2:] + center


def point_jacobian(points: Tensor, focal: Tensor, factor: Tensor) -> Tensor:
    """`factor` [T, L] times the derivatives of pixels by camera-space points [T, L, 3] -> [T, L, 2, 3]."""
    x, y, z = points.unbind(-1)
    scale = factor * focal / z
    zero = torch.zeros_like(scale)
    return torch.stack([scale, zero, -scale * x / z, zero, scale, -scale * y / z], -1).unflatten(-1, (2, 3))


def frame_jacobian(model: LandmarkModel, pose: LandmarkPose, by_point: Tensor) -> Tensor:
    """Derivatives of the landmarks by the step of :meth:`LandmarkPose.moved`.

    Args:
        model: of the person.
        pose: T frames.
        by_point: [T, L, 2, 3] from :func:`point_jacobian`.

    Returns:
        [T, 2 L, 6 + E], rows x0, y0, x1, ...
    """
    arm = pose.turned(model)[:, :, None].expand_as(by_point)
    by_turn = torch.linalg.cross(arm, by_point, dim=-1)  # g . (w x arm) = w . (arm x g)
    by_expression = model.by_expression(by_point @ pose.rotation[:, None], pose.expression)
    return torch.cat([by_turn.flatten(1, 2), by_point.flatten(1, 2), by_expression], -1)


def shared_jacobian(model: LandmarkModel, pose: LandmarkPose, by_point: Tensor, offset: Tensor) -> Tensor:
    """Derivatives of the landmarks by identity, the detector's coefficients, and the logarithm of the focal length.

    `offset` [T, L, 2] are pixels from the image centre, times the factor in `by_point`; returns [T, 2 L, S + R + 1].
    """
    by_head_point = by_point @ pose.rotation[:, None]
    by_shape = model.by_shape(by_head_point, pose.expression)
    by_detector = model.by_detector(by_head_point, pose.expression)
    return torch.cat([by_shape, by_detector, offset.flatten(1)[..., None]], -1)


def _times_basis(by_head_point: Tensor, basis: Tensor) -> Tensor:
    """[T, L, 2, 3] times [L, 3, K] -> [T, 2 L, K]."""
    frames, landmarks = by_head_point.shape[:2]
    rows = by_head_point.permute(1, 0, 2, 3).reshape(landmarks, frames * 2, 3)
    return (rows @ basis).unflatten(1, (frames, 2)).permute(1, 0, 2, 3).flatten(1, 2)


def frontal_pose(
    model: LandmarkModel, landmarks: Tensor, expression: Tensor, focal: Tensor, center: Tensor
) -> LandmarkPose:
    """A first pose from MediaPipe's own depth: the similarity that carries the model onto the detected points.

    Weak perspective, in closed form (Umeyama 1991): good to a few degrees, whatever way the head is turned.

    Args:
        model: of the person.
        landmarks: [T, L, 3] pixels, z as MediaPipe gives it (the same scale as x, growing away from the camera).
        expression: [T, E] to assume.
        focal: scalar, pixels.
        center: [2] principal point.
    """
    skin = model.template.new_zeros(len(model.template), 1)
    skin[:468] = 1 / 468
    source = model.expressed(expression)
    source_mean, target_mean = (source * skin).sum(1), (landmarks * skin).sum(1)
    centred = source - source_mean[:, None]
    covariance = ((landmarks - target_mean[:, None]) * skin).transpose(1, 2) @ centred
    left, values, right = torch.linalg.svd(covariance)
    sign = torch.ones_like(values)
    sign[:, 2] = torch.linalg.det(left @ right).sign()
    rotation = (left * sign[:, None]) @ right
    scale = (values * sign).sum(1) / (centred.square().sum(-1) * skin[:, 0]).sum(1)  # pixels per metre
    depth = focal / scale
    face = torch.cat([(target_mean[:, :2] - center) / scale[:, None], depth[:, None]], 1)
    translation = face - (rotation @ source_mean[..., None])[..., 0]
    return LandmarkPose(rotation, translation, expression)


def require_arkit(head: HeadModel) -> None:
    """Raise InputError where the mouth opens by expressions that are not ARKit's: nothing tells which ones those are.

    Heads whose mouth opens by the jaw joint, as FLAME's does, need no names.
    """
    if head.jaw_by_expression and "jawOpen" not in head.expression_names:
        raise InputError(
            f"head model {head.name} opens its mouth by expressions that are not named as ARKit's, which tracking from "
            "landmarks needs: track with the embedded head or with FLAME"
        )


def eye_of_landmarks(head: HeadModel, embedding: LandmarkEmbedding) -> Tensor:
    """Which eyeball each landmark lies on: [478] with 0 the left, 1 the right, -1 neither."""
    weights = (head.weights[head.faces[embedding.face]] * embedding.barycentric[:, :, None]).sum(1)
    joints = weights[:, [JOINTS.index("left_eye"), JOINTS.index("right_eye")]]
    strongest, eye = joints.max(1)
    return torch.where(strongest > 0.5, eye, -1)
