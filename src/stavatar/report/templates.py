"""The template engine for pages: escapes everything, and refuses names that are not there."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined


def environment() -> Environment:
    """Loads the ``*.jinja`` files of this folder."""
    return Environment(
        loader=PackageLoader("stavatar", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
