"""Pictures as they happen: a camera, or a file played at its own speed in a camera's place."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import cv2
import mediapipe as mp
import numpy as np

from stavatar import assets
from stavatar.capture._quiet import native_messages_hidden
from stavatar.capture.landmarks import open_landmarker
from stavatar.capture.video import open_source
from stavatar.errors import InputError

_AGAIN = 1.0  # seconds between attempts to open a camera that went away
_LATE = 0.1  # seconds after which a picture of a file is old news
_SELDOM = 0.25  # seconds between pictures where all of them are late


@dataclass(frozen=True)
class LivePicture:
    """A picture [H, W, 3] uint8 RGB and when it was taken, in seconds of the monotonic clock."""

    seconds: float
    rgb: np.ndarray


@dataclass(frozen=True)
class LiveFace:
    """What is seen of a face in one picture.

    Attributes:
        seconds: when the picture was taken.
        names: of the coefficients, as ARKit names them.
        scores: [C] coefficients in [0, 1].
        head: [3, 3] rotation of the head, world axes (x to its left, y up, z towards the camera).
    """

    seconds: float
    names: tuple[str, ...]
    scores: np.ndarray
    head: np.ndarray


def live_pictures(camera: str) -> Generator[LivePicture | None, None, None]:
    """Pictures of the camera numbered `camera`, or of the file of that name, again and again from its start.

    A file is played at its own speed: pictures whose time has passed before they are asked for are left out, as a
    camera would. A camera that stops giving pictures, because it was unplugged, say, is waited for: None comes every
    second until it is back. The camera is free again when the iterator is closed.

    Raises:
        InputError: there is no such camera or file, or the file gives no pictures.
    """
    return _device(int(camera)) if camera.isdecimal() else _file(Path(camera))


def _device(number: int) -> Generator[LivePicture | None, None, None]:
    device = _opened(number)
    if device is None:
        raise InputError(
            f"there is no camera {number} that can be opened: plug one in, allow its use, or name another number "
            "or a video file with --camera"
        )
    try:
        while True:
            taken, bgr = device.read() if device is not None else (False, np.empty(0))
            if taken:
                yield LivePicture(time.monotonic(), cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))
                continue
            if device is not None:
                device.release()
            device = None
            yield None
            time.sleep(_AGAIN)
            device = _opened(number)
    finally:
        if device is not None:
            device.release()


def _opened(number: int) -> cv2.VideoCapture | None:
    with native_messages_hidden():
        device = cv2.VideoCapture(number)
    if not device.isOpened():
        device.release()
        return None
    device.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # old pictures are of no use
    return device


def _file(path: Path) -> Generator[LivePicture, None, None]:
    source = open_source(path)
    shown = 0.0
    while True:
        begin, first = time.monotonic(), None
        for frame in source.frames():
            first = frame.seconds if first is None else first
            ahead = begin + frame.seconds - first - time.monotonic()
            if ahead < -_LATE and time.monotonic() - shown < _SELDOM:
                continue
            time.sleep(max(0.0, ahead))
            shown = time.monotonic()
            yield LivePicture(shown, frame.rgb)
        if first is None:
            raise InputError(f"{path} gives no pictures")


class FaceReader:
    """Reads one face off pictures that follow one another.

    Raises:
        AssetError: the landmarker's model is missing.
    """

    def __init__(self) -> None:
        self._landmarker = open_landmarker(assets.path("face_landmarker"), faces=1, transforms=True)
        self._begin = time.monotonic()
        self._clock = 0

    def read(self, picture: LivePicture) -> LiveFace | None:
        """The face in a picture, or None where there is none."""
        self._clock = max(self._clock + 1, round((picture.seconds - self._begin) * 1000))
        image = mp.Image(image_format=mp.ImageFormat.SRGB, data=np.ascontiguousarray(picture.rgb))
        result = self._landmarker.detect_for_video(image, self._clock)
        if not result.face_blendshapes:
            return None
        names = tuple(score.category_name for score in result.face_blendshapes[0])
        scores = np.array([score.score for score in result.face_blendshapes[0]], np.float32)
        # The transform may scale; its axes are ours.
        left, _, right = np.linalg.svd(np.asarray(result.facial_transformation_matrixes[0])[:3, :3])
        return LiveFace(picture.seconds, names, scores, (left @ right).astype(np.float32))

    def __enter__(self) -> FaceReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._landmarker.close()
