"""Recordings of ARKit coefficients as text: the CSV files of face capture apps such as Live Link Face."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import numpy as np
import torch

from stavatar.drive.driver import Driver
from stavatar.errors import InputError
from stavatar.files import read_content

MOST_BYTES = 128 << 20
MOST_CELLS = 15_000_000
"""A larger file is refused: an hour at 60 frames per second and 62 columns is 13 million cells."""

FEWEST_COLUMNS = 10
"""Of the 52 ARKit names; a file with fewer is taken for something else."""

_USUAL_RATES = (24.0, 25.0, 30.0, 50.0, 60.0)
_TIMECODE = re.compile(r"(\d{1,9}):(\d{1,9}):(\d{1,9})[:;](\d{1,9})(?:\.(\d{1,9}))?$", re.ASCII)
_SECONDS = ("time", "timestamp", "seconds")


def read_coefficients(path: Path, arkit_names: tuple[str, ...], fps: float | None = None) -> Driver:
    """Read a CSV with one row per frame and one column per ARKit coefficient, in [0, 1].

    Names are matched whatever their case (ARKit's ``jawOpen``, the apps' ``JawOpen``). Coefficients without a column
    are zero. Times come from a column ``Timecode`` (h:m:s:frame) or ``time``, ``timestamp`` or ``seconds`` (seconds).
    Gaze is taken from the eyeLook coefficients. Columns of head and eye angles are passed over, because recorders do
    not agree on their signs.

    Args:
        path: of the file.
        arkit_names: the names that count.
        fps: frames per second where the file does not tell.

    Raises:
        InputError: the file is no such recording, or a value is not a number.
    """
    header, body = _table(path)
    names = [name.strip().lower() for name in header]
    columns = {name: names.index(name.lower()) for name in arkit_names if name.lower() in names}
    if len(columns) < FEWEST_COLUMNS:
        raise InputError(
            f"{path} has {len(columns)} columns named as ARKit's coefficients (jawOpen, eyeBlinkLeft and so on): "
            f"at least {FEWEST_COLUMNS} are needed"
        )
    if not body:
        raise InputError(f"{path} holds no frames: a line of names and one line for each frame are needed")
    values = np.zeros((len(body), len(arkit_names)), np.float32)
    for name, column in columns.items():
        values[:, arkit_names.index(name)] = _column(path, body, column, header[column])
    if not fps:
        fps = _rate(path, names, body)
    return Driver.from_arkit(path.stem, arkit_names, torch.from_numpy(values.clip(0, 1)), fps)


def _table(path: Path) -> tuple[list[str], list[list[str]]]:
    """The names of the columns, and the rows that are not empty."""
    try:
        text = read_content(path, most_bytes=MOST_BYTES).decode("utf-8-sig")
        if text.count(",") > MOST_CELLS:
            raise InputError(f"{path} has more than {MOST_CELLS:,} cells, which no recording of a face should have")
        header, *body = csv.reader(io.StringIO(text, newline="")) if text else [[]]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as CSV: {error}") from error
    return header, [row for row in body if any(cell.strip() for cell in row)]


def _column(path: Path, body: list[list[str]], column: int, name: str) -> np.ndarray:
    """One column as numbers; line numbers in messages count from 1, the header being the first."""
    values = np.empty(len(body))
    for index, row in enumerate(body):
        try:
            values[index] = float(row[column])
        except (IndexError, ValueError) as error:
            raise InputError(f"{path}, frame {index + 1}: {name.strip()} is not a number") from error
    if not np.isfinite(values).all():
        frame = int(np.flatnonzero(~np.isfinite(values))[0]) + 1
        raise InputError(f"{path}, frame {frame}: {name.strip()} is not finite")
    return values


def _rate(path: Path, header: list[str], body: list[list[str]]) -> float:
    """Frames per second, from the times of the rows."""
    rate = None
    seconds = next((header.index(name) for name in _SECONDS if name in header), None)
    if seconds is not None and len(body) > 1:
        times = _column(path, body, seconds, header[seconds])
        rate = (len(body) - 1) / (times[-1] - times[0]) if times[-1] > times[0] else None
    elif "timecode" in header:
        column = header.index("timecode")
        rate = _rate_of_timecodes([row[column] for row in body if len(row) > column])
    if rate is None or not 1 <= rate <= 240:
        raise InputError(f"{path} does not tell its frames per second: give them with --fps")
    nearest = min(_USUAL_RATES, key=lambda usual: abs(usual - rate))
    return nearest if abs(nearest - rate) < 0.03 * nearest else rate


def _rate_of_timecodes(codes: list[str]) -> float | None:
    """Rows per second. The frame numbers count to a rate that is not told, so rows between full seconds are counted."""
    found = [_TIMECODE.match(code.strip()) for code in codes]
    if len(found) < 2 or not all(found):
        return None
    fields = np.array([[int(part) for part in match.groups()[:4]] for match in found if match])
    seconds = fields[:, :3] @ np.array([3600, 60, 1])
    turns = np.flatnonzero(np.diff(seconds) == 1) + 1  # rows where a new second begins
    if len(turns) < 2:
        return None
    return float((turns[-1] - turns[0]) / (seconds[turns[-1]] - seconds[turns[0]]))
