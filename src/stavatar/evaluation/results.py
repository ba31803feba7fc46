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
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from stavatar import __version__
from stavatar.evaluation.evaluate import Metrics
from stavatar.evaluation.metrics import METRICS
from stavatar.evaluation.region_masks import MASK_REGIONS
from stavatar.sequence.sequence import Sequence

PACKAGES = ("torch", "numpy", "numba", "mediapipe", "gsplat")
"""The packages besides our own whose versions a result may depend on."""


@dataclass(frozen=True)
class Protocol:
    """How a result was measured.

    Attributes:
        split: in words.
        holdout: number of held-out frames.
        train_frames: number of frames trained on.
        unusable_frames: number of frames in neither, for example without a face.
        size: (width, height) in pixels.
        mask: what of the pictures is compared.
        background: of both pictures.
    """

    split: str
    holdout: int
    train_frames: int
    unusable_frames: int
    size: tuple[int, int]
    mask: str
    background: str

    @staticmethod
    def of(sequence: Sequence) -> Protocol:
        """The protocol of a sequence whose end is held out: whole pictures, the person cut out over white."""
        held_out, trained = len(sequence.test), len(sequence.train)
        return Protocol(
            split=f"the last {held_out} of {held_out + trained} usable frames are held out",
            holdout=held_out,
            train_frames=trained,
            unusable_frames=len(sequence) - held_out - trained,
            size=(sequence.width, sequence.height),
            mask="none: whole pictures are compared; metrics_regions compares the pixels of each region alone",
            background="white; the true pictures are composited over it with the estimated matte",
        )


def assemble_results(
    *,
    sequence: Sequence,
    metrics: Metrics,
    landmark_tracked: Metrics | None,
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
        metrics: on the held-out frames, with their poses found as `test_tracking` says.
        landmark_tracked: the same with poses from landmarks alone, so that nothing of a held-out picture but its
            landmarks reached its render; None where that was not measured.
        test_tracking: how the poses of the held-out frames were found, in words.
        preset, seed: of the run.
        gaussians: how many the avatar has.
        stage_seconds: wall-clock time of each stage.
        device: the run's.
    """
    device = torch.device(device)
    return {
        "name": sequence.name,
        "preset": preset,
        "seed": seed,
        "protocol": asdict(Protocol.of(sequence)),
        "test_tracking": test_tracking,
        "history": sequence.history,
        "metrics": metrics.summary(),
        "metrics_landmark_tracked": None if landmark_tracked is None else landmark_tracked.summary(),
        "metrics_regions": metrics.regions,
        "metrics_missing": metrics.missing,
        "metric_definitions": {name: asdict(metric) for name, metric in METRICS.items()},
        "region_definitions": {name: region.definition for name, region in MASK_REGIONS.items()},
        "per_frame": {"frame": metrics.frames, **metrics.per_frame},
        "gaussians": gaussians,
        "stage_seconds": stage_seconds,
        "peak_memory_mb": peak_memory_mb(),
        "peak_gpu_memory_mb": torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else None,
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
