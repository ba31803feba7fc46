"""Flattening: shapes whose flat form is known."""

from __future__ import annotations

import numpy as np
import pytest

from stavatar.head.unwrap import Chart, border_loops, flatten, tutte

BOX = np.array([[0.1, 0.2], [0.9, 0.8]])


def grid(columns: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Flat points [N, 2] of a grid over the unit square and its triangles."""
    x, y = np.meshgrid(np.linspace(0, 1, columns), np.linspace(0, 1, rows))
    number = np.arange(columns * rows).reshape(rows, columns)
    a, b, c, d = number[:-1, :-1], number[:-1, 1:], number[1:, :-1], number[1:, 1:]
    faces = np.concatenate([np.stack([a, b, d], -1).reshape(-1, 3), np.stack([a, d, c], -1).reshape(-1, 3)])
    return np.stack([x.ravel(), y.ravel()], 1), faces


def areas(flat: np.ndarray, faces: np.ndarray) -> np.ndarray:
    a, b, c = flat[faces].transpose(1, 0, 2)
    return ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]) / 2


def test_a_bent_sheet_comes_out_flat_and_even() -> None:
    """A quarter of a cylinder can be unrolled without distortion; it starts badly squeezed."""
    flat, faces = grid(13, 9)
    angle = flat[:, 0] * np.pi / 2
    points = np.stack([np.sin(angle), flat[:, 1] * 0.75 * np.pi / 2, np.cos(angle)], 1)
    start = BOX[0] + np.stack([flat[:, 0] ** 2, flat[:, 1]], 1) * (BOX[1] - BOX[0])
    found = flatten(Chart(points, faces, start, np.zeros((0, 3), int)), BOX)
    expected = BOX[0] + flat * (BOX[1] - BOX[0])
    np.testing.assert_allclose(found, expected, atol=0.01)
    assert areas(found, faces).min() > 0


def test_density_goes_where_it_is_wanted() -> None:
    flat, faces = grid(13, 13)
    points = np.column_stack([flat, np.zeros(len(flat))])
    start = BOX[0] + flat * (BOX[1] - BOX[0])
    right = points[faces].mean(1)[:, 0] > 0.5
    found = flatten(
        Chart(points, faces, start, np.zeros((0, 3), int)), BOX, density=np.where(right, 4.0, 1.0), rounds=40, steps=3
    )
    share = areas(found, faces)
    assert share.min() > 0
    assert share[right].sum() > 2 * share[~right].sum()
    assert (found.min(0) >= BOX[0] - 1e-9).all()
    assert (found.max(0) <= BOX[1] + 1e-9).all()


def test_border_loops_go_round_with_the_surface_on_their_left() -> None:
    flat, faces = grid(5, 5)
    inside = (np.abs(flat[faces].mean(1) - 0.5) < 0.25).all(1)
    outer, hole = border_loops(faces[~inside])
    assert (len(outer), len(hole)) == (16, 8)

    def turns(loop: list[int]) -> float:
        here, there = flat[loop], flat[[*loop[1:], loop[0]]]
        return float((here[:, 0] * there[:, 1] - here[:, 1] * there[:, 0]).sum() / 2)

    assert turns(outer) == pytest.approx(1)
    assert turns(hole) == pytest.approx(-0.25)


def test_a_cut_surface_is_spread_over_the_box_with_its_hole_closed() -> None:
    """A sheet with a hole; its seam runs along the top and both sides, its collar along the bottom."""
    flat, faces = grid(9, 9)
    inside = (np.abs(flat[faces].mean(1) - 0.5) < 0.125).all(1)
    kept, index = np.unique(faces[~inside], return_inverse=True)
    flat, faces = flat[kept], index.reshape(-1, 3)
    points = np.column_stack([flat, 0.1 * np.sin(3 * flat[:, 0])])
    seam = (flat[:, 1] == 1) | (flat[:, 0] == 0) | (flat[:, 0] == 1)
    tip = int(np.flatnonzero((flat[:, 1] == 1) & (flat[:, 0] == 0.5))[0])
    chart = tutte(points, faces, seam, tip, BOX)
    assert areas(chart.start, chart.faces).min() > 0
    assert areas(chart.start, chart.filling).min() > 0
    assert len(chart.filling) == 6
    np.testing.assert_allclose(chart.start[tip], [0.5, 0.8])
