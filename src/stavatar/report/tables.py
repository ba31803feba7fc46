"""A comparison as Markdown, LaTeX, HTML or JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict

from stavatar.errors import InputError
from stavatar.report.compare import Cell, Column, Comparison, Line
from stavatar.report.templates import environment


def render(comparison: Comparison, suffix: str) -> str:
    """The table as text in the format that a file's suffix stands for.

    Raises:
        InputError: there is no such format.
    """
    if suffix not in FORMATS:
        raise InputError(f"a comparison cannot be written as *{suffix}: use one of {', '.join(FORMATS)}")
    return FORMATS[suffix](comparison)


def _text(cell: Cell, column: Column) -> str:
    return "–" if cell.value is None else f"{cell.value:.{column.decimals}f}"


def _heading(column: Column) -> str:
    return f"{column.label}\u00a0{'↑' if column.higher else '↓'}"


def markdown(comparison: Comparison) -> str:
    """GitHub's Markdown; best figures are bold."""
    head = ["subject", "run", *(_heading(column) for column in comparison.columns)]
    rows = ["| " + " | ".join(head) + " |", "|---|---|" + "---:|" * len(comparison.columns)]
    before = None
    for line in comparison.lines:
        cells = [
            f"**{text}**" if cell.best else text
            for cell, column in zip(line.cells, comparison.columns, strict=True)
            for text in [_text(cell, column)]
        ]
        mark = f" ({line.mark})" if line.mark else ""
        group = markdown_escape(line.group) if line.group != before else ""
        rows.append("| " + " | ".join([group, markdown_escape(line.label) + mark, *cells]) + " |")
        before = line.group
    notes = [f"- {markdown_escape(note)}" for note in comparison.notes]
    return "\n".join([*rows, "", *notes, ""])


def markdown_escape(text: str) -> str:
    """Text in one line, with nothing in it that Markdown would take for markup."""
    escaped = "".join(f"\\{letter}" if letter in "\\`*_{}[]<>#|" else letter for letter in text)
    return " ".join(escaped.split())


_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "_": r"\_", "%": r"\%",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}",
}  # fmt: skip


def latex(comparison: Comparison) -> str:
    """A booktabs table; best figures are bold."""
    arrows = [
        f"{_latex_escape(column.label)} $\\{'uparrow' if column.higher else 'downarrow'}$"
        for column in comparison.columns
    ]
    rows = [
        "% needs \\usepackage{booktabs}",
        "\\begin{tabular}{ll" + "r" * len(comparison.columns) + "}",
        "\\toprule",
        " & ".join(["subject", "run", *arrows]) + r" \\",
    ]
    before = None
    for line in comparison.lines:
        cells = [
            f"\\textbf{{{text}}}" if cell.best else text.replace("–", "--")
            for cell, column in zip(line.cells, comparison.columns, strict=True)
            for text in [_text(cell, column)]
        ]
        if line.group != before:
            rows.append("\\midrule")
        mark = f"\\textsuperscript{{{line.mark}}}" if line.mark else ""
        group = _latex_escape(line.group) if line.group != before else ""
        rows.append(" & ".join([group, _latex_escape(line.label) + mark, *cells]) + r" \\")
        before = line.group
    notes = [f"\\par\\noindent\\footnotesize {_latex_escape(note)}" for note in comparison.notes]
    return "\n".join([*rows, "\\bottomrule", "\\end{tabular}", *notes, ""])


def _latex_escape(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in " ".join(text.split()))


def html(comparison: Comparison) -> str:
    """A page of its own, in the style of a run's report."""
    template = environment().get_template("compare.html.jinja")
    return template.render(comparison=comparison, headings=headings, texts=texts)


def headings(comparison: Comparison) -> list[str]:
    """Of the columns, with arrows to where is better."""
    return [_heading(column) for column in comparison.columns]


def texts(comparison: Comparison) -> list[tuple[Line, list[tuple[str, bool]]]]:
    """Each line with its figures as they are printed, and whether each is the best of its group."""
    return [
        (line, [(_text(cell, column), cell.best) for cell, column in zip(line.cells, comparison.columns, strict=True)])
        for line in comparison.lines
    ]


def as_json(comparison: Comparison) -> str:
    """All of it, unrounded."""
    return json.dumps(asdict(comparison), indent=2, allow_nan=False) + "\n"


FORMATS: dict[str, Callable[[Comparison], str]] = {".md": markdown, ".tex": latex, ".html": html, ".json": as_json}
"""By a file's suffix."""
