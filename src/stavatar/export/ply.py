"""The PLY files of 3D Gaussian splatting: binary, one vertex per Gaussian, every property a float.

Properties in their order: x y z, nx ny nz (zero), f_dc_0 to 2, f_rest_0 to 3 (K - 1) - 1, opacity (logit), scale_0 to 2
(logarithm), rot_0 to 3 (wxyz). f_rest goes channel by channel: all of red, then green, then blue. Axes are a camera's,
x right, y down, z forward, as in scenes reconstructed from photographs, which is what public viewers turn upright.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from stavatar.errors import InputError
from stavatar.export.splats import Splats
from stavatar.files import read_content, write_bytes

MOST_BYTES = 1 << 30
"""Four million Gaussians with all harmonics; an avatar has some ten thousand."""
_MOST_HEADER = 1 << 16
_SH_COEFFICIENTS = (1, 4, 9, 16)


def write_ply(path: Path, splats: Splats) -> None:
    """Write Gaussians that are in the world's axes.

    Raises:
        InputError: the file cannot be written.
    """
    turned = splats.turned_over()
    count, coefficients = turned.sh.shape[:2]
    names = _property_names(coefficients)
    columns = [
        turned.positions,
        np.zeros((count, 3)),
        turned.sh[:, 0],
        turned.sh[:, 1:].transpose(0, 2, 1).reshape(count, -1),
        turned.logits[:, None],
        turned.log_scales,
        turned.quaternions,
    ]
    header = ["ply", "format binary_little_endian 1.0", "comment stavatar; axes x right, y down, z forward; metres"]
    header += [f"element vertex {count}", *(f"property float {name}" for name in names), "end_header", ""]
    write_bytes(path, "\n".join(header).encode("ascii") + np.concatenate(columns, 1).astype("<f4").tobytes())


def read_ply(path: Path) -> Splats:
    """Read what :func:`write_ply` wrote, back into the world's axes.

    Raises:
        InputError: the file is missing, cut short, too large, another kind of PLY, or holds what is no number.
    """
    content = read_content(path, most_bytes=MOST_BYTES)
    end = content.find(b"end_header\n", 0, _MOST_HEADER)
    if not content.startswith(b"ply\n") or end < 0:
        raise InputError(f"{path} is not a PLY file")
    header = content[:end].decode("ascii", "replace")
    counts = re.findall(r"^element (\w+) (\d{1,10})$", header, re.MULTILINE | re.ASCII)
    names = re.findall(r"^property float (\w+)$", header, re.MULTILINE)
    layouts = [coefficients for coefficients in _SH_COEFFICIENTS if _property_names(coefficients) == names]
    if "format binary_little_endian 1.0" not in header or [name for name, _ in counts] != ["vertex"] or not layouts:
        raise InputError(f"{path} is not a binary PLY with the properties of 3D Gaussian splatting")
    count, coefficients = int(counts[0][1]), layouts[0]
    body = memoryview(content)[end + len(b"end_header\n") :]
    if len(body) != 4 * count * len(names):
        raise InputError(
            f"{path} holds {len(body)} bytes of Gaussians, and its header announces {4 * count * len(names)}"
        )
    table = np.frombuffer(body, "<f4").reshape(count, len(names)).astype(np.float32)
    if not np.isfinite(table).all():
        raise InputError(f"{path}: {names[int(np.argwhere(~np.isfinite(table))[0, 1])]} is not a finite number")
    rest = 3 * (coefficients - 1)
    position, _, dc, others, logit, scale, rotation = np.split(table, np.cumsum([3, 3, 3, rest, 1, 3]), axis=1)
    sh = np.concatenate([dc[:, None], others.reshape(count, 3, coefficients - 1).transpose(0, 2, 1)], 1)
    return Splats(position, scale, rotation, logit[:, 0], sh).turned_over()


def _property_names(coefficients: int) -> list[str]:
    rest = 3 * (coefficients - 1)
    return [
        *("x", "y", "z", "nx", "ny", "nz"),
        *(f"f_dc_{i}" for i in range(3)),
        *(f"f_rest_{i}" for i in range(rest)),
        "opacity",
        *(f"scale_{i}" for i in range(3)),
        *(f"rot_{i}" for i in range(4)),
    ]
