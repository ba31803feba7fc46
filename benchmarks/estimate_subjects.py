"""What a thousand subjects would cost, on paper, from what one was measured to cost.

    python benchmarks/estimate_subjects.py [--subjects 1000] [--gpus 8] [--cores-per-gpu 16] [--gigabits 1]

Reads result files and prints Markdown. The defaults name the files; after new measurements, change them there, or give
others with --gpu, --refinement, --cpu, --sizes and --sequence-sizes. Nothing is guessed: what a file lacks is said to
be missing. All that a GPU does grows with the frames, and is scaled by them.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from stavatar.files import read_json

RESULTS = Path(__file__).resolve().parent / "results"
# Thirteen trainings were started together, whose seconds add up to nine times those of the longest one.
GPU, RUN, AT_A_TIME = RESULTS / "2026-11-26" / "h100_gpu_vs_paper_anchor.json", "gpu_s0", 9
REFINEMENT, REFINED_AT_A_TIME = RESULTS / "2026-11-26" / "h100_tracking_ingredients_anchor.json", 12
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
        gpu_seconds: by stage, of a GPU: the wall-clock seconds over the number of jobs that shared it.
        gpu_wall_seconds: of these stages, as long as they took with that many.
        cpu_seconds: wall-clock seconds of the stages before, on `cores` cores.
        cores: of the machine where they were measured.
        video_bytes: to fetch.
        run_bytes: to keep.
        sequence_bytes: of these, the tracked pictures.
        missing: stages that were not measured.
    """

    frames: int
    gpu_seconds: dict[str, float]
    gpu_wall_seconds: float
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
    parser.add_argument("--gpu", type=Path, default=GPU, help="results of runs trained on a GPU")
    parser.add_argument("--run", default=RUN, help="which of them")
    parser.add_argument("--at-a-time", type=int, default=AT_A_TIME, help="how many shared the GPU, on the mean")
    parser.add_argument("--refinement", type=Path, default=REFINEMENT, help="whose row `full` tells its seconds")
    parser.add_argument("--refined-at-a-time", type=int, default=REFINED_AT_A_TIME, help="likewise")
    parser.add_argument("--cpu", type=Path, default=CPU, help="results of a run whose video was tracked on a CPU")
    parser.add_argument("--sizes", type=Path, default=SIZES, help="of a whole run, by measure_run_size.py")
    parser.add_argument(
        "--sequence-sizes", type=Path, default=SEQUENCE_SIZES, help="of a tracked run at the GPU run's picture size"
    )
    arguments = parser.parse_args()
    print(table(measured(arguments), arguments))
    files = (arguments.gpu, arguments.refinement, arguments.cpu, arguments.sizes, arguments.sequence_sizes)
    print("\nFrom: " + ", ".join(f"`{file.parent.name}/{file.name}`" for file in files) + ".")


def measured(arguments: argparse.Namespace) -> Subject:
    """One subject, put together from GPU runs, a CPU run, and the sizes of files."""
    gpu = read_json(arguments.gpu)["runs"][arguments.run]
    cpu, sizes, tracked = (read_json(file) for file in (arguments.cpu, arguments.sizes, arguments.sequence_sizes))
    if gpu["protocol"]["size"] != tracked["size"]:
        raise SystemExit(f"the GPU run has pictures of {gpu['protocol']['size']}, the sizes are of {tracked['size']}")
    longer = tracked["frames"] / (gpu["protocol"]["train_frames"] + gpu["protocol"]["holdout"])
    wall = {stage: longer * seconds for stage, seconds in gpu["stage_seconds"].items() if stage in ON_GPU}
    shared = {stage: seconds / arguments.at_a_time for stage, seconds in wall.items()}
    refined = read_json(arguments.refinement)["rows"]["full"]
    wall["refinement"] = tracked["frames"] / refined["frames"] * refined["seconds"]
    shared["refinement"] = wall["refinement"] / arguments.refined_at_a_time
    sequence = tracked["parts"]["sequence"]
    rest = sum(size for name, size in sizes["parts"].items() if name != "sequence")
    return Subject(
        frames=tracked["frames"],
        gpu_seconds=shared,
        gpu_wall_seconds=sum(wall.values()),
        cpu_seconds=sum(cpu["stage_seconds"].get(stage, 0.0) for stage in ON_CPU),
        cores=int(cpu["versions"]["device"].split(", ")[-1].split()[0]),
        video_bytes=sizes["video"],
        run_bytes=sequence + rest,
        sequence_bytes=sequence,
        missing=[
            f"{stage.replace('_', ' ')} on a {kind}"
            for kind, seconds, stages in (("CPU", cpu["stage_seconds"], ON_CPU), ("GPU", wall, ON_GPU))
            for stage in stages
            if stage not in seconds
        ],
    )


def table(one: Subject, arguments: argparse.Namespace) -> str:
    """The estimate, and what limits it."""
    count, gpus, cores = arguments.subjects, arguments.gpus, arguments.gpus * arguments.cores_per_gpu
    core_seconds, gpu_seconds = one.cpu_seconds * one.cores, sum(one.gpu_seconds.values())
    moved = one.video_bytes + one.run_bytes
    hours = {
        f"computing on {gpus} GPUs": count * gpu_seconds / gpus / 3600,
        f"tracking on {cores} cores": count * core_seconds / cores / 3600,
        f"moving files at {arguments.gigabits:g} Gbit/s": count * moved * 8 / (arguments.gigabits * 1e9) / 3600,
    }
    shares = {stage: seconds / gpu_seconds for stage, seconds in one.gpu_seconds.items()}
    job = one.cpu_seconds + one.gpu_wall_seconds
    rows = [
        (
            f"GPU hours, {arguments.at_a_time} jobs on each",
            count * gpu_seconds / 3600,
            f"training {shares['training']:.0%}, photometric tracking {shares['refinement']:.0%}, measuring "
            f"{shares['evaluation']:.0%}, poses of held-out frames {shares['held_out_tracking']:.0%}",
        ),
        (
            "minutes of one job among them",
            job / 60,
            f"of which {one.cpu_seconds / job:.0%} without the GPU: it tracks landmarks, on {one.cores} cores",
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
