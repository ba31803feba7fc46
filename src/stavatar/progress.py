"""Progress bars with time left, for every stage that takes longer than a blink."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

console = Console(stderr=True)
"""Where bars and remarks go: standard error, so that a command's result can be piped."""

Report = Callable[..., None]
"""``report(advance=1, note="")`` moves the bar on and may change the words behind it."""


Stage = Callable[[str, int | None], AbstractContextManager[Report]]
"""The type of :func:`stage`, for functions that let their caller choose how progress is shown."""


@contextmanager
def stage(title: str, total: int | None) -> Iterator[Report]:
    """Show a bar for one stage of `total` steps (None: unknown) and yield the function that moves it."""
    columns = (
        TextColumn("{task.description:<22}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", style="dim"),
    )
    with Progress(*columns, console=console, transient=False, refresh_per_second=4) as progress:
        task = progress.add_task(title, total=total, note="")

        def report(advance: int = 1, note: str | None = None) -> None:
            progress.update(task, advance=advance)
            if note is not None:
                progress.update(task, note=note)

        yield report


def printable(text: str) -> str:
    """Text on one line, without what a terminal would obey: names out of files may hold anything."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def remark(message: str) -> None:
    """Tell the user something worth knowing, without stopping."""
    console.print(printable(message), highlight=False, markup=False, emoji=False, soft_wrap=True)


def warn(message: str) -> None:
    """Tell the user of something that may spoil the result."""
    console.print(f"[yellow]warning:[/] {escape(printable(message))}", highlight=False, emoji=False, soft_wrap=True)
