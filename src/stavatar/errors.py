"""The errors that a user is meant to read.

Anything that can go wrong because of what the user gave us (a file, an option, a machine without a GPU) is raised as a
:class:`StavatarError` whose message is one sentence that names the file or field and says what to do. The command line
prints that sentence and exits with the class's code; any other exception is a fault of ours: it becomes a sentence that
asks for a report, and ``--debug`` shows its traceback.
"""

from __future__ import annotations


class StavatarError(Exception):
    """Base of all errors meant for the user; the message is one sentence and complete by itself."""

    exit_code = 1


class InputError(StavatarError):
    """Something the user gave cannot be used: a video, a folder, a file, an option's value."""

    exit_code = 2


class AssetError(StavatarError):
    """A model file is missing, cannot be fetched, or is not the file it should be."""

    exit_code = 3


class BackendError(StavatarError):
    """A rasteriser backend or device was asked for that this machine does not have."""

    exit_code = 4


class TrainingError(StavatarError):
    """Training cannot go on, for example because a loss is no longer a number."""

    exit_code = 5


def reason(error: BaseException) -> str:
    """What an exception of somebody else's says, to be put into a sentence: its first line, and not too much of it."""
    lines = str(error).splitlines()
    return lines[0][:200] if lines and lines[0] else type(error).__name__
