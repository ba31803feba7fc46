"""Heads to test with: the embedded one, and a tiny one whose every number is made up."""

from __future__ import annotations

import numpy as np
import pytest

from stavatar.head import HeadModel, load_embedded_head
from stavatar.head.posing import JOINTS


@pytest.fixture(scope="session")
def head() -> HeadModel:
    return load_embedded_head()


@pytest.fixture
def tiny_head() -> HeadModel:
    """Six vertices, four faces, three identity and two expression directions, all joints with weight."""
    rng = np.random.default_rng(7)
    weights = rng.uniform(0.1, 1, (6, len(JOINTS)))
    return HeadModel(
        name="tiny",
        template=rng.normal(size=(6, 3)),
        shape_basis=rng.normal(size=(3, 6, 3)),
        expression_basis=rng.normal(size=(2, 6, 3)),
        expression_names=["one", "two"],
        joints=rng.normal(size=(len(JOINTS), 3)),
        joint_basis=rng.normal(size=(3, len(JOINTS), 3)),
        weights=weights / weights.sum(1, keepdims=True),
        faces=np.array([[0, 1, 2], [0, 2, 3], [3, 4, 5], [5, 4, 0]]),
        uv=np.array([[0.1, 0.1], [0.45, 0.12], [0.4, 0.5], [0.12, 0.45], [0.6, 0.6], [0.95, 0.62], [0.8, 0.93]]),
        uv_faces=np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [0, 0, 0]]),
        regions=np.array([0, 1, 2, 3]),
        jaw_by_expression=False,
    )
