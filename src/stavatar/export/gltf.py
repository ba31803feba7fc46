"""The container of glTF 2.0: arrays collected into one buffer, and GLB files written from it."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from stavatar.files import write_bytes

ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER = 34962, 34963
_COMPONENTS = {"float32": 5126, "uint8": 5121, "uint16": 5123, "uint32": 5125}
_TYPES: dict[tuple[int, ...], str] = {(): "SCALAR", (2,): "VEC2", (3,): "VEC3", (4,): "VEC4", (4, 4): "MAT4"}


class GltfBuffer:
    """The binary part of a glTF file, and the accessors that describe it."""

    def __init__(self) -> None:
        self.accessors: list[dict[str, Any]] = []
        self.views: list[dict[str, Any]] = []
        self.content = bytearray()

    def add(self, array: np.ndarray, *, target: int | None = None, normalized: bool = False) -> int:
        """Append an array and return its accessor's index.

        Args:
            array: [N], [N, 2], [N, 3], [N, 4] or [N, 4, 4] (column after column, as glTF stores matrices).
            target: `ARRAY_BUFFER` for attributes, `ELEMENT_ARRAY_BUFFER` for indices, None for everything else.
            normalized: integers stand for fractions of their largest value.
        """
        array = np.ascontiguousarray(array)
        view: dict[str, Any] = {"buffer": 0, "byteOffset": len(self.content), "byteLength": array.nbytes}
        if target is not None:
            view["target"] = target
        self.views.append(view)
        self.content += array.tobytes()
        self.content += bytes(-len(self.content) % 4)
        accessor: dict[str, Any] = {
            "bufferView": len(self.views) - 1,
            "componentType": _COMPONENTS[array.dtype.name],
            "count": len(array),
            "type": _TYPES[array.shape[1:]],
        }
        if normalized:
            accessor["normalized"] = True
        if array.dtype == np.float32:  # required of positions and key times, allowed everywhere
            flat = array.reshape(len(array), -1)
            accessor |= {"min": flat.min(0).tolist(), "max": flat.max(0).tolist()}
        self.accessors.append(accessor)
        return len(self.accessors) - 1


def write_glb(path: Path, document: dict[str, Any], buffer: GltfBuffer) -> None:
    """Write `document` (everything but buffers, views and accessors) and its buffer as one binary file.

    Raises:
        InputError: the file cannot be written.
    """
    complete = {
        **document,
        "accessors": buffer.accessors,
        "bufferViews": buffer.views,
        "buffers": [{"byteLength": len(buffer.content)}],
    }
    text = json.dumps(complete, separators=(",", ":"), allow_nan=False).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<II", len(text), 0x4E4F534A) + text
    chunks += struct.pack("<II", len(buffer.content), 0x004E4942) + bytes(buffer.content)
    write_bytes(path, struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks)
