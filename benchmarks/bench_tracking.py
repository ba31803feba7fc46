"""How right, how steady and how fast tracking is: on rendered performances with known truth, and on real clips.

    python benchmarks/bench_tracking.py -o OUT [--frames 150] [--size 512] [--clips A.mp4 B.mp4] [--only synth|clips]
        [--stages landmarks photometric] [--identities 1 2 3 4]

Four identities perform in two styles, and one more holds the head still; a camera with sensor noise, motion blur and
compression records them. Each video goes through capture and through all stages, and is compared with its
truth after each. Clips of real people have no truth: for them there are the landmark errors.

Writes OUT.json and, as a table, OUT.md. Videos are kept in --cache, so that a second run renders nothing.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from stavatar import config
from stavatar.capture import capture
from stavatar.capture.observations import Observations
from stavatar.data import open_recording
from stavatar.evaluation.results import versions
from stavatar.files import write_json, write_text
from stavatar.head import HeadModel, LandmarkEmbedding, load_embedded_head, load_embedded_landmarks
from stavatar.refinement import refine_tracking
from stavatar.rotations import axis_angle_to_matrix
from stavatar.sequence import Sequence, split_holdout
from stavatar.synth import load_truth, make_performance, write_performance
from stavatar.tracking import track_with_report
from stavatar.tracking.accuracy import Accuracy, HeadMotion, measure_accuracy
from stavatar.tracking.detector_bias import load_detector_bias
from stavatar.tracking.landmark_groups import INNER, LIPS, OUTER_EYE_CORNERS, SKIN

IDENTITIES = (1, 2, 3, 4)
STYLES = ("talking", "expressive")
STILL = (1, "still")
CAMERA = {"noise": 0.015, "shutter": 0.5, "crf": 25}
"""Of a phone indoors."""


@dataclass(frozen=True)
class Scene:
    """What stages work on: the head model with its landmarks, and what was seen of a clip."""

    head: HeadModel
    embedding: LandmarkEmbedding
    observations: Observations
    name: str


Tracker = Callable[[Scene, Sequence | None], Sequence]


def landmarks(scene: Scene, _: Sequence | None) -> Sequence:
    return track_with_report(scene.observations, scene.head, scene.embedding, name=scene.name)[0]


def photometric(scene: Scene, sequence: Sequence | None) -> Sequence:
    assert sequence is not None  # landmarks come first
    return refine_tracking(split_holdout(sequence), scene.head, config.preset("cpu").tracking)


STAGES: dict[str, Tracker] = {"landmarks": landmarks, "photometric": photometric}
"""In order: each is given the sequence that the one before returned."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, required=True, help="name of the results, without a suffix")
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--clips", type=Path, nargs="*", default=[])
    parser.add_argument("--clip-size", type=int, default=512)
    parser.add_argument("--clip-frames", type=int, help="no more of each clip than so many, evenly spaced")
    parser.add_argument("--cache", type=Path, default=Path("bench_tracking_videos"))
    parser.add_argument("--only", choices=["synth", "clips"])
    parser.add_argument("--stages", nargs="+", choices=list(STAGES), default=list(STAGES))
    parser.add_argument("--identities", type=int, nargs="+", default=IDENTITIES)
    parser.add_argument("--note", default="", help="of the machine, such as that it was busy")
    arguments = parser.parse_args()

    head, embedding = load_embedded_head(), load_embedded_landmarks()
    results: dict[str, Any] = {
        "camera": CAMERA,
        "frames": arguments.frames,
        "size": arguments.size,
        "note": arguments.note,
        "versions": versions("cpu"),
        "rendered": [],
        "clips": [],
    }
    if arguments.only != "clips":
        performances = [(identity, style) for identity in arguments.identities for style in STYLES] + [STILL]
        for identity, style in performances:
            video = rendered(arguments.cache, head, identity, style, arguments.frames, arguments.size)
            results["rendered"] += against_truth(video, head, embedding, arguments.size, arguments.stages)
            save(arguments.out, results)
    if arguments.only != "synth":
        for clip in arguments.clips:
            results["clips"] += against_landmarks(
                clip, head, embedding, arguments.clip_size, arguments.stages, arguments.clip_frames
            )
            save(arguments.out, results)
    print(table(results))


def rendered(folder: Path, head: HeadModel, identity: int, style: str, frames: int, size: int) -> Path:
    """The video of one performance, with its truth beside it: the first half of one laid out for twice the length.

    An expressive performance plays all its scenes in whatever time it has, and in a few seconds nobody can do that.
    """
    video = folder / f"{style}_{identity}_{frames}_{size}.mp4"
    if not video.with_suffix(".npz").exists():
        folder.mkdir(parents=True, exist_ok=True)
        whole = make_performance(
            head, frames=2 * frames, size=size, seed=identity, identity=identity, style=style, **CAMERA
        )
        truth = replace(whole.truth, parameters=whole.truth.parameters[:frames])
        write_performance(video, replace(whole, truth=truth, exposure=whole.exposure[: frames * whole.samples]))
    return video


def stages_of(
    video: Path, head: HeadModel, embedding: LandmarkEmbedding, size: int, stages: list[str], most: int | None = None
) -> list[tuple[str, Sequence, dict[str, float]]]:
    """Capture and all stages: name, result, and the seconds that each part took so far."""
    seconds, found, sequence = {}, [], None
    begin = time.perf_counter()
    scene = Scene(head, embedding, capture(open_recording(video), size=size, max_frames=most), video.stem)
    seconds["capture"] = time.perf_counter() - begin
    for name in stages:
        begin = time.perf_counter()
        sequence = STAGES[name](scene, sequence)
        seconds[name] = time.perf_counter() - begin
        found.append((name, sequence, dict(seconds)))
    return found


def against_truth(
    video: Path, head: HeadModel, embedding: LandmarkEmbedding, size: int, stages: list[str]
) -> list[dict[str, Any]]:
    truth = load_truth(video.with_suffix(".npz"))
    rows = []
    for name, sequence, seconds in stages_of(video, head, embedding, size, stages):
        known = HeadMotion(head, embedding, truth.shape, truth.parameters[sequence.frame_ids], truth.camera)
        measured = measure_accuracy(
            HeadMotion.of(sequence, head, embedding), known, sequence.fps, torch.nonzero(sequence.confidence > 0)[:, 0]
        )
        rows.append(
            {
                "performance": video.stem.rsplit("_", 2)[0],
                "stage": name,
                "tracked": f"{measured.frames} of {len(sequence)}",
                "seconds": seconds,
                "accuracy": asdict(measured),
                "landmark_error": landmark_error(sequence, head, embedding),
            }
        )
        print(rows[-1]["performance"], name, short(measured), flush=True)
    return rows


def against_landmarks(
    clip: Path, head: HeadModel, embedding: LandmarkEmbedding, size: int, stages: list[str], most: int | None
) -> list[dict[str, Any]]:
    rows = []
    for name, sequence, seconds in stages_of(clip, head, embedding, size, stages, most):
        rows.append(
            {
                "clip": clip.stem,
                "stage": name,
                "frames": len(sequence),
                "tracked": int((sequence.confidence > 0).sum()),
                "seconds": seconds,
                "frames_per_second": len(sequence) / sum(seconds.values()),
                "landmark_error": landmark_error(sequence, head, embedding),
            }
        )
        print(rows[-1]["clip"], name, rows[-1]["landmark_error"], flush=True)
    return rows


@torch.no_grad()
def landmark_error(sequence: Sequence, head: HeadModel, embedding: LandmarkEmbedding) -> dict[str, float]:
    """Mean distance of the head model's landmarks from those detected, % of the outer-eye distance of each frame.

    The landmarks lie on the tracked head, but for what the detector does to everybody: no places of the person's own
    are added to them.
    """
    habit = load_detector_bias().mean
    frames = torch.nonzero(sequence.confidence > 0)[:, 0]
    errors = []
    for some in frames.split(64):
        parameters = sequence.parameters[some]
        turn = axis_angle_to_matrix(parameters.rotation) @ axis_angle_to_matrix(parameters.neck)
        points = embedding.points(head, head(sequence.shape, parameters).vertices) + habit @ turn.transpose(1, 2)
        seen = sequence.landmarks[some]
        unit = (seen[:, OUTER_EYE_CORNERS[0]] - seen[:, OUTER_EYE_CORNERS[1]]).norm(dim=1)
        errors.append((sequence.camera[some].project(points) - seen).norm(dim=-1) / unit[:, None] * 100)
    error = torch.cat(errors)
    return {
        name: float(error[:, list(part)].mean()) for name, part in (("all", SKIN), ("inner", INNER), ("lips", LIPS))
    }


def short(measured: Accuracy) -> str:
    return f"vertices {measured.vertices['face'].mean:.2f} mm, rotation {measured.rotation:.2f} degrees"


def save(out: Path, results: dict[str, Any]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out.with_suffix(".json"), results)
    write_text(out.with_suffix(".md"), table(results))


COLUMNS = {
    "face mm": lambda a: two(a["vertices"]["face"]),
    "lips mm": lambda a: two(a["vertices"]["lips"]),
    "lids mm": lambda a: two(a["vertices"]["lids"]),
    "face mm, up to size": lambda a: two(a["vertices_up_to_size"]["face"]),
    "size": lambda a: f"{a['size']:.3f}",
    "rotation °": lambda a: f"{a['rotation']:.2f} / {a['rotation_p95']:.2f}",
    "with offset °": lambda a: f"{a['rotation_raw']:.2f}",
    "across mm": lambda a: f"{a['across']:.2f}",
    "depth mm": lambda a: f"{a['depth']:.1f}",
    "with shift mm": lambda a: f"{a['across_raw']:.1f}, {a['depth_raw']:.1f}",
    "blinks r, gain": lambda a: pair(a["blink_correlation"], a["blink_gain"]),
    "mouth r, gain": lambda a: pair(a["mouth_correlation"], a["mouth_gain"]),
    "jitter °": lambda a: f"{a['jitter_rotation']:.3f}",
    "jitter mm": lambda a: f"{a['jitter_across']:.3f}, {a['jitter_depth']:.2f}",
    "lag frames": lambda a: "–" if a["lag"] is None else f"{a['lag']:+.2f}",
}


def two(distances: dict[str, float]) -> str:
    return f"{distances['mean']:.2f} / {distances['p95']:.2f}"


def pair(correlation: float | None, gain: float | None) -> str:
    return "–" if correlation is None else f"{correlation:.3f}, {gain:.2f}"


def table(results: dict[str, Any]) -> str:
    camera = results["camera"]
    lines = ["# Tracking against the truth", ""]
    if results["rendered"]:
        lines += [
            f"{results['frames']} frames at {results['size']} px; sensor noise {camera['noise']}, shutter open "
            f"{camera['shutter']} of a frame, H.264 CRF {camera['crf']}. Errors: mean / 95th percentile. Vertices "
            "after rigid alignment of each frame; rotation and place without, and with, the clip's constant offset; "
            "place across the image and in depth; correlation and gain of the gaps of lids and lips; jitter: root mean "
            "square step of the error from frame to frame. `docs/measurements.md` defines them.",
            "",
            "| performance | stage | " + " | ".join(COLUMNS) + " |",
            "|---" * (len(COLUMNS) + 2) + "|",
            *(
                f"| {row['performance']} | {row['stage']} | "
                + " | ".join(show(row["accuracy"]) for show in COLUMNS.values())
                + " |"
                for row in results["rendered"]
            ),
            *means(results["rendered"]),
            "",
        ]
    if results["clips"]:
        lines += [
            "Clips of real people: landmark error on the head itself, % of the outer-eye distance.",
            "",
            "| clip | stage | frames tracked | all | inner face | lips | seconds | frames/s, capture included |",
            "|---|---|---|---|---|---|---|---|",
            *(
                f"| {row['clip']} | {row['stage']} | {row['tracked']} of {row['frames']} | "
                + " | ".join(f"{row['landmark_error'][part]:.2f}" for part in ("all", "inner", "lips"))
                + f" | {times(row['seconds'])} | {row['frames_per_second']:.1f} |"
                for row in results["clips"]
            ),
            "",
        ]
    if results["note"]:
        lines += [f"{results['note']}", ""]
    return "\n".join(lines)


def means(rows: list[dict[str, Any]]) -> list[str]:
    """A line for each stage: the means over the performances whose head moves."""
    lines = []
    for stage in dict.fromkeys(row["stage"] for row in rows):
        moving = [r["accuracy"] for r in rows if r["stage"] == stage and not r["performance"].startswith("still")]
        if not moving:
            continue
        mean = average(moving)
        lines.append(f"| **mean** | {stage} | " + " | ".join(show(mean) for show in COLUMNS.values()) + " |")
    return lines


def average(values: list[Any]) -> Any:
    """Entry by entry; lists (spectra) and entries that one of them lacks are left out."""
    if isinstance(values[0], dict):
        return {key: average([value[key] for value in values]) for key in values[0]}
    known = [value for value in values if isinstance(value, (int, float))]
    return sum(known) / len(known) if known else None


def times(seconds: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.1f}" for name, value in seconds.items())


if __name__ == "__main__":
    main()
