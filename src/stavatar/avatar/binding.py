"""Carrying Gaussians from their faces into the world (eq. 2), with the network's offsets on top (eq. 7).

:func:`bind_by_formulas` is the definition, in plain torch. On a CPU the same is done by compiled kernels in one pass
(:mod:`stavatar.avatar._binding_kernels`), gradients included; on a GPU by :mod:`stavatar.avatar._binding_triton`, where
raw offsets are given (:meth:`Avatar.place`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stavatar.avatar.gaussians import BoundGaussians
from stavatar.avatar.offsets import Offsets
from stavatar.head import face_frames
from stavatar.rotations import axis_angle_to_quaternion, matrix_to_quaternion, quaternion_multiply

_ROW = 17  # numbers that a face says: rotation, quaternion, origin, size

Placed = tuple[Tensor, Tensor, Tensor]
"""Means [B, N, 3], quaternions [B, N, 4] and scales [B, N, 3] in world space."""


def bind(
    vertices: Tensor, faces: Tensor, gaussians: BoundGaussians, offsets: Offsets | None, *, in_face: bool
) -> Placed:
    """Means, quaternions and scales of N Gaussians in B frames.

    Args:
        vertices: [B, V, 3] of the posed mesh.
        faces: [F, 3].
        gaussians: bound to them.
        offsets: of B frames; None for hard binding.
        in_face: the position offset is along the face's axes, else along the world's.
    """
    if vertices.device.type == "cpu" and vertices.dtype == torch.float32:
        return _bind_by_kernels(vertices, faces, gaussians, offsets, in_face)
    return bind_by_formulas(vertices, faces, gaussians, offsets, in_face=in_face)


def bind_by_formulas(
    vertices: Tensor, faces: Tensor, gaussians: BoundGaussians, offsets: Offsets | None, *, in_face: bool
) -> Placed:
    """:func:`bind` in plain torch."""
    g = gaussians
    # One gather for all that a face says; its backward pass adds up in one go as well.
    told = face_rows(vertices, faces).index_select(1, g.face)
    flat_rotation, quaternion, origin, size = told.split([9, 4, 3, 1], -1)
    rotation = flat_rotation.unflatten(-1, (3, 3))
    means = origin + size * (rotation @ g.position[..., None])[..., 0]
    scales = size * g.log_scale.exp()
    quaternions = quaternion_multiply(quaternion, nn.functional.normalize(g.quaternion, dim=-1))
    if offsets is not None:
        shift = offsets.position
        if in_face:
            shift = (rotation @ shift[..., None])[..., 0]
        means = means + shift
        scales = scales * offsets.scale
        quaternions = quaternion_multiply(axis_angle_to_quaternion(offsets.rotation), quaternions)
    return means, quaternions, scales


def face_rows(vertices: Tensor, faces: Tensor) -> Tensor:
    """What each face says to its Gaussians [B, F, 17]: rotation, the same as a quaternion, origin, size."""
    frames = face_frames(vertices, faces)
    rows = [frames.rotation.flatten(-2), matrix_to_quaternion(frames.rotation), frames.origin, frames.size[..., None]]
    return torch.cat(rows, -1)


def _bind_by_kernels(
    vertices: Tensor, faces: Tensor, g: BoundGaussians, offsets: Offsets | None, in_face: bool
) -> Placed:
    learned: tuple[Tensor, ...]
    if offsets is None:
        nothing = vertices.new_empty(len(vertices), 0, 3)
        learned = nothing, nothing, nothing
    else:
        batch = len(vertices)
        learned = tuple(part.expand(batch, -1, -1) for part in (offsets.position, offsets.scale, offsets.rotation))
    result: Placed = _Binding.apply(
        faces, g.face, offsets is not None, in_face, vertices, g.position, g.log_scale, g.quaternion, *learned
    )
    return result


class _Binding(torch.autograd.Function):
    """The kernels as an operation of torch."""

    @staticmethod
    def forward(ctx: Any, faces: Tensor, face: Tensor, soft: bool, in_face: bool, *inputs: Tensor) -> Placed:
        from stavatar.avatar import _binding_kernels as kernels  # compiled on CPUs only
        from stavatar.jit import array_of, threads

        vertices, position, log_scale, quaternion, *offsets = (array_of(tensor) for tensor in inputs)
        batch, count = len(vertices), len(position)
        frames = np.empty((batch, len(faces), _ROW))
        outputs = tuple(np.empty((batch, count, width), np.float32) for width in (3, 4, 3))
        face_array, faces_array = face.numpy(), faces.numpy()
        with threads():
            for frame in range(batch):
                kernels.frame_faces(vertices[frame], faces_array, frames[frame])
                kernels.bind(
                    frames[frame], face_array, position, log_scale, quaternion,
                    *(offset[frame] for offset in offsets), soft, in_face, *(output[frame] for output in outputs),
                )  # fmt: skip
        ctx.save_for_backward(faces, face, *inputs[:4])
        ctx.frames, ctx.soft, ctx.in_face, ctx.offsets = frames, soft, in_face, offsets
        means, quaternions, scales = (torch.from_numpy(output) for output in outputs)
        return means, quaternions, scales

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        from stavatar.avatar import _binding_kernels as kernels
        from stavatar.jit import array_of, threads

        faces, face, *inputs = (array_of(tensor) for tensor in ctx.saved_tensors)
        vertices, position, log_scale, quaternion = inputs
        offsets = ctx.offsets  # as arrays of their own already, where inputs are columns of one
        arrays = [array_of(gradient) for gradient in gradients]
        bound = position, log_scale, quaternion
        d_bound = [np.zeros_like(array) for array in bound]
        d_offsets = [np.empty_like(offset) for offset in offsets]
        d_vertices = np.zeros_like(vertices)
        d_rows = np.empty((len(position), _ROW))
        d_corners = np.empty((len(faces), 3, 3))
        starts, members = kernels.group(face, len(faces))
        with threads():
            for frame, rows in enumerate(ctx.frames):
                kernels.bind_backward(
                    rows, face, *bound, *(offset[frame] for offset in offsets), ctx.soft, ctx.in_face,
                    *(array[frame] for array in arrays), d_rows, *d_bound, *(offset[frame] for offset in d_offsets),
                )  # fmt: skip
                kernels.frame_faces_backward(vertices[frame], faces, starts, members, d_rows, d_corners)
                kernels.add_corners(faces, d_corners, d_vertices[frame])
        results = [torch.from_numpy(array) for array in (d_vertices, *d_bound, *d_offsets)]
        return (None, None, None, None, *results)
