"""Face landmarks and blendshape scores of one person through a shot, by MediaPipe's face landmarker."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from queue import SimpleQueue

import mediapipe as mp
import numpy as np
from mediapipe.tasks.python import BaseOptions, vision

from stavatar.capture._quiet import loading
from stavatar.capture.video import Frame
from stavatar.errors import InputError
from stavatar.head.landmarks import LANDMARKS
from stavatar.parallel import borrowed, in_chunks, in_order, threads
from stavatar.progress import Report

BLENDSHAPES = 52
MIN_DETECTIONS = 10
"""Fewer frames with a face than this cannot be tracked."""

_MOST_FACES = 3
_CHUNK = 16
"""Frames that a thread looks at in one go."""
_MOST_BYTES = 1 << 30
"""Of the pictures that threads look at: of large ones, fewer threads."""
# A face that does not overlap the one followed may still be the same person, come back elsewhere, if it is as large.
_SAME_SIZE = (0.6, 1.7)


@dataclass(frozen=True)
class FaceTrack:
    """What the landmarker saw of one face in T frames.

    Attributes:
        points: [T, 478, 3] float32 pixels of the frame (x right, y down, z in pixels, towards the camera negative), NaN
            in frames without a detection.
        blendshapes: [T, 52] float32 scores in [0, 1], NaN in frames without a detection.
        names: of the blendshapes.
        others: [T] how many faces were seen besides.
    """

    points: np.ndarray
    blendshapes: np.ndarray
    names: tuple[str, ...]
    others: np.ndarray

    @property
    def detected(self) -> np.ndarray:
        """[T] bool."""
        return ~np.isnan(self.points[:, 0, 0])


class _Landmarker:
    """A landmarker, and the time that it believes it is."""

    def __init__(self, landmarker: vision.FaceLandmarker) -> None:
        self._landmarker = landmarker
        self._milliseconds = 0

    def detect(self, frames: list[Frame]) -> tuple[list[list[_Face]], tuple[str, ...]]:
        """The faces in each of some frames that follow each other, and the blendshapes' names where there is a face."""
        self._see(_nothing())  # so that it does not look where the last chunk had faces
        names: tuple[str, ...] = ()
        seen: list[list[_Face]] = []
        for frame in frames:
            result = self._see(mp.Image(image_format=mp.ImageFormat.SRGB, data=frame.rgb))
            height, width = frame.rgb.shape[:2]
            scale = np.array([width, height, width], dtype=np.float32)
            seen.append([])
            for points, scores in zip(result.face_landmarks, result.face_blendshapes, strict=True):
                names = tuple(score.category_name for score in scores)
                seen[-1].append(
                    _Face(
                        np.array([(p.x, p.y, p.z) for p in points], dtype=np.float32) * scale,
                        np.array([score.score for score in scores], dtype=np.float32),
                    )
                )
        return seen, names

    def _see(self, image: mp.Image) -> vision.FaceLandmarkerResult:
        self._milliseconds += 1  # it only must increase
        return self._landmarker.detect_for_video(image, self._milliseconds)


@dataclass(frozen=True)
class _Face:
    points: np.ndarray
    scores: np.ndarray

    @property
    def box(self) -> np.ndarray:
        """(left, top, right, bottom) around the landmarks."""
        return np.concatenate([self.points[:, :2].min(0), self.points[:, :2].max(0)])


def track_face(frames: Iterable[Frame], model: Path, report: Report) -> FaceTrack:
    """Detect faces in every frame and follow one: the shot's largest, forwards and backwards from its largest view.

    The landmarker runs on video (a face is searched near where it was) and for several faces. In that mode it does not
    smooth over time, which is wanted: its smoothing lags a quarter of a frame behind, and tracking has its own. Each
    thread has a landmarker, which forgets what it saw between chunks: so results do not depend on the threads.

    Raises:
        InputError: fewer than :data:`MIN_DETECTIONS` frames show a face.
    """
    seen: list[list[_Face]] = []
    names: tuple[str, ...] = ()
    frames = iter(frames)
    first = list(islice(frames, 1))
    lanes = max(1, min(threads(), _MOST_BYTES // (_CHUNK * first[0].rgb.nbytes))) if first else 1
    idle: SimpleQueue[_Landmarker] = SimpleQueue()
    with ExitStack() as stack:
        for _ in range(lanes):
            idle.put(_Landmarker(stack.enter_context(open_landmarker(model, faces=_MOST_FACES))))
        pool = stack.enter_context(ThreadPoolExecutor(max_workers=lanes))

        def detect(chunk: list[Frame]) -> tuple[list[list[_Face]], tuple[str, ...]]:
            with borrowed(idle) as landmarker:
                return landmarker.detect(chunk)

        for faces, found in in_order(pool, detect, in_chunks(chain(first, frames), _CHUNK), ahead=lanes):
            seen += faces
            names = names or found
            report(len(faces))
    followed = _follow(seen)
    _require(followed)
    others = np.array([len(faces) - (face is not None) for faces, face in zip(seen, followed, strict=True)])

    points = np.full((len(seen), LANDMARKS, 3), np.nan, dtype=np.float32)
    blendshapes = np.full((len(seen), BLENDSHAPES), np.nan, dtype=np.float32)
    for t, face in enumerate(followed):
        if face is not None:
            points[t], blendshapes[t] = face.points, face.scores
    return FaceTrack(points, blendshapes, names, others)


def open_landmarker(model: Path, *, faces: int, transforms: bool = False) -> vision.FaceLandmarker:
    """A landmarker that has seen time 0 and wants increasing times in milliseconds from now on.

    Args:
        model: the landmarker's model file.
        faces: how many to look for.
        transforms: also report where each head is in space.
    """
    options = vision.FaceLandmarkerOptions(
        base_options=BaseOptions(model_asset_buffer=model.read_bytes()),
        running_mode=vision.RunningMode.VIDEO,
        output_face_blendshapes=True,
        output_facial_transformation_matrixes=transforms,
        num_faces=faces,
    )
    with loading(model):
        landmarker = vision.FaceLandmarker.create_from_options(options)
        landmarker.detect_for_video(_nothing(), 0)
    return landmarker


def _nothing() -> mp.Image:
    """A picture without a face, to start the model with."""
    return mp.Image(image_format=mp.ImageFormat.SRGB, data=np.zeros((64, 64, 3), dtype=np.uint8))


def _follow(seen: list[list[_Face]]) -> list[_Face | None]:
    """One face or none for each frame, out of all that were detected in it."""
    followed: list[_Face | None] = [None] * len(seen)
    everything = [(_area(face.box), t, face) for t, faces in enumerate(seen) for face in faces]
    if not everything:
        return followed
    _, start, largest = max(everything, key=lambda entry: entry[0])
    followed[start] = largest
    for order in (range(start + 1, len(seen)), range(start - 1, -1, -1)):
        last = largest
        for t in order:
            face = _same_face(seen[t], last)
            if face is not None:
                followed[t] = last = face
    return followed


def _same_face(faces: list[_Face], last: _Face) -> _Face | None:
    """The face that overlaps `last` most; where none does, the largest, if it is of about the same size."""
    if not faces:
        return None
    overlaps = [_overlap(face.box, last.box) for face in faces]
    if max(overlaps) > 0:
        return faces[int(np.argmax(overlaps))]
    largest = max(faces, key=lambda face: _area(face.box))
    growth = (_area(largest.box) / _area(last.box)) ** 0.5
    return largest if _SAME_SIZE[0] < growth < _SAME_SIZE[1] else None


def _area(box: np.ndarray) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    return float(width * height / (_area(a) + _area(b) - width * height))


def _require(followed: list[_Face | None]) -> None:
    """Raise where there is hardly any face."""
    detections = sum(face is not None for face in followed)
    if detections == 0:
        raise InputError("no face was found in the video: it must show one person's face from the front, well lit")
    if detections < MIN_DETECTIONS:
        raise InputError(
            f"a face was found in only {detections} frames of the video: at least {MIN_DETECTIONS} are needed"
        )
