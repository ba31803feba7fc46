"""What a picture of an avatar takes where it is looked at and driven: posing, drawing, and packing it for a browser.

    python benchmarks/bench_runtime.py RUN [--size 256 --size 512] [--device cpu] [-o result.json]

Medians over the recorded motion, one frame at a time, in milliseconds. `landmarks` is what a camera's picture takes on
top, before any of it: finding the face.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image

from stavatar.avatar.runtime import Runtime
from stavatar.evaluation.drawing.canvas import to_uint8
from stavatar.evaluation.results import versions
from stavatar.files import write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--size", type=int, action="append")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("-o", "--out", type=Path)
    arguments = parser.parse_args()

    runtime = Runtime.load(arguments.run, arguments.device)
    results = {
        "gaussians": len(runtime.avatar.gaussians),
        "preset": runtime.avatar.config.preset,
        "landmarks": landmarks(arguments.run, arguments.frames),
        "sizes": {size: measure(runtime, size, arguments.frames) for size in arguments.size or [256, 512]},
        "versions": versions(arguments.device),
    }
    print(json.dumps(results, indent=2))
    if arguments.out:
        write_json(arguments.out, results)


def measure(runtime: Runtime, size: int, frames: int) -> dict[str, float]:
    """Milliseconds of each part at one size, and pictures a second of all together."""
    camera = runtime.motion.camera[[0]].resized(size, size)
    seconds: dict[str, list[float]] = {"pose": [], "draw": [], "jpeg": []}
    for number in range(frames + 5):
        parts = {}
        posed = timed(
            parts, "pose", runtime, lambda n=number: runtime.pose(runtime.frame(n % len(runtime.motion.train)))
        )
        view = timed(parts, "draw", runtime, lambda p=posed: to_uint8(runtime.draw(p, camera).image[0]).cpu().numpy())
        timed(parts, "jpeg", runtime, lambda v=view: Image.fromarray(v).save(io.BytesIO(), "JPEG", quality=80))
        if number >= 5:  # kernels are compiled by then
            for name, value in parts.items():
                seconds[name].append(value)
    medians = {name: round(1e3 * statistics.median(values), 2) for name, values in seconds.items()}
    return medians | {"pictures_per_second": round(1e3 / sum(medians.values()), 1)}


def timed(parts: dict[str, float], name: str, runtime: Runtime, work: Callable):
    """Do `work` and note its seconds."""
    begin = time.perf_counter()
    result = work()
    if runtime.device.type == "cuda":
        torch.cuda.synchronize(runtime.device)
    parts[name] = time.perf_counter() - begin
    return result


def landmarks(run: Path, frames: int) -> float | None:
    """Milliseconds to find the face in a picture of the run's sequence; None without the landmarker's model."""
    from stavatar import assets
    from stavatar.capture.faces import read_faces
    from stavatar.errors import AssetError
    from stavatar.sequence import read_sequence

    try:
        model = assets.path("face_landmarker")
    except AssetError:
        return None
    images = read_sequence(run / "sequence").images[:frames].numpy()
    begin = time.perf_counter()
    read_faces(images, model, lambda *_: None)
    return round(1e3 * (time.perf_counter() - begin) / len(images), 2)


if __name__ == "__main__":
    main()
