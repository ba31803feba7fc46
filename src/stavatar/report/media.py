"""Pictures and videos of a run as data URIs, so that a page needs no other file."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from stavatar.containers import open_video
from stavatar.errors import InputError, reason

MOST_VIDEO_BYTES = 5 << 20
"""Larger videos are not embedded: base64 makes them a third larger still."""
WIDEST = 1600
"""Pixels; wider pictures are made smaller."""
_WEBP_QUALITY = 86


@dataclass(frozen=True)
class Picture:
    """A picture within a page."""

    uri: str
    width: int
    height: int


def picture_file(path: Path, widest: int = WIDEST) -> Picture:
    """A PNG of a run, of at most `widest` pixels across.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with Image.open(path, formats=("PNG",)) as image:
            return embed(image.convert("RGB"), widest)
    except Exception as error:  # a damaged picture can make Pillow fail in any way
        raise InputError(f"{path} cannot be read as a picture: {reason(error)}") from error


def embed(image: Image.Image, widest: int = WIDEST) -> Picture:
    """A picture of at most `widest` pixels across as a data URI."""
    if image.width > widest:
        image = image.resize((widest, max(1, round(image.height * widest / image.width))), Image.Resampling.LANCZOS)
    written = io.BytesIO()
    image.save(written, format="WEBP", quality=_WEBP_QUALITY)
    return Picture(_uri("image/webp", written.getvalue()), image.width, image.height)


def video_frames(path: Path, wanted: set[int]) -> dict[int, Image.Image]:
    """Some frames of a video, by their position in it; those beyond its end are left out.

    Raises:
        InputError: it cannot be read.
    """
    found: dict[int, Image.Image] = {}
    with open_video(path) as (container, stream):
        for position, frame in enumerate(container.decode(stream)):
            if position in wanted:
                found[position] = frame.to_image()
            if position >= max(wanted, default=-1):
                break
    return found


def video_length(path: Path) -> int:
    """Number of frames of a video, as its container says.

    Raises:
        InputError: it cannot be read.
    """
    with open_video(path) as (_, stream):
        return stream.frames


def film(path: Path) -> dict[str, str | None] | None:
    """An mp4 of a run: its name, and its data URI if it is small enough; None where there is no such file."""
    if not path.exists():
        return None
    small = path.stat().st_size <= MOST_VIDEO_BYTES
    return {"name": path.name, "uri": _uri("video/mp4", path.read_bytes()) if small else None}


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
