"""Many subjects on a Ray cluster of two nodes, with a worker killed and a video broken, against one after the other.

    python benchmarks/bench_batch.py FOLDER -o result.json

Renders twelve short performances, breaks the video of one, and starts `stavatar batch` on a cluster of two nodes on
this machine. In the middle of a job, after its tracking, the process that does it is killed as the kernel would for
want of memory. All but the broken one must finish, the killed one from where it stood, and the same command again must
do nothing. Then the same jobs are done one after the other with all cores, for comparison.

Needs the extra `ray` and the model files of `stavatar assets`. Give it a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from stavatar import pipeline
from stavatar.evaluation.results import versions
from stavatar.files import read_json, write_json, write_text

BROKEN, KILLED = 3, 6
SETTINGS = (
    *("capture.size=64", "network.uv_size=32", "network.width=0.125", "gaussians.seeds=50"),
    *("tracking.refine=false", "pose.passes=[]", "pose.iterations=1", "training.steps=60"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="for videos, which are rendered where they are missing, and results")
    parser.add_argument("--subjects", type=int, default=12)
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--cluster-only", action="store_true", help="without the run to compare with")
    parser.add_argument("-o", "--out", type=Path, required=True, help="what it holds already is not measured again")
    arguments = parser.parse_args()

    manifest = write_subjects(arguments.folder, arguments.subjects, arguments.frames, arguments.size)
    facts: dict[str, Any] = {
        **{"subjects": arguments.subjects, "frames": arguments.frames, "size": arguments.size},
        **{"settings": list(SETTINGS), "cores": os.cpu_count(), "versions": versions("cpu")},
    }
    results = read_json(arguments.out) if arguments.out.exists() else facts
    if any(results[name] != facts[name] for name in facts):
        raise SystemExit(f"{arguments.out} was measured otherwise: move it away")
    if "cluster" not in results:
        results["cluster"] = on_cluster(manifest, arguments.folder / "cluster")
        write_json(arguments.out, results)
    if not arguments.cluster_only and "one_after_the_other" not in results:
        results["one_after_the_other"] = one_after_the_other(manifest, arguments.folder / "sequential")
        write_json(arguments.out, results)
    for name in ("cluster", "one_after_the_other"):
        if name in results:
            print(f"{name}: {results[name]['seconds']:.0f} s, {results[name]['counts']}")


def write_subjects(folder: Path, subjects: int, frames: int, size: int) -> Path:
    """Render the videos, break one, and list all in a manifest."""
    rows = ["name,task,input,preset,set,holdout"]
    for number in range(subjects):
        video = folder / "videos" / f"subject{number:02}.mp4"
        if not video.exists():  # from an earlier call
            pipeline.synthesise(video, frames=frames, size=size, seed=number, noise=0.01)
            if number == BROKEN:
                whole = video.read_bytes()
                video.write_bytes(whole[: len(whole) // 3])
        rows.append(f'{video.stem},reconstruct,{video.resolve()},cpu,"{"; ".join(SETTINGS)}",4')
    manifest = folder / "manifest.csv"
    write_text(manifest, "\n".join(rows) + "\n")
    return manifest


def on_cluster(manifest: Path, out: Path) -> dict[str, Any]:
    """The batch on two nodes, with one process killed; what became of it, checked."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    node = {"num_cpus": max(1, (os.cpu_count() or 2) // 2), "object_store_memory": 100 << 20}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    try:
        cluster.add_node(**node)
        command = [*batch(manifest, out), "--engine", "ray", "--address", cluster.address]
        begin = time.monotonic()
        killed = run_and_kill(command, out / f"subject{KILLED:02}")
        seconds = time.monotonic() - begin
        summary = check(out, killed)
        begin = time.monotonic()
        before = written_at(out)
        again = subprocess.run([*command, "--resume"], capture_output=True, text=True)
        assert f"1 of {len(summary['jobs'])} jobs to do" in again.stderr, again.stderr
        assert written_at(out) == before, "something was done twice"
        return {
            **{"seconds": round(seconds, 1), "counts": summary["counts"], "killed": killed},
            **{"seconds_again": round(time.monotonic() - begin, 1), "jobs": told(summary), "nodes": 2},
        }
    finally:
        cluster.shutdown()


def one_after_the_other(manifest: Path, out: Path) -> dict[str, Any]:
    begin = time.monotonic()
    subprocess.run(batch(manifest, out), capture_output=True, text=True)
    seconds = time.monotonic() - begin
    summary = read_json(out / "batch.json")
    return {"seconds": round(seconds, 1), "counts": summary["counts"], "jobs": told(summary)}


def batch(manifest: Path, out: Path) -> list[str]:
    return [sys.executable, "-m", "stavatar", "batch", str(manifest), "-o", str(out)]


def run_and_kill(command: list[str], victim: Path) -> dict[str, Any]:
    """Run the command; kill the process of one job once its tracking is done. Says what was killed when."""
    killed: dict[str, Any] = {}
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            print(line, end="", file=sys.stderr)
            found = re.match(rf"{victim.name}: attempt 1 on .*, process (\d+)", line)
            if found:
                wait_for_tracking(victim)
                os.kill(int(found[1]), signal.SIGKILL)
                killed = {"job": victim.name, "stages_done": sorted(read_json(victim / "stages.json"))}
                killed["sequence_written"] = (victim / "sequence" / "transforms.json").stat().st_mtime
    assert killed, "no process was killed"
    return killed


def wait_for_tracking(run: Path) -> None:
    while not (run / "stages.json").exists() or "tracking_video" not in read_json(run / "stages.json"):
        time.sleep(0.02)


def check(out: Path, killed: dict[str, Any]) -> dict[str, Any]:
    """All but one finished; the one that was killed took two attempts and tracked once."""
    summary = read_json(out / "batch.json")
    jobs = {job["name"]: job for job in summary["jobs"]}
    broken = jobs.pop(f"subject{BROKEN:02}")
    assert broken["state"] == "failed", broken
    assert broken["attempts"] == 1, broken
    assert {job["state"] for job in jobs.values()} == {"finished"}, jobs
    assert {name: job["attempts"] for name, job in jobs.items() if job["attempts"] != 1} == {killed["job"]: 2}
    tracked = (out / killed["job"] / "sequence" / "transforms.json").stat().st_mtime
    assert tracked == killed.pop("sequence_written"), "the killed job was tracked again"
    assert "training" not in killed["stages_done"], "the process was killed too late to show anything"
    return summary


def written_at(out: Path) -> dict[str, float]:
    """When each file of a finished run was written."""
    runs = [path.parent for path in out.glob("*/results.json")]
    return {str(file): file.stat().st_mtime for run in runs for file in run.rglob("*") if file.is_file()}


def told(summary: dict[str, Any]) -> dict[str, Any]:
    names = ("state", "reason", "seconds", "attempts", "psnr", "bytes")
    return {job["name"]: {name: job[name] for name in names} for job in summary["jobs"]}


if __name__ == "__main__":
    main()
