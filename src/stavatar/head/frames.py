"""The local frame of each face: what Gaussians are bound to."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class FaceFrames:
    """Frames of the F faces of B posed meshes (R, t and k of eq. 2).

    Attributes:
        rotation: [B, F, 3, 3] orthonormal, right-handed. Columns: unit edge v0->v1, face normal, and their cross
            product (which points away from v2), as GaussianAvatars defines them.
        origin: [B, F, 3] centroids, metres.
        size: [B, F] mean of the edge's length and the height over it, metres.
    """

    rotation: Tensor
    origin: Tensor
    size: Tensor


def face_frames(vertices: Tensor, faces: Tensor) -> FaceFrames:
    """Frames of `faces` [F, 3] for vertices [B, V, 3]; differentiable, and finite for degenerate faces."""
    # index_select and not indexing: its backward pass adds in a fixed order, so that training can be repeated exactly.
    v0, v1, v2 = vertices.index_select(1, faces.flatten()).unflatten(1, (-1, 3)).unbind(2)
    edge = v1 - v0
    length = edge.norm(dim=-1, keepdim=True).clamp_min(1e-9)
    along = edge / length
    normal = torch.linalg.cross(along, v2 - v0)
    height = normal.norm(dim=-1, keepdim=True).clamp_min(1e-9)  # |along x (v2 - v0)| is the height over the edge
    normal = normal / height
    away = torch.linalg.cross(along, normal)
    return FaceFrames(
        rotation=torch.stack([along, normal, away], -1),
        origin=(v0 + v1 + v2) / 3,
        size=((length + height) / 2)[..., 0],
    )
