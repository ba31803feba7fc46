"""LAM's ``flame_params.json``: the head parameters of a VHAP export in one file, as its web player reads them.

    flame_params.json             {translation, rotation, neck_pose, jaw_pose, eyes_pose: [T][width], shape: [300],
                                   expr: [{"expr0": .., ..., "expr99": ..}]}
    transforms.json, images/ ...  as in :mod:`stavatar.sequence.vhap`

Convention: VHAP's. ``expr`` is FLAME's expression, in spite of the web player's ARKit interface. In the samples that
LAM ships it has one row less than all else: the first is missing, so that row i belongs to frame i + 1. Such a list is
recognised by its length and its first row is repeated in front.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from stavatar.errors import InputError
from stavatar.head.parameters import HeadParameters
from stavatar.sequence.dataset import Dataset
from stavatar.sequence.untrusted import DataFolder, field, number, numbers
from stavatar.sequence.vhap import KEYS, open_views, set_parameters

NAME = "flame_params.json"


def recognise(folder: DataFolder) -> bool:
    """Whether ``expr`` of the JSON file is a list; files of single frames, where there are some too, say the same."""
    return folder.has(NAME) and isinstance(folder.json(NAME).get("expr"), list) and not folder.has("flame_param")


def open_lam(folder: DataFolder) -> Dataset:
    """Frames and cameras from the transforms, head parameters from the JSON file."""
    dataset, _ = open_views(folder)
    dataset.format = "lam"
    dataset.history = {"tracker": "unknown (LAM flame_params.json)"}
    with dataset.faults.collected():
        _read_parameters(folder, dataset)
    return dataset


def _read_parameters(folder: DataFolder, dataset: Dataset) -> None:
    path, content, frames = folder.root / NAME, folder.json(NAME), dataset.timesteps
    widths = {"rotation": 3, "neck": 3, "jaw": 3, "eyes": 6, "translation": 3}
    rows = {name: numbers(path, "", content, KEYS[name], (frames, width)) for name, width in widths.items()}
    rows["expression"] = _expressions(folder, dataset, content, frames)
    rows["neck_translation"] = np.zeros((frames, 3))
    shape = numbers(path, "", content, "shape", (None,))
    parameters = HeadParameters(**{name: torch.from_numpy(row).float() for name, row in rows.items()})
    set_parameters(dataset, torch.from_numpy(shape).float(), parameters)


def _expressions(folder: DataFolder, dataset: Dataset, content: dict[str, Any], frames: int) -> np.ndarray:
    """[T, E], with the missing first row made up for."""
    path, listed = folder.root / NAME, field(folder.root / NAME, "", content, "expr", list)
    if len(listed) not in (frames, frames - 1) or not listed:
        raise InputError(f"{path}: expr has {len(listed)} rows, and {frames} are expected, one per timestep")
    width = len(listed[0]) if isinstance(listed[0], dict) else 0
    keys = [f"expr{i}" for i in range(width)]
    for i, row in enumerate(listed):
        if not isinstance(row, dict) or len(row) != width:
            raise InputError(f"{path}: expr[{i}] must be an object of {width} numbers, as the first row is")
    rows = np.array([[number(path, f"expr[{i}]", row, key) for key in keys] for i, row in enumerate(listed)])
    if len(rows) == frames - 1:
        rows = np.concatenate([rows[:1], rows])
        dataset.remarks.append(
            f"{NAME}: expr has {frames - 1} rows for {frames} frames, which is LAM's export without the first one: the "
            "rows are moved back by one frame and the first is repeated"
        )
    return rows
