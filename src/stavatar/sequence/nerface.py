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

from pathlib import Path
from typing import Any

import numpy as np

from stavatar.errors import InputError
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
)
from stavatar.sequence.vhap import first_frame

SPLITS = ("train", "val", "test")


def recognise(folder: DataFolder) -> bool:
    """Whether frames of the training split carry expressions."""
    return "expression" in first_frame(folder, "transforms_train.json")


def open_nerface(folder: DataFolder) -> Dataset:
    """Frames and cameras; expressions are only looked at."""
    faults = Faults()
    found: list[tuple[int, str, Path, dict[str, Any], Path, str]] = []
    for split in SPLITS:
        name = f"transforms_{split}.json"
        path = folder.root / name
        if folder.has(name):
            for i, entry in enumerate(frame_list(path, folder.json(name))):
                with faults.collected():
                    image = _picture(folder, path, f"frames[{i}]", entry)
                    found.append((number_in(image) or 0, split, image, entry, path, f"frames[{i}]"))
    found.sort(key=lambda item: item[0])
    size, width = (0, 0), 0
    if found:
        with faults.collected():
            size, _ = picture_head(found[0][2])
    views: list[View] = []
    split_of: dict[str, list[int]] = {split: [] for split in SPLITS}
    for frame_id, split, image, entry, path, where in found:
        with faults.collected():
            lens = _lens(path, where, entry, folder.json(path.name), size)
            expression = numbers(path, where, entry, "expression", (None,))
            width = width or len(expression)
            if len(expression) != width:
                raise InputError(f"{path}: {where}.expression has {len(expression)} numbers, and others {width}")
            split_of[split].append(len(views))
            views.append(View(image, None, lens, len(views), frame_id))
    return Dataset(
        format="nerface",
        folder=folder.root,
        name=folder.root.resolve().name,
        views=views,
        width=size[0],
        height=size[1],
        faults=faults,
        fields={"expression": (len(views), width), "transform_matrix": (len(views), 4, 4)},
        split=split_of,
        why_not="NerFace's expressions are not FLAME's and there is no identity: run `stavatar reconstruct` on it to "
        "track its pictures anew",
    )


def _picture(folder: DataFolder, path: Path, where: str, entry: Any) -> Path:
    """The file of ``file_path``, which has no suffix."""
    stem = folder.file(path, f"{where}.file_path", field(path, where, entry, "file_path", str))
    found = [stem.with_name(f"{stem.name}{suffix}") for suffix in PICTURES]
    return folder.contained(next((file for file in found if file.exists()), found[0]))


def _lens(path: Path, where: str, entry: Any, content: dict[str, Any], size: tuple[int, int]) -> Lens:
    """A proper camera in the world mirrored in x, where fx < 0 asks for that."""
    own = entry if "intrinsics" in entry else content
    fx, fy, cx, cy = numbers(path, where if own is entry else "", own, "intrinsics", (4,)).tolist()
    if fx == 0 or fy <= 0:
        raise InputError(f"{path}: intrinsics must have fx other than 0 and fy > 0, and are {[fx, fy, cx, cy]}")
    pose = numbers(path, where, entry, "transform_matrix", (4, 4))
    rotation = pose[:3, :3]
    if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3) or not np.allclose(pose[3], [0, 0, 0, 1]):
        raise InputError(f"{path}: {where}.transform_matrix must be a 4 x 4 rotation and translation")
    axes = np.diag([np.sign(fx), -1.0, -1.0, 1.0]) @ np.linalg.inv(pose)
    mirror = np.diag([np.sign(np.linalg.det(axes[:3, :3])), 1.0, 1.0, 1.0])
    return Lens(axes @ mirror, (abs(fx), fy), (cx * size[0], cy * size[1]))
