"""Timing one piece of work: medians and quartiles of repeated calls, and the memory they need."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

_FEWEST = 5  # repeats, however slow the work is
_PROFILED = 3  # calls
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Effort:
    """How much time a measurement may take.

    Attributes:
        warm_up: calls that are not counted: kernels are compiled in them, memory is allocated.
        repeats: most calls that are counted.
        seconds: after so many, measuring ends early.
    """

    warm_up: int = 3
    repeats: int = 30
    seconds: float = 1.0


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one call.

    Attributes:
        median, low, high: of the wall clock; low and high are the quartiles.
        fastest: of all calls.
        repeats: how many calls these are of.
        cpu: median of the processor's time, all threads together; with a GPU, what launching takes and waiting.
        busy: sum of the kernels' times, that is, what would be left if the GPU never waited; None on a CPU.
        peak_memory_mb: most memory held meanwhile: on a GPU by tensors, else by the process; None where the system
            does not tell.
    """

    median: float
    low: float
    high: float
    fastest: float
    repeats: int
    cpu: float
    busy: float | None
    peak_memory_mb: float | None


def measure(work: Callable[[], object], device: torch.device, effort: Effort) -> Timing:
    """Time `work`, each call until the device has finished it."""
    for _ in range(effort.warm_up):
        work()
    reset_peak_memory(device)
    clock = _gpu_clock if device.type == "cuda" else _cpu_clock
    wall: list[float] = []
    cpu: list[float] = []
    begin = time.perf_counter()
    while len(wall) < effort.repeats:
        wall_time, cpu_time = clock(work)
        wall.append(wall_time)
        cpu.append(cpu_time)
        if len(wall) >= _FEWEST and time.perf_counter() - begin > effort.seconds:
            break
    low, median, high = statistics.quantiles(wall, n=4, method="inclusive")
    on_gpu = device.type == "cuda"
    peak = peak_memory_mb(device)
    return Timing(
        median=median,
        low=low,
        high=high,
        fastest=min(wall),
        repeats=len(wall),
        cpu=statistics.median(cpu),
        busy=_kernel_time(work) if on_gpu else None,
        peak_memory_mb=peak,
    )


def _cpu_clock(work: Callable[[], object]) -> tuple[float, float]:
    """Milliseconds of the wall clock, and of the processor."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return 1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu)


def _gpu_clock(work: Callable[[], object]) -> tuple[float, float]:
    """Milliseconds between two events around the call on an idle GPU: from the first launch to the last result."""
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    cpu = time.process_time()
    begin.record()
    work()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end), 1e3 * (time.process_time() - cpu)


def _kernel_time(work: Callable[[], object]) -> float:
    """Milliseconds of a call's kernels, one after the other, as torch's profiler reports them."""
    return sum(row.self_device_time_total for row in _profiled(work, "CUDA")) / 1e3 / _PROFILED


def profile(work: Callable[[], object], device: torch.device) -> dict[str, Any]:
    """Where a call's time goes, as torch's profiler reports it: the longest of its operations, and how many it has.

    Returns:
        ``longest``: milliseconds a call of twelve kernels (GPU) or operations without those that they call (CPU);
        ``launches``: kernels or operations started by a call.
    """
    on_gpu = device.type == "cuda"
    rows = _profiled(work, "CUDA" if on_gpu else "CPU")

    def own(row: Any) -> float:
        return float(row.self_device_time_total if on_gpu else row.self_cpu_time_total) / 1e3 / _PROFILED

    rows.sort(key=own, reverse=True)
    return {
        "longest": {row.key[:80]: round(own(row), 4) for row in rows[:12]},
        "launches": sum(row.count for row in rows) / _PROFILED,
    }


def _profiled(work: Callable[[], object], activity: str) -> list[Any]:
    with torch.profiler.profile(activities=[getattr(torch.profiler.ProfilerActivity, activity)]) as record:
        for _ in range(_PROFILED):
            work()
        if activity == "CUDA":
            torch.cuda.synchronize()
    return list(record.key_averages())


def reset_peak_memory(device: torch.device) -> None:
    """Let :func:`peak_memory_mb` start from what is held now."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
    elif _CLEAR.exists():
        _CLEAR.write_text("5")  # Linux: the mark of the largest resident set starts anew


def peak_memory_mb(device: torch.device) -> float | None:
    """MiB: on a GPU the most that tensors held at a time, else the largest resident set of the process (Linux)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if not _CLEAR.exists():
        return None
    lines = (line.split() for line in _STATUS.read_text().splitlines())
    return next(int(words[1]) / 2**10 for words in lines if words[:1] == ["VmHWM:"])
