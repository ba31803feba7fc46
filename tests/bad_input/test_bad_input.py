"""Every row of the table of bad and unusual input, through the real command line, watched and limited."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cases import GROUPS, Case
from made_files import Kit
from sandbox import MEMORY, Outcome, Sandbox

from stavatar.sequence import write_sequence

sys.path.append(str(Path(__file__).parents[2] / "scripts"))

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="commands run in forked processes")


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    server = Sandbox(tmp_path_factory.mktemp("cache"))
    yield server
    server.close()


@pytest.fixture(scope="session")
def kit(small_sequence, small_avatar_folder, flame_file, tmp_path_factory) -> Kit:
    folder = tmp_path_factory.mktemp("kit")
    write_sequence(small_sequence, folder / "sequence")
    return Kit(folder / "sequence", small_avatar_folder, flame_file)


def listing(folder: Path) -> dict[str, bytes | str | None]:
    """Everything in a folder: path -> content (None for folders, and where a link leads)."""

    def content(path: Path) -> bytes | str | None:
        if path.is_symlink():
            return str(path.readlink())
        return path.read_bytes() if path.is_file() else None

    return {str(path.relative_to(folder)): content(path) for path in folder.rglob("*")}


def sentence(errors: str) -> str:
    """The error: the last line, alone; bars and warnings may come before."""
    assert "Traceback" not in errors, errors
    lines = errors.strip().splitlines()
    assert [line.startswith("error: ") for line in lines].count(True) == 1, errors
    assert lines[-1].startswith("error: "), errors
    return lines[-1].removeprefix("error: ")


def pattern(says: str) -> str:
    return ".*".join(map(re.escape, says.split("…")))


CASES = [
    pytest.param(case, id=f"{group}: {case.given}", marks=[pytest.mark.slow] if case.slow else [])
    for group, cases in GROUPS.items()
    for case in cases
]


@pytest.mark.parametrize("case", CASES)
def test_what_is_said(case: Case, kit: Kit, sandbox: Sandbox, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    case.make(folder, kit)
    before = listing(folder)
    outcome: Outcome = sandbox.run(folder, shlex.split(case.command))
    assert outcome.code == case.exit, outcome.errors + outcome.out
    assert outcome.grown < MEMORY
    if case.exit == 0 or "data inspect" in case.command:  # which tells of faults in its table
        assert "Traceback" not in outcome.errors
        told = outcome.errors + outcome.out.replace("│", " ")
        assert re.search(pattern(case.says), " ".join(told.split())), told
    else:
        assert re.fullmatch(pattern(case.says), sentence(outcome.errors)), outcome.errors
    if case.exit != 0:
        assert listing(folder) == before, "something was left behind, or changed"
    case.check(folder)
    shutil.rmtree(folder)


def test_every_row_is_another_one() -> None:
    names = [(group, case.given) for group, cases in GROUPS.items() for case in cases]
    assert len(set(names)) == len(names) > 150


def test_the_page_is_that_of_the_table() -> None:
    import write_bad_input

    written = write_bad_input.PAGE.read_text(encoding="utf-8")
    assert written == write_bad_input.page(), "run scripts/write_bad_input.py"


def test_a_fault_of_ours_is_one_sentence_and_debug_shows_more(stavatar_with_a_fault) -> None:
    code, errors = stavatar_with_a_fault("render", "x", "-o", "y.mp4")
    assert code == 70
    assert "Traceback" not in errors
    assert sentence(errors).startswith("ZeroDivisionError: oh: this should not happen and is a fault of stavatar")
    code, errors = stavatar_with_a_fault("--debug", "render", "x", "-o", "y.mp4")
    assert code == 70
    assert "Traceback" in errors and "ZeroDivisionError: oh" in errors
    assert errors.strip().splitlines()[-1].startswith("error: ZeroDivisionError: oh")


def test_too_little_memory_is_said(stavatar_with_a_fault) -> None:
    code, errors = stavatar_with_a_fault("render", "x", "-o", "y.mp4", fault=MemoryError())
    assert code == 71
    assert sentence(errors).startswith("there is not enough memory")


@pytest.fixture
def stavatar_with_a_fault(monkeypatch, capsys):
    """Call the program where rendering ends in an error of ours: (exit code, standard error)."""
    from stavatar import cli, pipeline

    def call(*arguments: str, fault: Exception | None = None) -> tuple[int, str]:
        def broken(*_: object, **__: object) -> None:
            raise fault or ZeroDivisionError("oh")

        monkeypatch.setattr(pipeline, "render_motion", broken)
        monkeypatch.setattr(sys, "argv", ["stavatar", *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return int(stop.value.code or 0), capsys.readouterr().err

    return call
