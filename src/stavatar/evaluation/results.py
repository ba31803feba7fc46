"""``results.json``: what was measured, and everything that its numbers depend on.

A number without its protocol cannot be compared, so each file states the split, the mask, the background, the size, how
the poses of the held-out frames were found, and the definition of each metric. The JSON is strict: what is unknown or
could not be computed is ``null``, never NaN, and ``metrics_missing`` says why.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from stavatar import __version__
from stavatar.evaluation.evaluate import Metrics
from stavatar.evaluation.metrics import METRICS
from stavatar.evaluation.reenactment import REENACTMENT_METRICS
from stavatar.evaluation.region_masks import MASK_REGIONS
from stavatar.evaluation.results_file import FORMAT
from stavatar.sequence.protocols import protocol_of
from stavatar.sequence.sequence import Sequence

PACKAGES = ("torch", "numpy", "numba", "mediapipe", "gsplat")
"""The packages besides our own whose versions a result may depend on."""


@dataclass(frozen=True)
class Measured:
    """Everything that is measured of an avatar.

    Attributes:
        metrics: on the held-out frames, posed as in the avatar's own motion.
        as_tracked: the same with poses as the tracker gave them, which knows nothing of the avatar; None where the
            avatar's motion is the sequence's own (``pose.refine`` off).
        speed: see :func:`stavatar.evaluation.speed.measure_speed`.
        reenactment: of the held-out frames as ``self``, of another performance as ``cross``: the figures of
            `REENACTMENT_METRICS`; None for what was not measured.
        missing: why a figure of `reenactment` is None.
    """

    metrics: Metrics
    as_tracked: Metrics | None
    speed: dict[str, Any]
    reenactment: dict[str, Any]
    missing: dict[str, str]


def describe_protocol(sequence: Sequence) -> dict[str, Any]:
    """How a result on a sequence's held-out frames is measured: whole pictures, the person cut out over white."""
    protocol = protocol_of(sequence)
    held_out, trained = len(sequence.test), len(sequence.train)
    return {
        "name": protocol.name,
        "definition": protocol.definition,
        "deviations": protocol.deviations(sequence),
        "split": f"{held_out} of {held_out + trained} usable frames are held out, {_where(sequence)}",
        "holdout": held_out,
        "train_frames": trained,
        "unusable_frames": len(sequence) - held_out - trained,
        "frame_step": int(sequence.frame_ids.diff().median()) if len(sequence) > 1 else 1,
        "size": [sequence.width, sequence.height],
        "mask": "none: whole pictures are compared; metrics_regions compares the pixels of each region alone",
        "background": "white; the true pictures are composited over it with the sequence's matte",
    }


def _where(sequence: Sequence) -> str:
    if len(sequence.train) == 0 or len(sequence.test) == 0 or int(sequence.train[-1]) < int(sequence.test[0]):
        return "the last ones"
    return "as the data set says"


def assemble_results(
    *,
    sequence: Sequence,
    measured: Measured,
    test_tracking: str,
    preset: str,
    seed: int,
    gaussians: int,
    stage_seconds: dict[str, float],
    device: torch.device | str,
) -> dict[str, Any]:
    """The content of ``results.json``.

    Args:
        sequence: what was trained on and measured against.
        measured: on the held-out frames, with their poses found as `test_tracking` says.
        test_tracking: how the poses of the held-out frames were found, in words.
        preset, seed: of the run.
        gaussians: how many the avatar has.
        stage_seconds: wall-clock time of each stage.
        device: the run's.
    """
    device = torch.device(device)
    metrics = measured.metrics
    return {
        "format": FORMAT,
        "name": sequence.name,
        "preset": preset,
        "seed": seed,
        "head_model": sequence.head_model,
        "tracker": sequence.history.get("tracker", "unknown"),
        "protocol": describe_protocol(sequence),
        "test_tracking": test_tracking,
        "history": sequence.history,
        "metrics": metrics.summary(),
        "metrics_as_tracked": measured.as_tracked and measured.as_tracked.summary(),
        "metrics_regions": metrics.regions,
        "reenactment": measured.reenactment,
        "metrics_missing": metrics.missing | measured.missing,
        "metric_definitions": {name: asdict(metric) for name, metric in (METRICS | REENACTMENT_METRICS).items()},
        "region_definitions": {name: region.definition for name, region in MASK_REGIONS.items()},
        "per_frame": {"frame": metrics.frames, **metrics.per_frame},
        "gaussians": gaussians,
        "speed": measured.speed,
        "stage_seconds": stage_seconds,
        "peak_memory_mb": peak_memory_mb(),
        "peak_gpu_memory_mb": torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else None,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(device),
    }


def peak_memory_mb() -> float | None:
    """The most memory that this process has held so far, in MiB; None on Windows, which keeps no such number."""
    if sys.platform == "win32":
        return None
    import resource  # not there on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10  # bytes on macOS, KiB elsewhere


def versions(device: torch.device | str = "cpu") -> dict[str, str | None]:
    """Versions of the packages, of Python and of the platform, the device, and the commit in a source checkout."""
    device = torch.device(device)
    return {
        "stavatar": __version__,
        **{package: _package_version(package) for package in PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "commit": _commit(),
    }


def _package_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    return f"cpu, {platform.machine()}, {torch.get_num_threads()} threads"


def _commit() -> str | None:
    """The checkout's commit, marked ``-dirty`` if tracked files differ from it; None outside a checkout."""
    root = Path(__file__).resolve().parents[3]
    git = shutil.which("git")
    if git is None or not (root / ".git").exists() or not (root / "src" / "stavatar").is_dir():
        return None
    command = [git, "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    return answer.stdout.strip() or None
