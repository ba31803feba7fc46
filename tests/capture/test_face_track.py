"""Which face is followed, and what is said when there are too many or none."""

from __future__ import annotations

import numpy as np
import pytest

from stavatar import assets
from stavatar.capture.landmarks import _Face, _follow, _overlap, _require, track_face
from stavatar.capture.video import Frame
from stavatar.errors import AssetError, InputError


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
