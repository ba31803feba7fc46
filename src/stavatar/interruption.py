"""Being asked to end: by Ctrl-C, by ``kill``, or by a terminal that closes.

All three become a :class:`KeyboardInterrupt`, so that whatever cleans up after the one does after the others. Where an
exception in the middle would leave things half done, :func:`held_back` lets them wait.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
_SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))  # not all systems have all


class Interrupted(KeyboardInterrupt):
    """The process was asked to end by a signal other than Ctrl-C's.

    Attributes:
        signal: its number.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.signal = number


def exit_code(interruption: KeyboardInterrupt) -> int:
    """What shells report for a process that ended so: 128 and the signal's number."""
    return 128 + (interruption.signal if isinstance(interruption, Interrupted) else signal.SIGINT)


def listen() -> None:
    """From here on, signals that ask this process to end raise :class:`Interrupted`; those that are ignored stay so.

    Only the main thread can say so; elsewhere nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number in _SIGNALS:
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupted(number)


@contextmanager
def held_back() -> Iterator[None]:
    """Let such signals wait until the block has ended. Only the main thread ever gets any."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {number: signal.signal(number, lambda number, _: came.append(number)) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if came:
            signal.raise_signal(came[0])
