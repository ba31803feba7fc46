"""Crops: the right pixels, the truth first, white beyond the picture."""

import numpy as np
import torch

from stavatar.evaluation.drawing.crops import _WIDTH, cut, draw_crops


def test_a_crop_shows_its_box_and_white_beyond_the_picture():
    picture = torch.zeros(60, 80, 3)
    picture[20:40, 40:60] = torch.tensor([1.0, 0.0, 0.0])
    shown = cut(picture, (40, 20, 60, 40))
    assert shown.shape == (_WIDTH, _WIDTH, 3)
    assert (shown[10:-10, 10:-10] == (255, 0, 0)).all()

    shown = cut(picture, (30, 20, 50, 40))  # its left half is black
    assert (shown[10:-10, 10 : _WIDTH // 2 - 10] == 0).all()
    assert (shown[10:-10, _WIDTH // 2 + 10 : -10] == (255, 0, 0)).all()

    shown = cut(picture, (-10, -10, 10, 10))
    assert (shown[: _WIDTH // 2 - 10] == 255).all()
    assert (shown[_WIDTH // 2 + 10 :, _WIDTH // 2 + 10 :] == 0).all()


def test_a_flat_box_stays_flat():
    assert cut(torch.zeros(60, 80, 3), (0, 0, 40, 10)).shape == (_WIDTH // 4, _WIDTH, 3)


def test_truth_then_avatars_and_a_row_for_each_frame():
    def plain(level):
        return torch.full((30, 30, 3), level / 255)

    boxes = [(0.0, 0.0, 20.0, 10.0)] * 2
    sheet = np.asarray(draw_crops([plain(10), plain(20)], {"a": [plain(60), plain(70)]}, boxes, ["frame 1", "frame 2"]))
    places = {level: np.argwhere((sheet == level).all(-1)).mean(0) for level in (10, 20, 60, 70)}
    assert places[10][1] < places[60][1]  # columns
    assert places[20][1] < places[70][1]
    assert places[10][0] < places[20][0]  # rows
    assert abs(places[10][0] - places[60][0]) < 1


def test_many_avatars_stand_in_blocks_with_the_truth_in_each():
    truth, render = torch.full((30, 30, 3), 10 / 255), torch.full((30, 30, 3), 60 / 255)
    box = [(5.0, 5.0, 25.0, 15.0)]
    few, many = (draw_crops([truth], {str(k): [render] for k in range(count)}, box, ["frame 1"]) for count in (8, 9))
    assert many.width == few.width

    def crops(sheet, level):
        """How many crops are of this level, but for the soft edges of letters."""
        return round((np.asarray(sheet) == level).all(-1).sum() / (_WIDTH * _WIDTH / 2), 1)

    assert (crops(few, 10), crops(few, 60)) == (1, 8)
    assert (crops(many, 10), crops(many, 60)) == (2, 9)
