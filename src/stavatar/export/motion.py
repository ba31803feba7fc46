"""Recorded motion as tables: npz with every parameter, or CSV as the Live Link Face app writes it."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stavatar import __version__
from stavatar.avatar.storage import Motion
from stavatar.errors import InputError
from stavatar.files import atomic_path, write_text
from stavatar.head import HeadModel
from stavatar.rotations import axis_angle_to_matrix

# fmt: off
LIVE_LINK_BLENDSHAPES = (
    "EyeBlinkLeft", "EyeLookDownLeft", "EyeLookInLeft", "EyeLookOutLeft", "EyeLookUpLeft", "EyeSquintLeft",
    "EyeWideLeft", "EyeBlinkRight", "EyeLookDownRight", "EyeLookInRight", "EyeLookOutRight", "EyeLookUpRight",
    "EyeSquintRight", "EyeWideRight", "JawForward", "JawRight", "JawLeft", "JawOpen", "MouthClose", "MouthFunnel",
    "MouthPucker", "MouthRight", "MouthLeft", "MouthSmileLeft", "MouthSmileRight", "MouthFrownLeft", "MouthFrownRight",
    "MouthDimpleLeft", "MouthDimpleRight", "MouthStretchLeft", "MouthStretchRight", "MouthRollLower", "MouthRollUpper",
    "MouthShrugLower", "MouthShrugUpper", "MouthPressLeft", "MouthPressRight", "MouthLowerDownLeft",
    "MouthLowerDownRight", "MouthUpperUpLeft", "MouthUpperUpRight", "BrowDownLeft", "BrowDownRight", "BrowInnerUp",
    "BrowOuterUpLeft", "BrowOuterUpRight", "CheekPuff", "CheekSquintLeft", "CheekSquintRight", "NoseSneerLeft",
    "NoseSneerRight", "TongueOut",
)
"""ARKit's 52 blendshapes with the spelling and in the order of the app's columns."""

LIVE_LINK_ANGLES = (
    "HeadYaw", "HeadPitch", "HeadRoll", "LeftEyeYaw", "LeftEyePitch", "LeftEyeRoll",
    "RightEyeYaw", "RightEyePitch", "RightEyeRoll",
)
# fmt: on

YAW_AT_FULL, PITCH_AT_FULL = 0.35, 0.25
"""Radians that an eye is turned by where an eyeLook coefficient is 1, as trackers' coefficients are read as well."""


def write_motion_npz(path: Path, head: HeadModel, shape: Tensor, motion: Motion) -> None:
    """Write every parameter of every frame.

    The arrays are those of :class:`stavatar.head.HeadParameters`, each [T, width], and `shape` [S], `fps`,
    `expression_names`, `head_model`, `train` and `test` (frame indices), `world_to_camera` [C, 4, 4], `focal` and
    `center` [C, 2], `image_size` (width, height), with C = 1 or T.

    Raises:
        InputError: the file cannot be written.
    """
    camera = motion.camera
    arrays: dict[str, Any] = {name: value.numpy() for name, value in motion.parameters.items()}
    arrays |= {
        "shape": shape.detach().cpu().numpy(),
        "fps": motion.fps,
        "expression_names": head.expression_names,
        "head_model": head.name,
        "stavatar": __version__,
        "train": motion.train.numpy(),
        "test": motion.test.numpy(),
        "world_to_camera": camera.world_to_camera.numpy(),
        "focal": camera.focal.numpy(),
        "center": camera.center.numpy(),
        "image_size": [camera.width, camera.height],
    }
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, **arrays)


def write_motion_csv(path: Path, head: HeadModel, motion: Motion) -> None:
    """Write expressions, head and gaze as the Live Link Face app would.

    The eight eyeLook columns are computed from the eye joints, as programs take the gaze from them; all other
    coefficients are written as they are. Head angles are those of the skull in the world (torso and neck together),
    eyes turn against the skull. All are radians, R = Ry(yaw) Rx(pitch) Rz(roll): positive yaw turns to the person's
    left, positive pitch nods down. Translations and the torso's own rotation have no columns: npz keeps them.

    Raises:
        InputError: the head's expressions are not ARKit's, or the file cannot be written.
    """
    columns = {name.lower(): index for index, name in enumerate(head.expression_names)}
    if set(columns) != {name.lower() for name in LIVE_LINK_BLENDSHAPES}:
        raise InputError(
            f"the head {head.name} has no ARKit expressions, so its motion has no Live Link Face CSV; write an .npz"
        )
    parameters = motion.parameters
    weights = parameters.expression[:, [columns[name.lower()] for name in LIVE_LINK_BLENDSHAPES]].clone()
    skull = yaw_pitch_roll(axis_angle_to_matrix(parameters.rotation) @ axis_angle_to_matrix(parameters.neck))
    left, right = (yaw_pitch_roll(axis_angle_to_matrix(eye)) for eye in parameters.eyes.split(3, 1))
    for name, value in (_look("Left", left) | _look("Right", right)).items():
        weights[:, LIVE_LINK_BLENDSHAPES.index(name)] = value
    values = torch.cat([weights, skull, left, right], 1)

    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["Timecode", "BlendShapeCount", *LIVE_LINK_BLENDSHAPES, *LIVE_LINK_ANGLES])
    for frame, row in enumerate(values.tolist()):
        table.writerow([timecode(frame, motion.fps), len(row), *(f"{value:.8f}" for value in row)])
    write_text(path, text.getvalue())


def _look(side: str, angles: Tensor) -> dict[str, Tensor]:
    """The four eyeLook coefficients of one eye from its angles [T, 3]."""
    outwards = angles[:, 0] / YAW_AT_FULL * (1 if side == "Left" else -1)
    down = angles[:, 1] / PITCH_AT_FULL
    ways = {"Out": outwards, "In": -outwards, "Down": down, "Up": -down}
    return {f"EyeLook{way}{side}": amount.clamp(0, 1) for way, amount in ways.items()}


def yaw_pitch_roll(rotation: Tensor) -> Tensor:
    """Matrices [..., 3, 3] -> radians [..., 3] with R = Ry(yaw) Rx(pitch) Rz(roll), pitch within a quarter turn."""
    pitch = -rotation[..., 1, 2].clamp(-1, 1).asin()
    yaw = torch.atan2(rotation[..., 0, 2], rotation[..., 2, 2])
    roll = torch.atan2(rotation[..., 1, 0], rotation[..., 1, 1])
    return torch.stack([yaw, pitch, roll], -1)


def timecode(frame: int, fps: float) -> str:
    """``HH:MM:SS:FF.mmm``; FF counts frames at `fps` rounded to a whole number, and mmm thousandths of one."""
    thousandths = round(1000 * frame * round(fps) / fps)
    frames, thousandths = divmod(thousandths, 1000)
    seconds, frames = divmod(frames, max(1, round(fps)))
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}:{frames:02d}.{thousandths:03d}"
