from __future__ import annotations

import torch

from stavatar.head import LandmarkEmbedding, load_embedded_head
from stavatar.tracking.detector_bias import DetectorBias, load_detector_bias
from stavatar.tracking.landmark_model import LandmarkModel


def test_habits_are_learnt_from_people_who_have_them() -> None:
    """People made of a mean and two directions give back both, ordered by how much people differ along them."""
    random = torch.Generator().manual_seed(0)
    mean = torch.randn(478, 3, generator=random)
    directions, _ = torch.linalg.qr(torch.randn(478 * 3, 2, generator=random))
    along = torch.randn(500, 2, generator=random) * torch.tensor([3.0, 0.5])
    learnt = DetectorBias.learn(mean + (along @ directions.T).unflatten(1, (478, 3)), 2)
    torch.testing.assert_close(learnt.mean, mean + (along.mean(0) @ directions.T).view(478, 3), atol=1e-4, rtol=0)
    modes = learnt.modes.flatten(0, 1)
    torch.testing.assert_close(modes.norm(dim=0), torch.tensor([3.0, 0.5]), rtol=0.1, atol=0)
    cosine = (modes / modes.norm(dim=0)).T @ directions
    torch.testing.assert_close(cosine.abs(), torch.eye(2), atol=0.02, rtol=0)


def test_the_stored_habits_are_of_a_few_millimetres() -> None:
    bias = load_detector_bias()
    assert bias.mean.shape == (478, 3) and bias.modes.shape[:2] == (478, 3)
    assert bias.mean.norm(dim=1).max() < 0.02
    spread = bias.modes.square().sum(2).sqrt()  # of a landmark, along each axis
    assert 2e-4 < spread.mean() < 2e-3
    size = bias.modes.flatten(0, 1).norm(dim=0)
    assert (size.diff() <= 0).all(), "the first direction tells most"


def test_without_a_detector_landmarks_are_where_they_are(embedding: LandmarkEmbedding) -> None:
    model = LandmarkModel.of(load_embedded_head(), embedding, 3)
    assert model.detector.of(torch.zeros(0)).abs().max() == 0
