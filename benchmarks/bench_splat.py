"""Times the rasteriser on a blob of Gaussians of the size of a head.

    python benchmarks/bench_splat.py OUT.json [--backend cpu --backend cuda --backend reference] [--repeats 30]

For every backend that this machine has: milliseconds (median and fastest) of drawing one scene, of drawing it with
statistics, and of drawing it with the gradients of all inputs. The reference is timed on a tiny scene only.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import math
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from torch import Tensor

from stavatar.camera import Camera
from stavatar.files import write_json
from stavatar.splat import Backend, rasterize

SIZES = ((10_000, 128), (10_000, 256), (10_000, 512), (30_000, 128), (30_000, 256), (30_000, 512))
REFERENCE_SIZES = ((300, 48),)


def head_of_gaussians(count: int, device: str) -> dict[str, Tensor]:
    """Gaussians spread evenly over an ellipsoid 24 cm high, sized to cover it, mostly opaque as in a trained avatar."""
    draw = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(1, count, 3, generator=draw), dim=-1)
    depth = 1 + 0.02 * torch.randn(1, count, 1, generator=draw)
    spacing = math.sqrt(4 * math.pi * 0.0101 / count)  # the ellipsoid's area is about that of a sphere of radius 10 cm
    scene = {
        "means": directions * torch.tensor([0.085, 0.12, 0.10]) * depth,
        "quaternions": torch.randn(1, count, 4, generator=draw),
        "scales": 0.6 * spacing * torch.exp(0.35 * torch.randn(1, count, 3, generator=draw)),
        "opacities": torch.sigmoid(1 + 1.5 * torch.randn(1, count, generator=draw)),
        "colors": torch.rand(1, count, 3, generator=draw),
    }
    return {name: tensor.to(device) for name, tensor in scene.items()}


def milliseconds(work: Callable[[], object], repeats: int, device: str) -> dict[str, float]:
    for _ in range(3):
        work()
    times = []
    for _ in range(repeats):
        if device == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(1e3 * (time.perf_counter() - start))
    return {"median": round(statistics.median(times), 3), "fastest": round(min(times), 3)}


def measure(backend: Backend, count: int, pixels: int, repeats: int) -> dict:
    device = "cuda" if backend == "cuda" else "cpu"
    scene = head_of_gaussians(count, device)
    camera = Camera.frontal(distance=1.0, focal=0.75 * pixels / 0.24, width=pixels, height=pixels).to(device)
    upstream = torch.randn(1, pixels, pixels, 3, device=device)
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in scene.items()}

    def forward(**options: bool) -> None:
        with torch.no_grad():
            rasterize(**scene, camera=camera, backend=backend, **options)

    def both() -> None:
        rasterize(**leaves, camera=camera, backend=backend).image.backward(upstream)

    return {
        "backend": backend,
        "gaussians": count,
        "pixels": pixels,
        "forward": milliseconds(forward, repeats, device),
        "forward_with_statistics": milliseconds(lambda: forward(statistics=True), repeats, device),
        "forward_and_backward": milliseconds(both, repeats, device),
    }


def circumstances() -> dict:
    """What a reader needs to know to judge the numbers."""
    folder = Path(__file__).parent
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=False)
    changed = subprocess.run(["git", "status", "--porcelain"], cwd=folder, capture_output=True, text=True, check=False)
    return {
        "command": shlex.join(["python", *sys.argv]),
        "commit": commit.stdout.strip() + ("+changes" if changed.stdout.strip() else ""),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "versions": {"python": platform.python_version()} | {name: installed(name) for name in PACKAGES},
    }


PACKAGES = ("torch", "numba", "numpy", "gsplat")


def installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def main() -> None:
    parser = argparse.ArgumentParser(description="time the rasteriser's backends")
    parser.add_argument("out", type=Path, help="JSON file to write")
    parser.add_argument(
        "--backend", action="append", choices=("reference", "cpu", "cuda"), help="default: all there are"
    )
    parser.add_argument("--repeats", type=int, default=30)
    arguments = parser.parse_args()
    has_cuda = torch.cuda.is_available() and importlib.util.find_spec("gsplat") is not None
    backends = arguments.backend or ["reference", "cpu", *(["cuda"] if has_cuda else [])]

    rows = []
    print(f"{'backend':10} {'Gaussians':>9} {'pixels':>6} {'forward':>9} {'+ statistics':>12} {'+ backward':>10}  (ms)")
    for backend in backends:
        for count, pixels in REFERENCE_SIZES if backend == "reference" else SIZES:
            row = measure(backend, count, pixels, arguments.repeats)
            rows.append(row)
            times = [row[key]["median"] for key in ("forward", "forward_with_statistics", "forward_and_backward")]
            print(f"{backend:10} {count:9} {pixels:6} {times[0]:9.2f} {times[1]:12.2f} {times[2]:10.2f}", flush=True)
    write_json(arguments.out, circumstances() | {"milliseconds": rows})


if __name__ == "__main__":
    main()
