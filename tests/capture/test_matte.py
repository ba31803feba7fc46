"""Mattes: the steps against pictures whose true matte is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from stavatar import assets
from stavatar.capture import matte
from stavatar.errors import AssetError

SIDE = 256


def scene(side: int = SIDE) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A person of warm colours (a disc with soft edge and short thin hairs) before a blue wall.

    Returns:
        picture [S, S, 3], true matte [S, S], the person's colour [S, S, 3]; all in [0, 1].
    """
    fine = np.zeros((4 * side, 4 * side), dtype=np.float32)
    centre = 2 * side
    cv2.circle(fine, (centre, centre), int(1.1 * side), 1.0, -1)
    for angle in np.linspace(0, 2 * np.pi, 25):
        tip = (int(centre + 1.2 * side * np.cos(angle)), int(centre + 1.2 * side * np.sin(angle)))
        cv2.line(fine, (centre, centre), tip, 1.0, side // 32)
    true = cv2.resize(cv2.GaussianBlur(fine, (0, 0), side / 128), (side, side), interpolation=cv2.INTER_AREA)
    rows, columns = np.mgrid[:side, :side].astype(np.float32) / side
    person = np.stack([0.55 + 0.3 * rows, 0.3 + 0.2 * columns, 0.15 + 0.1 * rows], 2)
    wall = np.stack([0.1 + 0.1 * columns, 0.3 + 0.1 * rows, 0.85 + 0 * rows], 2)
    return true[..., None] * person + (1 - true[..., None]) * wall, true, person


def coarse(true: np.ndarray) -> np.ndarray:
    """What a segmenter makes of it: no hairs, the edge a pixel too far out and ragged."""
    side = matte.SEGMENTER_SIDE
    small = cv2.resize(true, (side, side), interpolation=cv2.INTER_AREA)
    without_hairs = cv2.morphologyEx((small > 0.5).astype(np.float32), cv2.MORPH_OPEN, np.ones((9, 9)))
    ragged = cv2.GaussianBlur(np.random.default_rng(0).normal(size=(side, side)).astype(np.float32), (0, 0), 3)
    grown = cv2.dilate(without_hairs, np.ones((3, 3)))
    return (cv2.GaussianBlur(grown, (0, 0), 2) + 1.0 * ragged > 0.5).astype(np.float32)


@pytest.mark.parametrize("side", [128, 256, 512])
def test_refining_brings_the_mask_to_the_true_edge(side):
    picture, true, _ = scene(side)
    mask = coarse(true)
    refined = matte.refine(picture, mask)
    assert refined.shape == (side, side)
    before = np.abs(cv2.resize(mask, (side, side)) - true).mean()
    assert np.abs(refined - true).mean() < 0.5 * before
    inside, outside = cv2.erode(true, np.ones((25, 25))) > 0.99, cv2.dilate(true, np.ones((25, 25))) < 0.01
    assert refined[inside].min() == 1, "the inside stays opaque"
    assert refined[outside].max() == 0, "the background stays clear"


def test_the_guided_filter_is_the_regression_it_claims_to_be():
    """Against a plain least-squares solution in each window, pixel by pixel."""
    generator = np.random.default_rng(0)
    side, radius = 24, matte._GUIDE_RADIUS
    guide = cv2.GaussianBlur(generator.uniform(size=(side, side, 3)).astype(np.float32), (0, 0), 2)
    mask = (guide @ np.array([1.0, -2.0, 0.5], dtype=np.float32) + generator.normal(0, 0.1, (side, side))).astype(
        np.float32
    )
    gradient, offset = matte._explain(guide, mask)

    coefficients = np.zeros((side, side, 4))
    for y in range(radius, side - radius):
        for x in range(radius, side - radius):
            window = np.s_[y - radius : y + radius + 1, x - radius : x + radius + 1]
            colours, values = guide[window].reshape(-1, 3).astype(float), mask[window].reshape(-1).astype(float)
            centred = colours - colours.mean(0)
            matrix = centred.T @ centred / len(values) + matte._GUIDE_EPSILON * np.eye(3)
            slope = np.linalg.solve(matrix, centred.T @ (values - values.mean()) / len(values))
            coefficients[y, x] = [*slope, values.mean() - slope @ colours.mean(0)]
    y = x = side // 2
    window = np.s_[y - radius : y + radius + 1, x - radius : x + radius + 1]
    expected = coefficients[window].reshape(-1, 4).mean(0)
    np.testing.assert_allclose([*gradient[y, x], offset[y, x]], expected, rtol=2e-3, atol=2e-3)


def test_the_persons_colour_is_found_in_mixed_pixels():
    picture, true, person = scene()
    edge = (true > 0.1) & (true < 0.9)
    naive = np.abs(picture - person)[edge].mean()
    found = matte.foreground(picture, true)
    assert np.abs(found - person)[edge].mean() < 0.2 * naive
    np.testing.assert_allclose(found[true > 0.999], picture[true > 0.999], atol=2e-3)
    fringe = (found - person)[edge][:, 2].mean()
    assert abs(fringe) < 0.03, "no blue left"


def test_smoothing_averages_where_nothing_moves_and_keeps_out_where_something_does():
    generator = np.random.default_rng(0)
    still = np.full((SIDE, SIDE, 3), 0.4, dtype=np.float32)
    true = np.zeros((SIDE, SIDE), dtype=np.float32)
    true[:, 128:] = 1
    masks = [np.clip(true + generator.normal(0, 0.2, true.shape), 0, 1).astype(np.float32) for _ in range(5)]
    smoothed = matte.steady(still, [(still, mask) for mask in masks])
    np.testing.assert_allclose(smoothed, np.mean(masks, axis=0), atol=1e-5)

    moved = still + 0.5  # the other frames show something else there
    kept = matte.steady(still, [(moved, masks[0]), (moved, masks[1]), (still, masks[2]), (moved, masks[3])])
    np.testing.assert_allclose(kept, masks[2], atol=1e-5)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 9])
def test_each_frame_is_seen_with_its_neighbours_on_both_sides(count):
    frames = list(range(count))
    windows = list(matte._windows(frames))
    assert [window[centre] for window, centre in windows] == frames
    for t, (window, _) in enumerate(windows):
        assert window == frames[max(0, t - 2) : t + 3]


def segmenter():
    try:
        return assets.path("selfie_segmenter")
    except AssetError as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize("count", [1, 12])
def test_an_empty_room_is_cut_out_as_nothing(count):
    wall = np.random.default_rng(0).integers(90, 110, (128, 128, 3)).astype(np.uint8)
    results = list(matte.cut_out([wall] * count, segmenter()))
    assert len(results) == count
    for image, mask in results:
        assert image.shape == (128, 128, 3)
        assert image.dtype == mask.dtype == np.uint8
        assert mask.mean() < 5
        assert image.mean() > 250


def test_a_recorded_background_does_not_shine_through_the_edge():
    mask = np.zeros((64, 64), np.uint8)
    mask[:, :30], mask[:, 30:34] = 255, [204, 153, 102, 51]
    alpha = mask[..., None] / 255
    recorded = np.round(alpha * 60 + (1 - alpha) * np.array([0, 200, 0])).astype(np.uint8)  # before a green screen
    image, _ = matte.over_white(recorded, mask)
    np.testing.assert_allclose(image, np.broadcast_to(alpha * 60 + (1 - alpha) * 255, image.shape), atol=12)
