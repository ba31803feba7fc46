"""Opening video files that anybody may have made, so that FFmpeg reads that one file and nothing else.

To FFmpeg a "video" may as well be a playlist that names other files or hosts, a list of files to join, or a pattern
that stands for many names; it tells them by content, whatever they are called. Here it gets an open file without a
name, and no way to open another: neither files of this machine nor hosts can be made to appear in what is decoded.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from stavatar.errors import InputError
from stavatar.files import require_file

if TYPE_CHECKING:  # pages of results without videos do without PyAV
    import av

MAX_SIDE = 8192
"""Pixels; decoders refuse larger pictures than this squared before they make room for them."""
MOST_BYTES = 1 << 40
_BUFFER = 1 << 18


@contextmanager
def open_video(path: Path) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """The container and the first picture stream of a video file.

    Raises:
        InputError: the file cannot be read, is no video, or has no pictures that can be decoded here.
    """
    import av

    require_file(path, most_bytes=MOST_BYTES)
    try:
        with open(os.open(path, os.O_RDONLY), "rb") as content:  # noqa: PTH123  # by number, so without a name
            options = {"protocol_whitelist": "none", "max_pixels": str(MAX_SIDE * MAX_SIDE)}
            with av.open(content, "r", options=options, buffer_size=_BUFFER, metadata_errors="replace") as container:
                if not container.streams.video:
                    raise InputError(f"{path} has no picture, only sound: give a video of a face")
                stream = container.streams.video[0]
                if stream.codec_context is None:
                    raise InputError(f"{path} is in a format whose pictures cannot be decoded here: save it as H.264")
                yield container, stream
    except av.FFmpegError as error:
        raise InputError(f"{path} is not a video that can be read ({error.strerror})") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
