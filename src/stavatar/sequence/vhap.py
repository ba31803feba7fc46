"""Sequences on disk, in the folder layout that VHAP exports and GaussianAvatars reads.

    transforms.json, transforms_{train,val,test}.json     cameras, file names, splits
    canonical_flame_param.npz                             the neutral head of this identity
    images/TTTTT_00.png (or .jpg)                         RGB over white
    fg_masks/TTTTT_00.png                                 8-bit alpha
    flame_param/TTTTT.npz                                 head parameters of one timestep

Convention: ``transform_matrix`` is camera-to-world with OpenGL axes (x right, y up, z backward), intrinsics are pixels
and are given for every frame, angles are radians. What the layout has no place for is kept where other readers do not
look: the object ``stavatar`` in ``transforms.json`` (:data:`EXTRAS`), the key ``neck_translation`` in each parameter
file, and ``landmarks.npz``. The optional ``static_offset`` is not written: our heads have no offsets per vertex.

Everything read is taken as untrusted: paths stay inside the folder, nothing is unpickled, and sizes are compared before
pixels are decoded.
"""

from __future__ import annotations

import math
import os
import secrets
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from stavatar.camera import Camera
from stavatar.errors import InputError
from stavatar.files import read_json, write_json
from stavatar.head.landmarks import LANDMARKS
from stavatar.head.parameters import HeadParameters
from stavatar.progress import stage, warn
from stavatar.sequence.sequence import Sequence

FORMAT = 1
EXTRAS = "stavatar"
FOREIGN_HEAD = "flame-2023"
"""The head model that a folder without our extra fields belongs to: VHAP exports FLAME 2023."""

SPLITS = ("train", "val", "test")
MAIN = "transforms.json"
CANONICAL = "canonical_flame_param.npz"
LANDMARK_FILE = "landmarks.npz"
ENTRIES = {MAIN, CANONICAL, LANDMARK_FILE, "images", "fg_masks", "flame_param"} | {
    f"transforms_{split}.json" for split in SPLITS
}

KEYS = {
    "expression": "expr",
    "rotation": "rotation",
    "neck": "neck_pose",
    "jaw": "jaw_pose",
    "eyes": "eyes_pose",
    "translation": "translation",
    "neck_translation": "neck_translation",
}
"""Field of :class:`HeadParameters` -> key in a parameter file; all arrays are (1, width)."""

OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
MOST_ARRAY_BYTES = 256 << 20
THREADS = min(8, os.cpu_count() or 1)


# ---------------------------------------------------------------------------------------------------------- writing


def write_sequence(
    sequence: Sequence, folder: Path, *, overwrite: bool = False, image_format: Literal["png", "jpg"] = "png"
) -> None:
    """Write a sequence as a VHAP folder.

    The folder appears whole or not at all: it is written under a temporary name beside its final place and renamed.

    Args:
        sequence: what to write.
        folder: a path that does not exist, or an empty folder, or with `overwrite` a folder with an earlier sequence.
        overwrite: replace an earlier sequence. Never replaces a folder with anything else in it.
        image_format: ``jpg`` (quality 95) needs about a fifth of the space of ``png`` and is not lossless. Masks are
            PNG always.

    Raises:
        InputError: the folder cannot be written or holds something else.
        ValueError: the sequence has values that are not finite.
    """
    for name, value in [("shape", sequence.shape), *sequence.parameters.items()]:
        if not torch.isfinite(value).all():
            raise ValueError(f"{name} of sequence {sequence.name!r} is not finite")
    folder = Path(folder).resolve()
    check_replaceable(folder, overwrite)
    if not torch.isin(torch.tensor(0), torch.cat([sequence.train, sequence.test])):
        warn(f"frame 0 of {sequence.name} is in no split, which GaussianAvatars cannot read (stavatar can)")

    try:
        temporary = folder.with_name(f".{folder.name}-{secrets.token_hex(4)}.partial")
        temporary.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror or error}") from error
    try:
        _write_folder(sequence, temporary, image_format)
        _put_in_place(temporary, folder)
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


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


def _put_in_place(temporary: Path, folder: Path) -> None:
    """Rename `temporary` to `folder`; an earlier folder is moved aside first, and back if that fails."""
    if not folder.exists():
        temporary.rename(folder)
    else:
        aside = temporary.with_suffix(".replaced")
        folder.rename(aside)
        try:
            temporary.rename(folder)
        except OSError:
            aside.rename(folder)
            raise
        shutil.rmtree(aside)
    _flush_folder(folder.parent)


def _write_folder(sequence: Sequence, folder: Path, image_format: str) -> None:
    for name in ("images", "fg_masks", "flame_param"):
        (folder / name).mkdir()
    shape = _float32(sequence.shape)
    images, masks = sequence.images.cpu().numpy(), sequence.masks.cpu().numpy()
    arrays = {KEYS[name]: _float32(value) for name, value in sequence.parameters.items()}
    records = [_frame_record(sequence, timestep, image_format) for timestep in range(len(sequence))]

    def write_frame(timestep: int) -> None:
        record = records[timestep]
        picture = Image.fromarray(images[timestep])
        if image_format == "jpg":
            picture.save(folder / record["file_path"], quality=95, subsampling=0)
        else:
            picture.save(folder / record["file_path"], compress_level=3)
        Image.fromarray(masks[timestep]).save(folder / record["fg_mask_path"], compress_level=3)
        own = {key: array[timestep : timestep + 1] for key, array in arrays.items()}
        _save_arrays(folder / record["flame_param_path"], {"shape": shape, **own})
        _flush(folder / record["file_path"])
        _flush(folder / record["fg_mask_path"])

    _in_parallel("writing sequence", write_frame, range(len(sequence)))

    neutral = {key: np.zeros_like(array[:1]) for key, array in arrays.items()}
    neutral["jaw_pose"][0, 0] = 0.3  # the layout's canonical head has its mouth a little open
    _save_arrays(folder / CANONICAL, {"shape": shape, **neutral})
    if sequence.landmarks is not None:
        _save_arrays(folder / LANDMARK_FILE, {"landmarks": _float32(sequence.landmarks)})

    write_json(folder / MAIN, {**_listing(records), EXTRAS: _extras(sequence)}, indent=None)
    for split in SPLITS:
        # One camera leaves none to validate on: VHAP's `val` is then empty.
        chosen = [] if split == "val" else [records[i] for i in getattr(sequence, split).tolist()]
        write_json(folder / f"transforms_{split}.json", _listing(chosen), indent=None)
    for name in ("images", "fg_masks", "flame_param", "."):
        _flush_folder(folder / name)


def _frame_record(sequence: Sequence, timestep: int, image_format: str) -> dict[str, Any]:
    camera = sequence.camera[[timestep]]
    fx, fy = camera.focal[0].tolist()
    cx, cy = camera.center[0].tolist()
    return {
        "timestep_index": timestep,
        "timestep_index_original": int(sequence.frame_ids[timestep]),
        "timestep_id": f"{int(sequence.frame_ids[timestep]):05d}",
        "camera_index": 0,
        "camera_id": "00",
        "cx": cx,
        "cy": cy,
        "fl_x": fx,
        "fl_y": fy,
        "h": sequence.height,
        "w": sequence.width,
        "camera_angle_x": 2 * math.atan(sequence.width / (2 * fx)),
        "camera_angle_y": 2 * math.atan(sequence.height / (2 * fy)),
        "transform_matrix": _camera_to_world_opengl(camera.world_to_camera[0]).tolist(),
        "file_path": f"images/{timestep:05d}_00.{image_format}",
        "fg_mask_path": f"fg_masks/{timestep:05d}_00.png",
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
    intrinsics = ("cx", "cy", "fl_x", "fl_y", "h", "w", "camera_angle_x", "camera_angle_y")
    return {
        "frames": records,
        "timestep_indices": [record["timestep_index"] for record in records],
        "camera_indices": [0] if records else [],
        **{key: records[0][key] for key in intrinsics if records},
    }


def _extras(sequence: Sequence) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "name": sequence.name,
        "head_model": sequence.head_model,
        "fps": sequence.fps,
        "frame_ids": sequence.frame_ids.tolist(),
        "confidence": None if sequence.confidence is None else sequence.confidence.tolist(),
        "history": sequence.history,
    }


def _float32(value: Tensor) -> np.ndarray:
    return value.detach().cpu().float().numpy()


def _save_arrays(file: Path, arrays: dict[str, Any]) -> None:
    np.savez(file, **arrays)
    _flush(file)


def _flush(file: Path) -> None:
    with file.open("rb+") as written:
        os.fsync(written.fileno())


def _flush_folder(folder: Path) -> None:
    """Make the names in a folder durable, where the platform lets folders be opened."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _in_parallel(title: str, work: Callable[[int], None], items: Iterable[int]) -> None:
    """Do `work` for all items in a few threads; the first error ends it. Coding of pictures runs outside the GIL."""
    items = list(items)
    with stage(title, len(items)) as report, ThreadPoolExecutor(THREADS) as pool:
        futures = [pool.submit(work, item) for item in items]
        try:
            for future in futures:
                future.result()
                report()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


# ---------------------------------------------------------------------------------------------------------- reading


@dataclass(frozen=True)
class _Frame:
    """One checked entry of ``frames``."""

    timestep: int
    frame_id: int
    width: int
    height: int
    focal: tuple[float, float]
    center: tuple[float, float]
    world_to_camera: np.ndarray
    image: Path
    mask: Path
    parameters: Path


def read_sequence(folder: Path) -> Sequence:
    """Read a VHAP folder of one camera, written by :func:`write_sequence` or exported by another program.

    Pixels are read into memory. Without our extra fields the head is taken to be FLAME (:data:`FOREIGN_HEAD`), the
    frame rate 25, the neck's translation zero, and frame ids come from ``timestep_index_original``. The splits are
    those of the ``train`` and ``test`` files; offsets per vertex are left out with a warning.

    Raises:
        InputError: names the file and the field that is missing, of the wrong shape, not finite, or points outside.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: give the folder of a sequence")
    main = _read_object(folder / MAIN)
    frames = _read_frames(folder, main)
    splits = {split: _read_split(folder / f"transforms_{split}.json", len(frames)) for split in ("train", "test")}
    both = sorted(set(splits["train"]) & set(splits["test"]))
    if both:
        raise InputError(f"{folder / 'transforms_test.json'}: timestep {both[0]} is in the training split as well")

    extras = _read_extras(folder, main, frames)
    shape, parameters = _read_parameters([frame.parameters for frame in frames], extras)
    images, masks = _read_pictures(frames)
    return Sequence(
        name=extras["name"],
        head_model=extras["head_model"],
        shape=shape,
        parameters=parameters,
        camera=_camera(frames),
        images=images,
        masks=masks,
        frame_ids=torch.tensor(extras["frame_ids"], dtype=torch.int64),
        train=torch.tensor(splits["train"], dtype=torch.int64),
        test=torch.tensor(splits["test"], dtype=torch.int64),
        fps=extras["fps"],
        landmarks=_read_landmarks(folder / LANDMARK_FILE, len(frames)),
        confidence=None if extras["confidence"] is None else torch.tensor(extras["confidence"]),
        history=extras["history"],
    )


def _read_object(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold a JSON object")
    return content


def _read_frames(folder: Path, main: dict[str, Any]) -> list[_Frame]:
    path = folder / MAIN
    entries = _field(path, "", main, "frames", list)
    if not entries:
        raise InputError(f"{path}: frames is empty")
    frames = sorted((_read_frame(folder, i, entry) for i, entry in enumerate(entries)), key=lambda f: f.timestep)
    cameras = {entry.get("camera_index", 0) for entry in entries}
    if len(cameras) > 1:
        raise InputError(f"{path} holds {len(cameras)} cameras: stavatar reads sequences of one camera")
    for position, frame in enumerate(frames):
        if frame.timestep != position:
            raise InputError(f"{path}: timestep_index must count from 0 without gaps, but {position} is missing")
        if (frame.width, frame.height) != (frames[0].width, frames[0].height):
            raise InputError(
                f"{path}: timestep {position} is {frame.width} x {frame.height} pixels and timestep 0 is "
                f"{frames[0].width} x {frames[0].height}: all must be of one size"
            )
    return frames


def _read_frame(folder: Path, index: int, entry: Any) -> _Frame:
    path, where = folder / MAIN, f"frames[{index}]"
    if not isinstance(entry, dict):
        raise InputError(f"{path}: {where} must be an object")

    def number(name: str) -> float:
        return _number(path, where, entry, name)

    timestep = _field(path, where, entry, "timestep_index", int)
    width, height = (_field(path, where, entry, name, int) for name in ("w", "h"))
    focal, center = (number("fl_x"), number("fl_y")), (number("cx"), number("cy"))
    if not (0 < width <= 1 << 14 and 0 < height <= 1 << 14):
        raise InputError(f"{path}: {where}.w and h must be between 1 and {1 << 14} pixels")
    if min(focal) <= 0:
        raise InputError(f"{path}: {where}.fl_x and fl_y must be positive")
    return _Frame(
        timestep=timestep,
        frame_id=_field(path, where, {"timestep_index_original": timestep, **entry}, "timestep_index_original", int),
        width=width,
        height=height,
        focal=focal,
        center=center,
        world_to_camera=_world_to_camera(path, where, _field(path, where, entry, "transform_matrix", list)),
        image=_inside(folder, where, entry, "file_path"),
        mask=_inside(folder, where, entry, "fg_mask_path"),
        parameters=_inside(folder, where, entry, "flame_param_path"),
    )


def _field(path: Path, where: str, entry: dict[str, Any], name: str, kind: type) -> Any:
    """One field of a JSON object, of the expected type."""
    full = f"{where}.{name}" if where else name
    if name not in entry:
        raise InputError(f"{path}: {full} is missing")
    value = entry[name]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise InputError(f"{path}: {full} must be {_KIND_NAMES[kind]}")
    return value


_KIND_NAMES = {int: "an integer", str: "a text", list: "a list", dict: "an object"}


def _number(path: Path, where: str, entry: dict[str, Any], name: str) -> float:
    value = entry.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"{path}: {where}.{name} must be a finite number" + (" (missing)" if value is None else ""))
    return float(value)


def _world_to_camera(path: Path, where: str, matrix: list[Any]) -> np.ndarray:
    """Check a camera-to-world matrix with OpenGL axes and turn it into our world-to-camera with OpenCV axes."""
    try:
        pose = np.array(matrix, dtype=np.float64)
    except (ValueError, TypeError, OverflowError):
        pose = np.empty(0)
    rigid = (
        pose.shape == (4, 4)
        and bool(np.isfinite(pose).all())
        and np.allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-3)
        and np.linalg.det(pose[:3, :3]) > 0
        and np.allclose(pose[3], [0, 0, 0, 1])
    )
    if not rigid:
        raise InputError(f"{path}: {where}.transform_matrix must be a 4 x 4 rotation and translation")
    return np.asarray(np.linalg.inv(pose @ OPENGL))


def _inside(folder: Path, where: str, entry: dict[str, Any], name: str) -> Path:
    """A file named by the sequence: relative, and inside its folder even after following links."""
    text = _field(folder / MAIN, where, entry, name, str)
    parts = PureWindowsPath(text).parts  # splits at both kinds of slashes
    outside = PurePosixPath(text).is_absolute() or PureWindowsPath(text).anchor or ".." in parts or not parts
    if not outside and "\0" not in text:
        path = folder.joinpath(*parts)
        if path.resolve().is_relative_to(folder.resolve()):
            return path
    raise InputError(f"{folder / MAIN}: {where}.{name} must be a path inside the sequence's folder, not {text!r}")


def _read_split(path: Path, frames: int) -> list[int]:
    chosen = []
    for i, entry in enumerate(_field(path, "", _read_object(path), "frames", list)):
        if not isinstance(entry, dict):
            raise InputError(f"{path}: frames[{i}] must be an object")
        timestep = _field(path, f"frames[{i}]", entry, "timestep_index", int)
        if not 0 <= timestep < frames:
            raise InputError(f"{path}: frames[{i}].timestep_index is {timestep}, and {MAIN} has {frames} timesteps")
        chosen.append(timestep)
    if len(set(chosen)) < len(chosen):
        raise InputError(f"{path}: a timestep_index occurs twice")
    return sorted(chosen)


def _read_extras(folder: Path, main: dict[str, Any], frames: list[_Frame]) -> dict[str, Any]:
    """Our own fields, checked; stand-ins where another program wrote the folder."""
    path = folder / MAIN
    if EXTRAS not in main:
        return {
            "name": folder.resolve().name,
            "head_model": FOREIGN_HEAD,
            "fps": 25.0,
            "frame_ids": [frame.frame_id for frame in frames],
            "confidence": None,
            "history": {"tracker": "unknown (VHAP layout)"},
        }
    extras = _field(path, "", main, EXTRAS, dict)
    version = _field(path, EXTRAS, extras, "format", int)
    if version != FORMAT:
        raise InputError(
            f"{path}: {EXTRAS}.format is {version}, and this stavatar reads {FORMAT}: use the one it is from"
        )
    fps = _number(path, EXTRAS, extras, "fps")
    if fps <= 0:
        raise InputError(f"{path}: {EXTRAS}.fps must be positive")
    ids = _field(path, EXTRAS, extras, "frame_ids", list)
    if len(ids) != len(frames) or any(type(value) is not int or not 0 <= value < 1 << 62 for value in ids):
        raise InputError(f"{path}: {EXTRAS}.frame_ids must be {len(frames)} integers, one per timestep")
    confidence = extras.get("confidence")
    if confidence is not None:
        holder = {str(i): value for i, value in enumerate(_field(path, EXTRAS, extras, "confidence", list))}
        confidence = [_number(path, f"{EXTRAS}.confidence", holder, key) for key in holder]
        if len(confidence) != len(frames) or not all(0 <= value <= 1 for value in confidence):
            raise InputError(f"{path}: {EXTRAS}.confidence must be {len(frames)} numbers between 0 and 1")
    history = _field(path, EXTRAS, extras, "history", dict)
    if not all(isinstance(value, str) for value in history.values()):
        raise InputError(f"{path}: {EXTRAS}.history must map texts to texts")
    return {
        "name": _field(path, EXTRAS, extras, "name", str),
        "head_model": _field(path, EXTRAS, extras, "head_model", str),
        "fps": fps,
        "frame_ids": ids,
        "confidence": confidence,
        "history": history,
    }


def _read_parameters(paths: list[Path], extras: dict[str, Any]) -> tuple[Tensor, HeadParameters]:
    """Identity [S] and the parameters of all frames."""
    rows: dict[str, np.ndarray] = {}
    shape = np.empty(0, np.float32)
    for timestep, path in enumerate(paths):
        arrays = _read_arrays(path)
        own_shape = _array(path, arrays, "shape", (None,))
        if timestep == 0:
            shape = own_shape
        elif not np.array_equal(own_shape, shape):
            raise InputError(f"{path}: shape differs from {paths[0].name}'s: a sequence shows one person")
        for name, key in KEYS.items():
            width: int | None = {"expression": None, "eyes": 6}.get(name, 3)
            if name == "neck_translation" and key not in arrays:  # not part of FLAME, see HeadParameters
                row = np.zeros((1, 3), np.float32)
            else:
                row = _array(path, arrays, key, (1, width))
            if timestep == 0:
                rows[name] = np.empty((len(paths), row.shape[1]), np.float32)
            elif row.shape[1] != rows[name].shape[1]:
                raise InputError(f"{path}: {key} has {row.shape[1]} numbers, and {paths[0].name} {rows[name].shape[1]}")
            rows[name][timestep] = row[0]
        for key in ("static_offset", "dynamic_offset"):
            if key not in extras["history"] and key in arrays and np.any(arrays[key]):
                extras["history"][key] = "left out"
                warn(f"{path}: {key} moves single vertices, which stavatar's heads do not support: it is left out")
    return torch.from_numpy(shape), HeadParameters(**{name: torch.from_numpy(row) for name, row in rows.items()})


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > MOST_ARRAY_BYTES:
                raise InputError(f"{path} unpacks to more than {MOST_ARRAY_BYTES >> 20} MiB")
        with np.load(path, allow_pickle=False) as data:
            return dict(data)
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except (OSError, ValueError, EOFError, KeyError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path} cannot be read as an npz file: {error}") from error


def _array(path: Path, arrays: dict[str, np.ndarray], key: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """One float32 array whose axes have the given lengths (None: any but zero)."""
    if key not in arrays:
        raise InputError(f"{path}: {key} is missing")
    array = arrays[key]
    fits = array.ndim == len(shape) and all(
        length > 0 if wanted is None else length == wanted for length, wanted in zip(array.shape, shape, strict=True)
    )
    if not fits:
        wanted_text = ", ".join("any" if length is None else str(length) for length in shape)
        raise InputError(f"{path}: {key} has the shape {array.shape}, and ({wanted_text}) is expected")
    if not np.issubdtype(array.dtype, np.floating) or not np.isfinite(array).all():
        raise InputError(f"{path}: {key} must hold finite floating-point numbers")
    return array.astype(np.float32)


def _read_landmarks(path: Path, frames: int) -> Tensor | None:
    if not path.exists():
        return None
    arrays = _read_arrays(path)
    if "landmarks" not in arrays:
        raise InputError(f"{path}: landmarks is missing")
    landmarks = arrays["landmarks"]
    if landmarks.shape != (frames, LANDMARKS, 2) or not np.issubdtype(landmarks.dtype, np.floating):
        raise InputError(f"{path}: landmarks must be ({frames}, {LANDMARKS}, 2) floating-point numbers")
    if np.isinf(landmarks).any():
        raise InputError(f"{path}: landmarks must be finite, or NaN where there are none")
    return torch.from_numpy(landmarks.astype(np.float32))


def _read_pictures(frames: list[_Frame]) -> tuple[Tensor, Tensor]:
    """Images [T, H, W, 3] and masks [T, H, W], uint8."""
    size = (frames[0].height, frames[0].width)
    images = np.empty((len(frames), *size, 3), np.uint8)
    masks = np.empty((len(frames), *size), np.uint8)

    def read(i: int) -> None:
        images[i] = _read_picture(frames[i].image, "RGB", size)
        masks[i] = _read_picture(frames[i].mask, "L", size)

    _in_parallel("reading sequence", read, range(len(frames)))
    return torch.from_numpy(images), torch.from_numpy(masks)


def _read_picture(path: Path, mode: str, size: tuple[int, int]) -> np.ndarray:
    """Decode one picture of the expected size; a transparent one is laid over white, as sequences are."""
    try:
        with Image.open(path, formats=("PNG", "JPEG")) as picture:
            if (picture.height, picture.width) != size:
                raise InputError(
                    f"{path} is {picture.width} x {picture.height} pixels, and {MAIN} says {size[1]} x {size[0]}"
                )
            if mode == "RGB" and picture.mode == "RGBA":
                white = Image.new("RGBA", picture.size, "white")
                return np.asarray(Image.alpha_composite(white, picture).convert("RGB"))
            if picture.mode != mode:
                raise InputError(f"{path} has the colour mode {picture.mode}, and {mode} with 8 bits is expected")
            return np.asarray(picture)
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except (OSError, SyntaxError, ValueError, zlib.error, Image.DecompressionBombError) as error:
        raise InputError(f"{path} cannot be read as a picture: {error}") from error


def _camera(frames: list[_Frame]) -> Camera:
    """The camera of each frame, or a single one if they are all alike."""
    pose = torch.from_numpy(np.stack([frame.world_to_camera for frame in frames])).float()
    focal, center = torch.tensor([f.focal for f in frames]), torch.tensor([f.center for f in frames])
    camera = Camera(pose, focal, center, frames[0].width, frames[0].height)
    still = all(bool((value == value[:1]).all()) for value in (pose, focal, center))
    return camera[[0]] if still else camera
