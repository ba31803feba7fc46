"""Memory, file handles and threads over a long training.

    python benchmarks/bench_memory.py --steps 20000 -o memory.json --plot memory.png

Trains on a small rendered performance as `stavatar train` does, checkpoints, density control and pose passes included,
and looks at the process beside it. Memory is the resident set, in MiB; `per_1000_steps` is the slope of a line through
the second half of it, when everything that grows by intent (Gaussians, compiled kernels) has grown. Ctrl-C ends it
early, with the figures so far.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import statistics
import tempfile
import threading
from pathlib import Path

from stavatar import config
from stavatar.evaluation.drawing.canvas import TEXT, save_png
from stavatar.evaluation.drawing.chart import Axes
from stavatar.evaluation.results import versions
from stavatar.files import write_json
from stavatar.head import HeadModel, load_embedded_head
from stavatar.synth import make_performance, tracked_sequence
from stavatar.training.trainer import Trainer

_LOOKS_PER_SECOND = 2
SETTINGS = [
    *("network.uv_size=16", "network.width=0.125", "gaussians.seeds=50", "density.most=2000"),
    *("pose.passes=[0.1,0.4]", "pose.iterations=1", "training.checkpoint_seconds=10"),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--size", type=int, default=32, help="edge of the pictures, pixels")
    parser.add_argument("--thin", type=int, default=20, help="keep every so manieth face of the head, to be quick")
    parser.add_argument("-o", "--out", type=Path, default=Path("memory.json"))
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()

    head = load_embedded_head()
    sequence = tracked_sequence(make_performance(head, frames=12, size=arguments.size, seed=0), "small")
    head = thinned(head, arguments.thin)
    settings = [*SETTINGS, f"training.steps={arguments.steps}"]
    trainer = Trainer(sequence, head, config.override(config.preset("cpu"), settings))
    watch = Watch(trainer)
    before = handles(), threads()
    with tempfile.TemporaryDirectory() as folder, watch, contextlib.suppress(KeyboardInterrupt):
        trainer.run(Path(folder))
    after = handles(), threads()

    late = [(step, memory) for step, memory in watch.seen if step >= trainer.step / 2]
    slope = statistics.linear_regression(*zip(*late, strict=True)).slope if len(late) > 1 else None
    results = {
        "steps": trainer.step,
        "settings": settings,
        "size": arguments.size,
        "faces": len(head.faces),
        "gaussians": len(trainer.avatar.gaussians),
        "seconds": round(trainer.seconds, 1),
        "memory_mib": {"first_step": watch.seen[0][1], "half_way": late[0][1], "end": late[-1][1]},
        "per_1000_steps_mib": None if slope is None else round(1000 * slope, 4),
        "file_handles": {"before": before[0], "after": after[0]},
        "threads": {"before": before[1], "after": after[1]},
        "versions": versions(),
        "curve": watch.seen,
    }
    write_json(arguments.out, results, indent=None)
    print({name: value for name, value in results.items() if name not in ("curve", "settings", "versions")})
    if arguments.plot:
        most = max(memory for _, memory in watch.seen)
        axes = Axes(640, 320, (0, trainer.step), (0, 1.1 * most), x_label="training steps", y_label="memory, MiB")
        axes.line(watch.seen, TEXT)
        save_png(axes.picture(), arguments.plot)


def thinned(head: HeadModel, keep: int) -> HeadModel:
    """The head with every `keep`-th of its faces: a step does all that it always does, with fewer Gaussians."""
    head = copy.deepcopy(head)
    for name in ("faces", "uv_faces", "regions"):
        setattr(head, name, getattr(head, name)[::keep].contiguous())
    return head


class Watch:
    """Looks at a trainer's step and this process's memory from a thread of its own, while the block runs.

    Attributes:
        seen: (step, MiB), at most one for each step.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.seen: list[tuple[float, float]] = []
        self._trainer = trainer
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(1 / _LOOKS_PER_SECOND):
            step = self._trainer.step
            if step and (not self.seen or step > self.seen[-1][0]):
                self.seen.append((step, resident()))


def resident() -> float:
    """Memory of this process that is in RAM, MiB."""
    fields = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return round(next(int(line.split()[1]) for line in fields if line.startswith("VmRSS")) / 1024, 2)


def handles() -> int:
    """Open files of this process."""
    return len(list(Path("/proc/self/fd").iterdir()))


def threads() -> int:
    """Threads of this process, those of libraries included."""
    return len(list(Path("/proc/self/task").iterdir()))


if __name__ == "__main__":
    main()
