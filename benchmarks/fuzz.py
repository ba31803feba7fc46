"""Break files at random and give them to every parser of the package: the long run of what tests/fuzzing does briefly.

    python benchmarks/fuzz.py --inputs 100000 --out benchmarks/results/fuzz.json

Each input is a whole file of its kind with some of its structure or bytes changed. A parser must read it or refuse it
with a StavatarError, within a time limit, within a bound on memory, and without looking at anything but the folder it
was given. What does otherwise is kept, with its traceback, in a folder for findings.

Inputs follow from `--seed` and their number alone: `--only flame pickle --first 4711 --inputs 1` repeats one.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import json
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

ROOT = Path(__file__).resolve().parents[1]
for _place in ("src", "tests", "tests/fuzzing", "tests/sequence"):
    sys.path.insert(0, str(ROOT / _place))

SECONDS = 10.0
"""For one input; whole ones take milliseconds."""
MEMORY = 2 << 30
"""Bytes that the program may take beyond what it has after reading the whole files."""


def silence_progress() -> None:
    """Take away progress bars, whose threads take longer than small files do; before modules that use them load."""
    from stavatar import progress

    @contextlib.contextmanager
    def stage(title: str, total: int | None) -> Iterator[progress.Report]:
        yield lambda advance=1, note=None: None

    progress.stage = stage


class Hung(BaseException):
    """An input took longer than `SECONDS`."""


def _hung(*_: object) -> None:
    raise Hung(f"took longer than {SECONDS} s")


def fuzz(name: str, folder: Path, first: int, inputs: int, seed: int, findings: Path) -> dict[str, object]:
    """Give one parser so many inputs; returns what became of them."""
    from fuzz_parsers import PARSERS, Escaped

    parser = PARSERS[name](folder)
    parser.try_whole()
    limit_memory()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    counts: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    slowest, begin = 0.0, time.monotonic()
    for number in range(first, first + inputs):
        file, content = parser.make(Random(f"{seed} {name} {number}"))
        if number % 100 == 0:
            faulthandler.dump_traceback_later(60 * SECONDS, exit=True)  # for what hangs outside Python
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        start = time.monotonic()
        try:
            outcome = "read" if parser.accepts(file, content) else "refused"
        except (Exception, Hung, Escaped) as error:
            outcome = "hung" if isinstance(error, Hung) else "crashed"
            last = traceback.extract_tb(error.__traceback__)[-1]
            kind = f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}"
            seen[kind] += 1
            if seen[kind] == 1:
                keep(findings, name, number, file, content, kind)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        slowest = max(slowest, time.monotonic() - start)
        counts[outcome] += 1
        if (number + 1) % 10_000 == 0:
            print(f"{name}: {number + 1} {dict(counts)} {dict(seen)}", flush=True)
    faulthandler.cancel_dump_traceback_later()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {
        "inputs": inputs,
        **{outcome: counts[outcome] for outcome in ("read", "refused", "crashed", "hung")},
        "slowest_seconds": round(slowest, 2),
        "grown_mb": grown >> 10,
        "seconds": round(time.monotonic() - begin),
        "kinds": dict(seen),
    }


def limit_memory() -> None:
    """Let the process take no more than `MEMORY` bytes from here on, where the system can tell what it has."""
    with contextlib.suppress(OSError):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, hard))


def keep(findings: Path, name: str, number: int, file: str, content: bytes, kind: str) -> None:
    """Put an input aside that went wrong, with its traceback."""
    findings.mkdir(parents=True, exist_ok=True)
    stem = f"{name.replace(' ', '_')}-{number}"
    (findings / f"{stem}-{Path(file).name}").write_bytes(content)
    (findings / f"{stem}.txt").write_text(f"{kind}\n\n{traceback.format_exc()}", errors="replace")
    print(f"{name}: input {number}: {kind}", flush=True)


def main() -> None:
    silence_progress()
    from fuzz_parsers import PARSERS

    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--inputs", type=int, default=100_000, help="for each parser")
    arguments.add_argument("--first", type=int, default=0, help="number of the first input")
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--only", nargs="*", choices=[*PARSERS], default=[*PARSERS], help="parsers")
    arguments.add_argument("--out", type=Path, help="JSON to put the counts into; those of other parsers stay")
    arguments.add_argument("--findings", type=Path, default=Path("fuzz-findings"))
    given = arguments.parse_args()

    faulthandler.enable()
    signal.signal(signal.SIGALRM, _hung)
    failed = False
    for name in given.only:
        with (
            tempfile.TemporaryDirectory() as folder,
            Path(os.devnull).open("w") as nowhere,
            contextlib.redirect_stderr(nowhere),
        ):
            outcome = fuzz(name, Path(folder), given.first, given.inputs, given.seed, given.findings)
        print(f"{name}: {outcome}", flush=True)
        failed |= bool(outcome["crashed"] or outcome["hung"])
        if given.out is not None:
            known = json.loads(given.out.read_text()) if given.out.exists() else {}
            given.out.parent.mkdir(parents=True, exist_ok=True)
            counts = {key: outcome[key] for key in ("inputs", "read", "refused", "crashed", "hung", "grown_mb")}
            given.out.write_text(json.dumps(known | {name: counts}, indent=1) + "\n")
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
