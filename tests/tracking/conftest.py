from __future__ import annotations

import pytest
from landmark_clip import Clip, make_clip

from stavatar.head import HeadModel, LandmarkEmbedding, load_embedded_head, load_embedded_landmarks
from stavatar.sequence import Sequence
from stavatar.tracking import TrackReport, track_with_report


@pytest.fixture(scope="session")
def head() -> HeadModel:
    """The embedded head with weights that sum to 1 in float32 too, so that rigid motion can be compared exactly."""
    head = load_embedded_head()
    head.weights /= head.weights.sum(1, keepdim=True)
    return head


@pytest.fixture(scope="session")
def embedding() -> LandmarkEmbedding:
    return load_embedded_landmarks()


@pytest.fixture(scope="session")
def moving_clip(head: HeadModel, embedding: LandmarkEmbedding) -> Clip:
    return make_clip(head, embedding, seed=4, undetected=(0, 30, 31, *range(60, 72)))


@pytest.fixture(scope="session")
def tracked(moving_clip: Clip) -> tuple[Sequence, TrackReport]:
    clip = moving_clip
    return track_with_report(clip.observations, clip.head, clip.embedding, name="moving")
