"""HeadModel: identity and expression bases on a template, posed by linear blend skinning over five joints."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from stavatar.head.parameters import HeadParameters
from stavatar.head.posing import blended, joint_transforms, pose
from stavatar.rotations import axis_angle_to_matrix

REGIONS = (
    "face",            # cheeks, chin, jaw line: skin of the face that no other label claims
    "forehead",
    "nose",
    "eyes",            # lids, sockets, lashes
    "eyeballs",
    "lips",
    "mouth_interior",  # cavity, gums, tongue
    "teeth",
    "ears",
    "scalp",
    "neck",
    "torso",
)  # fmt: skip
"""Names of the region labels; a face's label is an index into this tuple."""


@dataclass(frozen=True)
class PosedHead:
    """What :meth:`HeadModel.forward` returns: vertices [B, V, 3] and joint positions [B, 5, 3], metres, world space.

    `unposed` [B, V, 3] are the vertices before any joint turns (:meth:`HeadModel.unposed`), where they are at hand.
    """

    vertices: Tensor
    joints: Tensor
    unposed: Tensor | None = None


class HeadModel(nn.Module):
    """A deformable head: vertices = LBS(template + offsets, joints, pose) + translation.

    The offsets are identity, expression, and where a head has them correctives that go with the pose. Joints move with
    identity and, on some heads, with expression.

    The same class serves every head (the embedded one, FLAME), which differ in their arrays only. Everything is a
    buffer: a head is never trained. Axes: y up, the neutral face looks along +z, metres.

    Args:
        name: goes into every file written with this head, for example ``embedded-1``.
        template: [V, 3] vertices of the mean neutral head.
        shape_basis: [S, V, 3] identity directions, one standard deviation each.
        expression_basis: [E, V, 3].
        expression_names: E names (ARKit's on the embedded head).
        joints: [5, 3] joint positions of the template, in the order of `posing.JOINTS`.
        joint_basis: [S, 5, 3] how identity moves the joints.
        expression_joint_basis: [E, 5, 3] how expressions move the joints; None where they do not.
        pose_basis: [36, V, 3] what is added to the unposed head for each entry of R - 1, row by row, R being the
            rotations of neck, jaw, left eye, right eye; None for no correctives.
        weights: [V, 5] skinning weights, rows sum to 1.
        faces: [F, 3] vertex indices, counter-clockwise seen from outside.
        uv: [U, 2] texture coordinates in [0, 1], origin bottom-left.
        uv_faces: [F, 3] indices into `uv`.
        regions: [F] label of each face, an index into `REGIONS`.
        jaw_by_expression: the mouth is opened by expression coefficients, and the jaw joint moves nothing.
    """

    template: Tensor
    joint_template: Tensor
    joint_basis: Tensor
    weights: Tensor
    faces: Tensor
    uv: Tensor
    uv_faces: Tensor
    regions: Tensor
    _basis: Tensor
    _pose_basis: Tensor | None
    _expression_joint_basis: Tensor | None

    def __init__(
        self,
        *,
        name: str,
        template: np.ndarray,
        shape_basis: np.ndarray,
        expression_basis: np.ndarray,
        expression_names: list[str],
        joints: np.ndarray,
        joint_basis: np.ndarray,
        weights: np.ndarray,
        faces: np.ndarray,
        uv: np.ndarray,
        uv_faces: np.ndarray,
        regions: np.ndarray,
        jaw_by_expression: bool,
        expression_joint_basis: np.ndarray | None = None,
        pose_basis: np.ndarray | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self.expression_names = expression_names
        self.jaw_by_expression = jaw_by_expression
        self.shape_count = len(shape_basis)

        def floats(array: np.ndarray) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))

        def indices(array: np.ndarray) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(array, dtype=np.int64))

        self.register_buffer("template", floats(template))
        self.register_buffer("joint_template", floats(joints))
        self.register_buffer("joint_basis", floats(joint_basis))
        self.register_buffer("weights", floats(weights))
        self.register_buffer("faces", indices(faces))
        self.register_buffer("uv", floats(uv))
        self.register_buffer("uv_faces", indices(uv_faces))
        self.register_buffer("regions", indices(regions))
        # One matrix for identity and expression: [S + E, V * 3].
        self.register_buffer("_basis", floats(np.concatenate([shape_basis, expression_basis])).flatten(1))
        self.register_buffer("_pose_basis", None if pose_basis is None else floats(pose_basis).flatten(1))
        moving = None if expression_joint_basis is None else floats(expression_joint_basis)
        self.register_buffer("_expression_joint_basis", moving)
        self._remembered: tuple[Tensor | None, int, Tensor] = (None, 0, self.template)

    @property
    def expression_count(self) -> int:
        return len(self.expression_names)

    @property
    def shape_basis(self) -> Tensor:
        """[S, V, 3]."""
        return self._basis[: self.shape_count].unflatten(1, (-1, 3))

    @property
    def expression_basis(self) -> Tensor:
        """[E, V, 3]."""
        return self._basis[self.shape_count :].unflatten(1, (-1, 3))

    def pose_basis_of(self, joint: int) -> Tensor:
        """[9, V, 3] what the entries of R - 1 of one joint (not the root) add; zeros on heads without correctives."""
        if self._pose_basis is None:
            return self.template.new_zeros(9, *self.template.shape)
        return self._pose_basis[9 * (joint - 1) : 9 * joint].unflatten(1, (-1, 3))

    def neutral(self, frames: int = 1) -> HeadParameters:
        """Parameters of the neutral pose on this head's device."""
        return HeadParameters.zeros(frames, self.expression_count, device=self.template.device)

    def forward(self, shape: Tensor, parameters: HeadParameters) -> PosedHead:
        """Pose the head.

        Args:
            shape: [S] or [B, S] identity coefficients; fewer than the head has are padded with zeros.
            parameters: B frames.

        Returns:
            Vertices and joints in world space.
        """
        unposed = self.unposed(shape, parameters.expression)
        joints = self.joints(self._whole(shape, len(parameters)), parameters.expression)

        turns = _turns(parameters)
        corrected = unposed
        if self._pose_basis is not None:
            features = _pose_features(axis_angle_to_matrix(turns))
            corrected = unposed + (features @ self._pose_basis).unflatten(1, (-1, 3))
        vertices, places = pose(
            corrected, joints, turns, parameters.neck_translation, parameters.translation, self.weights
        )
        return PosedHead(vertices, places, unposed)

    def expression_motion(self, shape: Tensor, parameters: HeadParameters) -> Tensor:
        """How posed vertices move with every expression coefficient, joints held: [B, V, 3, E] metres per unit.

        On heads whose joints move with expression that part is left out: it is small.
        """
        joints = self.joints(self._whole(shape, len(parameters)), parameters.expression)
        local = axis_angle_to_matrix(_turns(parameters))
        transforms, _ = joint_transforms(joints, local, parameters.neck_translation)
        return blended(transforms, self.weights)[..., :3] @ self.expression_basis.permute(1, 2, 0)

    def unposed(self, shape: Tensor, expression: Tensor) -> Tensor:
        """Vertices [B, V, 3] before any joint turns: identities [S] or [B, S] with expressions [B, E].

        The same as posing with all other parameters zero, without the skinning that then changes nothing.
        """
        if shape.dim() == 1 and not shape.requires_grad and shape.device.type == "cpu":
            return self._person(shape) + (expression @ self._basis[self.shape_count :]).unflatten(1, (-1, 3))
        offsets = torch.cat([self._whole(shape, len(expression)), expression], 1) @ self._basis
        return self.template + offsets.unflatten(1, (-1, 3))

    def _person(self, shape: Tensor) -> Tensor:
        """The template with an identity [S]; remembered, as a whole training asks for the same one."""
        known, version, person = self._remembered
        if known is not shape or version != shape._version or person.dtype != self.template.dtype:
            whole = self._whole(shape, 1) @ self._basis[: self.shape_count]
            person = self.template + whole.unflatten(1, (-1, 3))[0]
            self._remembered = shape, shape._version, person
        return person

    def _whole(self, shape: Tensor, frames: int) -> Tensor:
        """Identities for every frame, with zeros for those coefficients that were not given: [B, S]."""
        if shape.shape[-1] < self.shape_count:
            shape = nn.functional.pad(shape, (0, self.shape_count - shape.shape[-1]))
        return shape.expand(frames, -1)

    def joints(self, shape: Tensor, expression: Tensor) -> Tensor:
        """Joint positions [B, 5, 3] of the unposed head for identities [B, S] and expressions [B, E]."""
        joints = self.joint_template + torch.einsum("bs,sjc->bjc", shape, self.joint_basis)
        if self._expression_joint_basis is not None:
            joints = joints + torch.einsum("be,ejc->bjc", expression, self._expression_joint_basis)
        return joints

    def faces_in(self, *names: str) -> Tensor:
        """Mask [F] of the faces whose region is one of `names`."""
        wanted = torch.tensor([REGIONS.index(name) for name in names], device=self.regions.device)
        return torch.isin(self.regions, wanted)


def _turns(parameters: HeadParameters) -> Tensor:
    """Rotation vectors [B, 5, 3] of the joints against their parents."""
    eyes = parameters.eyes.unflatten(1, (2, 3))
    own = torch.stack([parameters.rotation, parameters.neck, parameters.jaw], 1)
    return torch.cat([own, eyes], 1)


def _pose_features(local: Tensor) -> Tensor:
    """What pose correctives are driven by [B, 36]: R - 1 of every joint but the root, from rotations [B, 5, 3, 3]."""
    return (local[:, 1:] - torch.eye(3, dtype=local.dtype, device=local.device)).flatten(1)
