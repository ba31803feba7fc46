"""Kill runs at random moments of every stage, take them up again, and see that nothing is different in the end.

    python tests/crash/random_kills.py --kills 50 -o kills.json

What is killed (SIGKILL leaves a process no time for anything) are the ordinary commands on a small rendered clip. Each
kill waits until the stage that it is meant for has begun, and then for a random part of the time that this stage took
undisturbed. The figures are written as JSON: how many kills met which stage, how much work was lost, and whether
avatars, sequences, figures and exports equal the undisturbed ones, byte for byte.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from victims import command, content, rubbish, start, until_its_end

from stavatar.files import read_json, write_json
from stavatar.refinement import checkpoint as refinement
from stavatar.run import Run
from stavatar.training import checkpoint

CHECKPOINT_SECONDS = 0.5
SETTINGS = [
    *("capture.size=64", "network.uv_size=32", "network.width=0.125", "gaussians.seeds=50"),
    *("training.steps=40", f"training.checkpoint_seconds={CHECKPOINT_SECONDS}", "pose.passes=[0.3]"),
    *("pose.iterations=1", "schedule.order=clusters", "schedule.clusters=[3]", "schedule.warmup=0.1"),
]
STAGES = ("capture", "tracking", "refinement", "tracking_video", "training", "held_out_tracking", "evaluation")
SHARES = {
    **{"capture": 0.08, "tracking": 0.1, "refinement": 0.06, "tracking_video": 0.06, "training": 0.3},
    **{"held_out_tracking": 0.12, "evaluation": 0.08, "export web": 0.08, "export ply": 0.02},
    **{"evaluate": 0.04, "ablate": 0.06},
}
"""How the kills are shared out among stages of a run and other commands."""
FILES = ("avatar", "sequence")
"""Folders of a run whose files must come out the same."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--refine", action="store_true", help="with photometric tracking, which takes most of the time")
    parser.add_argument("--only", choices=SHARES, help="all kills in this stage or command")
    parser.add_argument("--out", "-o", type=Path, default=Path("kills.json"))
    options = parser.parse_args()
    options.refine |= options.only == "refinement"
    with tempfile.TemporaryDirectory(prefix="stavatar-kills-") as folder:
        plan = shared_out(options.kills, [options.only] if options.only else list(SHARES), options.refine)
        figures = Killing(Path(folder), plan, random.Random(options.seed), options.refine).carry_out()
    write_json(options.out, figures)
    print(f"{figures['kills']} kills, {len(figures['differences'])} differences: {options.out}")
    return 1 if figures["differences"] else 0


class Killing:
    """One whole series: an undisturbed run first, then the kills.

    Args:
        folder: for clip, runs and exports.
        plan: how many kills are meant for each stage and command.
        chance: draws the moments.
        refine: refine tracking photometrically.
    """

    def __init__(self, folder: Path, plan: dict[str, int], chance: random.Random, refine: bool) -> None:
        self.folder = folder
        self.chance = chance
        self.log = folder / "log"
        self.clip = folder / "clip.mp4"
        self.stages = [stage for stage in STAGES if refine or stage != "refinement"]
        self.plan = plan
        self.settings = [word for one in [*SETTINGS, f"tracking.refine={refine}"] for word in ("--set", one)]
        self.kills: list[dict[str, Any]] = []
        self.differences: list[str] = []
        self.finished_runs = 0

    def carry_out(self) -> dict[str, Any]:
        self._do("synth", "-o", self.clip, "--frames", 16, "--size", 256)
        whole = self.folder / "whole"
        self._do(*self._reconstruct(whole))
        seconds = Run(whole).seconds
        self._kill_stages(whole, seconds)
        self._kill_command("export web", whole, self.folder / "site", lambda out: ["export", "web", whole, "-o", out])
        self._kill_command("export ply", whole, self.folder / "n.ply", lambda out: ["export", "ply", whole, "-o", out])
        self._kill_evaluate(whole)
        self._kill_ablate(whole)
        met = Counter(kill["met"] for kill in self.kills)
        lost = [kill["lost_seconds"] for kill in self.kills if kill.get("lost_seconds") is not None]
        return {
            "kills": len(self.kills),
            "meant_for": self.plan,
            "met": dict(met),
            "runs_finished_after_kills": self.finished_runs,
            "differences": self.differences,
            "checkpoint_seconds": CHECKPOINT_SECONDS,
            "seconds_since_checkpoint": {"most": max(lost, default=None), "mean": mean(lost), "kills": len(lost)},
            "undisturbed_stage_seconds": seconds,
            "each": self.kills,
        }

    # ---------------------------------------------------------------------------------------------- stages of a run

    def _kill_stages(self, whole: Path, seconds: dict[str, float]) -> None:
        """Runs that are killed in their stages, in order, until all kills are done; then each is finished."""
        left = {stage: self.plan[stage] for stage in self.stages}
        while any(left.values()):
            run = Run(self.folder / f"run{self.finished_runs}")
            for stage in self.stages:
                for _ in range(min(left[stage], 3)):  # a run gets no more of one stage: others are to begin afresh
                    if run.done(stage):
                        break
                    left[stage] -= self._kill_in(run, stage, seconds[stage])
            self._do(*self._reconstruct(run.folder))
            self.finished_runs += 1
            for name in FILES:
                self._compare(f"{name} of {run.folder.name}", content(whole / name), content(run.folder / name))
            figures = [read_json(each.results)["metrics"] for each in (run, Run(whole))]
            self._compare(f"metrics of {run.folder.name}", *figures)
            self._compare(f"rubbish in {run.folder.name}", [], rubbish(run.folder))

    def _kill_in(self, run: Run, stage: str, seconds: float) -> bool:
        """Kill the run in a stage; False where it came to its end first."""
        before = self.stages[: self.stages.index(stage)]
        kept = run.folder / (refinement.NAME if stage == "refinement" else checkpoint.NAME)
        begin = time.time()
        process = start(command, *self._reconstruct(run.folder), log=self.log)
        while process.is_alive() and not (run.config_path.exists() and all(run.done(name) for name in before)):
            process.join(0.01)
        if stage == "training" and self.chance.random() < 0.7:  # the others may come before it has saved anything
            while process.is_alive() and not saved_at(kept) > begin:
                process.join(0.01)
            seconds /= 2
        process.join(self.chance.uniform(0, seconds + 0.5))
        saved = saved_at(kept)
        process.kill()
        now = time.time()
        process.join()
        if process.exitcode != -signal.SIGKILL:
            self._compare(f"exit code in {stage}", 0, process.exitcode)
            return False
        met = next((name for name in self.stages if not run.done(name)), "the end")
        keeps = met == stage and stage in ("training", "refinement") and saved > begin
        self._note(stage, met, lost_seconds=round(now - saved, 3) if keeps else None)
        return True

    def _reconstruct(self, out: Path) -> list[object]:
        return ["reconstruct", self.clip, "-o", out, "--preset", "cpu", "--device", "cpu", "--resume", *self.settings]

    # ------------------------------------------------------------------------------------------------ other commands

    def _kill_command(self, name: str, whole: Path, out: Path, words: Callable[[Path], list[object]]) -> None:
        """Kill a command that writes `out`, half of the times over an earlier one; then let it finish."""
        if not self.plan[name]:
            return
        begin = time.monotonic()
        undisturbed = out.with_name(f"undisturbed-{out.name}")
        self._do(*words(undisturbed))
        seconds = time.monotonic() - begin
        expected = bytes_of(undisturbed)
        for index in range(self.plan[name]):
            self._strike(words(out), seconds)
            self._note(name, name)
            if out.exists():
                self._compare(f"{name}: what a kill leaves", expected, bytes_of(out))
            if index % 2:
                self._do(*words(out))
        self._do(*words(out))
        self._compare(f"{name} after kills", expected, bytes_of(out))
        self._compare(f"rubbish of {name}", [], [path for path in rubbish(self.folder) if out.stem in path])

    def _kill_evaluate(self, whole: Path) -> None:
        if not self.plan["evaluate"]:
            return
        expected = read_json(Run(whole).results)["metrics"]
        for _ in range(self.plan["evaluate"]):
            self._strike(["evaluate", whole], Run(whole).seconds["evaluation"] + 1)
            self._note("evaluate", "evaluate")
            self._compare("metrics while killed", expected, read_json(Run(whole).results)["metrics"])
        self._do("evaluate", whole)
        self._compare("metrics measured again", expected, read_json(Run(whole).results)["metrics"])
        self._compare("rubbish after evaluate", [], rubbish(whole))

    def _kill_ablate(self, whole: Path) -> None:
        """Kill an ablation whose runs have processes of their own: they must go as well."""
        if not self.plan["ablate"]:
            return

        def words(out: Path) -> list[object]:
            rows = ["--rows", "", "--row", "fixed:density.control=none", "--jobs", 2, "--resume"]
            return ["ablate", whole, "-o", out, "--preset", "cpu", "--device", "cpu", *rows, *self.settings]

        begin = time.monotonic()
        undisturbed, out = self.folder / "ablation", self.folder / "killed-ablation"
        self._do(*words(undisturbed))
        seconds = time.monotonic() - begin
        for _ in range(self.plan["ablate"]):
            self._strike(words(out), seconds)
            self._note("ablate", "ablate", workers_gone_after=self._workers_go(out))
        self._do(*words(out))
        for row in ("full", "fixed"):
            pair = [content(folder / row / "seed0" / "avatar") for folder in (undisturbed, out)]
            self._compare(f"avatar of the ablation's row {row}", *pair)
        self._compare("rubbish of ablate", [], rubbish(out))

    def _workers_go(self, out: Path, patience: float = 60.0) -> float:
        """Seconds until no process works on an ablation any more."""
        begin = time.monotonic()
        while time.monotonic() - begin < patience:
            found = subprocess.run(["pgrep", "-f", f"stavatar.ablation.worker {out}"], capture_output=True)
            if found.returncode:
                return round(time.monotonic() - begin, 2)
            time.sleep(0.1)
        self.differences.append("workers of a killed ablation went on")
        return patience

    # -------------------------------------------------------------------------------------------------- bookkeeping

    def _strike(self, words: list[object], seconds: float) -> None:
        """Kill a command within so many seconds; where it came to its end before, once more."""
        struck = False
        while not struck:
            process = start(command, *words, log=self.log)
            process.join(self.chance.uniform(0, seconds))
            process.kill()
            process.join()
            struck = process.exitcode == -signal.SIGKILL

    def _do(self, *words: object) -> None:
        """A command, undisturbed."""
        code = until_its_end(command, *words, log=self.log)
        if code:
            sys.exit(f"stavatar {words[0]} ended with {code}:\n{self.log.read_text()[-3000:]}")

    def _note(self, meant: str, met: str, **more: Any) -> None:
        self.kills.append({"meant_for": meant, "met": met, **more})
        print(f"kill {len(self.kills)}: meant for {meant}, met {met} {more}", flush=True)

    def _compare(self, what: str, expected: Any, found: Any) -> None:
        if expected != found:
            names = (
                [name for name in expected if expected[name] != found.get(name)] if isinstance(found, dict) else found
            )
            self.differences.append(f"{what}: {names}")
            print(f"DIFFERENT: {self.differences[-1]}", flush=True)


def shared_out(kills: int, names: list[str], refine: bool) -> dict[str, int]:
    """So many kills, in the proportions of :data:`SHARES` among these names; what is left goes to training.

    Without `refine` there is no such stage, and its kills go to training as well.
    """
    plan = dict.fromkeys(SHARES, 0)
    if len(names) == 1:
        return plan | {names[0]: kills}
    plan |= {name: int(kills * SHARES[name]) for name in names if refine or name != "refinement"}
    return plan | {"training": plan["training"] + kills - sum(plan.values())}


def mean(values: list[float]) -> float | None:
    return round(sum(values) / len(values), 3) if values else None


def saved_at(file: Path) -> float:
    """When a file was written; 0 where there is none."""
    try:
        return file.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def bytes_of(path: Path) -> dict[str, Any]:
    """A file's content, or hashes of a folder's."""
    return content(path) if path.is_dir() else {path.suffix: path.read_bytes()}


if __name__ == "__main__":
    sys.exit(main())
