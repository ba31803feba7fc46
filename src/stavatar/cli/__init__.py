"""The command line: parse, call, print. Everything that does work lives elsewhere.

Heavy imports happen inside the commands, so that ``stavatar --help`` answers at once. A module of commands registers
them where it is imported, and the order of the imports is the order in which help lists them.
"""

from stavatar.cli import runs, machine, reports, show, datasets, ablate, bench, batch, export  # noqa: F401, I001
from stavatar.cli.app import app

__all__ = ["app", "main"]


def main() -> None:
    """Entry point."""
    app()
