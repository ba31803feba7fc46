"""The UV atlas: which point of the head's surface each texel of a square map shows.

A head's UV layout never changes, so the mesh is rasterised in UV space once. Every map over the UV square (positions,
displacements, regions) is then a gather of three vertices per texel.

Convention: maps are [..., R, R] with (row, column); the centre of texel (r, c) has u = (c + 0.5) / R and
v = (r + 0.5) / R, so the row index grows with v and ``grid_sample(map, 2 * uv - 1, align_corners=False)`` reads a map
at UV coordinates without any flip. (As UV's origin is bottom-left, a map shown as an image stands upside down.)

Gutter: a bilinear read just inside an island's border also touches texels just outside it. Texels within `GUTTER`
texels of an island therefore show that island's border: the face of the nearest inside texel, with barycentric weights
clamped to that face. They count as `valid` but not as `inside`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from stavatar.errors import InputError
from stavatar.head.model import HeadModel

GUTTER = 2.0
"""How far islands are extended, in texels: a bilinear read reaches less than sqrt(2) texels."""

_CANDIDATES = 1 << 22  # (face, texel) pairs tested at once while rasterising; bounds the memory


@dataclass(frozen=True)
class UVAtlas:
    """The surface point of every texel, at one resolution.

    Attributes:
        resolution: R, texels per side.
        uv: [U, 2] texture coordinates of the head.
        uv_faces: [F, 3] indices into `uv`.
        face: [R, R] index of the face that a texel shows, -1 where there is none.
        barycentric: [R, R, 3] weights of that face's corners, summing to 1; zero where there is no face.
        corners: [R, R, 3] vertices of that face; zero where there is no face.
        inside: [R, R] whether the texel's centre lies in a face. The gutter is not inside.
    """

    resolution: int
    uv: Tensor
    uv_faces: Tensor
    face: Tensor
    barycentric: Tensor
    corners: Tensor
    inside: Tensor

    @staticmethod
    def build(head: HeadModel, resolution: int) -> UVAtlas:
        """Rasterise the head's UV faces at `resolution` x `resolution` texels.

        A centre on an edge that faces share belongs to the one with the lowest index.

        Raises:
            InputError: `resolution` is not positive.
        """
        if resolution < 1:
            raise InputError(f"the UV resolution must be at least 1 texel, not {resolution}")
        uv, uv_faces = head.uv.cpu(), head.uv_faces.cpu()
        triangles = uv.double()[uv_faces]
        face = _rasterise(triangles, resolution)
        inside = face >= 0
        face = _extend(face)
        valid = face >= 0
        barycentric = torch.zeros(resolution, resolution, 3)
        barycentric[valid] = _clamp(_barycentric(triangles[face[valid]], _centers(resolution)[valid])).float()
        corners = head.faces.cpu()[face.clamp_min(0)] * valid[..., None]
        atlas = UVAtlas(resolution, uv, uv_faces, face, barycentric, corners, inside)
        return atlas.to(head.uv.device)

    def to(self, device: torch.device | str) -> UVAtlas:
        return replace(
            self,
            uv=self.uv.to(device),
            uv_faces=self.uv_faces.to(device),
            face=self.face.to(device),
            barycentric=self.barycentric.to(device),
            corners=self.corners.to(device),
            inside=self.inside.to(device),
        )

    @property
    def valid(self) -> Tensor:
        """[R, R] whether a texel shows a face: inside an island or in its gutter."""
        return self.face >= 0

    def gather(self, values: Tensor) -> Tensor:
        """Vertex attributes [B, V, C] -> maps [B, C, R, R], zero where there is no face; differentiable."""
        corners, weights = self.corners.flatten(0, 1), self.barycentric.flatten(0, 1)
        if values.device.type == "cpu" and values.dtype == torch.float32:
            texels = _Gather.apply(values, corners, weights)
        else:
            texels = gather_plainly(values, corners, weights)
        return texels.transpose(1, 2).unflatten(2, (self.resolution, self.resolution))

    def gather_faces(self, values: Tensor) -> Tensor:
        """Face attributes [F, ...] -> [R, R, ...], zero (False) where there is no face."""
        valid = self.valid.reshape(self.valid.shape + (1,) * (values.ndim - 1))
        return torch.where(valid, values[self.face.clamp_min(0)], torch.zeros_like(values[:1]))

    def face_uv(self, faces: Tensor, barycentric: Tensor) -> Tensor:
        """UV coordinates [N, 2] of surface points given by face index [N] and barycentric weights [N, 3]."""
        return (self.uv[self.uv_faces[faces]] * barycentric[..., None]).sum(-2)


def gather_plainly(values: Tensor, corners: Tensor, weights: Tensor) -> Tensor:
    """Means [B, P, C] of values [B, V, C] at three corners [P, 3] by weights [P, 3], in torch's operations."""
    weights = weights.to(values.dtype)
    parts = (values.index_select(1, corners[:, k]) * weights[:, k, None] for k in range(3))
    return sum(parts, start=values.new_zeros(()))


class _Gather(torch.autograd.Function):
    """The same in one kernel each way; torch adds rows up one by one."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, corners: Tensor, weights: Tensor) -> Tensor:
        from stavatar.head import _uv_kernels as kernels  # compiled on CPUs only
        from stavatar.jit import array_of, threads

        ctx.save_for_backward(corners, weights)
        ctx.shape = values.shape
        texels = torch.empty(len(values), len(corners), values.shape[2])
        with threads():
            kernels.gather(array_of(values), array_of(corners), array_of(weights), texels.numpy())
        return texels

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        from stavatar.head import _uv_kernels as kernels
        from stavatar.jit import array_of, threads

        corners, weights = ctx.saved_tensors
        values = torch.zeros(ctx.shape)
        with threads():
            kernels.gather_backward(array_of(gradient), array_of(corners), array_of(weights), values.numpy())
        return values, None, None


def texel_centers(resolution: int, *, device: torch.device | str = "cpu") -> Tensor:
    """UV coordinates [R, R, 2] of the texel centres."""
    return _centers(resolution).float().to(device)


def _centers(resolution: int) -> Tensor:
    steps = (torch.arange(resolution, dtype=torch.float64) + 0.5) / resolution
    v, u = torch.meshgrid(steps, steps, indexing="ij")
    return torch.stack([u, v], -1)


def _rasterise(triangles: Tensor, resolution: int) -> Tensor:
    """Lowest index of the triangles [F, 3, 2] that contain each texel centre: [R, R], -1 where there is none."""
    # Each triangle is tested against the texel centres in its bounding box.
    low = (triangles.amin(1) * resolution - 0.5).ceil().clamp(0, resolution).long()
    high = (triangles.amax(1) * resolution - 0.5).floor().clamp(-1, resolution - 1).long()
    width, height = (high - low + 1).clamp_min(0).unbind(1)
    count = width * height
    nobody = len(triangles)
    owner = torch.full((resolution * resolution,), nobody)
    chunk = (count.cumsum(0) - 1).clamp_min(0) // _CANDIDATES
    for faces in torch.arange(nobody).split(torch.bincount(chunk).tolist() if nobody else []):
        face = faces.repeat_interleave(count[faces])
        start = count[faces].cumsum(0) - count[faces]
        step = torch.arange(len(face)) - start.repeat_interleave(count[faces])
        column = low[face, 0] + step % width[face]
        row = low[face, 1] + step // width[face]
        center = (torch.stack([column, row], 1) + 0.5) / resolution
        hit = (_barycentric(triangles[face], center) >= 0).all(1)
        texel = (row * resolution + column)[hit]
        owner.scatter_reduce_(0, texel, face[hit], "amin")
    return torch.where(owner == nobody, -1, owner).reshape(resolution, resolution)


def _barycentric(triangles: Tensor, points: Tensor) -> Tensor:
    """Weights [N, 3] of points [N, 2] in triangles [N, 3, 2]; NaN (nowhere inside) for triangles without area."""
    a, b, c = triangles.unbind(1)
    sides = torch.stack(
        [_cross(b - points, c - points), _cross(c - points, a - points), _cross(a - points, b - points)], 1
    )
    return sides / _cross(b - a, c - a)[:, None]


def _cross(left: Tensor, right: Tensor) -> Tensor:
    return left[..., 0] * right[..., 1] - left[..., 1] * right[..., 0]


def _clamp(barycentric: Tensor) -> Tensor:
    clamped = barycentric.clamp_min(0)
    return clamped / clamped.sum(-1, keepdim=True)


def _extend(face: Tensor) -> Tensor:
    """Fill the texels within `GUTTER` texels of a face with the face of the nearest inside texel."""
    outside = (face < 0).numpy()
    if outside.all():
        return face
    distance, nearest = distance_transform_edt(outside, return_indices=True)
    filled = face.numpy()[tuple(nearest)]
    return torch.from_numpy(np.where(distance <= GUTTER, filled, -1))
