"""FLAME as a :class:`HeadModel`: the user's file, with teeth, regions and a UV layout added."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from stavatar.assets import cache_folder
from stavatar.errors import InputError
from stavatar.files import atomic_path
from stavatar.head.flame_file import EXPRESSIONS, SHAPES, FlameArrays, read_flame
from stavatar.head.flame_regions import label_flame
from stavatar.head.flame_teeth import add_teeth
from stavatar.head.flame_uv import lay_out_flame
from stavatar.head.model import HeadModel

BUILD = 1
"""Raised when regions or the UV layout change, so that no older layout is taken from the cache."""


def load_flame(path: Path, *, shapes: int = SHAPES, expressions: int = EXPRESSIONS) -> HeadModel:
    """FLAME from the user's own file: 5,143 vertices and 10,144 faces with its teeth.

    The head's name says the version and which file it is, for example ``flame-2023-0a1b2c3d``; with fewer directions
    than the file holds their numbers are added (``flame-2020-0a1b2c3d-s100e50``). The UV layout takes some seconds the
    first time and is kept in the cache folder.

    Args:
        path: ``.pkl`` or ``.npz``; see :mod:`stavatar.head.flame_file`.
        shapes, expressions: how many directions to use at most.

    Raises:
        InputError: the file is no FLAME model, or no direction is asked for.
    """
    if shapes < 1 or expressions < 1:
        raise InputError("a head needs at least one identity and one expression direction")
    whole = read_flame(path)
    flame = add_teeth(
        replace(whole, shape_basis=whole.shape_basis[:shapes], expression_basis=whole.expression_basis[:expressions])
    )
    counts = len(flame.shape_basis), len(flame.expression_basis)
    fewer = counts != (len(whole.shape_basis), len(whole.expression_basis))
    try:
        regions = label_flame(flame)
        uv, uv_faces = _layout(flame, regions)
    except (ValueError, LookupError, RuntimeError, StopIteration) as error:
        # The counts are FLAME's, and the numbers are finite; that they make a face is found out by looking for one.
        raise InputError(f"{path}: f and v_template are not FLAME's mesh: no face is found on it ({error})") from error
    regressor = flame.joint_regressor
    return HeadModel(
        name=flame.name + (f"-s{counts[0]}e{counts[1]}" if fewer else ""),
        template=flame.template,
        shape_basis=flame.shape_basis,
        expression_basis=flame.expression_basis,
        expression_names=[f"expr{number}" for number in range(counts[1])],
        joints=regressor @ flame.template,
        joint_basis=regressor @ flame.shape_basis,
        weights=flame.weights,
        faces=flame.faces,
        uv=uv,
        uv_faces=uv_faces,
        regions=regions,
        jaw_by_expression=False,
        # As FLAME is defined, joints are regressed from the head with its expression.
        expression_joint_basis=regressor @ flame.expression_basis,
        pose_basis=flame.pose_basis,
    )


def flame_cache(which: str, what: str) -> Path:
    """Where something that was computed for a FLAME file (its digits) or head (its name) is kept."""
    return cache_folder() / "flame" / "computed" / f"{which}-{what}-{BUILD}.npz"


def _layout(flame: FlameArrays, regions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The UV layout, from the cache where it is there."""
    path = flame_cache(flame.fingerprint, "uv")
    try:
        with np.load(path, allow_pickle=False) as stored:
            uv, uv_faces = stored["uv"], stored["uv_faces"]
        whole = uv_faces.shape == flame.faces.shape and 0 <= uv_faces.min() <= uv_faces.max() < len(uv)
        if whole and uv.ndim == 2 and np.isfinite(uv).all():
            return uv, uv_faces
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        pass  # not there, or damaged: made again
    uv, uv_faces = lay_out_flame(flame, regions)
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, uv=uv.astype(np.float32), uv_faces=uv_faces.astype(np.int32))
    return uv.astype(np.float32), uv_faces
