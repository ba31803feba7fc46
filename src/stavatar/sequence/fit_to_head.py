"""Making a sequence of another program one of a loaded head model: widths, names, and a camera that stays still."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from stavatar.errors import InputError
from stavatar.head.model import HeadModel
from stavatar.head.posing import JOINTS
from stavatar.progress import warn
from stavatar.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from stavatar.sequence.sequence import Sequence


def fit_to_head(sequence: Sequence, head: HeadModel) -> Sequence:
    """A sequence that names only the version of its head model, ``flame-2023``, for the file of it that is loaded.

    Coefficients that the data do not have are zero; those that the head does not have are left out with a warning.
    Where a single camera moves, its motion is given to the head (:func:`with_still_camera`). A sequence that was made
    with this very head is returned as it is.

    Raises:
        InputError: the sequence belongs to another head model.
    """
    if sequence.head_model == head.name:
        return sequence
    if not head.name.startswith(f"{sequence.head_model}-"):
        raise InputError(f"{sequence.name} was tracked with the head model {sequence.head_model!r}, not {head.name!r}")
    expression = _of_width(sequence.parameters.expression, head.expression_count, "expression")
    fitted = replace(
        sequence,
        head_model=head.name,
        shape=_of_width(sequence.shape, head.shape_count, "shape"),
        parameters=sequence.parameters.replaced(expression=expression),
        history={**sequence.history, "parameters_of": sequence.head_model},
    )
    return with_still_camera(fitted, head)


def _of_width(values: Tensor, width: int, name: str) -> Tensor:
    """Coefficients [..., N] cut or filled up with zeros to `width`."""
    if values[..., width:].any():
        warn(f"{name} has {values.shape[-1]} coefficients, and the head {width}: the others are left out")
    return functional.pad(values[..., :width], (0, max(0, width - values.shape[-1])))


@torch.no_grad()
def with_still_camera(sequence: Sequence, head: HeadModel) -> Sequence:
    """The same pictures explained by one camera that stays still and a head that moves.

    A point x of the world is seen at R x + t. The still camera [R0 | t0] sees it there if the world is moved first:
    R0 (A x + b) + t0 = R x + t for A = R0ᵀ R and b = R0ᵀ (t - t0). The head model turns by its root rotation Q about
    the root joint j, and shifts by T: x = Q (v - j) + j + T. So A x + b = A Q (v - j) + j + (A (j + T) + b - j): the
    new rotation is A Q, the new translation A (j + T) + b - j. The still camera looks along -z and sees the joint,
    not moved, where the moving ones saw it in the median.

    Sequences of several cameras, whose intrinsics change, or whose camera stays still already are returned as they are.
    """
    camera = sequence.camera
    constant = (camera.focal == camera.focal[:1]).all() and (camera.center == camera.center[:1]).all()
    if len(camera) == 1 or sequence.views is not None or not constant:
        return sequence
    moved = _root_joints(sequence, head)  # j + T: no rotation moves the root joint
    joint = moved - sequence.parameters.translation.double()
    rotation, shift = camera.world_to_camera[:, :3, :3].double(), camera.world_to_camera[:, :3, 3].double()

    seen = torch.einsum("bij,bj->bi", rotation, moved) + shift
    still = torch.eye(4, dtype=torch.float64)
    still[:3, :3] = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))
    still[:3, 3] = seen.median(0).values - still[:3, :3] @ joint.mean(0)

    turn = still[:3, :3].T @ rotation
    offset = (shift - still[:3, 3]) @ still[:3, :3]
    parameters = sequence.parameters.replaced(
        rotation=matrix_to_axis_angle(turn @ axis_angle_to_matrix(sequence.parameters.rotation.double())).float(),
        translation=(torch.einsum("bij,bj->bi", turn, moved) + offset - joint).float(),
    )
    single = replace(camera[[0]], world_to_camera=still.float()[None])
    return replace(
        sequence,
        parameters=parameters,
        camera=single,
        history={**sequence.history, "camera_motion": "given to the head"},
    )


def _root_joints(sequence: Sequence, head: HeadModel) -> Tensor:
    """The root joint of the posed head in every frame [T, 3]: FLAME's joints follow the expression."""
    device, root = head.template.device, JOINTS.index("root")
    some_at_once = torch.arange(len(sequence)).split(64)
    shape, parameters = sequence.shape.to(device), sequence.parameters.to(device)
    return torch.cat([head(shape, parameters[some]).joints[:, root] for some in some_at_once]).cpu().double()
