"""Avatars on disk: ``avatar.safetensors`` for the tensors, ``avatar.yaml`` for everything a person may want to read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

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
from stavatar.errors import InputError, TrainingError
from stavatar.files import atomic_folder, write_bytes, write_text
from stavatar.head import HeadParameters, load_head
from stavatar.head.regions import RegionMasks
from stavatar.head.uv import UVAtlas

FORMAT = 1
TENSORS, DESCRIPTION = "avatar.safetensors", "avatar.yaml"
_NOT_STORED = "head."


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
    count = len(own["position"])
    tails = {"position": (3,), "log_scale": (3,), "quaternion": (4,), "opacity_logit": (), "sh_dc": (1, 3)}
    for name, value in own.items():
        if len(value) != count or tuple(value.shape[1:]) != tails.get(name, tuple(value.shape[1:])):
            raise ValueError(f"gaussians.{name} has shape {list(value.shape)}")
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
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
    return path if (path / DESCRIPTION).exists() else path / "avatar"


def load_motion(folder: Path) -> tuple[str, Motion]:
    """The name of the head model and the recorded motion of an avatar, without building the avatar.

    Raises:
        InputError: a file is missing or damaged, or was written by another version of the format.
    """
    description = _description(folder / DESCRIPTION)
    tensors = _tensors(folder / TENSORS)
    try:
        return str(description["head_model"]), _motion(tensors, description)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder} is not a complete avatar: {str(error).splitlines()[0]}") from error


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
        atlas = UVAtlas.build(head, config.network.uv_size)
        size = config.network.uv_size
        gaussians = gaussians_from_tensors(tensors)
        if int(gaussians.face.max()) >= len(head.faces) or int(gaussians.face.min()) < 0:
            raise ValueError("gaussians.face points beyond the head's faces")
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
    except (KeyError, TypeError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{folder} is not a complete avatar: {reason}") from error
    return avatar.to(device).eval(), motion


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as safetensors: {error}") from error


def _description(path: Path) -> dict:
    try:
        description = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path.parent} is not an avatar: {path.name} cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path} is not YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        found = description.get("format") if isinstance(description, dict) else None
        raise InputError(f"{path} has format {found!r}; this version of stavatar reads format {FORMAT}")
    return description


def _motion(tensors: dict[str, Tensor], description: dict) -> Motion:
    names = HeadParameters.__dataclass_fields__
    camera = Camera(
        tensors["camera.world_to_camera"],
        tensors["camera.focal"],
        tensors["camera.center"],
        int(description["image"]["width"]),
        int(description["image"]["height"]),
    )
    return Motion(
        HeadParameters(**{name: tensors[f"motion.{name}"] for name in names}),
        camera,
        float(description["fps"]),
        tensors["motion.train"],
        tensors["motion.test"],
    )
