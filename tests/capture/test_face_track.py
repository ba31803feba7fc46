"""Which face is followed, what is said when there are too many or none, and how several threads look for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from stavatar import assets
from stavatar.capture._quiet import loading
from stavatar.capture.landmarks import _CHUNK, BLENDSHAPES, _Face, _follow, _overlap, _require, track_face
from stavatar.capture.matte import cut_out
from stavatar.capture.video import Frame
from stavatar.errors import AssetError, BackendError, InputError
from stavatar.synth.render import Renderer, portrait_camera
from stavatar.synth.subject import Subject


def face(x: float, y: float, size: float) -> _Face:
    square = np.array([(0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 0)], dtype=np.float32)
    return _Face(square * size + np.array([x, y, 0], dtype=np.float32), np.zeros(52, dtype=np.float32))


def test_overlap_is_intersection_over_union():
    assert _overlap(face(0, 0, 10).box, face(0, 0, 10).box) == 1
    assert _overlap(face(0, 0, 10).box, face(5, 0, 10).box) == pytest.approx(50 / 150)
    assert _overlap(face(0, 0, 10).box, face(10, 0, 10).box) == 0


def test_the_larger_face_is_followed_even_when_it_is_not_the_larger_one_for_a_while():
    speaker = [face(100 + 2 * t, 50, 100 if t != 5 else 60) for t in range(10)]
    other = [face(300, 50, 80) for _ in range(10)]
    seen = [[other[t], speaker[t]] if t % 2 else [speaker[t], other[t]] for t in range(10)]
    assert _follow(seen) == speaker


def test_a_gap_stays_a_gap_and_the_face_is_found_again_elsewhere():
    before, after = [face(100, 50, 100)] * 3, [face(400, 80, 90)] * 3
    passer_by = face(600, 0, 20)
    seen = [[f] for f in before] + [[], [passer_by], []] + [[passer_by, f] for f in after]
    assert _follow(seen) == [*before, None, None, None, *after]


def test_no_faces_at_all():
    assert _follow([[], []]) == [None, None]


def test_hardly_any_face_is_too_few():
    one = face(0, 0, 10)
    with pytest.raises(InputError, match="no face was found in the video"):
        _require([None] * 20)
    with pytest.raises(InputError, match="a face was found in only 3 frames"):
        _require([one] * 3 + [None] * 20)
    _require([one] * 15 + [None] * 5)


def test_a_video_of_a_wall_has_no_face():
    try:
        model = assets.path("face_landmarker")
    except AssetError as reason:
        pytest.skip(str(reason))
    wall = np.random.default_rng(0).integers(90, 110, (128, 160, 3)).astype(np.uint8)
    frames = [Frame(t, t / 25, wall) for t in range(12)]
    with pytest.raises(InputError, match="no face was found"):
        track_face(frames, model, lambda advance=1, note=None: None)


@pytest.fixture(scope="module")
def performance(head) -> list[np.ndarray]:
    """A rendered person who turns her head, for more frames than a thread looks at in one go."""
    parameters = head.neutral(_CHUNK + 5)
    neck = parameters.neck.clone()
    neck[:, 1] = torch.linspace(-0.3, 0.3, len(neck))
    renderer = Renderer(head, Subject.random(head, 0))
    camera = portrait_camera(head, 192, 192)
    return list(renderer.frames(parameters.replaced(neck=neck), camera, noise=0.0, seed=0))


def test_faces_and_mattes_do_not_depend_on_the_threads(performance):
    try:
        landmarker, segmenter = assets.path("face_landmarker"), assets.path("selfie_segmenter")
    except AssetError as reason:
        pytest.skip(str(reason))
    frames = [Frame(t, t / 25, picture) for t, picture in enumerate(performance)]
    before = torch.get_num_threads()
    tracks, mattes = [], []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            tracks.append(track_face(frames, landmarker, lambda advance=1, note=None: None))
            mattes.append(list(cut_out(performance, segmenter)))
    finally:
        torch.set_num_threads(before)
    one, three = tracks
    assert one.detected.all() and one.points.std(0).max() > 1, "she is seen, and moves"
    np.testing.assert_array_equal(one.points, three.points)
    np.testing.assert_array_equal(one.blendshapes, three.blendshapes)
    assert one.names == three.names and len(one.names) == BLENDSHAPES
    for left, right in zip(*mattes, strict=True):
        np.testing.assert_array_equal(left[0], right[0])
        np.testing.assert_array_equal(left[1], right[1])


def test_a_missing_library_of_the_system_is_told():
    with pytest.raises(BackendError, match="apt install libegl1 libgles2"), loading(Path("model.task")):
        raise OSError("libEGL.so.1: cannot open shared object file")
