"""Running the command line in a child process that is watched and limited.

A server process imports the program once, and then forks for every command: a child starts in milliseconds, may crash
or be killed without harm, takes its limits for itself, and tells what it did to files. Run as a script, this file is
that server.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MEMORY = 1536 << 20
"""Bytes of address space that a command may take beyond those of the imported program."""
SECONDS = 60
"""For one command; alone on a core it takes one or two."""
ESCAPED = 99


@dataclass(frozen=True)
class Outcome:
    """What a command did.

    Attributes:
        code: its exit code; negative: killed by that signal.
        out, errors: what it wrote.
        grown: bytes of memory at its peak, beyond those of the imported program.
    """

    code: int
    out: str
    errors: str
    grown: int


class Sandbox:
    """The server process, from outside."""

    def __init__(self, cache: Path) -> None:
        root = Path(__file__).resolve().parents[2]
        environment = os.environ | {
            "PYTHONPATH": str(root / "src"),
            "STAVATAR_CACHE": str(cache),
            "COLUMNS": "250",
            "OMP_NUM_THREADS": "1",  # forked children have none of their parent's threads
            "NUMBA_NUM_THREADS": "1",
        }
        environment.pop("STAVATAR_FLAME", None)
        for model in ("FACE_LANDMARKER", "SELFIE_SEGMENTER"):  # that a command gets to the video without them
            (cache / model).write_bytes(b"no model")
            environment[f"STAVATAR_ASSET_{model}"] = str(cache / model)
        self._server = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def run(self, folder: Path, arguments: list[str]) -> Outcome:
        """Run ``stavatar`` with these arguments in a folder, which is all that it may write to."""
        assert self._server.stdin is not None and self._server.stdout is not None
        print(json.dumps([str(folder), arguments]), file=self._server.stdin, flush=True)
        return Outcome(**json.loads(self._server.stdout.readline()))

    def close(self) -> None:
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait(30)


# ---------------------------------------------------------------------------------------------------- inside the server


def serve() -> None:
    import_program()
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for line in sys.stdin:
        folder, arguments = json.loads(line)
        with open_log() as out, open_log() as errors:
            child = os.fork()
            if child == 0:
                become(Path(folder), arguments, out, errors)
            status, used = wait(child)
            texts = [text_of(log) for log in (out, errors)]
        code = os.waitstatus_to_exitcode(status)
        grown = max(0, used - base) << (0 if sys.platform == "darwin" else 10)
        print(json.dumps({"code": code, "out": texts[0], "errors": texts[1], "grown": grown}), flush=True)


def import_program() -> None:
    import stavatar.capture
    import stavatar.cli
    import stavatar.data
    import stavatar.drive
    import stavatar.export
    import stavatar.pipeline
    import stavatar.rendering
    import stavatar.report.page  # noqa: F401


@contextlib.contextmanager
def open_log() -> Any:
    number = os.memfd_create("log") if hasattr(os, "memfd_create") else os.open(os.devnull, os.O_RDWR)
    try:
        yield number
    finally:
        os.close(number)


def text_of(log: int) -> str:
    os.lseek(log, 0, os.SEEK_SET)
    return os.read(log, 1 << 20).decode(errors="replace")


def wait(child: int) -> tuple[int, int]:
    """Exit status and peak memory (as the system counts it) of a child, which is killed when it takes too long."""
    for _ in range(10 * SECONDS):
        pid, status, used = os.wait4(child, os.WNOHANG)
        if pid:
            return status, used.ru_maxrss
        select.select([], [], [], 0.02 if _ < 100 else 0.1)
    os.kill(child, signal.SIGKILL)
    _, status, used = os.wait4(child, 0)
    return status, used.ru_maxrss


def become(folder: Path, arguments: list[str], out: int, errors: int) -> None:
    """Be the command: never returns."""
    code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(errors, 2)
        os.chdir(folder)
        limit_memory()
        watch(folder)
        code = command(arguments)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def limit_memory() -> None:
    with contextlib.suppress(OSError):  # where the system does not tell, only the peak is looked at
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY,) * 2)


def command(arguments: list[str]) -> int:
    """The exit code of the program, or of one of its readers that no command uses."""
    from stavatar import cli
    from stavatar.errors import StavatarError

    if arguments[0] in ("read_ply", "read_spz"):
        from stavatar.export.ply import read_ply
        from stavatar.export.spz import read_spz

        try:
            splats = {"read_ply": read_ply, "read_spz": read_spz}[arguments[0]](Path(arguments[1]))
            print(len(splats))
            return 0
        except StavatarError as error:
            print(f"error: {error}", file=sys.stderr)
            return error.exit_code
    sys.argv = ["stavatar", *arguments]
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


WRITES = {"os.mkdir": 1, "os.rename": 2, "os.remove": 1, "os.rmdir": 1, "os.symlink": 2, "os.link": 2, "os.truncate": 1}
"""Events of Python's audit that change files, and how many of their arguments are paths."""


def watch(folder: Path) -> None:
    """End the process when Python code writes outside the folder, runs a program or opens a connection."""
    compiled = f"{tempfile.gettempdir()}/torchinductor_"  # where torch keeps compiled kernels
    places = (folder, os.environ["STAVATAR_CACHE"], compiled)
    inside = (*map(os.path.realpath, places), "/dev/", "/proc/")

    def allowed(path: Any) -> bool:
        if not isinstance(path, str | bytes | os.PathLike):
            return True  # a number: opened before
        real = os.path.realpath(os.fsdecode(path))
        return f"{real}/".startswith(inside) or "__pycache__" in real  # Numba keeps compiled kernels

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        paths: tuple[Any, ...] = ()
        if event == "open" and arguments[2] and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC):
            paths = arguments[:1]
        elif event in WRITES:
            paths = arguments[: WRITES[event]]
        ran = event in ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "socket.connect")
        if ran or not all(map(allowed, paths)):
            os.write(2, f"\nescaped: {event} {arguments}\n".encode())
            os._exit(ESCAPED)

    sys.addaudithook(hook)


if __name__ == "__main__":
    serve()
