"""The application that commands register with, how it ends, and how it speaks."""

from __future__ import annotations

import io
import shlex
import sys
import traceback
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

from stavatar import interruption
from stavatar.errors import StavatarError, reason
from stavatar.files import cannot_write, is_of_the_disk
from stavatar.progress import printable

_UsageError: Any = typer.BadParameter.__base__  # of the click that typer brings: typer itself has no name for it
UNEXPECTED = 70
"""Exit code of what should not happen: an error that is the program's and not the user's."""
NO_MEMORY = 71


class _Commands(TyperGroup):
    """Turns what stops a command into one sentence and an exit code.

    This has to happen inside: typer swallows an interruption before :func:`main` would see it.
    """

    def invoke(self, ctx: Any) -> Any:
        interruption.listen()
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort, BrokenPipeError):
            raise
        except KeyboardInterrupt as interrupted:
            _complain(_way_on(self.get_command(ctx, ctx.invoked_subcommand)))
            raise typer.Exit(interruption.exit_code(interrupted)) from None
        except Exception as error:
            if ctx.params.get("debug"):
                traceback.print_exception(error)
            sentence, code = _told(error)
            _complain(f"[red]error:[/] {escape(printable(sentence))}")
            raise typer.Exit(code) from None


def _told(error: Exception) -> tuple[str, int]:
    """The sentence and the exit code for an error."""
    if isinstance(error, StavatarError):
        return str(error), error.exit_code
    if isinstance(error, _UsageError):
        where = error.ctx.command_path if error.ctx else "stavatar"
        return f"{error.format_message().rstrip('.')} (see `{where} --help`)", error.exit_code
    if isinstance(error, OSError) and is_of_the_disk(error):
        return _told(cannot_write(error.filename or "a file", error))
    if isinstance(error, MemoryError):
        return "there is not enough memory: close other programs, or choose smaller pictures or fewer frames", NO_MEMORY
    kind, what = type(error).__name__, reason(error)
    said = kind if kind == what else f"{kind}: {what}"
    return (
        f"{said}: this should not happen and is a fault of stavatar; please report it with what `stavatar --debug` and "
        "the same words show",
        UNEXPECTED,
    )


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


@app.callback()
def options_of_all(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show where in the program an error came up; before the command's name.")
    ] = False,
) -> None:
    """Options of the program; help shows the program's own text and not this one."""


def prepare_output() -> None:
    """Let names be printed that are no text: those of files may hold any bytes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(text: str) -> None:
    """Print as it is: paths may hold brackets, which rich would take for markup, and must not be wrapped."""
    output.print(text, markup=False, highlight=False, soft_wrap=True)
