"""What the docs site is made of besides Markdown: commands, settings and models as the program knows them; diagrams.

mkdocs calls the ``on_...`` functions (see ``hooks`` in mkdocs.yml).
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import typer
from pymdownx.superfences import fence_code_format
from typer.cli import get_docs_for_click

import dependency_licences
from stavatar import assets, cli, config

ROOT = Path(__file__).resolve().parents[1]
DIAGRAMS = Path("javascripts") / "mermaid.min.js"
"""Draws the diagrams, below docs/; `make docs` fetches it. Without it they are shown as text."""


def on_config(settings: Any) -> Any:
    """Have Mermaid drawn by our own copy, where there is one: the theme would load it from elsewhere."""
    if (Path(settings.docs_dir) / DIAGRAMS).exists():
        settings.extra_javascript.append(DIAGRAMS.as_posix())
        fence = {"name": "mermaid", "class": "mermaid", "format": fence_code_format}
        settings.mdx_configs["pymdownx.superfences"] = {"custom_fences": [fence]}
    return settings


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace ``<!-- made by: NAME -->`` by what the function of that name in `MAKERS` gives."""
    return re.sub(r"<!-- made by: (\w+) -->", lambda match: MAKERS[match[1]](), markdown)


def commands() -> str:
    """Every command with its arguments and options, from the program itself."""
    command = typer.main.get_command(cli.app)
    context = typer.Context(command, info_name="stavatar", obj={typer.core.MARKUP_MODE_KEY: "rich"})
    text = get_docs_for_click(obj=command, ctx=context, name="stavatar", title="Command line")
    return re.sub(r"\*\*Commands\*\*:.*?(?=^## )", "", text, flags=re.DOTALL | re.MULTILINE)  # cut off after some words


def presets() -> str:
    """A table of the presets: what each changes."""
    default = dataclasses.asdict(config.Config())
    rows = ["| preset | what it changes |", "|---|---|"]
    for name in config.PRESETS:
        chosen = dataclasses.asdict(config.preset(name))
        changes = [
            f"`{section}.{field}={_short(value)}`"
            for section, fields in chosen.items()
            if isinstance(fields, dict)
            for field, value in fields.items()
            if value != default[section][field]
        ]
        rows.append(f"| `{name}` | {', '.join(changes) or 'nothing'} |")
    return "\n".join(rows)


def _short(value: Any) -> str:
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(_short, value)) + "]"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def models() -> str:
    """A table of the model files and their licences."""
    rows = ["| file | for | size | licence |", "|---|---|---|---|"]
    for asset in assets.ASSETS.values():
        rows.append(f"| `{asset.name}` | {asset.purpose} | {asset.size / 1e6:.1f} MB | {asset.licence} |")
    return "\n".join(rows)


def dependencies() -> str:
    """A table of all packages that stavatar needs, and their licences."""
    return dependency_licences.table()


def density_protocol() -> str:
    """The source of what training asks of a density strategy."""
    from stavatar.density import DensityControl

    return f"```python\n{inspect.getsource(DensityControl).strip()}\n```"


def manifest() -> str:
    """A table of the columns of a batch's manifest."""
    from stavatar.batch.manifest import COLUMNS

    return "\n".join(
        ["| column | what it holds |", "|---|---|", *(f"| `{name}` | {text} |" for name, text in COLUMNS.items())]
    )


def estimate() -> str:
    """What many subjects would cost, from what was measured."""
    program = [sys.executable, str(ROOT / "benchmarks" / "estimate_subjects.py")]
    return subprocess.run(program, check=True, capture_output=True, text=True).stdout


def example(name: str) -> str:
    return f"```python\n{(ROOT / 'examples' / name).read_text(encoding='utf-8').strip()}\n```"


def examples() -> str:
    """All examples, whole."""
    names = sorted(path.name for path in (ROOT / "examples").glob("*.py"))
    return "\n\n".join(f"### {name}\n\n{example(name)}" for name in names)


def results() -> str:
    """What the README says was measured; its pictures lie elsewhere seen from here."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    sections = re.split(r"^## ", readme, flags=re.MULTILINE)
    wanted = [text for text in sections if text.startswith(("How held-out frames", "What was measured"))]
    text = "\n".join(f"## {section}" for section in wanted)
    text = text.replace("](docs/", "](")
    return re.sub(r"\[([^]]+)\]\(benchmarks/[^)]*\)", r"`\1`", text)


MAKERS = {
    "commands": commands,
    "dependencies": dependencies,
    "density_protocol": density_protocol,
    "estimate": estimate,
    "examples": examples,
    "manifest": manifest,
    "models": models,
    "presets": presets,
    "results": results,
}
