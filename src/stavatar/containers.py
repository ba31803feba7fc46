"""Video files: opened so that FFmpeg reads that one file and nothing else, whoever made it, and written.

To FFmpeg a "video" may as well be a playlist that names other files or hosts, a list of files to join, or a pattern
that stands for many names; it tells them by content, whatever they are called. Here it gets an open file without a
name, and no way to open another: neither files of this machine nor hosts can be made to appear in what is decoded.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stavatar.errors import InputError
from stavatar.files import atomic_path, cannot_write, require_file

if TYPE_CHECKING:  # whoever has no videos does without PyAV
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
            # From version 19 on PyAV reads metadata of any encoding without being told to, and knows no such option.
            lenient: dict[str, Any] = {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "replace"}
            with av.open(content, "r", options=options, buffer_size=_BUFFER, **lenient) as container:
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


def write_video(path: Path, frames: Iterable[np.ndarray], fps: float, *, crf: int = 18) -> None:
    """Write uint8 RGB frames [H, W, 3] as H.264 in an mp4 that every player shows, atomically.

    Odd sizes grow by one repeated row or column, which the format asks for. `crf` is H.264's quality: 0 is lossless,
    18 looks so, 28 is small.

    Raises:
        InputError: there are no frames, their sizes differ, or the file cannot be written.
    """
    import av

    path = Path(path)
    with atomic_path(path) as temporary:
        try:
            with av.open(str(temporary), "w", format="mp4", options={"movflags": "faststart"}) as container:
                stream: av.VideoStream | None = None
                for rgb in frames:
                    even = np.pad(rgb, ((0, rgb.shape[0] % 2), (0, rgb.shape[1] % 2), (0, 0)), mode="edge")
                    if stream is None:
                        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(60000))
                        stream.height, stream.width = even.shape[:2]
                        stream.thread_type = "AUTO"  # several frames at once, not slices of one, which code worse
                        stream.pix_fmt = "yuv420p"
                        stream.options = {"crf": str(crf), "preset": "fast"}
                    if even.shape[:2] != (stream.height, stream.width):
                        raise InputError(f"the frames for {path} differ in size: {even.shape[1]} x {even.shape[0]}")
                    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
                    container.mux(stream.encode(frame))
                if stream is None:
                    raise InputError(f"there are no frames to write to {path}")
                container.mux(stream.encode())
        except av.FFmpegError as error:
            raise cannot_write(path, OSError(error.errno, error.strerror)) from error
