"""Numba kernels: threads are left as they were, and every process comes to the same bits."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from same_bits import assert_same_bits
from stavatar.jit import kernel

FIRST = {
    "kernels": "from stavatar.jit import threads\nwith threads() as count: assert count == 1",
    "a mesh": (
        "from stavatar.camera import Camera\nfrom stavatar.mesh import rasterize_mesh\n"
        "rasterize_mesh(torch.eye(3), torch.tensor([[0, 1, 2]]), Camera.frontal(2.0, 50.0, 16, 16))"
    ),
    "noise": "from stavatar.synth._noise import value_noise\nvalue_noise(torch.rand(9, 3).numpy(), 0.1, seed=0)",
}


def run(code: str, *arguments: object, **environment: str) -> None:
    command = [sys.executable, "-c", f"import sys, torch\n{code}", *map(str, arguments)]
    subprocess.run(command, check=True, env=os.environ | environment)


@pytest.mark.parametrize("first", FIRST.values(), ids=FIRST)
def test_whatever_starts_the_threads_leaves_torch_its_own(first: str) -> None:
    run(f"torch.set_num_threads(1)\n{first}\nassert torch.get_num_threads() == 1, torch.get_num_threads()")


def test_a_kernel_that_cannot_be_cached_is_compiled_all_the_same() -> None:
    """Numba refuses to cache a function without a source file just as where no folder can be written."""
    space: dict = {}
    exec("def double(x):\n    return 2 * x", space)
    assert kernel()(space["double"])(4) == 8


def test_a_kernel_found_compiled_rounds_as_one_that_was_just_compiled(tmp_path: Path) -> None:
    """Of all kernels this one showed it; ``crash/test_kills.py`` has whole trainings, which take longer."""
    code = (
        "from stavatar.avatar.offsets import read_offsets\n"
        "from stavatar.config import NetworkConfig\n"
        "torch.manual_seed(0)\n"
        "offsets = read_offsets(torch.randn(1, 13, 32, 32), torch.rand(2000, 2), NetworkConfig())\n"
        "open(sys.argv[1], 'wb').write(torch.cat([offsets.position, offsets.scale], -1).numpy().tobytes())"
    )
    for name in ("compiled", "found"):
        run(code, tmp_path / name, NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    assert any((tmp_path / "cache").rglob("*.nbc")), "there was nothing to find"
    assert_same_bits(tmp_path / "compiled", tmp_path / "found")
