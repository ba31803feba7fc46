"""The container file, as far as can be said without building it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "Containerfile").read_text(encoding="utf-8")
STEPS = re.findall(r"^([A-Z]+) (.*(?:\\\n.*)*)", TEXT.replace("\\\n", " "), re.MULTILINE)


def test_the_base_is_an_argument_with_a_plain_name() -> None:
    steps = [step for step in STEPS if step[0] in ("ARG", "FROM")]
    assert steps[0][0] == "ARG"
    assert re.fullmatch(r"BASE=[a-z0-9./:-]+", steps[0][1])
    assert steps[1] == ("FROM", "${BASE}")
    for name in [steps[0][1].removeprefix("BASE="), *re.findall(r"BASE=(\S+)", TEXT)]:
        first, slash, _ = name.partition("/")
        assert not slash or not re.search(r"[.:]|^localhost$", first), f"{name} names a registry"


def test_it_does_not_run_as_root() -> None:
    kinds = [kind for kind, _ in STEPS]
    assert kinds.count("USER") == 1
    assert dict(STEPS)["USER"] not in ("root", "0")
    assert kinds.index("USER") > max(
        k for k, (kind, rest) in enumerate(STEPS) if kind == "RUN" and "pip install" in rest
    )


def test_what_it_names_is_there() -> None:
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for kind, rest in STEPS:
        if kind == "COPY":
            for name in rest.split()[:-1]:
                assert (ROOT / name).exists(), name
                assert f"!{name}" in ignore, f"{name} is kept out of the build"
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for names in re.findall(r"EXTRAS=(\S+)", TEXT):
        assert set(names.split(",")) <= set(extras)


def test_torch_is_the_one_of_the_constraints() -> None:
    pinned = re.search(r"^torch==\S+", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert pinned is not None
    assert f"ARG TORCH={pinned[0]}\n" in TEXT
