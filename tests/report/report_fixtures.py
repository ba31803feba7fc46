"""A measured run made of files alone: results, settings, pictures and videos, with hostile names in them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stavatar import config
from stavatar.containers import write_video
from stavatar.run import Run

HOSTILE = '<script>alert("x")</script>\'"&{{ 7 * 7 }}'
FRAMES = list(range(20, 32))
PSNR = [30.0, 31.0, 29.0, 35.0, 30.5, 22.0, 30.2, 30.3, 30.4, 24.0, 30.6, 33.0]


@pytest.fixture(scope="session")
def results() -> dict[str, Any]:
    """The content of a result file; copy it before changing anything."""
    metrics = {
        "psnr": 29.67,
        "ssim": 0.95,
        "lpips_alex": None,
        "flicker": 0.004,
        "frames": len(FRAMES),
        "lpips_frames": "0 of 12",
    }
    definition = {"better": "higher", "definition": "defined", "input_range": "[0, 1]", "network": None}
    lower = {**definition, "better": "lower"}
    return {
        "format": "stavatar-results-3",
        "name": HOSTILE,
        "preset": "cpu",
        "seed": 7,
        "head_model": "embedded-1",
        "tracker": "landmarks-1",
        "protocol": {
            "name": "stavatar",
            "definition": "the last 450",
            "deviations": ["pictures of 32 x 32"],
            "split": "12 of 32 usable frames are held out, the last ones",
            "holdout": 12,
            "train_frames": 20,
            "unusable_frames": 0,
            "frame_step": 1,
            "size": [32, 32],
            "mask": "none",
            "background": "white",
        },
        "test_tracking": "photometric",
        "history": {"tracker": "landmarks-1", "note": HOSTILE},
        "metrics": metrics,
        "metrics_as_tracked": {**metrics, "psnr": 21.0},
        "metrics_regions": {
            "mouth": {"psnr": 27.1, "l1": 0.03, "frames": 12},
            "mouth_interior": {"psnr": None, "l1": None, "frames": 0},
        },
        "reenactment": {
            "self": {"expression": 0.01, "pose_degrees": 1.5, "identity": None, "frames": 12},
            "cross": {"driver": HOSTILE, "expression": 0.02, "pose_degrees": 2.5, "identity": None, "frames": 9},
        },
        "metrics_missing": {"lpips_alex": HOSTILE, "identity": "no network"},
        "metric_definitions": {
            "psnr": definition,
            "ssim": definition,
            "flicker": lower,
            "lpips_alex": {**lower, "network": "alexnet", "input_range": "[-1, 1]"},
            "expression": lower,
            "pose_degrees": lower,
            "identity": definition,
        },
        "region_definitions": {"mouth": "lips", "mouth_interior": "what shows of the inside"},
        "per_frame": {
            "frame": FRAMES,
            "psnr": PSNR,
            "ssim": [value / 40 for value in PSNR],
            "lpips_alex": [None] * len(FRAMES),
            "flicker": [None, *([0.004] * (len(FRAMES) - 1))],
        },
        "gaussians": 11600,
        "speed": {"single_fps": 120.0, "batched_fps": 200.0, "batch": 8, "definition": "frames per second"},
        "stage_seconds": {"tracking": 4.5, "training": 60.0},
        "peak_memory_mb": 900.0,
        "peak_gpu_memory_mb": None,
        "measured_at": "2026-01-02T03:04:05+00:00",
        "versions": {"stavatar": "0.1.0", "torch": "2.13", "gsplat": None, "device": "cpu"},
    }


@pytest.fixture
def write_run(results):
    """Write a run folder that holds nothing but settings and results, with some fields of the results changed."""

    def write(folder: Path, **changes: Any) -> Path:
        content = copy.deepcopy(results)
        for name, value in changes.items():
            target, *path = content, *name.split("__")
            for key in path[:-1]:
                target = target[key]
            target[path[-1]] = value
        run = Run.start(folder, config.override(config.preset("cpu"), ["training.steps=123"]), {}, resume=False)
        run.results.write_text(json.dumps(content))
        return folder

    return write


def grey_level(position: int) -> int:
    """The brightness of a frame of the side-by-side video tells which one it is."""
    return 20 + 18 * position


@pytest.fixture
def whole_run(write_run, tmp_path) -> Path:
    """A run with everything that a page can show."""
    folder = write_run(tmp_path / "run")
    run = Run(folder)
    frames = [np.full((36, 96, 3), grey_level(position), np.uint8) for position in range(len(FRAMES))]
    write_video(run.side_by_side, frames, 25.0)
    write_video(run.tracking_video, [frame[:, :32] for frame in frames], 25.0)
    Image.new("RGB", (400, 100), "teal").save(run.contact_sheet)
    (folder / "pictures").mkdir()
    for name in ("clusters", "offsets"):
        Image.new("RGB", (64, 64), "olive").save(folder / "pictures" / f"{name}.png")
    return folder
