"""The names that the package hands out."""

import os
import subprocess
import sys

import pytest

import stavatar
from stavatar.avatar.runtime import Runtime
from stavatar.errors import InputError


def test_every_promised_name_is_there():
    assert set(stavatar._HOMES) | {"load_avatar"} == set(stavatar.__all__)
    for name in stavatar.__all__:
        assert getattr(stavatar, name) is not None
        assert name in dir(stavatar)
    with pytest.raises(AttributeError, match="no attribute 'load_avatars'"):
        stavatar.load_avatars  # noqa: B018


def test_a_run_is_loaded_and_a_missing_one_named(small_avatar_folder, tmp_path):
    assert isinstance(stavatar.load_avatar(str(small_avatar_folder)), Runtime)
    with pytest.raises(InputError, match="is not an avatar"):
        stavatar.load_avatar(tmp_path)


def test_importing_the_package_waits_for_nothing():
    heavy = ("torch", "numpy", "numba", "mediapipe", "viser")
    script = f"import sys, stavatar; print([name for name in {heavy} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize(("chosen", "expected"), [({}, "30000"), ({"GOMP_SPINCOUNT": "7"}, "7")])
def test_idle_threads_spin_shortly_unless_the_user_says_how_long(chosen, expected):
    kept = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    script = "import os, stavatar; print(os.environ.get('GOMP_SPINCOUNT'))"

    def spins(environment):
        command = [sys.executable, "-c", script]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True).stdout

    assert spins(kept | chosen).strip() == expected
    assert spins(kept | {"OMP_WAIT_POLICY": "active"}).strip() == "None"
