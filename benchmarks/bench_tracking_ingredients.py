"""What each ingredient of tracking is worth to the avatar: held-out PSNR with one of them off in turn.

    stavatar track CLIP -o tracked/ --set tracking.refine=false
    python benchmarks/bench_tracking_ingredients.py tracked/sequence -o ingredients/ --preset cpu --jobs 2

Every row refines the landmark-tracked sequence as its settings say, trains an avatar on the result and measures it on
the held-out frames. Writes OUT/ingredients.json and OUT/ingredients.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import torch

from stavatar import config, pipeline
from stavatar.files import write_json, write_text
from stavatar.head import HeadModel, load_head
from stavatar.head.posing import JOINTS
from stavatar.refinement import refine_tracking
from stavatar.refinement.refine import shrink
from stavatar.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from stavatar.sequence import Sequence, read_sequence, write_sequence

ROWS: dict[str, tuple[str, ...]] = {
    "full": (),
    "no_photometric": ("tracking.refine=false",),
    "poses_only": ("tracking.face=false",),
    "no_silhouette": ("tracking.matte=0",),
    "no_smoothness": ("tracking.smooth=0",),
    "no_torso": ("tracking.torso=false",),
    "no_joint_refinement": ("pose.refine=false",),
    "landmarks_alone": ("tracking.refine=false", "pose.refine=false"),
}
"""What is changed against the preset."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sequence", type=Path, help="tracked by landmarks alone")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--preset", default="cpu", choices=config.PRESETS)
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="SECTION.FIELD=VALUE")
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--jobs", type=int, default=1, help="rows at a time")
    parser.add_argument("--row", help=argparse.SUPPRESS)  # one row, in a process of its own
    options = parser.parse_args()
    if options.row:
        carry_out(options.sequence, options.out, options.preset, options.settings, options.row, options.device)
        return
    rows = options.rows.split(",")
    if unknown := [row for row in rows if row not in ROWS]:
        parser.error(f"--rows {','.join(unknown)}: choose among {','.join(ROWS)}")
    if earlier := [row for row in rows if (options.out / row).exists()]:
        parser.error(f"{options.out} holds these rows already, from an earlier run: {','.join(earlier)}")
    options.out.mkdir(parents=True, exist_ok=True)

    def in_process(row: str) -> None:
        settings = [argument for assignment in options.settings for argument in ("--set", assignment)]
        command = [sys.executable, __file__, str(options.sequence), "-o", str(options.out), "--row", row]
        command += ["--preset", options.preset, "--device", options.device, *settings]
        with (options.out / f"{row}.log").open("wb") as log:
            subprocess.run(command, stdout=log, stderr=log, check=False)

    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(in_process, rows))
    summarise(options.out, rows, " ".join(sys.argv))


def carry_out(source: Path, out: Path, preset: str, settings: list[str], row: str, device_name: str) -> None:
    """Refine, train, measure."""
    settings = [*settings, *ROWS[row]]
    configuration = config.override(config.preset(preset), settings)
    device = pipeline.choose_device(device_name)
    sequence = shrink(read_sequence(source), configuration.capture.size)
    head = load_head(sequence.head_model)
    begin = time.monotonic()
    if not configuration.tracking.torso:
        sequence = move_as_one(sequence, head)
    if configuration.tracking.refine:
        sequence = refine_tracking(sequence, head, configuration.tracking, device=device)
    seconds = time.monotonic() - begin
    write_sequence(sequence, out / row / "tracked", overwrite=True, image_format="jpg")
    run = pipeline.take_sequence(out / row / "tracked", out / row / "run", configuration, device=device)
    pipeline.train(run, configuration, device=device)
    pipeline.evaluate(run, device=device, video=False)
    write_json(out / row / "refinement.json", {"seconds": seconds, "settings": settings, "frames": len(sequence)})


def move_as_one(sequence: Sequence, head: HeadModel) -> Sequence:
    """Head poses as they are, with a torso that follows rigidly."""
    parameters = sequence.parameters
    root, neck = JOINTS.index("root"), JOINTS.index("neck")
    joints = head.joints(sequence.shape[None], parameters.expression[:1])[0]
    bone = joints[neck] - joints[root]
    torso = axis_angle_to_matrix(parameters.rotation)
    turned = torso @ axis_angle_to_matrix(parameters.neck)
    place = (torso @ (bone + parameters.neck_translation)[..., None])[..., 0] + parameters.translation
    moved = parameters.replaced(
        rotation=matrix_to_axis_angle(turned),
        neck=torch.zeros_like(parameters.neck),
        neck_translation=torch.zeros_like(parameters.neck_translation),
        translation=place - (turned @ bone[:, None])[..., 0],
    )
    return replace(sequence, parameters=moved)


def summarise(out: Path, rows: list[str], command: str) -> None:
    """Put the rows that finished into one file and one table."""
    found = {}
    for row in rows:
        results = out / row / "run" / "results.json"
        if results.exists():
            found[row] = {
                "results": json.loads(results.read_text()),
                **json.loads((out / row / "refinement.json").read_text()),
            }
    lines = [
        "| row | PSNR | as tracked | LPIPS alex | head | mouth | eyes | refinement s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row, values in found.items():
        results = values["results"]
        regions = results["metrics_regions"]
        figures = [
            results["metrics"]["psnr"],
            (results["metrics_as_tracked"] or {}).get("psnr"),
            results["metrics"]["lpips_alex"],
            *(regions[name]["psnr"] for name in ("head", "mouth", "eyes")),
            values["seconds"],
        ]
        digits = (2, 2, 4, 2, 2, 2, 0)
        cells = ("" if value is None else f"{value:.{places}f}" for value, places in zip(figures, digits, strict=True))
        lines.append(f"| `{row}` | {' | '.join(cells)} |")
    missing = [row for row in rows if row not in found]
    if missing:
        lines.append(f"\nFailed, see their logs: {', '.join(missing)}")
    write_text(out / "ingredients.md", "\n".join(lines) + "\n")
    write_json(out / "ingredients.json", {"command": command, "rows": found})
    print("\n".join(lines))


if __name__ == "__main__":
    main()
