"""Jobs on a Ray cluster: each is a task of its own with a share of CPUs and GPUs, in a process of its own."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from stavatar.batch.engine import Started
from stavatar.batch.task import Outcome, Task
from stavatar.errors import BackendError
from stavatar.progress import warn


class RayEngine:
    """Submits to a cluster, or to one that it starts on this machine and ends with itself."""

    def __init__(self, address: str | None) -> None:
        """
        Args:
            address: ``ray://HOST:10001``, ``HOST:6379``, or ``auto`` for a cluster of this machine; None starts one.

        Raises:
            BackendError: Ray is not installed, or the cluster cannot be reached.
        """
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
            from ray.util.queue import Queue
            from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
        except ImportError as error:
            raise BackendError("--engine ray needs Ray: pip install 'stavatar[ray]'") from error
        self._ray = ray
        # An existing cluster has its own opinion of dashboards.
        own: dict[str, Any] = {"include_dashboard": False} if address is None else {}
        try:
            ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, **own)
        except Exception as error:  # ray:// and other addresses fail in different ways
            raise BackendError(f"--address {address}: no Ray cluster answers there: {error}") from error
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        self._news = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})

    @property
    def gpus(self) -> float:
        """GPUs of the whole cluster."""
        return self._ray.cluster_resources().get("GPU", 0)

    def warn_of_the_impossible(self, tasks: list[Task]) -> None:
        """Say which jobs no machine has room for; one may join later, so they wait."""
        machines = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        for task in tasks:
            if not any(task.cpus <= has.get("CPU", 0) and task.gpus <= has.get("GPU", 0) for has in machines):
                warn(
                    f"{task.job.name} asks for {task.cpus:g} CPUs and {task.gpus:g} GPUs, which no machine of the "
                    "cluster has: it waits for one that does"
                )

    def submit(self, task: Task) -> Future[Outcome]:
        remote = self._ray.remote(num_cpus=task.cpus, num_gpus=task.gpus, max_calls=1, max_retries=0)(_attempt)
        begin = time.monotonic()
        submitted: Future[Outcome] = Future()
        submitted.set_running_or_notify_cancel()
        remote.remote(task, self._news).future().add_done_callback(
            lambda future: submitted.set_result(self._outcome(task, future, begin))
        )
        return submitted

    def news(self) -> list[Started]:
        with contextlib.suppress(self._ray.exceptions.RayError):  # it only tells the user; the jobs go on
            waiting = self._news.qsize()
            return self._news.get_nowait_batch(waiting) if waiting else []
        return []

    def close(self) -> None:
        self._ray.shutdown()  # jobs that still run end with it

    def _outcome(self, task: Task, future: Future[Outcome], begin: float) -> Outcome:
        error = future.exception()
        if error is None:
            return future.result()
        seconds = time.monotonic() - begin
        if isinstance(error, self._ray.exceptions.RayTaskError):  # before the attempt itself, which raises nothing
            last = str(error).strip().splitlines()[-1]
            return Outcome("failed", f"Ray could not start it: {last}", seconds, attempts=task.attempt)
        kind = type(error).__name__
        reasons = {
            "OutOfMemoryError": "its machine ran out of memory",
            "NodeDiedError": "its machine went away",
            "WorkerCrashedError": "its process was killed, perhaps for want of memory",
        }
        return Outcome("lost", reasons.get(kind, f"Ray lost it: {kind}"), seconds, attempts=task.attempt)


def _attempt(task: Task, news: Any) -> Outcome:
    """In the process that Ray made for it."""
    # Not news.put(), which waits for its answer: while a task waits, Ray lends its CPU to another.
    news.actor.put.remote(Started(task.job.name, task.attempt, socket.gethostname(), os.getpid()))
    _print_to(task.log)
    from stavatar.batch import worker

    return worker.attempt(task)


def _print_to(log: Path) -> None:
    """Whatever this process prints from here on goes to a file, also what libraries in C print."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
