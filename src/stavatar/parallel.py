"""Work on pictures by several threads, in order and without running ahead of whoever takes the results.

MediaPipe, OpenCV and torch let go of Python's lock while they compute, so threads are enough.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, wait
from contextlib import contextmanager
from itertools import islice
from queue import SimpleQueue
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def threads() -> int:
    """How many threads this process is meant to use: torch's, which OMP_NUM_THREADS limits."""
    return torch.get_num_threads()


def in_order(pool: Executor, work: Callable[[Item], Result], items: Iterable[Item], ahead: int) -> Iterator[Result]:
    """What `work` makes of each item, in the items' order; `items` is asked for `ahead` more than have come out.

    Once this ends, by an error or by being closed too, nothing of it is at work any more: what it works with may go.
    """
    pending: deque[Future[Result]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        wait([future for future in pending if not future.cancel()])


@contextmanager
def borrowed(idle: SimpleQueue[Item]) -> Iterator[Item]:
    """One of the tools that several threads share, once one is idle; it is idle again afterwards."""
    tool = idle.get()
    try:
        yield tool
    finally:
        idle.put(tool)


def in_chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """The items in lists of `size`; the last may be shorter."""
    remaining = iter(items)
    while chunk := list(islice(remaining, size)):
        yield chunk
