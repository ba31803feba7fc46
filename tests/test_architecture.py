"""Rooms and arrows: which part of the package may import which. ``docs/architecture.md`` draws the same picture."""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path

import pytest

import stavatar

SOURCE = Path(stavatar.__file__).parent

ALLOWED: dict[str, set[str]] = {
    # the ground: knows nothing of heads or videos
    "errors": set(),
    "rotations": set(),
    "camera": set(),
    "block_solver": {"errors"},
    "progress": set(),
    "parallel": set(),
    "files": {"errors"},
    "arrays": {"errors", "files"},
    "containers": {"errors", "files"},
    "locks": {"errors", "files", "progress"},
    "interruption": set(),
    "config": {"errors", "files"},
    "assets": {"errors", "files", "progress"},
    "jit": set(),
    "vectors": set(),
    "mesh": {"camera", "jit"},
    "gpu": set(),
    # what is posed, what is drawn, what was seen
    "head": {"arrays", "assets", "errors", "files", "gpu", "jit", "rotations"},
    "splat": {"camera", "errors", "gpu", "jit", "rotations", "vectors"},
    "sequence": {"arrays", "camera", "errors", "files", "head", "locks", "progress", "rotations"},
    # video in, sequence out
    "capture": {"assets", "containers", "errors", "files", "head", "parallel", "progress"},
    "synth": {
        *("camera", "containers", "errors", "files", "head", "jit", "mesh", "progress", "rotations", "sequence"),
    },
    "embedding": {"assets", "camera", "errors", "files", "head", "mesh", "synth"},
    "tracking": {
        *("block_solver", "camera", "capture", "errors", "head", "parallel", "progress", "rotations", "sequence"),
    },
    # sequence in, avatar out
    "avatar": {"camera", "config", "errors", "files", "gpu", "head", "jit", "mesh", "rotations", "splat", "vectors"},
    "density": {"avatar", "config", "head", "rotations", "splat"},
    "alignment": {"avatar", "block_solver", "camera", "head", "progress", "sequence", "splat"},
    "similarity": {"jit", "vectors"},
    # The losses stand below evaluation, whose SSIM they define, though they lie in training's folder.
    "training.losses": {"gpu", "similarity"},
    "evaluation": {
        *("assets", "avatar", "camera", "capture", "containers", "errors", "files", "head", "mesh", "progress"),
        *("gpu", "sequence", "training.losses"),
    },
    "training": {
        *("alignment", "avatar", "camera", "config", "density", "errors", "evaluation", "files", "head"),
        *("interruption", "mesh", "progress", "sequence", "splat", "training.losses"),
    },
    "refinement": {"alignment", "config", "head", "interruption", "progress", "sequence", "training"},
    # data sets of other programs, in and out
    "data": {"assets", "capture", "errors", "files", "head", "sequence"},
    "export": {
        *("avatar", "camera", "config", "errors", "evaluation", "files", "head", "locks", "progress", "rotations"),
        *("sequence", "splat"),
    },
    # avatar in, pictures out
    "rendering": {"avatar", "camera", "containers", "errors", "files", "head", "locks", "progress"},
    "drive": {"avatar", "capture", "data", "errors", "files", "head", "progress", "rotations", "sequence", "tracking"},
    "viewer": {
        *("avatar", "camera", "capture", "containers", "drive", "errors", "files", "head", "mesh", "progress"),
        *("rendering", "rotations"),
    },
    # everything put together
    "run": {"config", "errors", "files", "locks"},
    "report": {"config", "containers", "errors", "evaluation", "files", "run"},
    "doctor": {"assets", "config", "errors", "head"},
    "run_pictures": {"avatar", "errors", "evaluation", "files", "head", "run", "sequence"},
    "pipeline": {
        *("assets", "avatar", "capture", "config", "containers", "data", "drive", "embedding", "errors", "evaluation"),
        *("files", "head", "locks", "progress", "refinement", "rendering", "report", "run", "run_pictures"),
        *("sequence", "synth", "tracking", "training"),
    },
    "ablation": {
        *("avatar", "config", "errors", "evaluation", "files", "head", "interruption", "pipeline", "progress", "run"),
        *("run_pictures", "sequence", "training"),
    },
    "batch": {
        *("ablation", "assets", "config", "doctor", "errors", "evaluation", "files", "locks", "pipeline", "progress"),
        *("report", "run", "sequence"),
    },
    "bench": {
        *("avatar", "camera", "config", "density", "errors", "evaluation", "files", "head", "progress", "sequence"),
        *("synth", "training", "training.losses"),
    },
    "cli": {
        *("ablation", "assets", "batch", "bench", "config", "data", "doctor", "drive", "errors", "export", "files"),
        *("interruption", "pipeline", "progress", "rendering", "report", "run", "viewer"),
    },
    "__main__": {"cli"},
}
"""Room -> the other rooms that it may import. A room is a folder or a module, and the longest name counts."""


def room_of(module: str) -> str:
    """``stavatar.head.uv`` -> ``head``; the package itself, which holds the version, is room ``""``."""
    parts = module.split(".")[1:]
    for length in range(len(parts), 0, -1):
        name = ".".join(parts[:length])
        if name in ALLOWED:
            return name
    return parts[0] if parts else ""


def imported_modules(tree: ast.AST) -> set[str]:
    """Names of our modules that a file imports, inside functions and for type checkers as well."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative imports hide the room"
            # ``from stavatar.head import uv`` may name a module or something in it: both give the same room, except
            # for ``from stavatar import head`` and for rooms that are modules, such as training.losses.
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] == "stavatar"}


FILES = sorted(SOURCE.rglob("*.py"))


ROOMED = [file for file in FILES if file != SOURCE / "__init__.py"]
"""The package itself only hands out names of all rooms; nothing inside imports it but for the version."""


@pytest.mark.parametrize("file", ROOMED, ids=lambda file: str(file.relative_to(SOURCE)))
def test_imports_follow_the_arrows(file):
    module = ".".join(["stavatar", *file.relative_to(SOURCE).with_suffix("").parts]).removesuffix(".__init__")
    own = room_of(module)
    for name in imported_modules(ast.parse(file.read_text(encoding="utf-8"))):
        other = room_of(name)
        if other in ("", own) or name == "stavatar.__version__":
            continue
        assert other in ALLOWED[own], f"{module} imports {name}: no arrow leads from {own} to {other}"


def test_every_file_has_a_room():
    rooms = {file.relative_to(SOURCE).parts[0].removesuffix(".py") for file in FILES} - {"__init__"}
    assert rooms == {name.split(".")[0] for name in ALLOWED}


def test_arrows_never_lead_back():
    order = list(graphlib.TopologicalSorter(ALLOWED).static_order())  # raises CycleError, naming the cycle
    assert order.index("errors") < order.index("head") < order.index("avatar") < order.index("training")
    assert order[-2:] == ["cli", "__main__"]


def test_the_drawing_in_the_docs_names_every_room():
    page = Path(__file__).parents[1] / "docs" / "architecture.md"
    text = page.read_text(encoding="utf-8")
    for room in ALLOWED:
        assert f"`{room.replace('.', '/')}" in text, f"{room} is not in {page.name}"


def test_a_forbidden_import_would_be_found():
    tree = ast.parse("from stavatar import pipeline\ndef f():\n    from stavatar.head.uv import UVAtlas\n")
    assert {room_of(name) for name in imported_modules(tree)} == {"pipeline", "head"}
    assert room_of("stavatar.training.losses.l1") == "training.losses"
    assert room_of("stavatar.training.trainer") == "training"
