"""Write docs/bad_input.md from the table that tests/bad_input runs, and from the counts of the long fuzz run."""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "bad_input.md"
COUNTS = ROOT / "benchmarks" / "results" / "fuzz.json"
sys.path[:0] = [str(ROOT / "src"), *(str(ROOT / "tests" / name) for name in ("", "bad_input", "sequence"))]

INTRODUCTION = """\
# Bad input

Files come from strangers. Whatever they hold, stavatar either reads them or says in one sentence which file and which
field cannot be used, ends with an exit code other than 0, and leaves the disk as it was. Nothing in a file is executed,
files do not lead out of the folder that was named (recordings of one person that lie side by side in the VHAP layout
may name each other), and neither memory nor time runs away: sizes are looked at before content is. A batch's manifest
is a command rather than data: like a command line it may name any file to read and, by absolute paths, any folder to
make.

| exit code | meaning |
|---|---|
| 0 | done |
| 1, 5 | training cannot go on |
| 2 | something that was given cannot be used: a file, a folder, an option |
| 3 | a model file is missing or damaged: `stavatar assets` |
| 4 | this machine lacks a device or a package that was asked for |
| 70 | a fault of stavatar: please report it, with what `stavatar --debug COMMAND ...` shows |
| 71 | not enough memory |
| 130 | interrupted |

`stavatar --debug COMMAND ...` shows where in the program an error came up; without it no traceback is ever printed.

## The table

`tests/bad_input` runs every row through the real command line, in a process that may take 1.5 GB of memory beyond the
loaded program and a minute of time, and that ends at once when it writes outside of its folder, starts a program or
opens a connection. Where the command fails, the folder must be afterwards what it was before. An ellipsis stands for
words of a library. This page is written from that table by `scripts/write_bad_input.py`.
"""

FUZZ = """\
## Broken at random

`tests/fuzzing` breaks whole files: it changes values in their structure, or bytes. Each parser must read such a file or
refuse it with a sentence, and must not open anything but its folder. `make test` does so some hundred times for each;
`python benchmarks/fuzz.py` many more times, with a bound on memory and 10 seconds for each file. The last such run:

| parser | inputs | read | refused | crashed | hung |
|---|---:|---:|---:|---:|---:|
"""


def page() -> str:
    """The whole page."""
    from cases import GROUPS

    total = sum(map(len, GROUPS.values()))
    parts = [INTRODUCTION, f"{total} rows:\n"]
    for group, cases in GROUPS.items():
        parts.append(f"### {group}\n\n| given | command: `stavatar` ... | exit | what is said |\n|---|---|---:|---|")
        parts += [
            f"| {_text(case.given)} | {_code(case.command)} | {case.exit} | {_text(case.says)} |" for case in cases
        ]
        parts.append("")
    if COUNTS.exists():
        parts.append(FUZZ.rstrip("\n"))
        for name, found in json.loads(COUNTS.read_text(encoding="utf-8")).items():
            counts = " | ".join(f"{found[key]:,}" for key in ("inputs", "read", "refused", "crashed", "hung"))
            parts.append(f"| {name} | {counts} |")
        parts.append("")
    return "\n".join(parts)


def _text(words: str) -> str:
    """Words in a cell of a table: nothing of them is Markdown or HTML."""
    short = words if len(words) <= 300 else f"{words[:150]} … {words[-100:]}"
    shown = "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in short)
    for sign, name in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "&#124;"), ("\\", "&#92;")):
        shown = shown.replace(sign, name)
    return "".join(f"&#{ord(sign)};" if sign in "*_`[]~" else sign for sign in shown)


def _code(words: str) -> str:
    return f"<code>{_text(words)}</code>"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
