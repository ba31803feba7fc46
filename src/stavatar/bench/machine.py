"""What the machine can do at best, measured: bytes a second from a copy, operations a second from a matrix product."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from stavatar.avatar.network_cpu import reduced_type
from stavatar.bench.timing import Effort, measure
from stavatar.evaluation.results import versions

_COPIES_MB = {"cpu": (1, 4, 16, 256), "cuda": (64, 512)}  # on a CPU what a part moves may stay in a cache
_PRODUCT = {"cpu": 1024, "cuda": 8192}  # edge of the matrices


@dataclass(frozen=True)
class Machine:
    """Best rates of a device.

    Attributes:
        bandwidth: MiB copied at a time -> bytes a second, read and written ones counted.
        operations: float32 operations a second, additions and multiplications counted.
        reduced_operations: the same in bfloat16 with float32 sums; None on a CPU that has no instructions for it.
    """

    bandwidth: dict[int, float]
    operations: float
    reduced_operations: float | None

    def seconds(self, moved: float, operations: float, *, reduced: bool = False) -> float:
        """The least time for moving so many bytes and doing so many operations, both at once."""
        rate = self.reduced_operations if reduced and self.reduced_operations else self.operations
        return max(moved / self.bandwidth_for(moved), operations / rate)

    def bandwidth_for(self, moved: float) -> float:
        """Bytes a second for so many bytes: of the fastest copy that is no smaller, or of the largest there is."""
        # A copy of k MiB moves 2 k.
        rates = [rate for size, rate in self.bandwidth.items() if 2 * size * 2**20 >= moved]
        return max(rates) if rates else self.bandwidth[max(self.bandwidth)]


def measure_machine(device: torch.device, effort: Effort) -> Machine:
    """Copy and multiply for a moment."""

    def best(work: Callable[[], object]) -> float:
        return measure(work, device, effort).fastest / 1e3

    bandwidth = {}
    for size in _COPIES_MB[device.type]:
        source = torch.ones(size << 18, device=device)
        target = torch.empty_like(source)
        bandwidth[size] = 2 * (size << 20) / best(lambda s=source, t=target: t.copy_(s))  # type: ignore[misc]

    edge = _PRODUCT[device.type]

    def rate(dtype: torch.dtype) -> float:
        left, right = (torch.randn(edge, edge, device=device, dtype=dtype) for _ in range(2))
        return 2 * edge**3 / best(lambda: left @ right)

    reduces = device.type == "cuda" or reduced_type() == torch.bfloat16
    return Machine(bandwidth, rate(torch.float32), rate(torch.bfloat16) if reduces else None)


def circumstances(device: torch.device) -> dict[str, Any]:
    """What a reader needs to know to judge the numbers."""
    return {
        "command": shlex.join(["stavatar", *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else processor(),
        "device_type": device.type,
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "versions": versions(device),
    }


def busy(facts: dict[str, Any]) -> bool:
    """Whether other programs took the processor when measuring began."""
    return facts["load"] is not None and facts["load"] > 0.7


def processor() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
