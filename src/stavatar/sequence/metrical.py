"""The metrical tracker's checkpoints, as FlashAvatar, RGBAvatar and INSTA's exporter take them.

    checkpoint/NNNNN.frame               one file for each frame, counted from 0
    input/, images/ or imgs/ NNNNN.png   the pictures the tracker saw (FlashAvatar counts them from 1)
    alpha/NNNNN.jpg                      mattes, where there are some (or the alpha channel of the pictures)

Convention: ``opencv`` holds R, t (world-to-camera, OpenCV axes) and K in pixels. Root and neck are never turned: the
motion of the head is in the camera. World space is FLAME's, metres. ``flame`` holds 300 identity and 100 expression
coefficients of FLAME 2020, and jaw and eyes as 6 numbers for each joint: the first two rows of its rotation matrix. The
weights of the eyelids belong to two vertex fields that FLAME does not have; they are left out.

A ``.frame`` is a torch file, that is a pickle. It is read by torch's restricted reader, with something inert of ours
for numpy's arrays (``head/array_pickle.py``), as numpy's own can be filled with what ends the process. A file that asks
for anything else is refused with the name of what it asks for, and nothing of it is run.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stavatar.errors import InputError, reason
from stavatar.files import require_file
from stavatar.head.array_pickle import numpy_stand_ins, unfold
from stavatar.head.parameters import HeadParameters
from stavatar.progress import stage
from stavatar.rotations import matrix_to_axis_angle
from stavatar.sequence.dataset import Dataset, Lens, View
from stavatar.sequence.pictures import find_masks, find_pictures
from stavatar.sequence.untrusted import MOST, DataFolder, Faults, checked_array, number_in, picture_head, rigid

FOLDER = "checkpoint"
SUFFIX = ".frame"
HEAD = "flame-2020"
MOST_BYTES = 32 << 20
"""Of one checkpoint, unpacked; the tracker's have some kilobytes."""
MOST_PICKLED = 128 << 10
"""Of its pickle: one can ask for thousands of copies of what it holds, and even these then fit into memory."""


def recognise(folder: DataFolder) -> bool:
    """Whether there are checkpoints."""
    return bool(folder.listing(FOLDER, (SUFFIX,)))


def open_metrical(folder: DataFolder) -> Dataset:
    """Read everything but the pictures; these are paired with checkpoints by number, each counted from its first."""
    faults = Faults()
    checkpoints = folder.listing(FOLDER, (SUFFIX,))
    pictures = find_pictures(folder)
    dataset = Dataset(
        format="metrical",
        folder=folder.root,
        name=folder.root.resolve().name,
        views=[],
        width=0,
        height=0,
        faults=faults,
        head_model=HEAD,
        history={"tracker": "metrical-tracker"},
    )
    if not pictures:
        faults.add(f"{folder.root} holds checkpoints but no folder of pictures (input, images, imgs)")
        return dataset
    with faults.collected():
        (dataset.width, dataset.height), _ = picture_head(pictures[0])
    paired = _pair(checkpoints, pictures, dataset)
    masks = find_masks(folder, [picture for _, picture in paired], faults)
    frames: list[dict[str, np.ndarray]] = []
    with stage("reading checkpoints", len(paired)) as report:
        for timestep, ((checkpoint, picture), mask) in enumerate(zip(paired, masks, strict=True)):
            with faults.collected():
                frame, lens = _read_frame(checkpoint, dataset.width, dataset.height)
                frames.append(frame)
                frame_id = number_in(checkpoint)
                dataset.views.append(View(picture, mask, lens, timestep, timestep if frame_id is None else frame_id))
            report()
    if not faults.count:
        _set_parameters(dataset, frames)
    return dataset


def _pair(checkpoints: list[Path], pictures: list[Path], dataset: Dataset) -> list[tuple[Path, Path]]:
    """(checkpoint, picture) of every checkpoint that has one; pictures without a checkpoint were not tracked."""

    def numbered(paths: list[Path]) -> dict[int, Path]:
        numbers = [number_in(path) for path in paths]
        first = numbers[0] or 0
        places = [i if number is None else number - first for i, number in enumerate(numbers)]
        return dict(zip(places, paths, strict=True))

    by_number = numbered(pictures)
    pairs = []
    for place, checkpoint in numbered(checkpoints).items():
        if place in by_number:
            pairs.append((checkpoint, by_number[place]))
        else:
            dataset.faults.add(f"{checkpoint} has no picture in {pictures[0].parent}")
    if len(pictures) > len(pairs):
        dataset.remarks.append(f"{len(pictures) - len(pairs)} pictures have no checkpoint and are not used")
    return pairs


def _read_frame(path: Path, width: int, height: int) -> tuple[dict[str, np.ndarray], Lens]:
    """The arrays of ``flame`` that we use, and the camera in pixels of pictures of the given size."""
    content = load_checkpoint(path)
    flame = {name: _as_array(value) for name, value in _object(path, content, "flame").items()}
    opencv = {name: _as_array(value) for name, value in _object(path, content, "opencv").items()}
    frame = {
        name: checked_array(path, flame, name, (1, wide))
        for name, wide in {"exp": None, "shape": None, "jaw": 6, "eyes": 12}.items()
    }
    for name in ("jaw", "eyes"):
        rows = frame[name].astype(np.float64).reshape(-1, 2, 3)
        if np.abs(rows).max() > 10 or np.linalg.norm(np.cross(rows[:, 0], rows[:, 1]), axis=1).min() < 1e-3:
            raise InputError(f"{path}: {name} must hold the first two rows of rotation matrices")
    if "eyelids" in flame:
        frame["eyelids"] = checked_array(path, flame, "eyelids", (1, 2))
    pose = np.eye(4)
    pose[:3, :3] = checked_array(path, opencv, "R", (1, 3, 3))[0]
    pose[:3, 3] = checked_array(path, opencv, "t", (1, 3))[0]
    matrix = checked_array(path, opencv, "K", (1, 3, 3))[0].astype(np.float64)
    if min(matrix[0, 0], matrix[1, 1]) <= 0:
        raise InputError(f"{path}: opencv.K must have positive focal lengths")
    try:
        seen = np.asarray(_as_array(content.get("img_size")))
    except ValueError:  # lists of several lengths
        seen = np.empty(0)
    if seen.shape != (2,) or seen.dtype.kind not in "iuf" or not (seen > 0).all():
        raise InputError(f"{path}: img_size must be two positive numbers, height and width")
    factor = height / float(seen[0]), width / float(seen[1])
    if not np.isclose(*factor, rtol=0.01):
        raise InputError(f"{path}: img_size is {seen.tolist()} (height, width), and pictures are {width} x {height}")
    scale = factor[1]  # pictures may be larger copies of those the tracker saw
    focal = float(matrix[0, 0] * scale), float(matrix[1, 1] * scale)
    center = float(matrix[0, 2] * scale), float(matrix[1, 2] * scale)
    if not max(map(abs, focal + center)) < MOST:
        raise InputError(f"{path}: opencv.K and img_size give no camera: the focal length is {focal[0]:g} pixels")
    return frame, Lens(rigid(path, "opencv.R and t", pose), focal, center)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a torch file that consists of numbers, texts, arrays, and containers of those.

    Raises:
        InputError: the file cannot be read, or asks for anything else; nothing of it is run.
    """
    require_file(path, most_bytes=MOST_BYTES)
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if sum(member.file_size for member in members) > MOST_BYTES:
                raise InputError(f"{path} unpacks to more than {MOST_BYTES >> 20} MiB, which no checkpoint has")
            if sum(member.file_size for member in members if member.filename.endswith(".pkl")) > MOST_PICKLED:
                raise InputError(
                    f"{path} holds a pickle of more than {MOST_PICKLED >> 10} KiB, which no checkpoint has"
                )
        with torch.serialization.safe_globals(numpy_stand_ins()):
            content = unfold(torch.load(path, map_location="cpu", weights_only=True))
    except InputError:
        raise
    except Exception as error:  # a damaged file can make the reader fail in any way
        wanted = re.search(r"GLOBAL (\S+)", str(error))
        if wanted:
            raise InputError(
                f"{path} asks for the Python object {wanted[1]}, which no tracked frame needs: it is refused, and "
                "nothing in it was run"
            ) from error
        raise InputError(f"{path} cannot be read as a torch file of arrays: {reason(error)}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold a dictionary")
    return content


def _as_array(value: Any) -> Any:
    return value.detach().numpy() if isinstance(value, Tensor) else value


def _object(path: Path, content: dict[str, Any], name: str) -> dict[str, Any]:
    if not isinstance(content.get(name), dict):
        raise InputError(f"{path}: {name} is missing or no dictionary")
    return content[name]


def _set_parameters(dataset: Dataset, frames: list[dict[str, np.ndarray]]) -> None:
    path = dataset.folder / FOLDER
    for name in ("exp", "shape"):
        if len({frame[name].shape for frame in frames}) > 1:
            dataset.faults.add(f"{path}: {name} has different lengths in different frames")
            return
    rows = {name: np.concatenate([frame[name] for frame in frames]) for name in ("exp", "shape", "jaw", "eyes")}
    if np.ptp(rows["shape"], axis=0).max() > 1e-4:
        dataset.remarks.append(f"{FOLDER}: shape differs between frames; the first frame's is used")
    if any(frame.get("eyelids", np.zeros(1)).any() for frame in frames):
        dataset.remarks.append(f"{FOLDER}: eyelids moves vertices by fields that FLAME does not have; it is left out")
        dataset.history["eyelids"] = "left out"
    still = torch.zeros(len(frames), 3)
    dataset.shape = torch.from_numpy(rows["shape"][0])
    dataset.parameters = HeadParameters(
        expression=torch.from_numpy(rows["exp"]),
        rotation=still,
        neck=still,
        jaw=matrix_to_axis_angle(rows_to_matrix(torch.from_numpy(rows["jaw"]))),
        eyes=matrix_to_axis_angle(rows_to_matrix(torch.from_numpy(rows["eyes"]).unflatten(1, (2, 6)))).flatten(1),
        translation=still,
        neck_translation=still,
    )
    dataset.fields = {name: row.shape for name, row in rows.items()}
    dataset.remarks.append("the motion of the head is in the camera, which moves from frame to frame")


def rows_to_matrix(six: Tensor) -> Tensor:
    """Rotation matrices [..., 3, 3] from their first two rows [..., 6], made orthonormal (Zhou et al. 2019)."""
    first = torch.nn.functional.normalize(six[..., :3], dim=-1)
    second = six[..., 3:] - (first * six[..., 3:]).sum(-1, keepdim=True) * first
    second = torch.nn.functional.normalize(second, dim=-1)
    return torch.stack([first, second, torch.linalg.cross(first, second)], -2)
