"""The compressed SPZ format, about a tenth of a PLY's size, through the package gsply (extra ``export``).

SPZ's own axes, x right, y up, z backward, are the world's. What its quantisation costs: positions are rounded to 2**-20
metres or coarser, scales to steps of 6 percent from 45 micrometres up, opacities, colours and harmonics to 8 bits, and
quaternions to 10.
"""

from __future__ import annotations

import gzip
import io
import math
import zlib
from pathlib import Path

import numpy as np

from stavatar.errors import BackendError, InputError, reason
from stavatar.export.splats import Splats
from stavatar.files import atomic_path, read_content

MOST_BYTES = 256 << 20
"""Of a file, packed or unpacked: four million Gaussians with all harmonics."""
_POSITION_BITS = 23  # of a 24-bit signed number
_FINEST = 20  # fractional bits: steps of a micrometre


def write_spz(path: Path, splats: Splats) -> None:
    """Write Gaussians that are in the world's axes, as version 3 (gzip), which all readers know.

    Raises:
        BackendError: gsply is not installed.
        InputError: the file cannot be written.
    """
    gsply = _gsply()
    largest = max(float(np.abs(splats.positions).max()), 1e-6)
    # Readers take the number of fractional bits from the file; the usual 12, for whole landscapes, are 0.24 mm.
    bits = min(_FINEST, _POSITION_BITS - math.ceil(math.log2(largest)))
    data = gsply.GSData.from_arrays(
        splats.positions,
        splats.log_scales,
        splats.quaternions,
        splats.logits,
        splats.sh[:, 0],
        splats.sh[:, 1:] if splats.sh.shape[1] > 1 else None,
        format="ply",
    )
    with atomic_path(path) as temporary:
        gsply.spz.write_spz(temporary, data, version=3, fractional_bits=max(1, bits))


def read_spz(path: Path) -> Splats:
    """Read an SPZ file of the versions that are one gzip stream, as those of :func:`write_spz` are.

    Raises:
        BackendError: gsply is not installed.
        InputError: the file is missing, damaged, or unpacks to more than :data:`MOST_BYTES`.
    """
    gsply = _gsply()
    _check_size(path, read_content(path, most_bytes=MOST_BYTES))
    try:
        data = gsply.spz.read_spz(path)
    except Exception as error:  # a damaged file can make the reader fail in any way
        raise InputError(f"{path} cannot be read as SPZ: {reason(error)}") from error
    rest = np.zeros((len(data.means), 0, 3)) if data.shN is None else data.shN
    values = (data.means, data.scales, data.quats, data.opacities, np.concatenate([data.sh0[:, None], rest], 1))
    position, scale, rotation, logit, sh = (np.ascontiguousarray(value, np.float32) for value in values)
    return Splats(position, scale, rotation, logit.reshape(-1), sh)


def _check_size(path: Path, content: bytes) -> None:
    """Refuse what unpacks to more than can be meant; the reader unpacks all of it at once."""
    size = 0
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
            while block := stream.read(1 << 20):
                size += len(block)
                if size > MOST_BYTES:
                    raise InputError(f"{path} unpacks to more than {MOST_BYTES >> 20} MiB, which no avatar does")
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} cannot be read as SPZ: {reason(error)}") from error


def _gsply():  # type: ignore[no-untyped-def]  # the package, which need not be installed
    try:
        import gsply
        import gsply.spz
    except ImportError as error:
        raise BackendError("SPZ files need the package gsply: pip install 'stavatar[export]'") from error
    return gsply
