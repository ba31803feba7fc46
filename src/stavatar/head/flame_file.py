"""FLAME's own files: the arrays of a ``.pkl`` or ``.npz``, checked, and which version of FLAME they are.

FLAME (Li, Bolkart, Black, Li, Romero: *Learning a model of facial shape and expression from 4D scans*, SIGGRAPH Asia
2017) is a template with linear directions of identity and expression, corrective directions that go with the pose of
four joints, and skinning weights. Its files cannot be part of this package: the user brings one.

    v_template     (5023, 3)            neutral head, metres, y up, face towards +z
    f              (9976, 3)            triangles
    shapedirs      (5023, 3, 300 + 100) identity directions first, then expressions
    posedirs       (5023, 3, 36)        correctives by vec(R - 1) of neck, jaw, left eye, right eye, row by row
    J_regressor    (5, 5023)            joints out of vertices; sparse in pickles
    weights        (5023, 5)            root, neck, jaw, left eye, right eye
    kintree_table  (2, 5)               parents in the first row

Also understood: fewer directions than 300 and 100; expressions apart, as ``expressiondirs``; ``posedirs`` as (36, V, 3)
or (36, 3 V); ``parents`` in place of ``kintree_table``.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stavatar.arrays import read_npz
from stavatar.errors import InputError
from stavatar.head.array_pickle import MOST_BYTES, read_array_pickle
from stavatar.head.posing import JOINTS, PARENTS

VERTICES = 5023
FACES = 9976
SHAPES = 300
EXPRESSIONS = 100
POSE_FEATURES = 9 * (len(JOINTS) - 1)

VERSIONS = {
    "flame-2020": "FLAME 2020",
    "flame-2023": "FLAME 2023",
    "flame-2023-no-jaw": "FLAME 2023 without jaw rotation in its expressions",
    "flame-2023-open": "FLAME 2023 Open",
    "flame-unknown": "FLAME of an unknown version",
}
"""Versions, as they begin the name of a head model, and what to call them in a sentence."""

_KNOWN_FILES = {"efcd14cc4a69f3a3d9af8ded80146b5b6b50df3bd74cf69108213b144eba725b": "flame-2020"}
"""SHA-256 of a file -> version: generic_model.pkl of FLAME 2020, 53,023,716 bytes."""

_KNOWN_TEMPLATES = {"ec56c89562ee27cfe5a125be9faf062f86f7093188bb829723cc5b5b686ed55c": "flame-2023-open"}
"""SHA-256 of a template as little-endian float32 -> version."""


@dataclass(frozen=True)
class FlameArrays:
    """A FLAME file's content, V = 5,023 vertices and F = 9,976 faces.

    Attributes:
        version: a key of `VERSIONS`.
        told_by: what the version was told by: ``content`` or ``file name``, or ``nothing``.
        fingerprint: 8 hexadecimal digits that differ from file to file, whatever the container; depends on the arrays
            as float32, all directions included.
        template: [V, 3] float64, and all that follows.
        shape_basis: [S, V, 3].
        expression_basis: [E, V, 3].
        pose_basis: [36, V, 3].
        joint_regressor: [5, V].
        weights: [V, 5], rows sum to 1.
        faces: [F, 3] int64.
    """

    version: str
    told_by: str
    fingerprint: str
    template: np.ndarray
    shape_basis: np.ndarray
    expression_basis: np.ndarray
    pose_basis: np.ndarray
    joint_regressor: np.ndarray
    weights: np.ndarray
    faces: np.ndarray

    @property
    def name(self) -> str:
        """The version and which file it is, for example ``flame-2023-0a1b2c3d``."""
        return f"{self.version}-{self.fingerprint}"


def read_flame(path: Path) -> FlameArrays:
    """Read a FLAME file; nothing in it is executed.

    Raises:
        InputError: the file cannot be read or is no FLAME model; the sentence names the file and the field.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} does not exist: give the FLAME file that you downloaded (.pkl or .npz)")
    fields = _Fields(path, _read_arrays(path))
    template = fields.numbers("v_template", (VERTICES, 3))
    extent = np.ptp(template, axis=0)
    if not (extent.min() > 0.1 and extent.max() < 1.0):
        raise InputError(
            f"{path}: v_template measures {extent.max():.3g} at its longest, and a head in metres about 0.3"
        )
    shape_basis, expression_basis = fields.directions()
    weights = fields.numbers("weights", (VERTICES, len(JOINTS)))
    if weights.min() < -1e-6 or np.abs(weights.sum(1) - 1).max() > 1e-3:
        raise InputError(f"{path}: weights must be positive and sum to 1 for every vertex")
    fields.check_parents()
    pose_basis = fields.pose_directions()
    regressor = fields.numbers("J_regressor", (len(JOINTS), VERTICES))
    if np.abs(regressor.sum(1) - 1).max() > 1e-2:
        raise InputError(f"{path}: the rows of J_regressor must sum to 1, or joints would not move with the head")
    faces = fields.triangles()
    parts = [template, shape_basis, expression_basis, pose_basis, regressor, weights, faces]
    version, told_by = _version(path, template)
    return FlameArrays(
        version=version,
        told_by=told_by,
        fingerprint=_digest(*parts)[:8],
        template=template,
        shape_basis=shape_basis,
        expression_basis=expression_basis,
        pose_basis=pose_basis,
        joint_regressor=regressor,
        weights=weights,
        faces=faces,
    )


def _digest(*arrays: np.ndarray) -> str:
    """SHA-256 of arrays as little-endian float32 (of indices: the same numbers)."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array, "<f4").data)
    return digest.hexdigest()


def _version(path: Path, template: np.ndarray) -> tuple[str, str]:
    """The version, and what told it. What a file contains counts for more than what it is called."""
    known = _KNOWN_TEMPLATES.get(_digest(template))
    if known is None:
        with path.open("rb") as content:
            known = _KNOWN_FILES.get(hashlib.file_digest(content, "sha256").hexdigest())
    if known is not None:
        return known, "content"
    for name in (path.stem.lower(), path.resolve().parent.name.lower()):  # FLAME 2020's own file is generic_model.pkl
        year = re.search(r"20(20|23)", name)
        if year is not None:
            rest = name[year.end() :]
            suffix = "-open" if "open" in rest else "-no-jaw" if re.search("no.?jaw", rest) else ""
            if f"flame-{year[0]}{suffix}" in VERSIONS:
                return f"flame-{year[0]}{suffix}", "file name"
    return "flame-unknown", "nothing"


_FIELDS = (
    "v_template",
    "f",
    "shapedirs",
    "expressiondirs",
    "posedirs",
    "J_regressor",
    "weights",
    "kintree_table",
    "parents",
)


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    if zipfile.is_zipfile(path):
        return read_npz(path, most_bytes=MOST_BYTES, wanted=_FIELDS)
    return read_array_pickle(path)


@dataclass(frozen=True)
class _Fields:
    """The arrays of one file, taken out one by one with checks."""

    path: Path
    arrays: dict[str, np.ndarray]

    def numbers(self, name: str, shape: tuple[int | None, ...]) -> np.ndarray:
        """A field of finite numbers as float64; None in `shape` stands for any length but zero."""
        array = self._field(name)
        fits = array.ndim == len(shape) and all(
            length > 0 if wanted is None else length == wanted
            for length, wanted in zip(array.shape, shape, strict=True)
        )
        if not fits:
            expected = ", ".join("any" if length is None else str(length) for length in shape)
            raise InputError(f"{self.path}: {name} has the shape {array.shape}, and FLAME's is ({expected})")
        if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
            raise InputError(f"{self.path}: {name} must hold finite numbers")
        if np.abs(array).max() > 1e4:
            raise InputError(f"{self.path}: {name} holds numbers beyond 10,000, which no head model has")
        return array.astype(np.float64)

    def directions(self) -> tuple[np.ndarray, np.ndarray]:
        """Identity [S, V, 3] and expression [E, V, 3] directions."""
        together = self.numbers("shapedirs", (VERTICES, 3, None)).transpose(2, 0, 1)
        if "expressiondirs" in self.arrays:
            shapes = together
            expressions = self.numbers("expressiondirs", (VERTICES, 3, None)).transpose(2, 0, 1)
        else:
            shapes, expressions = together[:SHAPES], together[SHAPES:]
        if len(shapes) > SHAPES or len(expressions) > EXPRESSIONS:
            raise InputError(
                f"{self.path}: {len(shapes)} identity and {len(expressions)} expression directions are more than "
                f"FLAME's {SHAPES} and {EXPRESSIONS}"
            )
        if len(expressions) == 0:
            raise InputError(
                f"{self.path}: shapedirs has {len(shapes)} directions, which leaves none for expressions: those start "
                f"at number {SHAPES}, or stand apart as expressiondirs"
            )
        return shapes, expressions

    def pose_directions(self) -> np.ndarray:
        """Corrective directions [36, V, 3]."""
        stored = self._field("posedirs")
        if stored.shape == (POSE_FEATURES, 3 * VERTICES):
            return self.numbers("posedirs", (POSE_FEATURES, 3 * VERTICES)).reshape(POSE_FEATURES, VERTICES, 3)
        if stored.shape[:1] == (POSE_FEATURES,):
            return self.numbers("posedirs", (POSE_FEATURES, VERTICES, 3))
        return self.numbers("posedirs", (VERTICES, 3, POSE_FEATURES)).transpose(2, 0, 1)

    def triangles(self) -> np.ndarray:
        """Faces [F, 3]."""
        faces = self.numbers("f", (FACES, 3)).astype(np.int64)
        if faces.min() < 0 or faces.max() >= VERTICES or (faces != self.arrays["f"]).any():
            raise InputError(f"{self.path}: f must hold indices of the {VERTICES} vertices")
        if (faces == np.roll(faces, 1, axis=1)).any():
            raise InputError(f"{self.path}: f holds triangles with one vertex twice")
        return faces

    def check_parents(self) -> None:
        """Refuse another tree of joints than FLAME's."""
        name = "kintree_table" if "kintree_table" in self.arrays else "parents"
        stored = self._field(name)
        parents = stored[0] if stored.ndim == 2 else stored
        # The root's parent is -1, or what that becomes without a sign.
        if parents.shape != (len(JOINTS),) or parents.dtype.kind not in "iu" or tuple(parents[1:]) != PARENTS[1:]:
            raise InputError(f"{self.path}: {name} is not FLAME's tree of {len(JOINTS)} joints")

    def _field(self, name: str) -> np.ndarray:
        if name not in self.arrays:
            raise InputError(f"{self.path}: {name} is missing, so this is no FLAME model")
        return self.arrays[name]
