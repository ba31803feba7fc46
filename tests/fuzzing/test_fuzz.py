"""Every parser on files broken at random, a few hundred each; ``benchmarks/fuzz.py`` does the same for hours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from fuzz_parsers import PARSERS, Escaped, Parser, confined
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

EXAMPLES = {"vhap": 50, "lam": 50, "metrical": 50, "avatar": 50, "motion": 100}
"""Fewer where each takes many milliseconds; 150 for all others."""


@pytest.fixture(scope="module", params=list(PARSERS))
def parser(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Parser:
    if request.param == "spz":
        pytest.importorskip("gsply", reason="the extra `export` is not installed")
    made = PARSERS[request.param](tmp_path_factory.mktemp("fuzz"))
    made.try_whole()
    return made


def test_broken_files_are_read_or_refused(parser: Parser) -> None:
    @settings(
        max_examples=EXAMPLES.get(parser.name, 150),
        deadline=10_000,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(chance=st.integers(0, 2**64))
    def check(chance: int) -> None:
        file, content = parser.make(Random(chance))
        parser.accepts(file, content)

    check()


def test_inputs_reach_what_lies_behind_the_first_check(parser: Parser) -> None:
    """Some are read and some refused: a mutation that breaks all files alike tests nothing but the first line."""
    outcomes = {parser.accepts(*parser.make(Random(number))) for number in range(EXAMPLES.get(parser.name, 100))}
    assert outcomes == {True, False}


@pytest.mark.parametrize(
    "leave",
    [
        lambda: Path("/etc/hostname").read_bytes(),
        lambda: __import__("os").system("true"),
        lambda: __import__("socket").socket().connect(("127.0.0.1", 9)),
    ],
    ids=["a file elsewhere", "a program", "a connection"],
)
def test_leaving_the_folder_is_noticed(tmp_path: Path, leave: Callable[[], object]) -> None:
    with pytest.raises(Escaped), confined(tmp_path):
        leave()
