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

from pathlib import Path
from typing import Any

import numpy as np
import torch

from stavatar.errors import InputError
from stavatar.head.parameters import HeadParameters
from stavatar.sequence.dataset import Dataset, Lens, View
from stavatar.sequence.untrusted import (
    PICTURES,
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


def open_imavatar(folder: DataFolder) -> Dataset:
    """Read everything but the pictures; their size is the first picture's."""
    path, content, faults = folder.root / NAME, folder.json(NAME), Faults()
    pictures = "images" if folder.has("images") else "image"
    masked = folder.has("mask")
    views: list[tuple[Path, Path | None, int]] = []
    rows: list[dict[str, np.ndarray]] = []
    for i, frame in enumerate(frame_list(path, content)):
        with faults.collected():
            view, row = _read_frame(folder, f"frames[{i}]", frame, pictures, masked)
            if rows and len(row["expression"]) != len(rows[0]["expression"]):
                raise InputError(f"{path}: frames[{i}].expression has {len(row['expression'])} numbers, unlike frame 0")
            views.append(view)
            rows.append(row)
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
        shape = numbers(path, "", content, "shape_params", (None,))
        focal, center = _intrinsics(path, content)
    if faults.count:
        return dataset
    with faults.collected():
        (dataset.width, dataset.height), _ = picture_head(views[0][0])
    width, height = dataset.width, dataset.height
    dataset.views = [
        View(
            image,
            mask,
            Lens(
                row["world_to_camera"],
                (focal[0] * width, focal[1] * height),
                (center[0] * width, center[1] * height),
            ),
            timestep,
            frame_id,
        )
        for timestep, ((image, mask, frame_id), row) in enumerate(zip(views, rows, strict=True))
    ]
    pose = np.stack([row["pose"] for row in rows])
    expression = np.stack([row["expression"] for row in rows])
    still = np.zeros((len(rows), 3))
    fields = {
        "expression": expression,
        "rotation": pose[:, :3],
        "neck": pose[:, 3:6],
        "jaw": pose[:, 6:9],
        "eyes": pose[:, 9:],
        "translation": still,
        "neck_translation": still,
    }
    dataset.shape = torch.from_numpy(shape).float()
    dataset.parameters = HeadParameters(**{name: torch.from_numpy(value).float() for name, value in fields.items()})
    dataset.fields = {
        "shape_params": shape.shape,
        "expression": expression.shape,
        "pose": pose.shape,
        "world_mat": (len(rows), 3, 4),
    }
    return dataset


def _read_frame(
    folder: DataFolder, where: str, frame: Any, pictures: str, masked: bool
) -> tuple[tuple[Path, Path | None, int], dict[str, np.ndarray]]:
    """(image, mask, number) and the numeric fields, the camera in metres and with our axes."""
    path = folder.root / NAME
    stem = folder.file(path, f"{where}.file_path", field(path, where, frame, "file_path", str)).name
    stem = stem.removesuffix(".png")
    number = number_in(Path(stem))
    if number is None:
        raise InputError(f"{path}: {where}.file_path must end in the number of the picture, not {stem!r}")
    world_mat = rigid(path, f"{where}.world_mat", field(path, where, frame, "world_mat", list))
    world_mat[:3, 3] /= ENLARGED
    image = _picture(folder, pictures, stem)
    return (image, _picture(folder, "mask", stem) if masked else None, number), {
        "world_to_camera": OPENGL_ROWS @ world_mat,
        "pose": numbers(path, where, frame, "pose", (15,)),
        "expression": numbers(path, where, frame, "expression", (None,)),
    }


def _picture(folder: DataFolder, name: str, stem: str) -> Path:
    """The file with one of the suffixes that pictures have; the usual name where there is none."""
    found = [folder.root / name / f"{stem}{suffix}" for suffix in PICTURES]
    return folder.contained(next((path for path in found if path.exists()), found[0]))


def _intrinsics(path: Path, content: dict[str, Any]) -> tuple[list[float], list[float]]:
    """Focal lengths and principal point in units of the picture's size, as an ordinary camera has them."""
    intrinsics = numbers(path, "", content, "intrinsics", (4,))
    if abs(intrinsics[3]) > 1:
        intrinsics = intrinsics / OLD_PICTURE
    if not (intrinsics[0] < 0 < intrinsics[1]):
        raise InputError(f"{path}: intrinsics must have fx < 0 < fy, and are {intrinsics.tolist()}")
    return np.abs(intrinsics[:2]).tolist(), intrinsics[2:].tolist()
