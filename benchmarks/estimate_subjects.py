"""What a thousand subjects would cost, on paper, from what one was measured to cost.

    python benchmarks/estimate_subjects.py [--subjects 1000] [--gpus 8] [--cores-per-gpu 16] [--gigabits 1]

Reads result files and prints Markdown. The defaults name the files; after new measurements, change them there, or give
others with --gpu, --cpu, --sizes and --sequence-sizes. Nothing is guessed: what a file lacks is said to be missing.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stavatar.files import read_json

RESULTS = Path(__file__).resolve().parent / "results"
GPU = RESULTS / "2026-11-23" / "h200_paper_anchor_512.json"
CPU = RESULTS / "2026-11-26" / "cpu2_anchor_256.json"
SIZES = RESULTS / "2026-11-26" / "sizes_anchor_256.json"
SEQUENCE_SIZES = RESULTS / "2026-11-26" / "sizes_anchor_512_tracked.json"

ON_GPU = ("refinement", "training", "held_out_tracking", "evaluation")
ON_CPU = ("capture", "tracking", "tracking_video")
"""Stages of a run, by where they compute."""


@dataclass(frozen=True)
class Subject:
    """What one subject costs.

    Attributes:
        frames: of its sequence.
        gpu_seconds: of the stages that compute on the GPU, while they hold it.
        cpu_seconds: wall-clock seconds of the stages before, on `cores` cores.
        cores: of the machine where they were measured.
        video_bytes: to fetch.
        run_bytes: to keep.
        sequence_bytes: of these, the tracked pictures.
        missing: stages that were not measured.
    """

    frames: int
    gpu_seconds: float
    cpu_seconds: float
    cores: int
    video_bytes: int
    run_bytes: int
    sequence_bytes: int
    missing: list[str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", type=int, default=1000)
    parser.add_argument("--gpus", type=int, default=8, help="of the whole cluster")
    parser.add_argument("--cores-per-gpu", type=int, default=16)
    parser.add_argument("--gigabits", type=float, default=1.0, help="a second, of the way to the object storage")
    parser.add_argument("--gpu", type=Path, default=GPU, help="results of a run trained on a GPU")
    parser.add_argument("--cpu", type=Path, default=CPU, help="results of a run whose video was tracked on a CPU")
    parser.add_argument("--sizes", type=Path, default=SIZES, help="of a whole run, by measure_run_size.py")
    parser.add_argument(
        "--sequence-sizes", type=Path, default=SEQUENCE_SIZES, help="of a tracked run at the GPU run's picture size"
    )
    arguments = parser.parse_args()
    files = (arguments.gpu, arguments.cpu, arguments.sizes, arguments.sequence_sizes)
    subject = measured(*(read_json(file) for file in files))
    print(table(subject, arguments))
    print("\nFrom: " + ", ".join(f"`{file.parent.name}/{file.name}`" for file in files) + ".")


def measured(gpu: dict[str, Any], cpu: dict[str, Any], sizes: dict[str, Any], tracked: dict[str, Any]) -> Subject:
    """One subject, put together from a GPU run, a CPU run, and the sizes of files."""
    if gpu["protocol"]["size"] != tracked["size"]:
        raise SystemExit(f"the GPU run has pictures of {gpu['protocol']['size']}, the sizes are of {tracked['size']}")
    sequence = tracked["parts"]["sequence"]
    rest = sum(size for name, size in sizes["parts"].items() if name != "sequence")
    return Subject(
        frames=tracked["frames"],
        gpu_seconds=sum(gpu["stage_seconds"].get(stage, 0.0) for stage in ON_GPU),
        cpu_seconds=sum(cpu["stage_seconds"].get(stage, 0.0) for stage in ON_CPU),
        cores=int(cpu["versions"]["device"].split(", ")[-1].split()[0]),
        video_bytes=sizes["video"],
        run_bytes=sequence + rest,
        sequence_bytes=sequence,
        missing=[
            f"{stage.replace('_', ' ')} on a {kind}"
            for kind, run, stages in (("CPU", cpu, ON_CPU), ("GPU", gpu, ON_GPU))
            for stage in stages
            if stage not in run["stage_seconds"]
        ],
    )


def table(one: Subject, arguments: argparse.Namespace) -> str:
    """The estimate, and what limits it."""
    count, gpus, cores = arguments.subjects, arguments.gpus, arguments.gpus * arguments.cores_per_gpu
    core_seconds = one.cpu_seconds * one.cores
    moved = one.video_bytes + one.run_bytes
    hours = {
        f"computing on {gpus} GPUs": count * one.gpu_seconds / gpus / 3600,
        f"tracking on {cores} cores": count * core_seconds / cores / 3600,
        f"moving files at {arguments.gigabits:g} Gbit/s": count * moved * 8 / (arguments.gigabits * 1e9) / 3600,
    }
    # A job holds its GPU while it tracks its video, which takes as long as it took where it was timed.
    held = one.cpu_seconds + one.gpu_seconds
    rows = [
        (
            "GPU hours that compute",
            count * one.gpu_seconds / 3600,
            "photometric tracking, training, poses of held-out frames, measuring",
        ),
        (
            "GPU hours held, one job a GPU",
            count * held / 3600,
            f"of which {one.cpu_seconds / held:.0%} idle: it tracks",
        ),
        (
            "CPU core hours of tracking by landmarks",
            count * core_seconds / 3600,
            "decoding, detection, mattes, fits, overlay video",
        ),
        ("GB to fetch", count * one.video_bytes / 1e9, "videos"),
        ("GB to keep", count * one.run_bytes / 1e9, f"{one.sequence_bytes / one.run_bytes:.0%} tracked pictures"),
        *((f"hours {name}", value, "if nothing else limited") for name, value in hours.items()),
    ]
    lines = [f"| {count:,} subjects of {one.frames} frames | | of which |", "|---|---:|---|"]
    lines += [f"| {name} | {value:,.1f} | {note} |" for name, value, note in rows]
    slowest = max(hours, key=lambda name: hours[name])
    told = [f"The bottleneck is {slowest}: {hours[slowest]:,.1f} hours at least."]
    if one.missing:
        told.append(f"Not included, as it was not measured: {', '.join(one.missing)}.")
    return "\n".join([*lines, "", " ".join(told)])


if __name__ == "__main__":
    main()
