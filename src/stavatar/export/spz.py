"""The compressed SPZ format, about a tenth of a PLY's size, through the package gsply (extra ``export``).

SPZ's own axes, x right, y up, z backward, are the world's. What its quantisation costs: positions are rounded to 2**-20
metres or coarser, scales to steps of 6 percent from 45 micrometres up, opacities, colours and harmonics to 8 bits, and
quaternions to 10.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from stavatar.errors import BackendError, InputError
from stavatar.export.splats import Splats
from stavatar.files import atomic_path

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
    """Read an SPZ file.

    Raises:
        BackendError: gsply is not installed.
        InputError: the file is missing or damaged.
    """
    gsply = _gsply()
    try:
        data = gsply.spz.read_spz(path)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} cannot be read as SPZ: {error}") from error
    rest = np.zeros((len(data.means), 0, 3)) if data.shN is None else data.shN
    values = (data.means, data.scales, data.quats, data.opacities, np.concatenate([data.sh0[:, None], rest], 1))
    position, scale, rotation, logit, sh = (np.ascontiguousarray(value, np.float32) for value in values)
    return Splats(position, scale, rotation, logit.reshape(-1), sh)


def _gsply():  # type: ignore[no-untyped-def]  # the package, which need not be installed
    try:
        import gsply
        import gsply.spz
    except ImportError as error:
        raise BackendError("SPZ files need the package gsply: pip install 'stavatar[export]'") from error
    return gsply
