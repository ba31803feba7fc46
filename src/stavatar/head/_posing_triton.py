"""Posing a head of fixed identity on a GPU, without gradients: two kernels where :class:`HeadModel` takes a hundred."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from stavatar.gpu._loading_triton import load_three
from stavatar.head.model import HeadModel, PosedHead
from stavatar.head.parameters import HeadParameters
from stavatar.head.posing import PARENTS

_FRAMES, _VERTICES = 16, 128  # that one program works on


@triton.jit
def _rotation(x, y, z):  # type: ignore[no-untyped-def]
    """Rodrigues' formula as in :func:`stavatar.rotations.axis_angle_to_matrix`, row by row."""
    square = x * x + y * y + z * z
    small = square < 1e-6
    angle = tl.sqrt(tl.where(small, 1.0, square))
    first = tl.where(small, 1 - square / 6, tl.sin(angle) / angle)
    second = tl.where(small, 0.5 - square / 24, (1 - tl.cos(angle)) / (angle * angle))
    xy, xz, yz = second * x * y, second * x * z, second * y * z
    return (
        1 - second * (y * y + z * z), xy - first * z, xz + first * y,
        xy + first * z, 1 - second * (x * x + z * z), yz - first * x,
        xz - first * y, yz + first * x, 1 - second * (x * x + y * y),
    )  # fmt: skip


@triton.jit
def _row(x, y, z, m):  # type: ignore[no-untyped-def]
    """A row vector times a matrix."""
    return x * m[0] + y * m[3] + z * m[6], x * m[1] + y * m[4] + z * m[7], x * m[2] + y * m[5] + z * m[8]


@triton.jit
def _product(a, b):  # type: ignore[no-untyped-def]
    a0, a1, a2 = _row(a[0], a[1], a[2], b)
    b0, b1, b2 = _row(a[3], a[4], a[5], b)
    c0, c1, c2 = _row(a[6], a[7], a[8], b)
    return a0, a1, a2, b0, b1, b2, c0, c1, c2


@triton.jit
def _turned(m, x, y, z):  # type: ignore[no-untyped-def]
    return m[0] * x + m[1] * y + m[2] * z, m[3] * x + m[4] * y + m[5] * z, m[6] * x + m[7] * y + m[8] * z


@triton.jit
def _store_joint(transforms, places, at, turn, origin, joint, shift, fits):  # type: ignore[no-untyped-def]
    """One joint's 3x4 transform, and where it is after the translation `shift`."""
    rx, ry, rz = _turned(turn, joint[0], joint[1], joint[2])
    for row in tl.static_range(3):
        for column in tl.static_range(3):
            tl.store(transforms + 12 * at + 4 * row + column, turn[3 * row + column], mask=fits)
    tl.store(transforms + 12 * at + 3, origin[0] - rx, mask=fits)
    tl.store(transforms + 12 * at + 7, origin[1] - ry, mask=fits)
    tl.store(transforms + 12 * at + 11, origin[2] - rz, mask=fits)
    tl.store(places + 3 * at, origin[0] + shift[0], mask=fits)
    tl.store(places + 3 * at + 1, origin[1] + shift[1], mask=fits)
    tl.store(places + 3 * at + 2, origin[2] + shift[2], mask=fits)


@triton.jit
def _store_feature(features, at, turn, fits):  # type: ignore[no-untyped-def]
    """R - 1 of a joint, which drives pose correctives."""
    for entry in tl.static_range(9):
        tl.store(features + at + entry, turn[entry] - (1.0 if entry % 4 == 0 else 0.0), mask=fits)


@triton.jit
def _move_joints(  # type: ignore[no-untyped-def]
    root, neck, jaw, eyes, neck_translation, translation, joints, transforms, places, features,
    frames, joint_stride, with_features: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Transforms [B, 5, 12] and places [B, 5, 3] of the joints: neck on root, the other three on the neck."""
    i = tl.program_id(0) * block + tl.arange(0, block)
    fits = i < frames
    own = joints + i * joint_stride
    j_root, j_neck = load_three(own, 0, fits), load_three(own, 3, fits)
    shift = load_three(translation, 3 * i, fits)

    rx, ry, rz = load_three(root, 3 * i, fits)
    r_root = _rotation(rx, ry, rz)
    _store_joint(transforms, places, 5 * i, r_root, j_root, j_root, shift, fits)
    nx, ny, nz = load_three(neck, 3 * i, fits)
    local = _rotation(nx, ny, nz)
    if with_features:
        _store_feature(features, 36 * i, local, fits)
    r_neck = _product(r_root, local)
    mx, my, mz = load_three(neck_translation, 3 * i, fits)
    bx, by, bz = _turned(r_root, j_neck[0] - j_root[0] + mx, j_neck[1] - j_root[1] + my, j_neck[2] - j_root[2] + mz)
    o_neck = (bx + j_root[0], by + j_root[1], bz + j_root[2])
    _store_joint(transforms, places, 5 * i + 1, r_neck, o_neck, j_neck, shift, fits)
    for child in tl.static_range(3):
        if child == 0:
            x, y, z = load_three(jaw, 3 * i, fits)
        else:
            x, y, z = load_three(eyes, 6 * i + 3 * (child - 1), fits)
        local = _rotation(x, y, z)
        if with_features:
            _store_feature(features, 36 * i + 9 * (child + 1), local, fits)
        joint = load_three(own, 6 + 3 * child, fits)
        bx, by, bz = _turned(r_neck, joint[0] - j_neck[0], joint[1] - j_neck[1], joint[2] - j_neck[2])
        origin = (bx + o_neck[0], by + o_neck[1], bz + o_neck[2])
        _store_joint(transforms, places, 5 * i + 2 + child, _product(r_neck, local), origin, joint, shift, fits)


@triton.jit
def _skin(unposed, weights, transforms, translation, vertices, count, block: tl.constexpr):  # type: ignore[no-untyped-def]
    """Linear blend skinning of vertices [B, V, 3]."""
    i = tl.program_id(0) * block + tl.arange(0, block)
    frame = tl.program_id(1)
    fits = i < count
    at = 3 * (frame * count + i)
    x, y, z = load_three(unposed, at, fits)
    new_x = tl.zeros([block], tl.float32) + tl.load(translation + 3 * frame)
    new_y = tl.zeros([block], tl.float32) + tl.load(translation + 3 * frame + 1)
    new_z = tl.zeros([block], tl.float32) + tl.load(translation + 3 * frame + 2)
    for joint in tl.static_range(5):
        weight = tl.load(weights + 5 * i + joint, mask=fits, other=0.0)
        m = transforms + 12 * (5 * frame + joint)
        new_x += weight * (tl.load(m) * x + tl.load(m + 1) * y + tl.load(m + 2) * z + tl.load(m + 3))
        new_y += weight * (tl.load(m + 4) * x + tl.load(m + 5) * y + tl.load(m + 6) * z + tl.load(m + 7))
        new_z += weight * (tl.load(m + 8) * x + tl.load(m + 9) * y + tl.load(m + 10) * z + tl.load(m + 11))
    tl.store(vertices + at, new_x, mask=fits)
    tl.store(vertices + at + 1, new_y, mask=fits)
    tl.store(vertices + at + 2, new_z, mask=fits)


class PosedByKernels:
    """A head of one identity, ready to be posed again and again.

    Args:
        head: on a GPU.
        shape: [S] identity.
    """

    def __init__(self, head: HeadModel, shape: Tensor) -> None:
        assert PARENTS == (-1, 0, 1, 1, 1)
        still = head.neutral().expression
        self._rest = head.unposed(shape, still).flatten(1)
        self._basis = head.expression_basis.flatten(1).contiguous()
        self._weights = head.weights.contiguous()
        self._joints = head.joints(head._whole(shape, 1), still).flatten(1)
        self._joint_basis = head._expression_joint_basis
        self._pose_basis = head._pose_basis

    def __call__(self, parameters: HeadParameters) -> tuple[PosedHead, Tensor]:
        """The posed head of B frames, and its vertices [B, V, 3] with the expression alone."""
        p = parameters.map(Tensor.contiguous)
        frames = len(p)
        device = self._rest.device
        expressed = torch.addmm(self._rest, p.expression, self._basis)
        joints = self._joints
        if self._joint_basis is not None:
            joints = torch.addmm(joints, p.expression, self._joint_basis.flatten(1))
        transforms = torch.empty(frames, 5, 12, device=device)
        places = torch.empty(frames, 5, 3, device=device)
        features = torch.empty(frames, 36, device=device)
        vertices = torch.empty(frames, len(self._weights), 3, device=device)
        with torch.cuda.device(device):
            _move_joints[(triton.cdiv(frames, _FRAMES),)](
                p.rotation, p.neck, p.jaw, p.eyes, p.neck_translation, p.translation, joints, transforms, places,
                features, frames, joints.shape[1] if len(joints) > 1 else 0, self._pose_basis is not None, _FRAMES,
            )  # fmt: skip
            unposed = expressed if self._pose_basis is None else torch.addmm(expressed, features, self._pose_basis)
            _skin[(triton.cdiv(len(self._weights), _VERTICES), frames)](
                unposed, self._weights, transforms, p.translation, vertices, len(self._weights), _VERTICES
            )
        return PosedHead(vertices, places), expressed.unflatten(1, (-1, 3))
