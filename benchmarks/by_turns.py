"""Times a training step and a picture in this checkout and in another one, by turns, so that the host's changes of pace
meet both.

    git worktree add ../before COMMIT
    python benchmarks/by_turns.py ../before -o OUT.json [--turns 5] [--preset cpu] [--gaussians 10000]

Every turn is a fresh process per checkout, of whose package it takes the code: 120 steps and 200 pictures of the
avatar that `stavatar bench` times, as milliseconds (fastest, lower quartile, median). Both checkouts need what this
script calls.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shlex
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1]
STEPS, PICTURES, WARM_UP = 120, 200, 10


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="the other checkout")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--preset", default="cpu")
    parser.add_argument("--gaussians", type=int, default=10_000)
    parser.add_argument("--one-turn", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one_turn:
        print(json.dumps(one_process(arguments.preset, arguments.gaussians)))
        return 0

    from stavatar.evaluation.results import versions
    from stavatar.files import write_json

    checkouts = {"other": arguments.other.resolve(), "here": HERE}
    turns: dict[str, list[dict[str, Any]]] = {name: [] for name in checkouts}
    for turn in range(arguments.turns):
        for name, folder in checkouts.items():
            turns[name].append(one_turn(folder))
            print(turn, name, turns[name][-1])
    summary = {
        name: {
            what: {
                "fastest_ms": min(turn[what]["fastest_ms"] for turn in done),
                "median_of_medians_ms": statistics.median(turn[what]["median_ms"] for turn in done),
            }
            for what in ("step", "picture")
        }
        for name, done in turns.items()
    }
    print(json.dumps(summary, indent=1))
    result = {
        "command": shlex.join(["python", *sys.argv]),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commits": {name: commit(folder) for name, folder in checkouts.items()},
        "versions": versions(),
        "cpus": os.cpu_count(),
        "summary": summary,
        "turns": turns,
    }
    write_json(arguments.output, result)
    return 0


def one_turn(folder: Path) -> dict[str, Any]:
    """In a process of its own, which finds that checkout's package first."""
    command = [sys.executable, str(Path(__file__).resolve()), *sys.argv[1:], "--one-turn"]
    done = subprocess.run(
        command, cwd=folder, env=os.environ | {"PYTHONPATH": str(folder / "src")}, stdout=subprocess.PIPE, check=True
    )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def one_process(preset: str, gaussians: int) -> dict[str, Any]:
    import torch

    import stavatar
    from stavatar import config
    from stavatar.avatar.runtime import Runtime
    from stavatar.avatar.storage import Motion
    from stavatar.bench.scene import make_trainer, performance, timed_config
    from stavatar.bench.steps import SOFT, steps
    from stavatar.bench.timing import Effort, measure

    assert Path(stavatar.__file__).is_relative_to(Path.cwd()), "another package was found first"

    def times(work: Callable[[], object], repeats: int) -> dict[str, float]:
        timing = measure(work, torch.device("cpu"), Effort(WARM_UP, repeats, seconds=60))
        return {"fastest_ms": timing.fastest, "quartile_ms": timing.low, "median_ms": timing.median}

    settings = config.preset(preset)
    subject = performance(settings.capture.size)
    trainer, _ = make_trainer(subject, timed_config(settings, 1), torch.device("cpu"), gaussians)
    step = next(part for part in steps(trainer, all_kinds=False) if part.variant == SOFT)
    step_times = times(step.work, STEPS)
    motion = Motion(subject.parameters, subject.camera, subject.fps, subject.train, subject.test)
    runtime = Runtime(trainer.avatar, motion)  # takes the avatar: nothing of it is trained from here on
    camera, pose = subject.camera[[0]], subject.parameters[[3]]
    return {"step": step_times, "picture": times(lambda: runtime.render(pose, camera), PICTURES)}


def commit(folder: Path) -> str:
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=folder, capture_output=True, text=True, check=True
    )
    return told.stdout.strip()


if __name__ == "__main__":
    raise SystemExit(main())
