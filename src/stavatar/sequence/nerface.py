"""NerFace's layout: recorded pictures with cameras and expressions of another face model.

    transforms_{train,val,test}.json         frames of each split
    {train,val,test}/f_NNNN.png              recorded pictures, the background in them (also alone: bg/00050.png)

Convention: ``intrinsics`` are [fx, fy, cx, cy], focal lengths in pixels with fx < 0, principal point in units of the
picture's size. The ray of a pixel is ((u - cx) / fx, -(v - cy) / fy, -1), turned by the camera-to-world
``transform_matrix``. An ordinary camera's ray has x to the right; with fx < 0 it is to the left, so that camera and
world are mirror images of ours: ``diag(sign fx, -1, -1) world_to_camera`` has the determinant -1. Mirroring the world
in x makes it a proper camera; where the matrix itself mirrors already, nothing is left to do. Translations are scaled
and not metric.

The 76 expression coefficients belong to another face model, and there is no identity: the pictures are tracked anew, in
the order of their numbers (train and val are drawn from the same stretch of video).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stavatar.errors import InputError
from stavatar.sequence.dataset import Dataset, Lens, View
from stavatar.sequence.untrusted import (
    DataFolder,
    Faults,
    field,
    frame_list,
    number_in,
    numbers,
    picture_head,
)

SPLITS = ("train", "val", "test")


def recognise(folder: DataFolder) -> bool:
    """Whether frames of the training split carry expressions."""
    return "expression" in folder.frame_keys("transforms_train.json")


@dataclass(frozen=True)
class _Entry:
    """One element of a list ``frames``: where it stands, and its picture."""

    split: str
    path: Path
    where: str
    content: dict[str, Any]
    image: Path

    @property
    def number(self) -> int:
        return number_in(self.image) or 0


def open_nerface(folder: DataFolder) -> Dataset:
    """Frames and cameras; expressions are only looked at."""
    faults = Faults()
    entries = sorted(_entries(folder, faults), key=lambda entry: entry.number)
    size, width = (0, 0), 0
    if entries:
        with faults.collected():
            size, _ = picture_head(entries[0].image)
    views: list[View] = []
    split: dict[str, list[int]] = {name: [] for name in SPLITS}
    for entry in entries:
        with faults.collected():
            lens = _lens(entry, folder.json(entry.path.name), size)
            expression = numbers(entry.path, entry.where, entry.content, "expression", (None,))
            width = width or len(expression)
            if len(expression) != width:
                found = f"{entry.where}.expression has {len(expression)} numbers"
                raise InputError(f"{entry.path}: {found}, and others {width}")
            split[entry.split].append(len(views))
            views.append(View(entry.image, None, lens, len(views), entry.number))
    return Dataset(
        format="nerface",
        folder=folder.root,
        name=folder.root.resolve().name,
        views=views,
        width=size[0],
        height=size[1],
        faults=faults,
        fields={"expression": (len(views), width), "transform_matrix": (len(views), 4, 4)},
        split=split,
        why_not="NerFace's expressions are not FLAME's, and there is no identity",
    )


def _entries(folder: DataFolder, faults: Faults) -> list[_Entry]:
    """The frames of all splits; their ``file_path`` has no suffix."""
    entries = []
    for split in SPLITS:
        name = f"transforms_{split}.json"
        path = folder.root / name
        if folder.has(name):
            for i, content in enumerate(frame_list(path, folder.json(name))):
                where = f"frames[{i}]"
                with faults.collected():
                    text = field(path, where, content, "file_path", str)
                    image = folder.picture(folder.file(path, f"{where}.file_path", text))
                    entries.append(_Entry(split, path, where, content, image))
    return entries


def _lens(entry: _Entry, main: dict[str, Any], size: tuple[int, int]) -> Lens:
    """A proper camera in the world mirrored in x, where fx < 0 asks for that."""
    path, where = entry.path, entry.where
    fx, fy, cx, cy = numbers(path, "", main, "intrinsics", (4,)).tolist()
    if fx == 0 or fy <= 0:
        raise InputError(f"{path}: intrinsics must have fx other than 0 and fy > 0, and are {[fx, fy, cx, cy]}")
    pose = numbers(path, where, entry.content, "transform_matrix", (4, 4))
    rotation = pose[:3, :3]
    if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3) or not np.allclose(pose[3], [0, 0, 0, 1]):
        raise InputError(f"{path}: {where}.transform_matrix must be a 4 x 4 rotation and translation")
    axes = np.diag([np.sign(fx), -1.0, -1.0, 1.0]) @ np.linalg.inv(pose)
    mirror = np.diag([np.sign(np.linalg.det(axes[:3, :3])), 1.0, 1.0, 1.0])
    return Lens(axes @ mirror, (abs(fx), fy), (cx * size[0], cy * size[1]))
