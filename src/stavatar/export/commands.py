"""What `stavatar export` does: an avatar's path in, a file or a folder out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from stavatar.avatar.avatar import PosedGaussians
from stavatar.avatar.storage import Motion, avatar_folder, load_avatar
from stavatar.camera import Camera
from stavatar.errors import InputError
from stavatar.evaluation.metrics import psnr
from stavatar.export.animation import write_animated_mesh
from stavatar.export.motion import write_motion_csv, write_motion_npz
from stavatar.export.ply import write_ply
from stavatar.export.splats import Splats
from stavatar.export.spz import read_spz, write_spz
from stavatar.export.web.page import export_page
from stavatar.export.web.site import Truth, export_site
from stavatar.head import HeadParameters
from stavatar.locks import sole_writer
from stavatar.sequence import read_sequence


def export_ply(path: Path, out: Path, *, frame: int | None) -> int:
    """Write one recorded frame, or the neutral face where `frame` is None, as a PLY; return the number of Gaussians.

    Raises:
        InputError: there is no such avatar or frame, or the file cannot be written.
    """
    _require_suffix(out, ".ply")
    splats, _ = _splats(path, frame)
    with sole_writer(out):
        write_ply(out, splats)
    return len(splats)


def export_spz(path: Path, out: Path, *, frame: int | None) -> float:
    """Write the same as SPZ; return the PSNR in dB between renders before and after, from the recorded camera.

    Raises:
        InputError: there is no such avatar or frame, or the file cannot be written.
        BackendError: gsply is not installed.
    """
    _require_suffix(out, ".spz")
    splats, camera = _splats(path, frame)
    with sole_writer(out):
        write_spz(out, splats)
    before, after = (what.draw(camera).image.clamp(0, 1) for what in (splats, read_spz(out)))
    return psnr(after, before).item()


def export_glb(path: Path, out: Path) -> None:
    """Write the head mesh with the recorded motion as a binary glTF file.

    Raises:
        InputError: there is no such avatar, or the file cannot be written.
    """
    _require_suffix(out, ".glb")
    avatar, motion = load_avatar(avatar_folder(path))
    with sole_writer(out):
        write_animated_mesh(out, avatar, motion)


def export_motion(path: Path, out: Path) -> None:
    """Write the recorded motion, as npz or CSV by the suffix of `out`.

    Raises:
        InputError: there is no such avatar, or the file cannot be written, or the head has no Live Link Face names.
    """
    _require_suffix(out, ".npz", ".csv")
    avatar, motion = load_avatar(avatar_folder(path))
    with sole_writer(out):
        if out.suffix.lower() == ".npz":
            write_motion_npz(out, avatar.head, avatar.shape, motion)
        else:
            write_motion_csv(out, avatar.head, motion)


def export_web(path: Path, out: Path, *, rank: int, frames: int | None, device: torch.device) -> dict[str, Any]:
    """Write a site that plays the avatar, a single page where `out` ends in .html; return what was measured.

    Where `path` is a run with its sequence, both models are measured against the recorded pictures as well.

    Raises:
        InputError: there is no such avatar, or `out` holds something else.
    """
    avatar, motion = load_avatar(avatar_folder(path), device)
    export = export_page if out.suffix.lower() == ".html" else export_site
    meta = export(out, avatar, motion, rank=rank, frames=frames, truth=_recorded_pictures(path, motion))
    return dict(meta["measured"])


def _require_suffix(out: Path, *suffixes: str) -> None:
    if out.suffix.lower() not in suffixes:
        raise InputError(f"{out}: the file's name must end in {' or '.join(suffixes)}")


def _splats(path: Path, frame: int | None) -> tuple[Splats, Camera]:
    """One frame's Gaussians, and the camera that recorded it."""
    avatar, motion = load_avatar(avatar_folder(path))
    if frame is None:
        parameters, camera = neutral_face(motion), motion.camera[[0]]
    elif 0 <= frame < len(motion.parameters):
        parameters, camera = motion.parameters[[frame]], motion.camera[[frame]]
    else:
        raise InputError(f"--frame {frame}: the recorded motion has the frames 0 to {len(motion.parameters) - 1}")
    with torch.no_grad():
        posed: PosedGaussians = avatar(parameters)
    return Splats.of(posed), camera


def neutral_face(motion: Motion) -> HeadParameters:
    """One frame: the face at rest, the head straight on the torso, and the torso where it was on average.

    The torso stays because the offset network knows nothing of other places.
    """
    recorded = motion.parameters[motion.train] if len(motion.train) else motion.parameters
    zeros = HeadParameters.zeros(1, recorded.expression.shape[1])
    kept = ("rotation", "translation", "neck_translation")
    return zeros.replaced(**{name: getattr(recorded, name).mean(0, keepdim=True) for name in kept})


def _recorded_pictures(path: Path, motion: Motion) -> Truth | None:
    """The recorded pictures of a run; None where there are none, or none that fit."""
    folder = path / "sequence"
    if not (folder / "transforms.json").is_file():
        return None
    sequence = read_sequence(folder)
    if len(sequence) != len(motion.parameters) or sequence.width != motion.camera.width:
        return None
    return lambda frame: sequence.image([frame])[0]
