"""Density over UV: counted in the right cell, drawn with v upwards."""

import numpy as np

from stavatar.evaluation.drawing.uv_density import _EDGE, CELLS, Density, count_cells, draw_uv_density


def test_cells_are_rows_of_v_and_columns_of_u():
    counts = count_cells(np.array([[0.1, 0.9], [0.1, 0.9], [0.999, 0.001]]))
    assert counts[int(0.9 * CELLS), int(0.1 * CELLS)] == 2
    assert counts[0, CELLS - 1] == 1
    assert counts.sum() == 3


def test_many_gaussians_are_bright_at_their_place_and_no_surface_is_grey():
    surface = np.ones((32, 32), bool)
    surface[:16, 16:] = False  # bottom right, as v grows with the row
    outlined = np.zeros((32, 32), bool)
    outlined[4:8, 4:8] = True
    many = Density("many", np.tile([[0.1, 0.9]], (50, 1)))
    few = Density("few", np.array([[0.1, 0.9]]))
    picture = np.asarray(draw_uv_density([many, few], surface, outlined, outlined_name="mouth")).astype(int)
    cell = _EDGE // CELLS
    brightest = (picture == (250, 250, 170)).all(-1).nonzero()
    left = brightest[1].min() - int(0.1 * CELLS) * cell
    top = brightest[0].min() - (CELLS - 1 - int(0.9 * CELLS)) * cell

    def at(column, u, v):
        x = left + column * (_EDGE + 4) + int(u * _EDGE)
        return picture[top + int((1 - v) * _EDGE), x]

    assert 0 <= left < 10
    assert top < 60
    assert 60 < at(1, 0.1, 0.9).sum() < 400  # on the same scale
    assert at(0, 0.5, 0.9).sum() == 0
    assert at(0, 0.9, 0.1).tolist() == [236, 236, 236]
    assert (picture == (60, 220, 240)).all(-1).any()
