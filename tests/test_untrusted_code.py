"""Nothing that a file says is ever executed: no call that could is in the source, but for a list with reasons."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest
import torch

import stavatar
from stavatar.ablation.runs import Trial, _command
from stavatar.capture.video import open_source
from stavatar.containers import write_video

ROOT = Path(__file__).parents[1]
SOURCE = Path(stavatar.__file__).parent
PROGRAMS = (SOURCE, ROOT / "scripts", ROOT / "benchmarks", ROOT / "examples")
FILES = sorted(file for folder in PROGRAMS for file in folder.rglob("*.py"))

EXECUTING = {
    # of pickles, whatever they are wrapped in
    *("pickle.load", "pickle.loads", "pickle.Unpickler", "pickle._Unpickler", "cPickle.load", "cPickle.loads"),
    *(
        "dill.load",
        "dill.loads",
        "cloudpickle.load",
        "cloudpickle.loads",
        "joblib.load",
        "shelve.open",
        "marshal.loads",
    ),
    *("marshal.load", "pandas.read_pickle", "torch.jit.load", "torch.package.PackageImporter", "torch.hub.load"),
    # of YAML that names classes
    *("yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load", "yaml.unsafe_load_all", "yaml.full_load_all"),
    # of text
    *("eval", "exec", "compile", "__import__", "runpy.run_path", "runpy.run_module"),
    *("os.system", "os.popen", "os.execv", "os.execvp", "os.spawnv", "pty.spawn", "commands.getoutput"),
    *("subprocess.getoutput", "subprocess.getstatusoutput", "os.startfile", "asyncio.create_subprocess_shell"),
}
"""Calls and bases of classes that run what they are given, by the name of the module that they are in."""

SUBPROCESS = {f"subprocess.{name}" for name in ("run", "Popen", "call", "check_call", "check_output")}

JUSTIFIED: dict[tuple[str, str], str] = {
    (
        "assets.py",
        "pickle.Unpickler",
    ): "its find_class knows four names of numpy and refuses all others; the file's hash is checked before",
    ("head/array_pickle.py", "pickle._Unpickler"): "a machine of our own for FLAME's files: no name that a file gives "
    "resolves to anything but inert holders of ours (tests/head/test_array_pickle.py)",
    ("files.py", "yaml.load"): "with PyYAML's safe loader, which we have narrowed further (tests/test_files.py)",
}
"""(file, call) -> why it is safe there."""


def findings(tree: ast.AST) -> list[tuple[int, str]]:
    """Lines and names of what could execute a file's content, or a shell's."""
    names = _imported(tree)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            found += [(base.lineno, _name(base, names)) for base in node.bases if _name(base, names) in EXECUTING]
        if not isinstance(node, ast.Call):
            continue
        name, options = _name(node.func, names), {option.arg: option.value for option in node.keywords}
        if name in EXECUTING:
            found.append((node.lineno, name))
        if name == "torch.load" and not _is(options.get("weights_only"), True):
            found.append((node.lineno, "torch.load without weights_only=True"))
        if name == "numpy.load" and not _is(options.get("allow_pickle"), False):
            found.append((node.lineno, "numpy.load without allow_pickle=False"))
        if "shell" in options and not _is(options["shell"], False):
            found.append((node.lineno, "shell=True"))
        if name in SUBPROCESS and node.args and _is_text(node.args[0]):
            found.append((node.lineno, f"{name} of a text"))
    return found


def _imported(tree: ast.AST) -> dict[str, str]:
    """Names in a file -> what they stand for: ``np`` -> ``numpy``, ``loads`` -> ``pickle.loads``."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                # ``import a.b`` makes ``a`` known, ``import a.b as c`` makes ``c`` a name of ``a.b``
                first = alias.name.split(".")[0]
                names[alias.asname or first] = alias.name if alias.asname else first
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _name(node: ast.expr, names: dict[str, str]) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_name(node.value, names)}.{node.attr}"
    return names.get(node.id, node.id) if isinstance(node, ast.Name) else ""


def _is(node: ast.expr | None, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr | ast.BinOp) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def relative(file: Path) -> str:
    return file.relative_to(SOURCE if file.is_relative_to(SOURCE) else ROOT).as_posix()


def test_nothing_executes_what_a_file_says():
    found = {
        (relative(file), name): line
        for file in FILES
        for line, name in findings(ast.parse(file.read_text(encoding="utf-8")))
    }
    assert {f"{file}:{line} {name}" for (file, name), line in found.items() if (file, name) not in JUSTIFIED} == set()
    assert set(JUSTIFIED) - set(found) == set(), "what is justified is there no more: take it off the list"
    assert all(len(reason) > 20 for reason in JUSTIFIED.values())


@pytest.mark.parametrize(
    "line",
    [
        "import pickle\npickle.load(f)",
        "from pickle import loads as read\nread(b)",
        "import pickle as p\nclass A(p.Unpickler): pass",
        "import numpy as np\nnp.load(f, allow_pickle=True)",
        "import numpy as np\nnp.load(f)",
        "from numpy import load\nload(f, allow_pickle=flag)",
        "import torch\ntorch.load(f)",
        "import torch\ntorch.load(f, weights_only=False)",
        "import yaml\nyaml.load(f, Loader=yaml.SafeLoader)",
        "eval(text)",
        "exec(text)",
        "import os\nos.system(x)",
        "import subprocess as s\ns.run(x, shell=True)",
        "import subprocess\nsubprocess.run(f'ffmpeg {name}')",
        "import subprocess\nsubprocess.run('ffmpeg ' + name)",
    ],
)
def test_what_would_be_found(line):
    assert len(findings(ast.parse(line))) == 1


@pytest.mark.parametrize(
    "line",
    [
        "import numpy as np\nnp.load(f, allow_pickle=False)",
        "import torch\ntorch.load(f, weights_only=True)",
        "import yaml\nyaml.safe_load(f)",
        "model.eval()",
        "import re\nre.compile('a')",
        "import subprocess\nsubprocess.run(['git', name], check=True, shell=False)",
    ],
)
def test_what_is_harmless(line):
    assert findings(ast.parse(line)) == []


def test_only_known_programs_are_started():
    """Each with a list of arguments, none of which is the name of a user's file: those could be options."""
    calls = set()
    for file in FILES:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        imported = _imported(tree)
        called = {_name(node.func, imported) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        if called & SUBPROCESS and file.is_relative_to(SOURCE):
            calls.add(relative(file))
    assert calls == {
        "ablation/runs.py",  # ourselves, with the folder of a trial
        "batch/local.py",  # ourselves, with a temporary file of ours
        "assets.py",  # pip: requirements of ours
        "evaluation/results.py",  # git, in our own checkout
    }


def test_a_folder_whose_name_begins_like_an_option_is_a_folder():
    trial = Trial(row=None, seed=0, config=None, folder=Path("--device"))
    assert _command(trial, torch.device("cpu"))[3:] == [str(Path("--device").resolve()), "cpu"]


def test_a_video_whose_name_begins_like_an_option_is_a_file(tmp_path, monkeypatch):
    """Videos are read and written within this process, by PyAV: no command line is made of their names."""
    monkeypatch.chdir(tmp_path)
    write_video(Path("-i"), (np.full((64, 64, 3), 9, np.uint8) for _ in range(3)), 25.0)
    assert len(list(open_source(Path("-i")).frames())) == 3
