"""IMavatar's layout, which PointAvatar and SplattingAvatar read as well: one ``flame_params.json`` per video.

    flame_params.json     {frames, intrinsics, shape_params}
    image/N.png           (or images/) recorded picture, N from 1, without leading zeros
    mask/N.png            matte of the person

Convention. A frame's ``pose`` is 15 numbers of axis-angle: root, neck, jaw, left eye, right eye; what DECA calls the
global rotation is in the neck. The layout enlarges FLAME fourfold: a camera point is ``R (4 v) + t`` for a vertex v in
metres and ``world_mat = [R | t]``, with OpenGL axes, so that visible points have Z < 0. Dividing everything by 4
changes no picture and gives metres: the translation of our camera is t / 4. ``intrinsics`` are [fx, fy, cx, cy] in
units of the picture's size, with fx < 0: as Z is negative too, u = fx X / Z + cx runs to the right and
v = fy Y / Z + cy downwards, which is an ordinary camera with the focal length -fx. Files whose fourth number is above 1
are in pixels of a picture of 512. Expressions are the first 50 of FLAME 2020, identity the first 100.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stavatar.errors import InputError
from stavatar.head.parameters import HeadParameters
from stavatar.sequence.dataset import Dataset, Lens, View
from stavatar.sequence.untrusted import (
    DataFolder,
    Faults,
    field,
    frame_list,
    number_in,
    numbers,
    picture_head,
    rigid,
)

NAME = "flame_params.json"
HEAD = "flame-2020"
ENLARGED = 4.0
OLD_PICTURE = 512.0
OPENGL_ROWS = np.diag([1.0, -1.0, -1.0, 1.0])


def recognise(folder: DataFolder) -> bool:
    """Whether the JSON file has frames and intrinsics."""
    return folder.has(NAME) and {"frames", "intrinsics"} <= folder.json(NAME).keys()


@dataclass(frozen=True)
class _Frame:
    """One checked entry of ``frames``, its camera in metres and with our axes."""

    number: int
    image: Path
    mask: Path | None
    world_to_camera: np.ndarray
    pose: np.ndarray
    expression: np.ndarray


def open_imavatar(folder: DataFolder) -> Dataset:
    """Read everything but the pictures; their size is the first picture's."""
    path, content, faults = folder.root / NAME, folder.json(NAME), Faults()
    frames: list[_Frame] = []
    for i, entry in enumerate(frame_list(path, content)):
        with faults.collected():
            frame = _read_frame(folder, f"frames[{i}]", entry)
            if frames and len(frame.expression) != len(frames[0].expression):
                raise InputError(f"{path}: frames[{i}].expression has {len(frame.expression)} numbers, unlike frame 0")
            frames.append(frame)
    frames.sort(key=lambda frame: frame.number)
    dataset = Dataset(
        format="imavatar",
        folder=folder.root,
        name=folder.root.resolve().name,
        views=[],
        width=0,
        height=0,
        faults=faults,
        head_model=HEAD,
        history={"tracker": "unknown (IMavatar layout)"},
    )
    with faults.collected():
        dataset.shape = torch.from_numpy(numbers(path, "", content, "shape_params", (None,))).float()
        focal, center = _intrinsics(path, content)
        if frames:
            (dataset.width, dataset.height), _ = picture_head(frames[0].image)
    if not faults.count:
        size = np.array([dataset.width, dataset.height])
        (fx, fy), (cx, cy) = (focal * size).tolist(), (center * size).tolist()
        dataset.views = [
            View(frame.image, frame.mask, Lens(frame.world_to_camera, (fx, fy), (cx, cy)), timestep, frame.number)
            for timestep, frame in enumerate(frames)
        ]
        _set_parameters(dataset, frames)
    return dataset


def _read_frame(folder: DataFolder, where: str, entry: Any) -> _Frame:
    path = folder.root / NAME
    text = field(path, where, entry, "file_path", str)
    stem = folder.file(path, f"{where}.file_path", text).name.removesuffix(".png")
    number = number_in(Path(stem))
    if number is None:
        raise InputError(f"{path}: {where}.file_path must end in the number of the picture, not {stem!r}")
    world_mat = rigid(path, f"{where}.world_mat", field(path, where, entry, "world_mat", list))
    world_mat[:3, 3] /= ENLARGED
    pictures = folder.root / ("images" if folder.has("images") else "image")
    return _Frame(
        number=number,
        image=folder.picture(pictures / stem),
        mask=folder.picture(folder.root / "mask" / stem) if folder.has("mask") else None,
        world_to_camera=OPENGL_ROWS @ world_mat,
        pose=numbers(path, where, entry, "pose", (15,)),
        expression=numbers(path, where, entry, "expression", (None,)),
    )


def _set_parameters(dataset: Dataset, frames: list[_Frame]) -> None:
    pose = torch.from_numpy(np.stack([frame.pose for frame in frames])).float()
    rotation, neck, jaw, eyes = pose.split([3, 3, 3, 6], 1)
    expression = torch.from_numpy(np.stack([frame.expression for frame in frames])).float()
    still = torch.zeros(len(frames), 3)
    dataset.parameters = HeadParameters(expression, rotation, neck, jaw, eyes, still, still)
    assert dataset.shape is not None
    dataset.fields = {
        "shape_params": tuple(dataset.shape.shape),
        "expression": tuple(expression.shape),
        "pose": tuple(pose.shape),
        "world_mat": (len(frames), 3, 4),
    }


def _intrinsics(path: Path, content: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Focal lengths and principal point in units of the picture's size, as an ordinary camera has them."""
    intrinsics = numbers(path, "", content, "intrinsics", (4,))
    if abs(intrinsics[3]) > 1:
        intrinsics = intrinsics / OLD_PICTURE
    if not (intrinsics[0] < 0 < intrinsics[1]):
        raise InputError(f"{path}: intrinsics must have fx < 0 < fy, and are {intrinsics.tolist()}")
    return np.abs(intrinsics[:2]), intrinsics[2:]
