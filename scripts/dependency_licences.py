"""Which packages an environment of stavatar consists of, under which licences, and whether those are acceptable.

    python scripts/dependency_licences.py      # a table; exit code 1 if a licence is not acceptable or not known

Licences are what the installed packages state about themselves. Acceptable is what allows commercial use and asks for
nothing more than the LGPL does. What states none, or none that is understood, is looked up by a person and entered in
`REVIEWED` with the reason. Wheels also carry shared libraries that their own licence says nothing about: those under
another kind of licence are entered in `CARRIED`.
"""

from __future__ import annotations

import re
import sys
import tomllib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]

ACCEPTABLE = frozenset(
    {
        *("0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "HPND", "ISC", "MIT", "MIT-0"),
        *("MIT-CMU", "MPL-2.0", "PSF-2.0", "Python-2.0", "Unlicense", "Zlib", "LLVM-exception"),
        *("LGPL-2.1-only", "LGPL-2.1-or-later", "LGPL-3.0-only", "LGPL-3.0-or-later"),
    }
)
"""SPDX names of licences and exceptions."""

SPOKEN = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
"""What packages call licences in other words. "BSD License" names no variant; all of them are acceptable."""

REVIEWED = {
    "gsplat": ("Apache-2.0", "the LICENSE file of its release 1.5.3"),
    "ray": ("Apache-2.0", "its package states it, where it is installed"),
    "ninja": ("Apache-2.0", "the licence of the program and of its package"),
}
"""Package -> (licence, why that is known), for packages that are not installed everywhere, or do not tell."""

CARRIED = {
    "libx264": ("GPL-2.0-or-later", "encodes videos; lies in the wheels of av as a library of its own"),
    "libx265": ("GPL-2.0-or-later", "lies in the wheels of av as a library of its own; stavatar does not call it"),
}
"""Shared libraries in wheels whose licences ask for more than the LGPL -> (licence, what they are there for).

Using them, also commercially, is free. Who hands on an environment that contains them hands them on under the GPL: with
their source. stavatar itself contains none of them. A wheel of av that was built against another FFmpeg needs neither.
"""


@dataclass(frozen=True)
class Package:
    """One package.

    Attributes:
        name, version: as installed; no version where it is not.
        licence: an SPDX expression, or empty where none is known.
        why: why a licence that the package does not state is known.
        groups: what it is installed for: ``default`` or extras.
    """

    name: str
    version: str
    licence: str
    why: str
    groups: tuple[str, ...]

    @property
    def acceptable(self) -> bool:
        return acceptable(self.licence)


def packages() -> list[Package]:
    """All packages of the default installation and of every extra, with those that they need in turn."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = {"default": project["dependencies"], **project["optional-dependencies"]}
    found: dict[str, list[str]] = {}
    for group, requirements in groups.items():
        for name in _closure(requirements):
            found.setdefault(name, []).append(group)
    return [_package(name, tuple(groups)) for name, groups in sorted(found.items())]


def _closure(requirements: list[str]) -> set[str]:
    """Canonical names of everything that requirements bring; stavatar's own extras are groups of their own."""
    found: set[str] = set()
    waiting = [Requirement(requirement) for requirement in requirements]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name in found or name == "stavatar":
            continue
        found.add(name)
        try:
            further = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        extras = requirement.extras or {""}
        needed = (Requirement(text) for text in further)
        waiting += [one for one in needed if not one.marker or any(one.marker.evaluate({"extra": e}) for e in extras)]
    return found


def _package(name: str, groups: tuple[str, ...]) -> Package:
    licence, why = REVIEWED.get(name, ("", ""))
    try:
        found = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return Package(name, "", licence, why, groups)
    return Package(found.metadata["Name"], found.version, stated(found.metadata) or licence, why, groups)


def stated(facts: metadata.PackageMetadata) -> str:
    """The licence that a package's metadata state, as an SPDX expression; empty where they state none."""
    expression = facts.get("License-Expression")
    if expression:
        return expression
    classifiers = [
        text.split(" :: ")[-1] for text in facts.get_all("Classifier") or [] if text.startswith("License ::")
    ]
    words = (facts.get("License") or "").strip()
    if "\n" not in words and acceptable(SPOKEN.get(words, words)):
        return SPOKEN.get(words, words)
    known = [SPOKEN[text] for text in classifiers if text in SPOKEN]
    # A classifier that is not understood may be a restriction.
    if known and set(classifiers) <= {*SPOKEN, "DFSG approved", "OSI Approved"}:
        return " AND ".join(known)
    return words.splitlines()[0][:60] if words and not classifiers else ", ".join(classifiers)


def acceptable(expression: str) -> bool:
    """Whether a licence expression allows what is wanted: all its parts, or one of those that can be chosen from."""
    if re.search(r"\([^()]*\)", expression):
        inner = re.search(r"\(([^()]*)\)", expression)
        assert inner is not None
        chosen = "MIT" if acceptable(inner[1]) else "refused"
        return acceptable(expression[: inner.start()] + chosen + expression[inner.end() :])
    choices = re.split(r"\s+OR\s+", expression)
    return any(all(part in ACCEPTABLE for part in re.split(r"\s+(?:AND|WITH)\s+", choice)) for choice in choices)


def carried() -> dict[str, str]:
    """Libraries of `CARRIED` that lie in installed wheels -> the package."""
    found = {}
    for package in metadata.distributions():
        for file in package.files or ():
            for library in CARRIED:
                if file.name.startswith(library) and ".so" in file.name:
                    found[library] = package.metadata["Name"]
    return found


def table() -> str:
    """All packages as a Markdown table, and what their wheels carry."""
    rows = ["| package | version | licence | for |", "|---|---|---|---|"]
    for package in packages():
        licence = f"{package.licence} ({package.why})" if package.why else package.licence
        rows.append(
            f"| {package.name} | {package.version or 'not installed here'} | {licence or 'not known'} "
            f"| {', '.join(package.groups)} |"
        )
    rows += ["", "| library in a wheel | of | licence | |", "|---|---|---|---|"]
    for library, package in sorted(carried().items()):
        licence, purpose = CARRIED[library]
        rows.append(f"| {library} | {package} | {licence} | {purpose} |")
    return "\n".join(rows)


def main() -> int:
    print(table())
    refused = [package for package in packages() if not package.acceptable]
    for package in refused:
        print(f"{package.name} {package.version}: {package.licence or 'states no licence'}", file=sys.stderr)
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
