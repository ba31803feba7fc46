"""INSTA's layout: pictures with a moving camera, expressions, and posed meshes.

    transforms.json                    all frames; transforms_{train,val,test}.json the splits
    images/NNNNN.png                   RGBA, the matte in the alpha channel
    meshes/NNNNN.obj, canonical.obj    the tracker's meshes in a simplified topology
    flame/exp/NNNNN.txt                100 expression coefficients of FLAME 2020, one a line

Convention: ``transform_matrix`` is camera-to-world with OpenCV axes (x right, y down, z forward), in spite of the names
it shares with NeRF's files; intrinsics are pixels and hold for all frames. The head stays still: its motion is in the
camera. World space is the tracker's, metres, y up, face towards +z.

What is missing for training: there is no identity, no jaw and no gaze; the meshes have those only as positions of
vertices, in a topology that is not FLAME's. So the pictures are tracked anew, unless the tracker's own ``checkpoint``
folder is put beside them, which then is read instead (:mod:`stavatar.sequence.metrical`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from stavatar.errors import InputError
from stavatar.files import read_content
from stavatar.sequence.dataset import Dataset, Lens, View
from stavatar.sequence.untrusted import DataFolder, Faults, field, frame_list, number, number_in, rigid

MAIN = "transforms.json"
EXPRESSIONS = 100
MOST_TEXT_BYTES = 1 << 20


def recognise(folder: DataFolder) -> bool:
    """Whether frames name expression files or meshes."""
    return bool({"exp_path", "mesh_path"} & folder.frame_keys(MAIN))


def open_insta(folder: DataFolder) -> Dataset:
    """Frames, cameras and splits; expressions are only looked at."""
    path, content, faults = folder.root / MAIN, folder.json(MAIN), Faults()
    entries = frame_list(path, content)
    views: list[View] = []
    expressions = meshes = 0
    width = height = 0
    with faults.collected():
        width, height = (int(number(path, "", content, name)) for name in ("w", "h"))
        focal = number(path, "", content, "fl_x"), number(path, "", content, "fl_y")
        center = number(path, "", content, "cx"), number(path, "", content, "cy")
        for i, entry in enumerate(entries):
            with faults.collected():
                views.append(_read_frame(folder, f"frames[{i}]", entry, i, focal, center))
                if "exp_path" in entry:
                    _check_expression(_file(folder, f"frames[{i}]", entry, "exp_path"))
                    expressions += 1
                if "mesh_path" in entry:
                    meshes += _file(folder, f"frames[{i}]", entry, "mesh_path").exists()
    dataset = Dataset(
        format="insta",
        folder=folder.root,
        name=folder.root.resolve().name,
        views=views,
        width=width,
        height=height,
        faults=faults,
        fields={"transform_matrix": (len(views), 4, 4)},
        why_not="INSTA's export has no identity, jaw or gaze, unless the tracker's `checkpoint` folder is put beside "
        "`images`",
    )
    if expressions:
        dataset.fields["exp"] = (expressions, EXPRESSIONS)
    if meshes:
        dataset.remarks.append(f"{meshes} meshes in the tracker's simplified topology are not used")
    if not faults.count:
        _read_splits(folder, dataset)
    return dataset


def _read_frame(
    folder: DataFolder,
    where: str,
    entry: Any,
    timestep: int,
    focal: tuple[float, float],
    center: tuple[float, float],
) -> View:
    path = folder.root / MAIN
    image = _file(folder, where, entry, "file_path")
    pose = rigid(path, f"{where}.transform_matrix", field(path, where, entry, "transform_matrix", list))
    frame_id = number_in(image)
    return View(
        image, None, Lens(np.linalg.inv(pose), focal, center), timestep, timestep if frame_id is None else frame_id
    )


def _file(folder: DataFolder, where: str, entry: Any, name: str) -> Path:
    path = folder.root / MAIN
    return folder.file(path, f"{where}.{name}", field(path, where, entry, name, str))


def _check_expression(path: Path) -> None:
    """A text of 100 finite numbers."""
    try:
        values = np.array(read_content(path, most_bytes=MOST_TEXT_BYTES).decode("ascii").split(), dtype=np.float64)
    except ValueError as error:
        raise InputError(f"{path} cannot be read as numbers: {str(error)[:200]}") from error
    if values.shape != (EXPRESSIONS,) or not np.isfinite(values).all():
        raise InputError(f"{path} must hold {EXPRESSIONS} finite numbers, one a line")


def _read_splits(folder: DataFolder, dataset: Dataset) -> None:
    """The splits by picture; ``val`` is part of ``test`` in this layout, and left to it."""
    place = {view.image.name: i for i, view in enumerate(dataset.views)}
    for split in ("train", "test"):
        name = f"transforms_{split}.json"
        if folder.has(name):
            with dataset.faults.collected():
                path, chosen = folder.root / name, []
                for i, entry in enumerate(field(path, "", folder.json(name), "frames", list)):
                    picture = Path(field(path, f"frames[{i}]", entry, "file_path", str)).name
                    if picture not in place:
                        raise InputError(f"{path}: frames[{i}].file_path {picture!r} is not in {MAIN}")
                    chosen.append(place[picture])
                dataset.split[split] = sorted(set(chosen))
