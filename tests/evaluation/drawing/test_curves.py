"""Learning curves: means over seeds, and a line for every name."""

import numpy as np

from stavatar.evaluation.drawing.canvas import TEXT, palette
from stavatar.evaluation.drawing.curves import Curve, draw_curves, mean_curve


def test_seeds_are_averaged_where_the_first_has_its_points():
    first = Curve("a", [10.0, 20.0, 30.0], [1.0, 2.0, 3.0], [20.0, 22.0, 24.0], [100.0, 100.0, 200.0])
    second = Curve("a", [10.0, 30.0], [3.0, 7.0], [22.0, 30.0], [100.0, 300.0])  # at 20: 5 s, 26 dB, 200
    mean = mean_curve([first, second])
    assert mean.frames == [10.0, 20.0, 30.0]
    assert mean.seconds == [2.0, 3.5, 5.0]
    assert mean.psnr == [21.0, 24.0, 27.0]
    assert mean.gaussians == [100.0, 150.0, 250.0]


def rising(name: str, top: float) -> Curve:
    x = np.linspace(1, 100, 50)
    return Curve(
        name, x.tolist(), (x / 10).tolist(), (15 + (top - 15) * (1 - np.exp(-x / 20))).tolist(), (9000 + x).tolist()
    )


def colours(picture) -> set[tuple[int, ...]]:
    return {colour for _, colour in picture.getcolors(picture.width * picture.height)}


def test_every_name_has_its_line_and_the_emphasised_one_is_black():
    picture = draw_curves([rising("full", 30), rising("a", 28), rising("b", 26)], emphasised="full")
    assert {TEXT, *palette(2)} <= colours(picture)
    alone = draw_curves([rising("talk", 30)])
    assert palette(1)[0] in colours(alone)
    assert alone.width < picture.width  # no legend for one line


def test_the_better_curve_lies_above():
    blue, other = palette(2)
    pixels = np.asarray(draw_curves([rising("a", 30), rising("b", 25)])).astype(int)
    rows = [np.abs(pixels[:, 300] - colour).sum(-1).argmin() for colour in (blue, other)]
    assert rows[0] < rows[1] - 20


def test_a_curve_of_one_point_can_be_drawn():
    assert draw_curves([Curve("a", [1.0], [0.1], [12.0], [100.0])]).width > 0
