"""Processes to be killed: forks of one that has imported everything, so that their time goes into the work itself."""

from __future__ import annotations

import hashlib
import importlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["stavatar.pipeline", "stavatar.capture", "stavatar.export", "stavatar.cli"])


@dataclass(frozen=True)
class Moment:
    """When a process ends itself: at the `call`-th call of a function, before it does anything or after it has.

    Attributes:
        place: ``module:name`` or ``module:Class.name`` of the function, where it is looked up.
        call: counted from 1, among those calls in which `told` is part of an argument's text.
        after: instead of before.
        told: "" counts every call.
        signal: what it sends itself.
    """

    place: str
    call: int = 1
    after: bool = False
    told: str = ""
    signal: int = signal.SIGKILL

    def arm(self) -> None:
        """In the process that is to end."""
        module, _, path = self.place.partition(":")
        *owners, name = path.split(".")
        owner = reduce(getattr, owners, importlib.import_module(module))
        original = getattr(owner, name)
        calls = 0

        def wrapped(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            counted = not self.told or any(self.told in str(argument) for argument in arguments)
            calls += counted
            now = counted and calls == self.call
            if now and not self.after:
                os.kill(os.getpid(), self.signal)
            result = original(*arguments, **options)
            if now and self.after:
                os.kill(os.getpid(), self.signal)
            return result

        setattr(owner, name, wrapped)


def start(work: Callable[..., object], *arguments: Any, moment: Moment | None = None, log: Path) -> Any:
    """A running process that does `work`, which a module must hold; what it prints goes into `log`."""
    process = _CONTEXT.Process(target=_live, args=(work, arguments, moment, log, dict(os.environ)))
    process.start()
    return process


def until_its_end(work: Callable[..., object], *arguments: Any, moment: Moment | None = None, log: Path) -> int:
    """Do `work` in a process; return its exit code, negative for a signal that ended it."""
    process = start(work, *arguments, moment=moment, log=log)
    process.join()
    return int(process.exitcode)


def command(*words: object) -> None:
    """What ``stavatar WORDS`` does."""
    from stavatar import cli

    sys.argv = ["stavatar", *map(str, words)]
    cli.main()


def _live(
    work: Callable[..., object],
    arguments: tuple[Any, ...],
    moment: Moment | None,
    log: Path,
    environment: dict[str, str],
) -> None:
    os.environ.update(environment)
    with log.open("ab", buffering=0) as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    if moment is not None:
        moment.arm()
    work(*arguments)


def content(folder: Path) -> dict[str, str]:
    """A hash of every file under a folder, by its path in there."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def rubbish(folder: Path) -> list[str]:
    """Hidden files and folders under a folder: locks and whatever was not finished."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob(".*"))
