"""Jobs on this machine: threads of a :mod:`concurrent.futures` pool, each waiting for a process of its own.

Processes of a process pool would not do: when one of them is killed, the pool is broken and all its work with it.
"""

from __future__ import annotations

import os
import queue
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from stavatar.batch.engine import Started
from stavatar.batch.task import Outcome, Task
from stavatar.files import read_json

WORKER = (sys.executable, "-m", "stavatar.batch.worker")


class LocalEngine:
    """So many workers at a time; GPUs are dealt out among them in turn."""

    def __init__(self, workers: int, gpus: Sequence[str] = (), worker: Sequence[str] = WORKER) -> None:
        """
        Args:
            workers: how many jobs at a time.
            gpus: ids as CUDA_VISIBLE_DEVICES takes them; none leaves that variable alone.
            worker: the command that carries one out. It reads a task as a line of JSON and writes its outcome to the
                file that it is given.
        """
        self._worker = tuple(worker)
        self._pool = ThreadPoolExecutor(workers)
        self._news: queue.SimpleQueue[Started] = queue.SimpleQueue()
        self._gpus: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        for k in range(workers):
            self._gpus.put(gpus[k % len(gpus)] if gpus else None)
        self._running: set[subprocess.Popen] = set()
        self._closed = False

    def submit(self, task: Task) -> Future[Outcome]:
        return self._pool.submit(self._attempt, task)

    def news(self) -> list[Started]:
        found = []
        while not self._news.empty():
            found.append(self._news.get())
        return found

    def close(self) -> None:
        self._closed = True
        for process in list(self._running):
            process.terminate()
        self._pool.shutdown(cancel_futures=True)

    def _attempt(self, task: Task) -> Outcome:
        gpu = self._gpus.get()
        begin = time.monotonic()
        try:
            with tempfile.TemporaryDirectory(prefix="stavatar-batch-") as folder:
                told = Path(folder) / "outcome.json"
                status = self._run(task, told, gpu)
                if told.exists():
                    return Outcome(**read_json(told))
                reason = f"{_ended(status)} (see {task.log})"
        except OSError as error:
            reason = f"its process could not be started: {error}"
        finally:
            self._gpus.put(gpu)
        return Outcome("lost", reason, time.monotonic() - begin, socket.gethostname(), task.attempt)

    def _run(self, task: Task, told: Path, gpu: str | None) -> int:
        """Start the worker, wait for its end, return its status."""
        environment = dict(os.environ) if gpu is None else {**os.environ, "CUDA_VISIBLE_DEVICES": gpu}
        task.log.parent.mkdir(parents=True, exist_ok=True)
        with task.log.open("a", encoding="utf-8") as log:
            process = subprocess.Popen(
                [*self._worker, str(told)], env=environment, stdin=subprocess.PIPE, stdout=log, stderr=log, text=True
            )
        self._running.add(process)
        self._news.put(Started(task.job.name, task.attempt, socket.gethostname(), process.pid))
        assert process.stdin is not None
        try:
            process.stdin.write(task.to_json() + "\n")
            process.stdin.flush()
        except BrokenPipeError:  # it is gone already; its status tells how
            pass
        if self._closed:
            process.terminate()
        status = process.wait()
        self._running.discard(process)
        return status


def _ended(status: int) -> str:
    if status < 0:
        return f"its process was ended by signal {-status}, perhaps for want of memory"
    return f"its process ended with status {status} before it had an outcome"


def visible_gpus(device: str) -> list[str]:
    """Ids of the GPUs to deal out, as CUDA_VISIBLE_DEVICES takes them; none where there is at most one."""
    if device == "cpu":
        return []
    import torch

    count = torch.cuda.device_count()
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    ids = chosen.split(",") if chosen else [str(k) for k in range(count)]
    return ids if count > 1 else []
