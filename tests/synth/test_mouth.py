"""The finely painted mouth: single teeth, gums, a furrowed tongue; nothing changes outside."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from stavatar.head import HeadModel
from stavatar.synth import Renderer, Subject
from stavatar.synth._anatomy import in_region
from stavatar.synth._mouth import measure_row, rows_of_teeth
from stavatar.synth._skin import paint_head
from stavatar.synth._texels import Texels

SIZE = 768


@pytest.fixture(scope="module")
def texels(head: HeadModel) -> Texels:
    return Texels.of(head, SIZE, seed=1)


def test_only_the_mouth_is_painted_otherwise(head: HeadModel, texels: Texels) -> None:
    plain = Subject.random(head, 1)
    before = paint_head(head, plain, SIZE)[texels.covered]
    after = paint_head(head, dataclasses.replace(plain, fine_mouth=True), SIZE)[texels.covered]
    inside = in_region(head, "mouth_interior", "teeth")[texels.face]
    assert np.array_equal(before[~inside], after[~inside])
    assert (np.abs(before - after)[inside].max(1) > 0.01).mean() > 0.9


def test_seven_teeth_stand_on_each_side_of_each_jaw(texels: Texels) -> None:
    rows = rows_of_teeth(texels)
    assert set(rows) == {"upper", "lower"}
    assert texels.at[rows["upper"], 1].mean() > texels.at[rows["lower"], 1].mean()
    for jaw, part in rows.items():
        row = measure_row(texels.only(part), jaw)
        x = texels.at[part, 0]
        for side in (x < -0.01, x > 0.01):
            assert set(row.tooth[side]) == set(range(7))
            # Further back, further from the middle.
            distance = [np.abs(x[side & (row.tooth == tooth)]).mean() for tooth in range(6)]
            assert np.all(np.diff(distance) > 0)
        # Incisors are wider above than below, and sizes are those of a human mouth.
        assert 0.8 < row.scale < 1.5
        assert row.height.min() > -1.5
        assert 9 < row.height.max() < 25


def test_teeth_are_bright_gums_red_and_gaps_dark(head: HeadModel, texels: Texels) -> None:
    colour = paint_head(head, dataclasses.replace(Subject.random(head, 1), fine_mouth=True), SIZE)[texels.covered]
    part = rows_of_teeth(texels)["upper"]
    row, shown = measure_row(texels.only(part), "upper"), colour[part, :3]
    front = row.tooth < 3
    enamel = shown[front & (np.abs(row.across) < 0.4) & (row.height > 2) & (row.height < 5)]
    gap = shown[front & (np.abs(row.across) > 0.97) & (row.height > 2) & (row.height < 5)]
    gum = shown[front & (row.height > 11) & (row.height < 14)]
    assert enamel.mean() > 0.5
    assert gap.mean() < 0.5 * enamel.mean()
    assert (gum[:, 0] > 2 * gum[:, 1]).mean() > 0.95
    assert (enamel[:, 0] < 1.5 * enamel[:, 1]).mean() > 0.95


def test_fine_texture_survives_only_there(head: HeadModel, expressive: Renderer, renderer: Renderer) -> None:
    """The tongue is rough: neighbouring texels differ several times as much as on the plainly painted one."""
    texels = Texels.of(head, len(renderer._skin_texture), seed=1)
    tongue = np.zeros(texels.covered.shape, bool)
    on_tongue = in_region(head, "mouth_interior")[texels.face] & (np.abs(texels.at[:, 0]) < 0.35)
    on_tongue &= (texels.at[:, 2] > -0.3) & (texels.at[:, 2] < 0.15) & (texels.at[:, 1] < -1.0)
    tongue[texels.covered] = on_tongue

    def roughness(texture: np.ndarray) -> float:
        steps = np.abs(np.diff(texture[..., 1], axis=1))[tongue[:, 1:] & tongue[:, :-1]]
        return float(steps.mean() / texture[..., 1][tongue].mean())

    assert roughness(expressive._skin_texture) > 3 * roughness(renderer._skin_texture)
