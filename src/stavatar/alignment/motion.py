"""How Gaussians move with head parameters, to first order.

Vertices move first, Gaussians with the corners of their faces. What lies far off its face, as the seeds of hair and
shoulders do, has a lever that the corners alone do not tell, so it hangs on the tip of the face's normal as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stavatar.alignment.unknowns import Unknowns
from stavatar.avatar.avatar import Avatar
from stavatar.camera import Camera
from stavatar.head import HeadParameters, face_frames

_FLAT = 1e-6
"""Area in squares of a face's size below which its corners span no plane: its Gaussians then hang on its centroid."""

PROBE = 0.1
"""Step of the finite differences over poses, in units of the unknown."""


def vertex_motion(
    avatar: Avatar, start: HeadParameters, unknowns: Unknowns, correction: Tensor, vertices: Tensor
) -> Tensor:
    """How vertices move per unit of every unknown: [B, V, 3, P] metres.

    Expressions are linear, so their part is exact; the others' is made of differences.

    Args:
        avatar: whose head it is.
        start: B frames that corrections are added to.
        unknowns: P of them.
        correction: [B, P] around which.
        vertices: [B, V, 3] there.
    """
    batch, count = correction.shape
    by_difference = unknowns.columns_of(lambda name: name != "expression")
    probes = PROBE * torch.eye(count, device=correction.device)[by_difference]
    probed = (correction[:, None] + probes).flatten(0, 1)
    repeated = start.map(lambda value: value.repeat_interleave(len(probes), 0))
    moved = avatar.head(avatar.shape, unknowns.apply(repeated, probed)).vertices.unflatten(0, (batch, -1))
    motion = vertices.new_zeros(batch, vertices.shape[1], 3, count)
    motion[..., by_difference] = ((moved - vertices[:, None]) / PROBE).permute(0, 2, 3, 1)
    if len(by_difference) < count:
        by_expression = unknowns.columns_of(lambda name: name == "expression")
        told = avatar.head.expression_motion(avatar.shape, unknowns.apply(start, correction))
        chosen = told[..., unknowns.columns["expression"]]
        motion[..., by_expression] = chosen * unknowns.unit[by_expression]
    return motion


@dataclass(frozen=True)
class Carrier:
    """What carries each Gaussian: up to four anchors, which are vertices and tips of faces' normals.

    Attributes:
        anchors: [N, 4] indices into the vertices, followed by the tips.
        weights: [N, 4], sum 1.
        tip_corners: [A, 3] corners of the faces whose tips are anchors.
    """

    anchors: Tensor
    weights: Tensor
    tip_corners: Tensor

    @staticmethod
    def of(avatar: Avatar) -> Carrier:
        """The anchors of an avatar's Gaussians on its neutral head, where a face's shape is about what it always is."""
        gaussians, faces = avatar.gaussians, avatar.head.faces
        vertices = avatar.head(avatar.shape, avatar.head.neutral()).vertices
        frames = face_frames(vertices, faces)
        corners = vertices[0][faces[gaussians.face]]  # [N, 3 corners, 3]
        rotation, size = frames.rotation[0][gaussians.face], frames.size[0][gaussians.face]
        # Corners in the face's own axes and unit, about the centroid; their normal part is zero.
        local = (corners - corners.mean(1, keepdim=True)) @ rotation / size[:, None, None]
        edges = torch.stack([local[:, 1] - local[:, 0], local[:, 2] - local[:, 0]], -1)[:, [0, 2]]
        in_plane = torch.linalg.solve_ex(edges, gaussians.position[:, [0, 2], None])[0][..., 0]
        in_plane = torch.where(torch.linalg.det(edges)[:, None].abs() > _FLAT, in_plane, 0)
        plane = torch.cat([-in_plane.sum(1, keepdim=True), in_plane], 1) + 1 / 3
        free = gaussians.free
        bearing, place = gaussians.face[free].unique(return_inverse=True)
        height = torch.where(free, gaussians.position[:, 1], 0)
        tip = torch.zeros_like(gaussians.face)
        tip[free] = avatar.head.template.shape[0] + place
        # The tip stands on the centroid: its weight is taken from the corners.
        weights = torch.cat([plane - height[:, None] / 3, height[:, None]], 1)
        return Carrier(torch.cat([faces[gaussians.face], tip[:, None]], 1), weights, faces[bearing])

    def on_screen(self, vertices: Tensor, motion: Tensor, camera: Camera) -> Tensor:
        """How Gaussians move on the screen: [B, N, 2, P] pixels.

        Args:
            vertices: [B, V, 3].
            motion: [B, V, 3, P] of the vertices.
            camera: one or B.
        """
        batch, _, _, count = motion.shape
        corners = self.tip_corners.flatten()
        order = torch.arange(len(corners), device=corners.device).view(-1, 3)
        resting = vertices[:, corners]
        moved = resting[:, None] + PROBE * motion[:, corners].permute(0, 3, 1, 2)  # [B, P, 3 A, 3]
        tips = _tips(resting, order)
        tip_motion = (_tips(moved.flatten(0, 1), order).unflatten(0, (batch, count)) - tips[:, None]) / PROBE
        points = torch.cat([vertices, tips], 1)
        on_plane = _project_motion(camera, points, torch.cat([motion, tip_motion.permute(0, 2, 3, 1)], 1)).flatten(2)
        carried = on_plane.index_select(1, self.anchors[:, 0]) * self.weights[:, :1]
        for k in range(1, 4):
            carried.addcmul_(on_plane.index_select(1, self.anchors[:, k]), self.weights[:, k : k + 1])
        return carried.unflatten(-1, (2, count))


def _tips(corners: Tensor, faces: Tensor) -> Tensor:
    """Tips [B, A, 3] of the normals of faces, one unit of the face long."""
    frames = face_frames(corners, faces)
    return frames.origin + frames.size[..., None] * frames.rotation[..., 1]


def _project_motion(camera: Camera, points: Tensor, motion: Tensor) -> Tensor:
    """Motion [B, A, 3, P] of points [B, A, 3] as it looks on the screen: [B, A, 2, P] pixels."""
    seen = camera.to_camera(points)
    depth = seen[..., 2:].clamp_min(1e-3)
    focal = camera.focal[:, None]
    ratio = seen[..., :2] / depth
    zero = torch.zeros_like(depth)
    # The derivative of the projection times the camera's rotation: one small matrix per point.
    across = torch.cat([focal[..., :1] / depth, zero, -focal[..., :1] * ratio[..., :1] / depth], -1)
    down = torch.cat([zero, focal[..., 1:] / depth, -focal[..., 1:] * ratio[..., 1:] / depth], -1)
    return torch.stack([across, down], -2) @ camera.world_to_camera[:, None, :3, :3] @ motion
