"""Pictures and videos of a run as data URIs, so that a page needs no other file."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from stavatar.errors import InputError

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
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path} cannot be read as a picture: {error}") from error


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
    import av  # a run without videos makes a page without it

    found: dict[int, Image.Image] = {}
    try:
        with av.open(str(path)) as container:
            for position, frame in enumerate(container.decode(video=0)):
                if position in wanted:
                    found[position] = frame.to_image()
                if position >= max(wanted, default=-1):
                    break
    except (av.FFmpegError, OSError, IndexError) as error:
        raise InputError(f"{path} cannot be read as a video: {error}") from error
    return found


def video_length(path: Path) -> int:
    """Number of frames of a video, as its container says.

    Raises:
        InputError: it cannot be read.
    """
    import av

    try:
        with av.open(str(path)) as container:
            return container.streams.video[0].frames
    except (av.FFmpegError, OSError, IndexError) as error:
        raise InputError(f"{path} cannot be read as a video: {error}") from error


def video_file(path: Path, most_bytes: int) -> str | None:
    """An mp4 as a data URI; None where it is larger than `most_bytes`."""
    if path.stat().st_size > most_bytes:
        return None
    return _uri("video/mp4", path.read_bytes())


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
