"""Frames out of video files: decoding, and finding one unbroken shot.

A video is never held decoded. :func:`find_shot` decodes it once and keeps a few numbers a frame; whoever needs pictures
then goes through :meth:`Shot.frames`, which decodes again and yields the chosen frames one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import av
import cv2
import numpy as np
from PIL import Image, ImageOps

from stavatar.containers import MAX_SIDE, MOST_BYTES, open_video
from stavatar.errors import InputError, reason
from stavatar.files import by_number, require_file
from stavatar.progress import Stage, remark, warn

MIN_FRAMES = 10
"""Fewer different frames than this cannot show how a face moves."""
MIN_SIDE = 64
"""Pixels; a smaller picture shows no face that could be tracked."""
FOLDER_FPS = 25.0
"""Frames per second that a folder of images is taken to have."""

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")

_SLOWEST, _FASTEST = 0.1, 1000.0  # frames per second
_HDR_TRANSFERS = (16, 18)
"""Transfer curves PQ and HLG, as ITU-T H.273 numbers them."""

# Frames are compared as 64 x 64 thumbnails, differences in levels of 255.
_THUMBNAIL = 64
# Two frames are the same one, stored twice, if they differ by no more than what compressing them twice makes. The
# smallest differences between true neighbours in clips of talking people are three times as large.
_REPEAT_MEAN, _REPEAT_MOST = 0.1, 5.0
# A cut changes more than half of the picture (median), much more than the frames around it do (ratio to the local
# median of the means). A person who jumps in front of an unchanged background leaves the median small: no cut.
_CUT_MEAN, _CUT_MEDIAN, _CUT_RATIO, _CUT_WINDOW = 6.0, 4.0, 4.0, 12


@dataclass(frozen=True)
class Frame:
    """One decoded picture.

    Attributes:
        index: its place in the source, from 0.
        seconds: its presentation time.
        rgb: [H, W, 3] uint8.
        alpha: [H, W] uint8 matte of the person, where the source comes with mattes.
    """

    index: int
    seconds: float
    rgb: np.ndarray
    alpha: np.ndarray | None = None


class Source(Protocol):
    """What frames come from.

    Attributes:
        count: of the frames, where that is known beforehand.
        damage: what is wrong with the file, noted while it is decoded.
        matted: every frame brings its matte.
        cut: and its picture is over white already.
    """

    path: Path
    count: int | None
    damage: str | None
    matted: bool
    cut: bool

    def frames(self, wanted: frozenset[int] | None = None) -> Iterator[Frame]:
        """Decode from the start; yield the frames whose index is in `wanted` (None: all), in order."""


def open_source(path: Path) -> Source:
    """The video file or the folder of PNG or JPEG images at `path`.

    Raises:
        InputError: there is nothing there, it cannot be read, or holds no pictures of a size between
            :data:`MIN_SIDE` and :data:`~stavatar.containers.MAX_SIDE` pixels.
    """
    path = Path(path)
    try:
        if path.is_dir():
            return image_folder(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    if require_file(path, most_bytes=MOST_BYTES) == 0:
        raise InputError(f"{path} is empty (0 bytes): copy the video again")
    return VideoFile(path)


class VideoFile:
    """A video that FFmpeg can decode.

    Frames come out as a player shows them: turned by the container's rotation (quarter turns), widened or narrowed to
    square pixels, over white where they are transparent, 8 bits a channel, all of the first frame's size. Times are the
    frames' own, so a variable frame rate is kept.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damage: str | None = None
        self.matted = self.cut = False
        with self._opened() as (_, stream):
            self.count: int | None = stream.frames or None
            if stream.codec_context.color_trc in _HDR_TRANSFERS:
                warn(
                    f"{path} is an HDR video, which is decoded like any other: its colours come out pale; film without "
                    "HDR, or convert the video first"
                )

    def frames(self, wanted: frozenset[int] | None = None) -> Iterator[Frame]:
        last = max(wanted, default=-1) if wanted is not None else None
        with self._opened() as (container, stream):
            rate = float(stream.average_rate or FOLDER_FPS)
            size: tuple[int, int] | None = None
            index, seconds = 0, 0.0
            for decoded in self._decoded(container, stream):
                if size is None:
                    size = _square_pixel_size(decoded.width, decoded.height, stream.sample_aspect_ratio)
                    _check_size(self.path, *size)
                seconds = index / rate if decoded.time is None else decoded.time
                if wanted is None or index in wanted:
                    yield Frame(index, seconds, _to_rgb(decoded, size))
                index += 1
                if index - 1 == last:
                    return
            if self.count and index < 0.98 * self.count and self.damage is None:
                self.damage = f"it ends after {index} of {self.count} frames"

    def _decoded(
        self, container: av.container.InputContainer, stream: av.video.stream.VideoStream
    ) -> Iterator[av.VideoFrame]:
        """All frames that can be decoded without errors; `damage` notes where that first fails."""
        packets = container.demux(stream)
        seconds = 0.0
        reading = True
        while reading:
            try:
                packet = next(packets, None)
            except av.FFmpegError:  # the file cannot be read on
                self._note_damage(seconds)
                packet = None
            reading = packet is not None
            try:
                decoded = stream.codec_context.decode(packet)  # None asks for the frames still inside the decoder
            except av.EOFError:
                return
            except av.FFmpegError:  # one picture is broken, those after it may be whole
                self._note_damage(seconds)
                continue
            for frame in decoded:
                seconds = seconds if frame.time is None else frame.time
                if frame.is_corrupt:
                    self._note_damage(seconds)
                else:
                    yield frame

    def _note_damage(self, seconds: float) -> None:
        if self.damage is None:
            self.damage = f"it cannot be decoded properly after {seconds:.1f} s"

    @contextmanager
    def _opened(self) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
        with open_video(self.path) as (container, stream):
            _check_size(self.path, stream.codec_context.width, stream.codec_context.height)
            stream.thread_type = "AUTO"
            yield container, stream


class ImageFiles:
    """PNG or JPEG files in the given order, at :data:`FOLDER_FPS`.

    Mattes are those of `masks`, or else the pictures' alpha channels, if the first picture has one that hides anything.
    With masks, `cut` tells whether the pictures are over white already; those with alpha channels are laid over it.
    """

    def __init__(self, path: Path, files: list[Path], masks: list[Path] | None = None, *, cut: bool = False) -> None:
        self.path = path
        self.damage: str | None = None
        self.files = files
        self.masks = masks
        self.count: int | None = len(files)
        transparent = masks is None and bool((_read_image(files[0])[..., 3] < 255).any())
        self.matted = transparent or masks is not None
        self.cut = transparent or cut

    def frames(self, wanted: frozenset[int] | None = None) -> Iterator[Frame]:
        size: tuple[int, int] | None = None
        for index, file in enumerate(self.files):
            if wanted is not None and index not in wanted:
                continue
            rgba = _read_image(file)
            size = size or (rgba.shape[1], rgba.shape[0])
            if (rgba.shape[1], rgba.shape[0]) != size:
                raise InputError(
                    f"{file} is {rgba.shape[1]} x {rgba.shape[0]} pixels where the images before it are "
                    f"{size[0]} x {size[1]}: all must be of one size"
                )
            yield Frame(index, index / FOLDER_FPS, _over_white(rgba), self._alpha(index, rgba))

    def _alpha(self, index: int, rgba: np.ndarray) -> np.ndarray | None:
        if self.masks is None:
            return rgba[..., 3] if self.matted else None
        mask = _read_image(self.masks[index])[..., 0]
        if mask.shape != rgba.shape[:2]:
            raise InputError(
                f"{self.masks[index]} is {mask.shape[1]} x {mask.shape[0]} pixels, and its picture "
                f"{rgba.shape[1]} x {rgba.shape[0]}"
            )
        return mask


def image_folder(path: Path) -> ImageFiles:
    """The PNG or JPEG files of a folder in the order of their names, numbers by value."""
    files = sorted((file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES), key=by_number)
    if not files:
        raise InputError(f"{path} contains no {', '.join(IMAGE_SUFFIXES)} files: give a video or a folder of images")
    return ImageFiles(path, files)


def _read_image(file: Path) -> np.ndarray:
    """RGBA [H, W, 4], uint8."""
    require_file(file, most_bytes=MOST_BYTES)
    try:
        with Image.open(file, formats=("PNG", "JPEG")) as image:
            _check_size(file, image.width, image.height)
            if image.mode[0] in "IF":
                raise InputError(f"{file} has more than 8 bits a channel: save it with 8")
            upright = ImageOps.exif_transpose(image).convert("RGBA")
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise InputError(
            f"{file} has more pixels than can be read, no more than {MAX_SIDE} a side: make it smaller"
        ) from error
    except Exception as error:  # a damaged image can make Pillow fail in any way
        raise InputError(f"{file} cannot be read as an image: {reason(error)}") from error
    return np.asarray(upright)


def _check_size(path: Path, width: int, height: int) -> None:
    if min(width, height) <= 0:  # FFmpeg forgets sizes that are too large for it
        raise InputError(f"{path} announces pictures of no size, or of one that cannot be: it is damaged")
    if max(width, height) > MAX_SIDE:
        raise InputError(
            f"{path} is {width} x {height} pixels, and no more than {MAX_SIDE} a side are read: make it smaller"
        )
    if min(width, height) < MIN_SIDE:
        raise InputError(
            f"{path} is {width} x {height} pixels, and at least {MIN_SIDE} a side are needed to see a face"
        )


def _square_pixel_size(width: int, height: int, aspect: Fraction | None) -> tuple[int, int]:
    """(width, height) of a picture whose pixels are `aspect` times as wide as high, once they are square."""
    return (round(width * aspect), height) if aspect else (width, height)


def _to_rgb(decoded: av.VideoFrame, size: tuple[int, int]) -> np.ndarray:
    """RGB of the given (width, height), then turned upright."""
    if any(component.is_alpha for component in decoded.format.components):
        rgb = _over_white(decoded.to_ndarray(format="rgba"))
    else:
        rgb = decoded.to_ndarray(format="rgb24")
    if (decoded.width, decoded.height) != size:
        rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(np.rot90(rgb, round(decoded.rotation / 90)))


def _over_white(rgba: np.ndarray) -> np.ndarray:
    if rgba[..., 3].min() == 255:
        return np.ascontiguousarray(rgba[..., :3])
    alpha = rgba[..., 3:].astype(np.float32) / 255
    return np.round(rgba[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)


# ------------------------------------------------------------------------------------------------------------ shots


@dataclass(frozen=True)
class Shot:
    """The frames of a source that will be used: one camera position, no frame twice.

    Attributes:
        source: where the frames are.
        indices: [T] int64 places in the source, increasing.
        seconds: [T] float64 presentation times.
        width, height: of the frames, upright and with square pixels.
    """

    source: Source
    indices: np.ndarray
    seconds: np.ndarray
    width: int
    height: int

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def fps(self) -> float:
        """Mean rate of the frames that are used; :data:`FOLDER_FPS` where the times give no rate of a camera."""
        rate = float((len(self) - 1) / (self.seconds[-1] - self.seconds[0]))
        return rate if _SLOWEST <= rate <= _FASTEST else FOLDER_FPS

    def frames(self) -> Iterator[Frame]:
        """Decode the shot's frames once more, one after the other."""
        return self.source.frames(frozenset(self.indices.tolist()))


def find_shot(source: Source, max_frames: int | None, progress: Stage) -> Shot:
    """Look through the whole source for its longest shot, and thin it to at most `max_frames` evenly spaced frames.

    Frames that repeat the one before (as conversions from 24 to 30 frames per second make) are left out. Cuts, repeats
    and damage are told to the user.

    Raises:
        InputError: the source has fewer than :data:`MIN_FRAMES` different frames in any one shot, or cannot be decoded.
    """
    if max_frames is not None and max_frames < MIN_FRAMES:
        raise InputError(f"max_frames is {max_frames}, and at least {MIN_FRAMES} frames are needed")
    indices: list[int] = []
    seconds: list[float] = []
    changes: list[tuple[float, float]] = []  # mean and median difference to the kept frame before
    previous: np.ndarray | None = None
    decoded, width, height = 0, 0, 0
    with progress("looking for cuts", source.count) as report:
        for frame in source.frames():
            report()
            decoded += 1
            height, width = frame.rgb.shape[:2]
            thumbnail = cv2.resize(frame.rgb, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA).astype(np.float32)
            if previous is not None:
                difference = np.abs(thumbnail - previous)
                if difference.mean() <= _REPEAT_MEAN and difference.max() <= _REPEAT_MOST:
                    continue
                changes.append((float(difference.mean()), float(np.median(difference.mean(2)))))
            previous = thumbnail
            indices.append(frame.index)
            seconds.append(frame.seconds)

    if source.damage:
        warn(f"{source.path} is damaged: {source.damage}; {decoded} frames before and around that are used")
    if decoded == 0:
        raise InputError(f"{source.path} holds no frame that can be decoded")
    if decoded == 1:
        raise InputError(f"{source.path} is one still image: give a video of at least {MIN_FRAMES} frames")
    if decoded - len(indices) > 0.02 * decoded:
        remark(f"{decoded - len(indices)} of {decoded} frames repeat the one before and are left out")
    times = _increasing(np.array(seconds))
    first, end = _longest_shot(changes, times, len(indices))
    if end - first < MIN_FRAMES:
        different = f"{end - first} different frames" + (" without a cut" if end - first < len(indices) else "")
        raise InputError(f"{source.path} has only {different}: at least {MIN_FRAMES} are needed")
    step = 1 if max_frames is None else -(-(end - first) // max_frames)
    chosen = slice(first, end, step)
    return Shot(source, np.array(indices, dtype=np.int64)[chosen], times[chosen], width, height)


def _increasing(seconds: np.ndarray) -> np.ndarray:
    """Times as they are, or evenly spaced ones where the file's do not increase (broken or missing time stamps)."""
    if len(seconds) < 2 or (np.diff(seconds) > 0).all():
        return seconds
    return np.arange(len(seconds)) / FOLDER_FPS


def _longest_shot(changes: list[tuple[float, float]], seconds: np.ndarray, count: int) -> tuple[int, int]:
    """First frame and end (exclusive) of the longest run without a cut, among `count` frames.

    ``changes[i]`` is the mean and median difference between frames i and i + 1.
    """
    cuts = [0]
    means = np.array([mean for mean, _ in changes])
    for i, (mean, median) in enumerate(changes):
        usual = np.median(means[max(0, i - _CUT_WINDOW) : i + _CUT_WINDOW + 1])
        if mean > max(_CUT_MEAN, _CUT_RATIO * usual) and median > _CUT_MEDIAN:
            cuts.append(i + 1)
    cuts.append(count)
    lengths = np.diff(cuts)
    longest = int(np.argmax(lengths))
    first, end = cuts[longest], cuts[longest + 1]
    if len(lengths) > 1:
        at = ", ".join(f"{seconds[cut]:.1f} s" for cut in cuts[1:-1])
        warn(
            f"the video is cut at {at}: only its longest shot is used, "
            f"from {seconds[first]:.1f} s to {seconds[end - 1]:.1f} s"
        )
    return first, end
