"""The application that commands register with, how it ends, and how it speaks."""

from __future__ import annotations

import shlex
import sys
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

from stavatar import interruption
from stavatar.errors import StavatarError
from stavatar.files import cannot_write, is_of_the_disk


class _Commands(TyperGroup):
    """Turns what stops a command into one sentence and an exit code.

    This has to happen inside: typer swallows an interruption before :func:`main` would see it.
    """

    def invoke(self, ctx: Any) -> Any:
        interruption.listen()
        try:
            return super().invoke(ctx)
        except StavatarError as error:
            _end(error)
        except OSError as error:
            if not is_of_the_disk(error):
                raise
            _end(cannot_write(error.filename or "a file", error))
        except KeyboardInterrupt as interrupted:
            _complain(_way_on(self.get_command(ctx, ctx.invoked_subcommand)))
            raise typer.Exit(interruption.exit_code(interrupted)) from None


def _end(error: StavatarError) -> NoReturn:
    _complain(f"[red]error:[/] {escape(str(error))}")
    raise typer.Exit(error.exit_code) from None


def _complain(text: str) -> None:
    Console(stderr=True).print(text, highlight=False, soft_wrap=True)


def _way_on(command: Any) -> str:
    """What to tell whoever interrupted a command."""
    if not any(parameter.name == "resume" for parameter in command.params):
        return "interrupted; nothing half-written is left"
    words = ["stavatar", *sys.argv[1:]]
    again = shlex.join(words if "--resume" in words else [*words, "--resume"])
    return f"interrupted; what is done is kept, go on with: {escape(again)}"


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
