"""Writing sequences in the layout of :mod:`stavatar.sequence.vhap`, whole or not at all."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from stavatar.errors import InputError
from stavatar.files import atomic_folder, cannot_write, flush, link_or_copy, write_json
from stavatar.locks import sole_writer
from stavatar.progress import warn
from stavatar.rotations import axis_angle_to_matrix
from stavatar.sequence.dataset import in_parallel
from stavatar.sequence.sequence import Sequence
from stavatar.sequence.vhap import (
    CANONICAL,
    ENTRIES,
    EXTRAS,
    FORMAT,
    INTRINSICS,
    KEYS,
    LANDMARK_FILE,
    MAIN,
    OPENGL,
    SPLITS,
    TORSO_TRANSLATION,
)

FLAME_WIDTHS = {"shape": 300, "expression": 100}
"""What readers of FLAME data expect; fewer coefficients are padded with zeros, which changes no head."""
FLAME_VERTICES = 5143
"""Of FLAME with the 120 vertices of the teeth that VHAP adds: the length of ``static_offset``."""


def write_sequence(
    sequence: Sequence,
    folder: Path,
    *,
    overwrite: bool = False,
    image_format: Literal["png", "jpg"] = "png",
    pictures: Path | None = None,
) -> None:
    """Write a sequence as a VHAP folder.

    The folder appears whole or not at all: it is written under a temporary name beside its final place and renamed.

    Args:
        sequence: what to write.
        folder: a path that does not exist, or an empty folder, or with `overwrite` a folder with an earlier sequence.
        overwrite: replace an earlier sequence. Never replaces a folder with anything else in it.
        image_format: ``jpg`` (quality 95) needs about a fifth of the space of ``png`` and is not lossless. Masks are
            PNG always.
        pictures: where this function wrote the same pictures before, which may be `folder`: their files are taken from
            there, as links where the disk knows them, in place of being coded again.

    Raises:
        InputError: the folder cannot be written or holds something else.
        ValueError: the sequence has values that are not finite, or pictures of one moment with different parameters.
    """
    for name, value in [("shape", sequence.shape), *sequence.parameters.items()]:
        if not torch.isfinite(value).all():
            raise ValueError(f"{name} of sequence {sequence.name!r} is not finite")
    if sequence.views is not None:
        same = sequence.views.timesteps.diff() == 0
        for name, value in sequence.parameters.items():
            if value.diff(dim=0)[same].any():
                raise ValueError(f"{name} of sequence {sequence.name!r} differs between pictures of one moment")
    folder = Path(folder).resolve()
    with sole_writer(folder):
        check_replaceable(folder, overwrite)
        _warn_of_other_readers(sequence)
        try:
            with atomic_folder(folder) as temporary:
                _write_folder(sequence, temporary, image_format, pictures)
        except OSError as error:
            raise cannot_write(folder, error) from error


def check_replaceable(folder: Path, overwrite: bool) -> None:
    """Refuse a folder that :func:`write_sequence` would refuse, before any work is done.

    Raises:
        InputError: the folder is a file, holds something else, or an earlier sequence without `overwrite`.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InputError(f"{folder} is a file: give the name of a folder for the sequence")
    present = {entry.name for entry in folder.iterdir()}
    if not present:
        return
    strangers = sorted(present - ENTRIES)
    if strangers or MAIN not in present:
        found = f"{strangers[0]!r}" if strangers else f"files but no {MAIN}"
        raise InputError(f"{folder} holds {found}, so it is not replaced by a sequence: give another folder")
    if not overwrite:
        raise InputError(f"{folder} already holds a sequence: ask for overwriting or give another folder")


def _warn_of_other_readers(sequence: Sequence) -> None:
    """Say what GaussianAvatars would not read as it is meant."""
    moments = sequence.views.timesteps if sequence.views else torch.arange(len(sequence))
    if not (moments[torch.cat([sequence.train, sequence.test])] == 0).any():
        warn(f"frame 0 of {sequence.name} is in no split, which GaussianAvatars cannot read (stavatar can)")
    middle = torch.tensor([sequence.width / 2, sequence.height / 2])
    if ((sequence.camera.center - middle).abs() > 1).any() or (sequence.camera.focal.diff().abs() > 1).any():
        warn(
            f"the camera of {sequence.name} is off its picture's centre or has no square pixels, which GaussianAvatars "
            "ignores (stavatar does not)"
        )


def _write_folder(sequence: Sequence, folder: Path, image_format: str, pictures: Path | None) -> None:
    for name in ("images", "fg_masks", "flame_param"):
        (folder / name).mkdir()
    images, masks = sequence.images.cpu().numpy(), sequence.masks.cpu().numpy()
    timesteps = sequence.views.timesteps.tolist() if sequence.views else list(range(len(sequence)))
    records = [_frame_record(sequence, frame, timestep, image_format) for frame, timestep in enumerate(timesteps)]
    shared, moving = _parameter_arrays(sequence)

    def write_frame(frame: int) -> None:
        record = records[frame]
        image, mask = record["file_path"], record["fg_mask_path"]
        if pictures is None:
            options: dict[str, Any] = (
                {"quality": 95, "subsampling": 0} if image_format == "jpg" else {"compress_level": 3}
            )
            Image.fromarray(images[frame]).save(folder / image, **options)
            Image.fromarray(masks[frame]).save(folder / mask, compress_level=3)
            flush(folder / image)
            flush(folder / mask)
        else:
            for file in (image, mask):
                link_or_copy(pictures / file, folder / file)
        if frame == 0 or timesteps[frame] != timesteps[frame - 1]:
            own = {key: array[frame : frame + 1] for key, array in moving.items()}
            _save_arrays(folder / record["flame_param_path"], {**own, **shared})

    in_parallel("writing sequence", write_frame, range(len(sequence)))

    neutral = {key: np.zeros_like(array[:1]) for key, array in moving.items()}
    neutral["jaw_pose"][0, 0] = 0.3  # the layout's canonical head has its mouth a little open
    _save_arrays(folder / CANONICAL, {**neutral, **shared})
    if sequence.landmarks is not None:
        _save_arrays(folder / LANDMARK_FILE, {"landmarks": _float32(sequence.landmarks)})

    write_json(folder / MAIN, {**_listing(records), EXTRAS: _extras(sequence)}, indent=None)
    for split in SPLITS:  # `val` is empty where one camera leaves none to validate on
        chosen = [records[i] for i in getattr(sequence, split).tolist()]
        write_json(folder / f"transforms_{split}.json", _listing(chosen), indent=None)


def _parameter_arrays(sequence: Sequence) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The arrays that all parameter files share, and those [T, width] that give each its row.

    FLAME's get the widths that its readers expect, the zero ``static_offset`` that GaussianAvatars asks for, and a
    ``translation`` that puts the head in its place without the shift of the neck.
    """
    flame = sequence.head_model.startswith("flame")
    shape = _float32(sequence.shape)
    moving = {KEYS[name]: _float32(value) for name, value in sequence.parameters.items()}
    if not moving["neck_translation"].any():
        del moving["neck_translation"]
    shared = {"shape": shape}
    if flame:
        shared["shape"] = _padded(shape, FLAME_WIDTHS["shape"])
        moving["expr"] = _padded(moving["expr"], FLAME_WIDTHS["expression"])
        shared["static_offset"] = np.zeros((1, FLAME_VERTICES, 3), np.float32)
        if "neck_translation" in moving:
            moving[TORSO_TRANSLATION] = moving["translation"]
            torso, neck = sequence.parameters.rotation, sequence.parameters.neck_translation
            shift = (axis_angle_to_matrix(torso) @ neck[..., None])[..., 0]
            moving["translation"] = _float32(sequence.parameters.translation + shift)
    return shared, moving


def _padded(array: np.ndarray, width: int) -> np.ndarray:
    """The last axis filled up with zeros to at least `width`."""
    missing = max(0, width - array.shape[-1])
    return np.pad(array, [*[(0, 0)] * (array.ndim - 1), (0, missing)])


def _frame_record(sequence: Sequence, frame: int, timestep: int, image_format: str) -> dict[str, Any]:
    lens = sequence.camera[[frame]]
    fx, fy = lens.focal[0].tolist()
    cx, cy = lens.center[0].tolist()
    views, camera, name = sequence.views, 0, "00"
    if views is not None:
        camera = int(views.cameras[frame])
        name = views.names[camera]
    return {
        "timestep_index": timestep,
        "timestep_index_original": int(sequence.frame_ids[frame]),
        "timestep_id": f"{int(sequence.frame_ids[frame]):05d}",
        "camera_index": camera,
        "camera_id": name,
        "cx": cx,
        "cy": cy,
        "fl_x": fx,
        "fl_y": fy,
        "h": sequence.height,
        "w": sequence.width,
        "camera_angle_x": 2 * math.atan(sequence.width / (2 * fx)),
        "camera_angle_y": 2 * math.atan(sequence.height / (2 * fy)),
        "transform_matrix": _camera_to_world_opengl(lens.world_to_camera[0]).tolist(),
        "file_path": f"images/{timestep:05d}_{camera:02d}.{image_format}",
        "fg_mask_path": f"fg_masks/{timestep:05d}_{camera:02d}.png",
        "flame_param_path": f"flame_param/{timestep:05d}.npz",
    }


def _camera_to_world_opengl(world_to_camera: Tensor) -> np.ndarray:
    pose = world_to_camera.detach().cpu().numpy().astype(np.float64)
    inverse = np.eye(4)
    inverse[:3, :3] = pose[:3, :3].T
    inverse[:3, 3] = -pose[:3, :3].T @ pose[:3, 3]
    return inverse @ OPENGL


def _listing(records: list[dict[str, Any]]) -> dict[str, Any]:
    """The top level of a transforms file; its intrinsics are those of the first frame."""
    return {
        "frames": records,
        "timestep_indices": sorted({record["timestep_index"] for record in records}),
        "camera_indices": sorted({record["camera_index"] for record in records}),
        **{key: records[0][key] for key in INTRINSICS if records},
    }


def _extras(sequence: Sequence) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "name": sequence.name,
        "head_model": sequence.head_model,
        "coefficients": {"shape": sequence.shape.shape[-1], "expression": sequence.parameters.expression.shape[-1]},
        "fps": sequence.fps,
        "frame_ids": sequence.frame_ids.tolist(),
        "confidence": None if sequence.confidence is None else sequence.confidence.tolist(),
        "history": sequence.history,
    }


def _float32(value: Tensor) -> np.ndarray:
    return value.detach().cpu().float().numpy()


def _save_arrays(file: Path, arrays: dict[str, Any]) -> None:
    np.savez_compressed(file, **arrays)  # FLAME's offsets are 60 KB of zeros
    flush(file)
