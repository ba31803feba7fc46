"""Driving by a camera, as it happens."""

from __future__ import annotations

import threading
from contextlib import closing
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from stavatar.capture.live import FaceReader, LiveFace, LivePicture, live_pictures
from stavatar.drive.driver import Driver
from stavatar.drive.filters import OneEuro
from stavatar.drive.rest import Rest
from stavatar.drive.retarget import Retargeter, mean_rotation
from stavatar.errors import StavatarError
from stavatar.head import HeadParameters
from stavatar.progress import remark, warn

CALIBRATION_SECONDS = 2.0
"""How long the face is watched, relaxed, to learn what its rest is."""


@dataclass(frozen=True)
class LiveFrame:
    """Parameters of one frame, and when its picture was taken, in seconds of the monotonic clock."""

    parameters: HeadParameters
    seconds: float


class LiveRetargeter:
    """Turns faces that arrive one by one into an avatar's parameters.

    Args:
        retarget: of the avatar.
    """

    def __init__(self, retarget: Retargeter) -> None:
        self.retarget = retarget
        self._filter = OneEuro()
        self.calibrate()

    def calibrate(self) -> None:
        """Learn rest again from what comes next."""
        self._watched: list[LiveFace] = []
        self._rest: tuple[Rest, Tensor] | None = None

    @property
    def calibrated(self) -> bool:
        return self._rest is not None

    def follow(self, face: LiveFace) -> LiveFrame:
        """The avatar's parameters for a face; until rest is known, what was seen so far is taken for it.

        Raises:
            InputError: the avatar's head has no ARKit expressions.
        """
        driver = _driver([face])
        rest, usual = self._rest or self._learn(face)
        expression = self.retarget.expression(driver, rest)
        jaw, eyes = self.retarget.rest.jaw[None], self.retarget.gaze(driver, rest)
        neck = self.retarget.usual_neck
        if self.retarget.options.head_motion and driver.head is not None:
            neck = self.retarget.neck(driver.head, usual)
        parts = [expression, eyes, neck]
        smooth = self._filter(torch.cat(parts, 1), face.seconds)
        expression, eyes, neck = smooth.split([part.shape[1] for part in parts], 1)
        return LiveFrame(self.retarget.posed(expression, jaw, eyes, neck), face.seconds)

    def _learn(self, face: LiveFace) -> tuple[Rest, Tensor]:
        if not self._watched:
            self.retarget.require("the camera", None, face.names)
        self._watched.append(face)
        driver = _driver(self._watched)
        assert driver.head is not None
        rest = Rest.of(driver.expression, driver.jaw, driver.eyes, driver.expression_names)
        learned = rest, mean_rotation(driver.head)
        if face.seconds - self._watched[0].seconds > CALIBRATION_SECONDS:
            self._rest = learned
        return learned


class LiveDriver:
    """Watches a camera in a thread of its own and keeps the newest frame.

    A camera that stops giving pictures is told about and waited for; until then the newest frame stays what it was.

    Args:
        camera: number of a camera, or a video file in its place.
        retarget: of the avatar that is driven.

    Raises:
        InputError: the camera gives no picture, or the avatar cannot be driven by a camera.
        AssetError: the landmarker's model is missing.
    """

    def __init__(self, camera: str, retarget: Retargeter) -> None:
        self.latest: LiveFrame | None = None
        self.failure: StavatarError | None = None
        self.waiting = False
        """Whether the camera gives no pictures at present."""
        self._camera = camera
        self._retarget = LiveRetargeter(retarget)
        self._pictures = live_pictures(camera)
        first = next(self._pictures)  # so that a missing camera is told at once
        self._reader = FaceReader()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, args=(first,), name="camera", daemon=True)
        self._thread.start()

    @property
    def calibrated(self) -> bool:
        return self._retarget.calibrated

    def calibrate(self) -> None:
        """Learn the face's rest again: the person looks relaxed into the camera."""
        self._retarget.calibrate()

    def close(self) -> None:
        """Stop watching and free the camera."""
        self._stop.set()
        self._thread.join()

    def _watch(self, first: LivePicture | None) -> None:
        try:
            with closing(self._pictures), self._reader as reader:
                for picture in chain([first], self._pictures):
                    if self._stop.is_set():
                        return
                    self._note(picture is None)
                    face = None if picture is None else reader.read(picture)
                    if face is not None:
                        self.latest = self._retarget.follow(face)
        except StavatarError as error:
            self.failure = error

    def _note(self, waiting: bool) -> None:
        """Tell the user when the camera goes away, and when it is back."""
        if waiting and not self.waiting:
            warn(f"camera {self._camera} gives no pictures: plug it in again, and driving goes on")
        if self.waiting and not waiting:
            remark(f"camera {self._camera} is back")
        self.waiting = waiting


def _driver(faces: list[LiveFace]) -> Driver:
    scores = torch.stack([torch.from_numpy(face.scores) for face in faces])
    head = torch.stack([torch.from_numpy(face.head) for face in faces])
    return Driver.from_arkit("the camera", faces[0].names, scores, fps=0.0, head=head)
