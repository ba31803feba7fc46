"""stavatar: from an ordinary video of one person talking to an animatable 3D Gaussian head avatar.

The names below are what most programs need. They are looked up when first used, so that importing the package, and with
it ``stavatar --help``, does not wait for torch.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# torch and Numba each have a pool of OpenMP threads. A pool that has nothing to do keeps the cores for a while, in case
# more comes, and the other one's work waits meanwhile: a fifth of a training step on two cores. This shortens that
# while to some ten microseconds. OpenMP reads it when torch is loaded; what the user has chosen stays.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "30000")

if TYPE_CHECKING:
    from stavatar.avatar.runtime import Runtime
    from stavatar.camera import Camera
    from stavatar.drive import Driver, Retargeter, Retargeting, load_driver
    from stavatar.errors import StavatarError
    from stavatar.head import HeadParameters, load_embedded_head
    from stavatar.rendering import CameraMove, play, save_image
    from stavatar.sequence import read_sequence

__all__ = [
    "Camera",
    "CameraMove",
    "Driver",
    "HeadParameters",
    "Retargeter",
    "Retargeting",
    "Runtime",
    "StavatarError",
    "load_avatar",
    "load_driver",
    "load_embedded_head",
    "play",
    "read_sequence",
    "save_image",
]

_HOMES = {
    "Camera": "stavatar.camera",
    "CameraMove": "stavatar.rendering",
    "Driver": "stavatar.drive",
    "HeadParameters": "stavatar.head",
    "Retargeter": "stavatar.drive",
    "Retargeting": "stavatar.drive",
    "Runtime": "stavatar.avatar.runtime",
    "StavatarError": "stavatar.errors",
    "load_driver": "stavatar.drive",
    "load_embedded_head": "stavatar.head",
    "play": "stavatar.rendering",
    "read_sequence": "stavatar.sequence",
    "save_image": "stavatar.rendering",
}


def load_avatar(path: Path | str, device: str = "cpu") -> Runtime:
    """Load an avatar, ready to draw.

    Args:
        path: an avatar's folder, or the run that holds it.
        device: ``cpu`` or ``cuda``.

    Raises:
        InputError: there is none, or a file of it is damaged.
    """
    runtime: type[Runtime] = importlib.import_module("stavatar.avatar.runtime").Runtime
    return runtime.load(path, device)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'stavatar' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
