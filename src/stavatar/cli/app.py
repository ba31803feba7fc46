"""The application that commands register with, how it ends, and how it speaks."""

from __future__ import annotations

from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

from stavatar.errors import StavatarError


class _Commands(TyperGroup):
    """Turns what stops a command into one sentence and an exit code.

    This has to happen inside: typer swallows an interruption before :func:`main` would see it.
    """

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except StavatarError as error:
            Console(stderr=True).print(f"[red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            Console(stderr=True).print("interrupted; finished stages are kept: run again with --resume")
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=_Commands,
    help="From an ordinary video of one person talking to an animatable 3D Gaussian head avatar.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
output = Console()


def say(text: str) -> None:
    """Print as it is: paths may hold brackets, which rich would take for markup, and must not be wrapped."""
    output.print(text, markup=False, highlight=False, soft_wrap=True)
