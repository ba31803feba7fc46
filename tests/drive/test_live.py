"""Driving by a camera, with a file in the camera's place."""

import copy
import dataclasses
import itertools
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from stavatar import assets
from stavatar.capture import live as live_capture
from stavatar.capture.live import FaceReader, LiveFace, live_pictures
from stavatar.containers import write_video
from stavatar.drive import Retargeter, Retargeting
from stavatar.drive import live as live_drive
from stavatar.drive.filters import OneEuro
from stavatar.drive.live import CALIBRATION_SECONDS, LiveDriver, LiveRetargeter
from stavatar.errors import InputError
from stavatar.rotations import axis_angle_to_matrix
from stavatar.synth import make_performance

needs_landmarker = pytest.mark.skipif(
    next(state for state in assets.states() if state.asset.name == "face_landmarker").state in ("missing", "damaged"),
    reason="the face landmarker is not here; `stavatar assets` fetches it",
)


@pytest.fixture(scope="module")
def clip(head, tmp_path_factory):
    """A rendered face, half a second of it. Painting it takes most of the time."""
    path = tmp_path_factory.mktemp("camera") / "face.mp4"
    performance = make_performance(head, frames=13, size=160, seed=2)
    write_video(path, performance.render(), 25.0)
    return path


def face(names, seconds, turn=0.0, **scores):
    values = np.full(len(names), 0.1, np.float32)
    for name, score in scores.items():
        values[names.index(name)] = score
    head = axis_angle_to_matrix(torch.tensor([0.0, turn, 0.0])).numpy()
    return LiveFace(seconds, names, values, head)


@pytest.fixture
def names(head):
    return ("_neutral", *head.expression_names)


def test_rest_is_learned_first_and_what_follows_is_relative_to_it(small_motion, head, names):
    options = Retargeting(limit=float("inf"), head_motion=True)
    live = LiveRetargeter(Retargeter(small_motion, head, options))
    retarget, jaw = live.retarget, head.expression_names.index("jawOpen")
    for index in range(60):
        frame = live.follow(face(names, index * CALIBRATION_SECONDS / 50, turn=0.4))
    assert live.calibrated
    torch.testing.assert_close(frame.parameters.expression[0], retarget.rest.expression, atol=0.02, rtol=0)
    torch.testing.assert_close(frame.parameters.neck, retarget.usual_neck, atol=1e-3, rtol=0)
    for index in range(30):
        frame = live.follow(face(names, 3 + index / 25, turn=0.6, jawOpen=0.6))
    assert frame.parameters.expression[0, jaw] == pytest.approx(float(retarget.rest.expression[jaw]) + 0.5, abs=0.02)
    assert frame.parameters.neck[0, 1] - retarget.usual_neck[0, 1] == pytest.approx(0.2, abs=0.02)
    live.calibrate()
    assert not live.calibrated


def test_a_head_without_arkit_refuses_the_camera(small_motion, head, names):
    flame = copy.copy(head)
    flame.name, flame.expression_names = "flame-2023", [f"expression_{index}" for index in range(52)]
    retarget = Retargeter(small_motion, flame)
    with pytest.raises(InputError, match="the camera holds ARKit coefficients"):
        LiveRetargeter(retarget).follow(face(names, 0.0))


def test_the_filter_calms_rest_and_follows_movement():
    times = torch.arange(100) / 25
    noise = 0.02 * torch.randn(100, generator=torch.Generator().manual_seed(0))
    calm = OneEuro()
    rest = torch.stack([calm(value, float(t)) for value, t in zip(noise[:, None], times, strict=True)])[20:]
    assert rest.std() < 0.6 * noise[20:].std()
    quick = OneEuro()
    step = [quick(torch.tensor([float(t > 1)]), float(t))[0] for t in times]
    reached = next(float(t) for value, t in zip(step, times, strict=True) if value > 0.8)
    assert reached - 1 < 0.2
    assert quick(torch.tensor([5.0]), float(times[-1]))[0] == step[-1], "a time that stands still adds nothing"


@pytest.mark.parametrize(("camera", "complaint"), [("97", "no camera 97"), ("nobody.mp4", "does not exist")])
def test_a_missing_camera_is_told(camera, complaint):
    with pytest.raises(InputError, match=complaint):
        next(live_pictures(camera))


def test_a_file_plays_at_its_own_speed_and_starts_again(tmp_path):
    greys = (np.full((64, 64, 3), 40 + 15 * index, np.uint8) for index in range(13))
    write_video(tmp_path / "grey.mp4", greys, 25.0)
    begin = time.monotonic()
    pictures = list(itertools.islice(live_pictures(str(tmp_path / "grey.mp4")), 20))
    assert all(a.seconds <= b.seconds for a, b in itertools.pairwise(pictures))
    assert time.monotonic() - begin > 0.45
    repeated = [np.abs(picture.rgb.astype(int) - pictures[0].rgb).mean() for picture in pictures[5:]]
    assert min(repeated) < 0.1, "the first picture comes again"


class Camera:
    """In place of cv2's: plugged in or not, and with a file handle for as long as it is open."""

    plugged = True
    handles = 0

    def __init__(self, number):
        self._file = Path(os.devnull).open() if Camera.plugged else None  # noqa: SIM115
        Camera.handles += self._file is not None

    def isOpened(self):
        return self._file is not None

    def set(self, setting, value):
        return True

    def read(self):
        time.sleep(0.002)
        return (True, np.zeros((8, 8, 3), np.uint8)) if self._file and Camera.plugged else (False, None)

    def release(self):
        if self._file is not None:
            self._file.close()
            self._file = None
            Camera.handles -= 1


class Reader:
    """In place of the landmarker: sees the same face in every picture."""

    def __init__(self, names):
        self._names = names

    def read(self, picture):
        return face(self._names, picture.seconds)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def open_handles():
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0


def wait_until(true, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)


def test_a_camera_that_is_unplugged_is_waited_for(small_motion, head, names, monkeypatch, capsys):
    monkeypatch.setattr(live_capture.cv2, "VideoCapture", Camera)
    monkeypatch.setattr(live_capture, "_AGAIN", 0.01)
    monkeypatch.setattr(live_drive, "FaceReader", lambda: Reader(names))
    monkeypatch.setattr(Camera, "plugged", True)
    threads, handles = threading.active_count(), open_handles()
    driver = LiveDriver("0", Retargeter(small_motion, head))
    try:
        for _ in range(5):
            wait_until(lambda: driver.latest is not None and not driver.waiting)
            Camera.plugged = False
            wait_until(lambda: driver.waiting)
            last = driver.latest
            assert Camera.handles == 0, "the camera that went away is let go"
            time.sleep(0.05)
            assert driver.latest is last, "driving pauses"
            assert driver.failure is None
            Camera.plugged = True
            wait_until(lambda: driver.latest is not last)  # noqa: B023
        assert Camera.handles == 1
        assert threading.active_count() == threads + 1
    finally:
        driver.close()
    assert Camera.handles == 0
    assert (threading.active_count(), open_handles()) == (threads, handles)
    told = capsys.readouterr().err
    assert told.count("camera 0 gives no pictures: plug it in again, and driving goes on") == 5
    assert told.count("camera 0 is back") == 5


def test_closing_while_the_camera_is_away_ends_the_wait(small_motion, head, names, monkeypatch):
    monkeypatch.setattr(live_capture.cv2, "VideoCapture", Camera)
    monkeypatch.setattr(live_capture, "_AGAIN", 0.01)
    monkeypatch.setattr(live_drive, "FaceReader", lambda: Reader(names))
    monkeypatch.setattr(Camera, "plugged", True)
    driver = LiveDriver("0", Retargeter(small_motion, head))
    Camera.plugged = False
    wait_until(lambda: driver.waiting)
    driver.close()
    assert Camera.handles == 0
    assert not driver._thread.is_alive()


@pytest.mark.slow
@needs_landmarker
def test_a_frontal_face_is_read(clip):
    with FaceReader() as reader:
        faces = [reader.read(picture) for picture in itertools.islice(live_pictures(str(clip)), 3)]
        nobody = reader.read(dataclasses.replace(next(live_pictures(str(clip))), rgb=np.zeros((96, 96, 3), np.uint8)))
    assert nobody is None
    found = faces[-1]
    assert "jawOpen" in found.names
    assert found.head[2, 2] > 0.9  # looks at the camera
    assert np.allclose(found.head @ found.head.T, np.eye(3), atol=1e-5)


@pytest.mark.slow
@needs_landmarker
def test_the_camera_drives_in_a_thread_and_stops(clip, small_motion, head):
    driver = LiveDriver(str(clip), Retargeter(small_motion, head))
    deadline = time.monotonic() + 20
    while driver.latest is None and time.monotonic() < deadline:
        time.sleep(0.05)
    driver.close()
    assert driver.failure is None
    assert driver.latest.parameters.expression.shape == (1, 52)
    assert 0 <= time.monotonic() - driver.latest.seconds < 10


@needs_landmarker
def test_a_camera_that_gives_nothing_is_told_at_once(small_motion, head):
    with pytest.raises(InputError, match="no camera 97"):
        LiveDriver("97", Retargeter(small_motion, head))
