"""Avatars on disk: ``avatar.safetensors`` for the tensors, ``avatar.yaml`` for everything a person may want to read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_safetensors
from torch import Tensor

from stavatar import __version__
from stavatar.avatar.avatar import Avatar
from stavatar.avatar.gaussians import BoundGaussians
from stavatar.camera import Camera
from stavatar.config import from_dict, to_dict
from stavatar.errors import InputError, TrainingError, reason
from stavatar.files import atomic_folder, read_yaml, require_file, write_bytes, write_text
from stavatar.head import HeadParameters, load_head
from stavatar.head.regions import RegionMasks
from stavatar.head.uv import UVAtlas

FORMAT = 1
TENSORS, DESCRIPTION = "avatar.safetensors", "avatar.yaml"
_NOT_STORED = "head."
_SH_REST = (0, 3, 8, 15)
_MOST_BYTES = 4 << 30
_MOST_SIDE = 8192
_MOST_FPS = 1000.0


@dataclass(frozen=True)
class Motion:
    """The performance an avatar was made from: its head parameters, camera and speed, to replay and compare.

    Attributes:
        parameters: T frames.
        camera: one camera, or T.
        fps: frames per second.
        train, test: which frames were learned from and which held out.
    """

    parameters: HeadParameters
    camera: Camera
    fps: float
    train: Tensor
    test: Tensor


def tensors_of_avatar(avatar: Avatar) -> dict[str, Tensor]:
    """Everything learned or recorded; the head model and its atlas are known by name and left out."""
    return {name: value for name, value in avatar.state_dict().items() if not name.startswith(_NOT_STORED)}


def load_tensors(avatar: Avatar, tensors: dict[str, Tensor]) -> None:
    """Fill an avatar from the tensors of another one of the same build; others among `tensors` are passed over.

    Raises:
        KeyError, RuntimeError: a tensor is missing or has the wrong shape.
    """
    wanted = tensors_of_avatar(avatar)
    avatar.load_state_dict({name: tensors[name] for name in wanted}, strict=False)


def gaussians_from_tensors(tensors: dict[str, Tensor]) -> BoundGaussians:
    """The Gaussians among an avatar's tensors, however many they are.

    Raises:
        KeyError, ValueError: a tensor is missing or has the wrong shape.
    """
    own = {name: tensors[f"gaussians.{name}"] for name in (*BoundGaussians.PARAMETERS, "face", "uv", "free")}
    count = own["position"].shape[:1]
    rest = next((coefficients for coefficients in _SH_REST if own["sh_rest"].shape[1:] == (coefficients, 3)), 0)
    tails: dict[str, tuple[int, ...]] = {"position": (3,), "log_scale": (3,), "quaternion": (4,), "sh_dc": (1, 3)}
    tails |= {"sh_rest": (rest, 3), "uv": (2,)}
    types = {"face": torch.int64, "free": torch.bool}
    for name, value in own.items():
        if tuple(value.shape) != (*count, *tails.get(name, ())) or not all(count):
            raise ValueError(f"gaussians.{name} has shape {list(value.shape)}")
        if value.dtype != types.get(name, value.dtype) or (name not in types and not value.is_floating_point()):
            raise ValueError(f"gaussians.{name} has the type {value.dtype}")
        if not bool(torch.isfinite(value).all()):
            raise ValueError(f"gaussians.{name} holds values that are not numbers")
    return BoundGaussians({name: own[name] for name in BoundGaussians.PARAMETERS}, own["face"], own["uv"], own["free"])


def save_avatar(avatar: Avatar, motion: Motion, folder: Path) -> None:
    """Write an avatar and its recorded motion as `folder`, whole or not at all; an avatar that it holds is replaced.

    Raises:
        InputError: the folder cannot be written or holds something else.
        TrainingError: something in the avatar is no number; an avatar that was there stays.
    """
    folder = Path(folder)
    strangers = {entry.name for entry in folder.iterdir()} - {TENSORS, DESCRIPTION} if folder.is_dir() else set()
    if strangers:
        raise InputError(f"{folder} holds {min(strangers)!r}, so it is not replaced by an avatar: give another folder")
    tensors = tensors_of_avatar(avatar)
    tensors |= {f"motion.{name}": value for name, value in motion.parameters.items()}
    camera = motion.camera
    tensors |= {
        "camera.world_to_camera": camera.world_to_camera,
        "camera.focal": camera.focal,
        "camera.center": camera.center,
        "motion.train": motion.train,
        "motion.test": motion.test,
    }
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    broken = not_numbers(tensors)
    if broken:
        raise TrainingError(f"the avatar is not saved to {folder}: {broken} holds values that are no numbers")
    description = {
        "format": FORMAT,
        "stavatar": __version__,
        "head_model": avatar.head.name,
        "gaussians": len(avatar.gaussians),
        "image": {"width": camera.width, "height": camera.height},
        "fps": motion.fps,
        "config": to_dict(avatar.config),
    }
    with atomic_folder(folder) as temporary:
        write_bytes(temporary / TENSORS, to_safetensors(tensors))
        write_text(temporary / DESCRIPTION, yaml.safe_dump(description, sort_keys=False))


def not_numbers(tensors: dict[str, Tensor]) -> str | None:
    """The name of the first tensor that holds NaN or infinity; None where all are numbers."""
    return next((name for name, value in tensors.items() if not bool(torch.isfinite(value).all())), None)


def avatar_folder(path: Path) -> Path:
    """The avatar's folder at `path`, which is one or is a run that holds one."""
    path = Path(path)
    inside = path / "avatar"
    return inside if not (path / DESCRIPTION).exists() and inside.is_dir() else path


def load_motion(folder: Path) -> tuple[str, Motion]:
    """The name of the head model and the recorded motion of an avatar, without building the avatar.

    Raises:
        InputError: a file is missing or damaged, or was written by another version of the format.
    """
    description = _description(folder / DESCRIPTION)
    tensors = _tensors(folder / TENSORS)
    try:
        return str(description["head_model"]), _motion(tensors, description)
    except _INCOMPLETE as error:
        raise InputError(f"{folder} is not a complete avatar: {_reason(error)}") from error


def load_avatar(folder: Path, device: torch.device | str = "cpu") -> tuple[Avatar, Motion]:
    """Read what :func:`save_avatar` wrote.

    Raises:
        InputError: a file is missing or damaged, or was written by another version of the format.
    """
    folder = Path(folder)
    description = _description(folder / DESCRIPTION)
    tensors = _tensors(folder / TENSORS)
    try:
        config = from_dict(description["config"], source=str(folder / DESCRIPTION))
        head = load_head(str(description["head_model"]))
        motion = _motion(tensors, description)
        _numbers(tensors, "shape", (head.shape_count,))
        if motion.parameters.expression.shape[1] != len(head.expression_names):
            raise ValueError(f"motion.expression has not the {len(head.expression_names)} expressions of {head.name}")
        broken = not_numbers(tensors)
        if broken is not None:
            raise ValueError(f"{broken} holds values that are not numbers")
        gaussians = gaussians_from_tensors(tensors)
        if int(gaussians.face.max()) >= len(head.faces) or int(gaussians.face.min()) < 0:
            raise ValueError("gaussians.face points beyond the head's faces")
        size = config.network.uv_size
        atlas = UVAtlas.build(head, size)
        avatar = Avatar(
            config,
            head,
            tensors["shape"],
            gaussians,
            # Statistics, UV_pos and the reference image are among the tensors and replace what is made of these.
            seen=head.neutral(),
            reference=head.neutral(),
            image=torch.zeros(3, size, size),
            atlas=atlas,
            masks=RegionMasks.build(head, atlas).masks,
        )
        load_tensors(avatar, tensors)
    except _INCOMPLETE as error:
        raise InputError(f"{folder} is not a complete avatar: {_reason(error)}") from error
    return avatar.to(device).eval(), motion


_INCOMPLETE = (LookupError, TypeError, RuntimeError, ValueError, AttributeError)


def _reason(error: Exception) -> str:
    """What an error says, as the end of a sentence."""
    return f"{reason(error)} is missing" if isinstance(error, KeyError) else reason(error)


def _tensors(path: Path) -> dict[str, Tensor]:
    require_file(path, most_bytes=_MOST_BYTES)
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, RuntimeError, KeyError) as error:
        raise InputError(f"{path} cannot be read as safetensors: {reason(error)}") from error


def _description(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise InputError(f"{path.parent} is not an avatar: it has no {path.name}")
    description = read_yaml(path)
    found = description.get("format") if isinstance(description, dict) else None
    if not isinstance(description, dict) or found != FORMAT:
        shown = found if isinstance(found, int) and abs(found) < 1 << 31 else "that is no number"
        raise InputError(f"{path} has the format {shown}, and this version of stavatar reads {FORMAT}")
    return description


def _motion(tensors: dict[str, Tensor], description: dict[str, Any]) -> Motion:
    """The recorded motion, all of it checked.

    Raises:
        KeyError, TypeError, ValueError: something is missing, of another shape or type, or out of range.
    """
    names = HeadParameters.__dataclass_fields__
    widths = {"expression": tensors["motion.expression"].shape[-1], "eyes": 6}
    frames = len(tensors["motion.expression"])
    rows = {name: _numbers(tensors, f"motion.{name}", (frames, widths.get(name, 3))) for name in names}
    cameras = len(tensors["camera.focal"])
    camera = Camera(
        _numbers(tensors, "camera.world_to_camera", (cameras, 4, 4)),
        _numbers(tensors, "camera.focal", (cameras, 2)),
        _numbers(tensors, "camera.center", (cameras, 2)),
        *(_side(description["image"], side) for side in ("width", "height")),
    )
    if cameras not in (1, frames) or float(camera.focal.min()) <= 0:
        raise ValueError("camera.focal must be positive, of one camera or one for each frame")
    fps = description["fps"]
    if isinstance(fps, bool) or not isinstance(fps, int | float) or not 0 < fps <= _MOST_FPS:
        raise ValueError(f"fps must be a number between 0 and {_MOST_FPS:g}")
    split = {name: tensors[f"motion.{name}"] for name in ("train", "test")}
    for name, some in split.items():
        if some.ndim != 1 or some.dtype != torch.int64 or bool(((some < 0) | (some >= frames)).any()):
            raise ValueError(f"motion.{name} must be indices of the {frames} frames")
    return Motion(HeadParameters(**rows), camera, float(fps), split["train"], split["test"])


def _numbers(tensors: dict[str, Tensor], name: str, shape: tuple[int, ...]) -> Tensor:
    """A tensor of finite 32-bit floats of this shape, no axis empty."""
    value = tensors[name]
    if tuple(value.shape) != shape or 0 in shape:
        raise ValueError(f"{name} has the shape {list(value.shape)}, and {list(shape)} is expected")
    if value.dtype != torch.float32 or not bool(torch.isfinite(value).all()):
        raise ValueError(f"{name} must hold finite 32-bit floating-point numbers")
    return value


def _side(image: Any, side: str) -> int:
    length = image[side]
    if type(length) is not int or not 0 < length <= _MOST_SIDE:
        raise ValueError(f"image.{side} must be a whole number between 1 and {_MOST_SIDE}")
    return length
