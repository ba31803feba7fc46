"""Sequences on disk, in the folder layout that VHAP exports and GaussianAvatars reads.

    transforms.json, transforms_{train,val,test}.json     cameras, file names, splits
    canonical_flame_param.npz                             the neutral head of this identity
    images/TTTTT_CC.png (or .jpg)                         RGB over white, timestep T, camera C
    fg_masks/TTTTT_CC.png                                 8-bit alpha
    flame_param/TTTTT.npz                                 head parameters of one timestep

Convention: ``transform_matrix`` is camera-to-world with OpenGL axes (x right, y up, z backward), intrinsics are pixels
and are given for every frame (those at the top are stale in some exports, and never read), angles are radians. What the
layout has no place for is kept where other readers do not look: the object ``stavatar`` in ``transforms.json``
(:data:`EXTRAS`), the keys ``neck_translation`` and ``torso_translation`` in parameter files, and ``landmarks.npz``.

Readers of FLAME know of no shift of the neck. Where there is one, ``translation`` puts the *head* where it is and lets
the torso come along, and ``torso_translation`` is what stavatar reads instead.

Sets that combine several recordings of one person have no ``transforms.json`` of their own and name their files as
``../RECORDING/images/...``. That one step up is followed only into a folder that is such a data set itself, and only to
what the layout puts there.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stavatar.arrays import read_npz
from stavatar.errors import InputError
from stavatar.head.landmarks import LANDMARKS
from stavatar.head.parameters import HeadParameters
from stavatar.progress import stage
from stavatar.sequence.dataset import Dataset, Lens, View
from stavatar.sequence.sequence import Sequence
from stavatar.sequence.untrusted import (
    MOST,
    MOST_ARRAY_BYTES,
    MOST_PIXELS_A_SIDE,
    DataFolder,
    Faults,
    checked_array,
    field,
    frame_list,
    number,
    rigid,
)

FORMAT = 1
MOST_FPS = 1000.0
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
INTRINSICS = ("cx", "cy", "fl_x", "fl_y", "h", "w", "camera_angle_x", "camera_angle_y")

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

TORSO_TRANSLATION = "torso_translation"
"""Ours: what ``translation`` is together with ``neck_translation``, which other readers leave out."""

_OFFSETS = ("static_offset", "dynamic_offset")
_WANTED = {*KEYS.values(), TORSO_TRANSLATION, "shape", *_OFFSETS}

OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])


def recognise(folder: DataFolder) -> bool:
    """Whether frames of one of the transforms files name parameter files."""
    return any("flame_param_path" in folder.frame_keys(name) for name in (MAIN, *_split_files()))


def _split_files() -> list[str]:
    return [f"transforms_{split}.json" for split in SPLITS]


def read_sequence(folder: Path) -> Sequence:
    """Read a folder of this layout, written by us or by another program, pictures included.

    Raises:
        InputError: names the file and the field that is missing, of the wrong shape, not finite, or points outside.
    """
    return open_vhap(DataFolder(folder)).load()


def open_vhap(folder: DataFolder) -> Dataset:
    """Read everything but the pictures.

    Without our extra fields the head is taken to be FLAME (:data:`FOREIGN_HEAD`), the frame rate 25, the neck's
    translation zero, and frame ids come from ``timestep_index_original``. Offsets per vertex are left out.
    """
    dataset, parameter_files = open_views(folder)
    if EXTRAS in _main(folder) and not dataset.faults.count:
        with dataset.faults.collected():
            _read_extras(folder.root / MAIN, _main(folder), dataset)
    _read_parameters(parameter_files, dataset)
    if EXTRAS in _main(folder) and not dataset.faults.count:
        with dataset.faults.collected():
            _drop_padding(folder.root / MAIN, _main(folder)[EXTRAS], dataset)
    with dataset.faults.collected():
        dataset.landmarks = _read_landmarks(folder.root / LANDMARK_FILE, len(dataset.views))
    return dataset


# ------------------------------------------------------------------------------------------- frames, cameras, splits


@dataclass(frozen=True)
class _Entry:
    """One element of a list ``frames``, and where it stands."""

    path: Path
    where: str
    content: dict[str, Any]


@dataclass(frozen=True)
class _Picture:
    """A checked entry: the picture with its camera, its (width, height), and the file of its head parameters."""

    view: View
    size: tuple[int, int]
    parameters: Path


def open_views(folder: DataFolder) -> tuple[Dataset, list[Path]]:
    """Frames, cameras and splits: a data set still without head parameters, and the files with those by timestep."""
    faults = Faults()
    entries = _entries(folder)
    masked = any("fg_mask_path" in entry.content for entry in entries)
    pictures: list[_Picture] = []
    for entry in entries:
        with faults.collected():
            pictures.append(_read_picture(folder, entry, masked))
    pictures.sort(key=lambda picture: (picture.view.timestep, picture.view.camera))
    width, height = pictures[0].size if pictures else (0, 0)
    dataset = Dataset(
        format="vhap",
        folder=folder.root,
        name=folder.root.resolve().name,
        views=[picture.view for picture in pictures],
        width=width,
        height=height,
        faults=faults,
        head_model=FOREIGN_HEAD,
        composited=True,
        background="white",
        history={"tracker": "unknown (VHAP layout)"},
    )
    origin = entries[0].path
    if not faults.count:
        _check_order(origin, dataset, pictures)
    if not faults.count:
        _read_splits(folder, dataset)
    _note_stale_intrinsics(folder, entries, dataset)
    return dataset, list({picture.view.timestep: picture.parameters for picture in pictures}.values())


def _main(folder: DataFolder) -> dict[str, Any]:
    return folder.json(MAIN) if folder.has(MAIN) else {}


def _entries(folder: DataFolder) -> list[_Entry]:
    """The frames of the main file, or those of all splits where a set has none."""
    names = [MAIN] if folder.has(MAIN) else [name for name in _split_files() if folder.has(name)]
    if not names:
        raise InputError(f"{folder.root / MAIN} does not exist")
    found = []
    for name in names:
        path = folder.root / name
        if name == MAIN:
            frames = frame_list(path, folder.json(name))
        else:
            frames = field(path, "", folder.json(name), "frames", list)
        for i, content in enumerate(frames):
            if not isinstance(content, dict):
                raise InputError(f"{path}: frames[{i}] must be an object")
            found.append(_Entry(path, f"frames[{i}]", content))
    if not found:
        raise InputError(f"{folder.root / names[0]}: frames is empty")
    return found


def _read_picture(folder: DataFolder, entry: _Entry, masked: bool) -> _Picture:
    path, where, content = entry.path, entry.where, entry.content
    timestep = field(path, where, content, "timestep_index", int)
    width, height = (field(path, where, content, name, int) for name in ("w", "h"))
    focal = number(path, where, content, "fl_x"), number(path, where, content, "fl_y")
    center = number(path, where, content, "cx"), number(path, where, content, "cy")
    if not (0 < width <= MOST_PIXELS_A_SIDE and 0 < height <= MOST_PIXELS_A_SIDE):
        raise InputError(f"{path}: {where}.w and h must be between 1 and {MOST_PIXELS_A_SIDE} pixels")
    if min(focal) <= 0:
        raise InputError(f"{path}: {where}.fl_x and fl_y must be positive")
    pose = rigid(path, f"{where}.transform_matrix", field(path, where, content, "transform_matrix", list))
    filled = {"timestep_index_original": timestep, "camera_index": 0, "camera_id": "00", **content}
    view = View(
        image=_file(folder, entry, "file_path"),
        mask=_file(folder, entry, "fg_mask_path") if masked else None,
        lens=Lens(np.linalg.inv(pose @ OPENGL), focal, center),
        timestep=timestep,
        frame_id=field(path, where, filled, "timestep_index_original", int),
        camera=field(path, where, filled, "camera_index", int),
        camera_id=field(path, where, filled, "camera_id", str),
    )
    return _Picture(view, (width, height), _file(folder, entry, "flame_param_path"))


def _file(folder: DataFolder, entry: _Entry, name: str) -> Path:
    """The file that a field names: inside the folder, or inside a recording beside it that is such a folder as well."""
    text = field(entry.path, entry.where, entry.content, name, str)
    parts = PurePosixPath(text).parts
    if len(parts) == 4 and parts[0] == ".." and parts[2] in ("images", "fg_masks", "flame_param"):
        recording = folder.root / ".." / parts[1]
        inside = recording.resolve().parent == folder.root.resolve().parent
        if inside and not recording.is_symlink() and (recording / CANONICAL).is_file():
            return DataFolder(recording).file(entry.path, f"{entry.where}.{name}", "/".join(parts[2:]))
    return folder.file(entry.path, f"{entry.where}.{name}", text)


def _check_order(path: Path, dataset: Dataset, pictures: list[_Picture]) -> None:
    """Timesteps count from 0, each is seen at most once by a camera and has one parameter file; all sizes are alike."""
    views, faults = dataset.views, dataset.faults
    pairs = [(view.timestep, view.camera) for view in views]
    present = {timestep for timestep, _ in pairs}
    gap = next((step for step in range(len(present)) if step not in present), None)
    twice = next((pair for pair, after in itertools.pairwise(pairs) if pair == after), None)
    if gap is not None:
        faults.add(f"{path}: timestep_index must count from 0 without gaps, but {gap} is missing")
    if twice is not None:
        faults.add(f"{path}: camera {twice[1]} has timestep_index {twice[0]} more than once")
    size = pictures[0].size
    for before, picture in itertools.pairwise(pictures):
        step = picture.view.timestep
        if picture.size != size:
            faults.add(
                f"{path}: timestep {step} is {picture.size[0]} x {picture.size[1]} pixels and timestep 0 is "
                f"{size[0]} x {size[1]}: all must be of one size"
            )
        if step == before.view.timestep and picture.parameters != before.parameters:
            faults.add(f"{path}: timestep {step} has another flame_param_path for each camera, and must have one")
    cameras = len(dataset.cameras)
    if len(pairs) < len(present) * cameras and not faults.count:
        missing = len(present) * cameras - len(pairs)
        dataset.remarks.append(f"{missing} of {len(present)} x {cameras} pictures (timesteps x cameras) are not listed")


def _read_splits(folder: DataFolder, dataset: Dataset) -> None:
    """The splits' pictures; nothing where the data set comes without."""
    if not any(folder.has(f"transforms_{split}.json") for split in ("train", "test")):
        return
    place = {(view.timestep, view.camera): i for i, view in enumerate(dataset.views)}
    for split in SPLITS:
        if split == "val" and not folder.has("transforms_val.json"):
            dataset.split["val"] = []
        else:
            with dataset.faults.collected():
                dataset.split[split] = _read_split(folder, f"transforms_{split}.json", place, dataset.timesteps)
    train, val, test = (set(dataset.split.get(split, [])) for split in SPLITS)
    both = sorted(train & test)
    if both:
        step = dataset.views[both[0]].timestep
        dataset.faults.add(f"{folder.root / 'transforms_test.json'}: timestep {step} is in the training split as well")
    if val & (train | test):
        dataset.remarks.append("frames of transforms_val.json that are in another split as well count for that one")
        dataset.split["val"] = sorted(val - train - test)


def _read_split(folder: DataFolder, name: str, place: dict[tuple[int, int], int], timesteps: int) -> list[int]:
    path, chosen = folder.root / name, []
    for i, entry in enumerate(field(path, "", folder.json(name), "frames", list)):
        where = f"frames[{i}]"
        timestep = field(path, where, entry, "timestep_index", int)
        camera = field(path, where, {"camera_index": 0, **entry}, "camera_index", int)
        if (timestep, camera) not in place:
            raise InputError(
                f"{path}: {where}.timestep_index is {timestep} (camera {camera}), and the data set has "
                f"{timesteps} timesteps without that picture"
            )
        chosen.append(place[timestep, camera])
    if len(set(chosen)) < len(chosen):
        raise InputError(f"{path}: a timestep_index occurs twice")
    return sorted(chosen)


def _note_stale_intrinsics(folder: DataFolder, entries: list[_Entry], dataset: Dataset) -> None:
    main, first = _main(folder), entries[0].content
    stale = [name for name in INTRINSICS if name in main and main[name] != first.get(name)]
    if stale:
        dataset.remarks.append(f"{', '.join(stale)} at the top of {MAIN} differ from the frames' and are not used")


# ---------------------------------------------------------------------------------------------------- our own fields


def _read_extras(path: Path, main: dict[str, Any], dataset: Dataset) -> None:
    """Fill in what only we write."""
    extras = field(path, "", main, EXTRAS, dict)
    frames = len(dataset.views)
    version = field(path, EXTRAS, extras, "format", int)
    if version != FORMAT:
        raise InputError(
            f"{path}: {EXTRAS}.format is {version}, and this stavatar reads {FORMAT}: use the one it is from"
        )
    dataset.fps = number(path, EXTRAS, extras, "fps")
    if not 0 < dataset.fps <= MOST_FPS:
        raise InputError(f"{path}: {EXTRAS}.fps must be positive, and at most {MOST_FPS:g}")
    ids = field(path, EXTRAS, extras, "frame_ids", list)
    if len(ids) != frames or any(type(value) is not int or not 0 <= value < 1 << 62 for value in ids):
        raise InputError(f"{path}: {EXTRAS}.frame_ids must be {frames} integers, one per picture")
    dataset.views = [replace(view, frame_id=own) for view, own in zip(dataset.views, ids, strict=True)]
    confidence = extras.get("confidence")
    if confidence is not None:
        holder = {str(i): value for i, value in enumerate(field(path, EXTRAS, extras, "confidence", list))}
        dataset.confidence = [number(path, f"{EXTRAS}.confidence", holder, key) for key in holder]
        if len(dataset.confidence) != frames or not all(0 <= value <= 1 for value in dataset.confidence):
            raise InputError(f"{path}: {EXTRAS}.confidence must be {frames} numbers between 0 and 1")
    dataset.history = dict(field(path, EXTRAS, extras, "history", dict))
    if not all(isinstance(value, str) for value in dataset.history.values()):
        raise InputError(f"{path}: {EXTRAS}.history must map texts to texts")
    dataset.name = field(path, EXTRAS, extras, "name", str)
    dataset.head_model = field(path, EXTRAS, extras, "head_model", str)


def _drop_padding(path: Path, extras: dict[str, Any], dataset: Dataset) -> None:
    """Take away the zeros with which coefficients of a FLAME head were filled up for other readers."""
    if "coefficients" not in extras or dataset.shape is None or dataset.parameters is None:
        return
    where = f"{EXTRAS}.coefficients"
    coefficients = field(path, EXTRAS, extras, "coefficients", dict)
    widths = [field(path, where, coefficients, name, int) for name in ("shape", "expression")]
    stored = dataset.shape.shape[-1], dataset.parameters.expression.shape[-1]
    if not all(0 < width <= most for width, most in zip(widths, stored, strict=True)):
        raise InputError(f"{path}: {where} must be between 1 and the numbers in the parameter files")
    dataset.shape = dataset.shape[..., : widths[0]]
    dataset.parameters = dataset.parameters.replaced(expression=dataset.parameters.expression[:, : widths[1]])


# ---------------------------------------------------------------------------------------------------- head parameters


def _read_parameters(paths: list[Path], dataset: Dataset) -> None:
    """Identity [S] and the parameters of all timesteps; faults of single files are collected."""
    shape: np.ndarray | None = None
    rows: list[dict[str, np.ndarray]] = []
    dropped: dict[str, Path] = {}
    with stage("reading parameters", len(paths)) as report:
        for path in paths:
            with dataset.faults.collected():
                arrays = read_npz(path, most_bytes=MOST_ARRAY_BYTES, wanted=_WANTED)
                own_shape, row = checked_array(path, arrays, "shape", (None,)), _read_row(path, arrays)
                shape = own_shape if shape is None else shape
                if not np.array_equal(own_shape, shape):
                    raise InputError(f"{path}: shape differs from {paths[0].name}'s: a sequence shows one person")
                if rows and row["expression"].shape != rows[0]["expression"].shape:
                    found, first = row["expression"].shape[1], rows[0]["expression"].shape[1]
                    raise InputError(f"{path}: expr has {found} numbers, and {paths[0].name} {first}")
                rows.append(row)
                for key in _OFFSETS:
                    if key in arrays and arrays[key].dtype.kind == "f" and np.any(arrays[key]):
                        dropped.setdefault(key, path)
            report()
    for key, path in dropped.items():
        dataset.history[key] = "left out"
        dataset.remarks.append(f"{path.name}: {key} moves single vertices, which no head here does: it is left out")
    if shape is not None and not dataset.faults.count:
        columns = {name: torch.from_numpy(np.concatenate([row[name] for row in rows])) for name in KEYS}
        set_parameters(dataset, torch.from_numpy(shape), HeadParameters(**columns))


def _read_row(path: Path, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The parameters of one timestep: field of :class:`HeadParameters` -> (1, width)."""
    if "neck_translation" not in arrays:  # not part of FLAME, see HeadParameters
        arrays = {**arrays, "neck_translation": np.zeros((1, 3), np.float32)}
    if TORSO_TRANSLATION in arrays:
        arrays = {**arrays, "translation": arrays[TORSO_TRANSLATION]}
    widths: dict[str, int | None] = {"expression": None, "eyes": 6}
    return {name: checked_array(path, arrays, key, (1, widths.get(name, 3))) for name, key in KEYS.items()}


def set_parameters(dataset: Dataset, shape: Tensor, parameters: HeadParameters) -> None:
    """Give a data set its head, and list what it consists of under the names of the layout."""
    dataset.shape, dataset.parameters = shape, parameters
    dataset.fields["shape"] = tuple(shape.shape)
    dataset.fields |= {
        KEYS[name]: tuple(value.shape)
        for name, value in parameters.items()
        if name != "neck_translation" or value.any()  # ours only
    }


def _read_landmarks(path: Path, frames: int) -> Tensor | None:
    if not path.exists():
        return None
    arrays = read_npz(path, most_bytes=MOST_ARRAY_BYTES, wanted=("landmarks",))
    if "landmarks" not in arrays:
        raise InputError(f"{path}: landmarks is missing")
    landmarks = arrays["landmarks"]
    if landmarks.shape != (frames, LANDMARKS, 2) or not np.issubdtype(landmarks.dtype, np.floating):
        raise InputError(f"{path}: landmarks must be ({frames}, {LANDMARKS}, 2) floating-point numbers")
    if (np.abs(landmarks) >= MOST).any():
        raise InputError(f"{path}: landmarks must be finite, or NaN where there are none")
    return torch.from_numpy(landmarks.astype(np.float32))
