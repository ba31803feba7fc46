"""What this machine has and what stavatar can do on it; ``stavatar doctor`` prints it."""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import av
import torch

from stavatar import assets
from stavatar.errors import InputError
from stavatar.head.library import VARIABLE, known_flame_files

LEAST_MEMORY_GIB = 4.0
"""Memory below which a capture or a training run is likely to be killed."""
LEAST_DISK_GIB = 1.0


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    ``verdict`` is ``good``, ``lacking`` (something does not work or is not there; `advice` says what to do) or
    ``plain`` (merely worth knowing).
    """

    topic: str
    value: str
    verdict: Literal["good", "lacking", "plain"] = "plain"
    advice: str = ""


def inspect() -> list[Finding]:
    """Look at the software, the processor, the GPU, the memory, the disk and the assets, and name the usable presets.

    Nothing is changed, fetched or compiled.
    """
    return [
        Finding("Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        *_packages(),
        _graphics_libraries(),
        Finding("CPU cores", str(_cores())),
        _memory(),
        _disk(),
        _gpu(),
        _gsplat(),
        _compiler(),
        _encoder(),
        _numba_cache(),
        *_assets(),
        _flame(),
        Finding("presets", ", ".join(presets()), "good"),
    ]


def presets() -> list[str]:
    """Names of the presets that this machine can run: ``cpu`` anywhere, ``gpu`` and ``paper`` on CUDA with gsplat."""
    on_gpu = torch.cuda.is_available() and importlib.util.find_spec("gsplat") is not None
    return ["gpu", "paper", "cpu"] if on_gpu else ["cpu"]


def suitable_preset(device: str) -> str:
    """What the preset ``auto`` stands for on auto, cpu or cuda."""
    return "cpu" if device == "cpu" else presets()[0]


def _packages() -> list[Finding]:
    return [Finding(name, importlib.metadata.version(name)) for name in ("torch", "numba", "mediapipe", "av")]


def _graphics_libraries() -> Finding:
    """MediaPipe cannot be loaded without them, though nothing is drawn; servers may lack them."""
    missing = []
    for name in ("libEGL.so.1", "libGLESv2.so.2") if platform.system() == "Linux" else ():
        try:
            ctypes.CDLL(name)
        except OSError:
            missing.append(name)
    if missing:
        advice = "no video can be tracked; on Debian and Ubuntu: apt install libegl1 libgles2"
        return Finding("libraries", f"MediaPipe lacks {' and '.join(missing)}", "lacking", advice)
    return Finding("libraries", "those that MediaPipe needs of the system are there", "good")


def _cores() -> int:
    """Cores that this process may use, which containers make fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory() -> Finding:
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return Finding("memory", "unknown on this system")
    if total < LEAST_MEMORY_GIB:
        return Finding("memory", f"{total:.1f} GiB", "lacking", "use few frames (max_frames) and a small size")
    return Finding("memory", f"{total:.1f} GiB", "good")


def _disk() -> Finding:
    folder = assets.cache_folder()
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free / 2**30
    value = f"{free:.1f} GiB free for the cache {folder}"
    if not os.access(existing, os.W_OK):
        return Finding(
            "disk", value, "lacking", f"{existing} cannot be written: choose another cache with STAVATAR_CACHE"
        )
    if free < LEAST_DISK_GIB:
        return Finding("disk", value, "lacking", "make room or choose another cache with STAVATAR_CACHE")
    return Finding("disk", value, "good")


def _gpu() -> Finding:
    if not torch.cuda.is_available():
        return Finding("GPU", "none that torch can use: the CPU is used")
    properties = torch.cuda.get_device_properties(0)
    return Finding(
        "GPU", f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}", "good"
    )


def _gsplat() -> Finding:
    try:
        return Finding("gsplat", importlib.metadata.version("gsplat"), "good")
    except importlib.metadata.PackageNotFoundError:
        if torch.cuda.is_available():
            return Finding("gsplat", "not installed", "lacking", 'for the GPU: pip install "stavatar[cuda]"')
        return Finding("gsplat", "not installed (only a CUDA GPU needs it)")


def _compiler() -> Finding:
    """gsplat compiles its kernels on first use."""
    found = shutil.which("nvcc")
    if found:
        return Finding("nvcc", found, "good")
    if torch.cuda.is_available():
        return Finding("nvcc", "not found", "lacking", "install the CUDA toolkit and put nvcc on the PATH for gsplat")
    return Finding("nvcc", "not found (only a CUDA GPU needs it)")


def _encoder() -> Finding:
    if "libx264" in av.codecs_available:
        return Finding("video encoder", "libx264", "good")
    return Finding("video encoder", "no libx264 in PyAV", "lacking", "install PyAV from its wheels: pip install av")


def _numba_cache() -> Finding:
    """Compiled CPU kernels are kept beside the package, or where ``NUMBA_CACHE_DIR`` says."""
    folder = Path(os.environ.get("NUMBA_CACHE_DIR") or Path(__file__).parent)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError:
        return Finding(
            "kernel cache",
            f"{folder} cannot be written",
            "plain",
            "kernels go to the user's cache; NUMBA_CACHE_DIR sets it",
        )
    return Finding("kernel cache", str(folder), "good")


def _assets() -> list[Finding]:
    findings = []
    for found in assets.states():
        topic, value = f"asset {found.asset.name}", f"{found.state}, {found.path}"
        if found.state in ("present", "own file"):
            findings.append(Finding(topic, value, "good"))
        elif found.state == "missing" and not found.asset.default:
            findings.append(Finding(topic, f"not fetched ({found.asset.purpose}, {found.asset.size / 1e6:.0f} MB)"))
        else:
            findings.append(Finding(topic, value, "lacking", "run `stavatar assets`"))
    return findings


def _flame() -> Finding:
    """FLAME is optional: the embedded head is always there."""
    try:
        files = known_flame_files()
    except InputError as error:
        return Finding("FLAME", str(error), "lacking", f"correct or remove {VARIABLE} in the environment")
    if files:
        return Finding("FLAME", ", ".join(map(str, files)), "good")
    return Finding("FLAME", f"no file known (optional: --head PATH or {VARIABLE}=PATH)")
