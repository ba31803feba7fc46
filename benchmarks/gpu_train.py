"""Train on a tracked sequence on a GPU and measure the held-out frames; prints JSON and writes the avatar.

    python benchmarks/gpu_train.py SEQUENCE OUT [--preset paper] [--set section.field=value ...]

Needs no video packages, so that it runs on a machine with torch, gsplat and little else.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path

import torch
from PIL import Image

from stavatar import config
from stavatar.avatar.avatar import render
from stavatar.avatar.storage import Motion, save_avatar
from stavatar.evaluation.evaluate import Pair, evaluate_images
from stavatar.evaluation.reenactment import REENACTMENT_METRICS
from stavatar.evaluation.region_masks import region_masks
from stavatar.evaluation.results import Measured, assemble_results
from stavatar.evaluation.speed import measure_speed
from stavatar.files import write_json
from stavatar.head import load_head
from stavatar.sequence import read_sequence
from stavatar.training.trainer import Trainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sequence", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--preset", default="paper")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--device", default="cuda")
    arguments = parser.parse_args()

    sequence = read_sequence(arguments.sequence)
    configuration = config.override(config.preset(arguments.preset), arguments.settings)
    head = load_head(sequence.head_model)
    trainer = Trainer(sequence, head, configuration, device=arguments.device)
    seconds = {}
    begin = time.monotonic()
    trainer.run()
    seconds["training"] = round(time.monotonic() - begin, 2)
    write_json(arguments.out / "density.json", [asdict(event) for event in trainer.events])
    write_json(arguments.out / "curve.json", trainer.curve.rows)
    begin = time.monotonic()
    parameters = trainer.track_held_out()
    seconds["held_out_tracking"] = round(time.monotonic() - begin, 2)
    motion = Motion(parameters.to("cpu"), sequence.camera, sequence.fps, sequence.train, sequence.test)
    save_avatar(trainer.avatar, motion, arguments.out / "avatar")

    @torch.no_grad()
    def views(poses):
        for frame in sequence.test.tolist():
            posed = trainer.avatar(poses[[frame]].to(arguments.device))
            camera, matte = sequence.camera[[frame]], sequence.mask([frame])[0]
            image = render(posed, camera.to(arguments.device)).image[0].cpu()
            masks = region_masks(head, posed.mesh.vertices[0], camera, matte)
            yield Pair(frame, sequence.image([frame])[0], image, masks)

    count = len(sequence.test)
    measured = Measured(
        metrics=evaluate_images(views(parameters), count, device=arguments.device),
        landmark_tracked=evaluate_images(views(sequence.parameters), count, device=arguments.device),
        speed=measure_speed(trainer.avatar, parameters[sequence.test], sequence.camera),
        reenactment={"self": None, "cross": None},
        missing=dict.fromkeys(REENACTMENT_METRICS, "was not asked for"),
    )
    results = assemble_results(
        sequence=sequence,
        measured=measured,
        test_tracking="head and torso pose aligned photometrically to the finished avatar",
        preset=configuration.preset,
        seed=configuration.training.seed,
        gaussians=len(trainer.avatar.gaussians),
        stage_seconds=seconds,
        device=arguments.device,
    )
    results["steps"] = trainer.steps
    write_json(arguments.out / "results.json", results)
    _write_stills(arguments.out / "stills.png", list(views(parameters))[:: max(1, count // 6)])
    print(json.dumps({name: results[name] for name in ("metrics", "metrics_regions", "stage_seconds")}))


def _write_stills(path: Path, shown: list[Pair]) -> None:
    """Inputs above renders, of some held-out frames."""
    columns = [torch.cat([pair.truth, pair.render.clamp(0, 1)], 0) for pair in shown]
    sheet = (torch.cat(columns, 1) * 255).round().to(torch.uint8)
    Image.fromarray(sheet.numpy()).save(path)


if __name__ == "__main__":
    main()
