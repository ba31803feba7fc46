"""The square around the head: where it lies, and what it does to pictures and landmarks."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from stavatar.capture.crop import Crop, choose_crop


def faces(*boxes: tuple[float, float, float, float]) -> np.ndarray:
    """Landmarks [T, 478, 3] that fill the boxes (left, top, right, bottom)."""
    generator = np.random.default_rng(0)
    points = generator.uniform(size=(len(boxes), 478, 3))
    points[:, 0], points[:, 1] = 0, 1
    for t, (left, top, right, bottom) in enumerate(boxes):
        points[t, :, 0] = left + points[t, :, 0] * (right - left)
        points[t, :, 1] = top + points[t, :, 1] * (bottom - top)
    return points


def test_a_small_head_gets_a_square_around_itself():
    crop = choose_crop(faces((900, 400, 1060, 600)), 1920, 1080, 256)
    assert crop.left + crop.side / 2 == pytest.approx(980, abs=1), "centred on the face"
    assert crop.side == pytest.approx(200 * 2.5, abs=1)
    assert 400 - crop.top == pytest.approx(0.6 * 200, abs=1), "room for hair"
    assert crop.top + crop.side - 600 == pytest.approx(0.9 * 200, abs=1), "room for shoulders"


def test_all_frames_share_one_square_that_holds_every_face():
    boxes = [(700, 300, 860, 500), (900, 350, 1060, 550), (760, 420, 920, 620)]
    points = np.concatenate([faces(*boxes), np.full((1, 478, 3), np.nan)])
    crop = choose_crop(points, 1920, 1080, 256)
    for left, top, right, bottom in boxes:
        assert crop.left < left - 40
        assert right + 40 < crop.left + crop.side
        assert crop.top < top - 80
        assert bottom + 30 < crop.top + crop.side


def test_a_tight_picture_is_used_up_to_its_short_side():
    crop = choose_crop(faces((200, 120, 420, 400)), 640, 480, 256)
    assert (crop.top, crop.side) == (0, 480)
    assert crop.left == 70, "centred on the face, inside the picture"
    assert choose_crop(faces((20, 120, 240, 400)), 640, 480, 256).left == 0


def test_a_head_that_crosses_a_wide_picture_reaches_over_its_border():
    points = faces((100, 100, 250, 300), (900, 100, 1050, 300))
    crop = choose_crop(points, 1280, 480, 256)
    assert crop.side > 480
    assert crop.left < 100 - 40
    assert crop.left + crop.side > 1050 + 40
    assert crop.inside(1280, 480).mean() == pytest.approx(480 / crop.side, abs=0.01)


def test_one_stray_detection_does_not_widen_the_square():
    steady = [(900, 400, 1060, 600)] * 999
    assert choose_crop(faces(*steady, (0, 0, 160, 200)), 1920, 1080, 256).side == 500


def test_a_small_face_is_worth_a_warning(capfd):
    choose_crop(faces((300, 200, 340, 250)), 640, 480, 256)
    assert "the face is only 50 pixels high" in " ".join(capfd.readouterr().err.split())
    choose_crop(faces((300, 200, 360, 270)), 640, 480, 256)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("crop", [Crop(40, 20, 200, 128), Crop(-30, -10, 400, 128), Crop(60, 30, 100, 150)])
def test_landmarks_move_with_the_picture(crop):
    """A white disc is found in the crop where its centre is mapped to."""
    picture = np.zeros((360, 340, 3), dtype=np.uint8)
    cv2.circle(picture, (110, 80), 12, (255, 255, 255), -1)
    cut = crop.apply(picture)
    assert cut.shape == (crop.size, crop.size, 3)
    inside = cv2.erode(crop.inside(340, 360).astype(np.uint8), np.ones((5, 5)))  # the white border bleeds a little
    bright = cut[..., 0] / 255.0 * inside
    rows, columns = np.mgrid[: crop.size, : crop.size] + 0.5
    centre = np.array([(columns * bright).sum(), (rows * bright).sum()]) / bright.sum()
    mapped = crop.points(np.array([[110.5, 80.5, 7.0]]))[0]
    np.testing.assert_allclose(mapped[:2], centre, atol=0.3)
    assert mapped[2] == pytest.approx(7 * crop.size / crop.side)


def test_beyond_the_border_the_picture_is_white():
    crop = Crop(-50, 0, 100, 100)
    cut = crop.apply(np.zeros((100, 100, 3), dtype=np.uint8))
    np.testing.assert_array_equal(cut[:, :50], 255)
    np.testing.assert_array_equal(cut[:, 50:], 0)
    np.testing.assert_array_equal(crop.inside(100, 100), np.broadcast_to(np.arange(100) >= 50, (100, 100)))


def test_area_filtering_does_not_alias():
    stripes = np.zeros((400, 400, 3), dtype=np.uint8)
    stripes[::2] = 200
    assert np.ptp(Crop(0, 0, 400, 100).apply(stripes)) == 0
