from __future__ import annotations

import pytest
import torch

from stavatar.head import HeadModel, LandmarkEmbedding
from stavatar.rotations import axis_angle_to_matrix
from stavatar.tracking.openings import measure_openings


@pytest.mark.parametrize(
    ("name", "opening", "opens"),
    [("jawOpen", "mouth", True), ("eyeBlinkLeft", "left_lids", False), ("eyeBlinkRight", "right_lids", False)],
)
def test_only_what_opens_it_changes_an_opening(
    head: HeadModel, embedding: LandmarkEmbedding, name: str, opening: str, opens: bool
) -> None:
    parameters = head.neutral(3)
    parameters.expression[:, head.expression_names.index(name)] = torch.tensor([0.0, 0.5, 1.0])
    openings = measure_openings(embedding.points(head, head(torch.zeros(head.shape_count), parameters).vertices))
    steps = getattr(openings, opening).diff()
    assert (steps > 0.01).all() if opens else (steps < -0.01).all()
    for other in {"mouth", "left_lids", "right_lids"} - {opening}:
        assert getattr(openings, other).diff().abs().max() < 0.01, other


def test_neither_size_nor_pose_matters(head: HeadModel, embedding: LandmarkEmbedding) -> None:
    points = embedding.points(head, head.template[None])
    turned = 3 * points @ axis_angle_to_matrix(torch.tensor([0.3, -0.8, 0.1])).T + 0.7
    one, other = measure_openings(points), measure_openings(turned)
    torch.testing.assert_close(one.mouth, other.mouth)
    torch.testing.assert_close(one.left_lids, other.left_lids, atol=1e-4, rtol=1e-4)
