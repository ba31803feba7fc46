"""Clusters of frames: planted groups are found, results repeat, short and still clips are dealt with."""

import dataclasses

import pytest
import torch

from stavatar.config import ScheduleConfig
from stavatar.density.clustering import cluster_frames
from stavatar.head import HeadParameters

CONFIG = ScheduleConfig()


def planted(groups, each, expressions=20, seed=0, noise=0.02):
    """Frames of `groups` performances that differ in expression and pose, mixed in a fixed order."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.arange(groups).repeat(each)
    faces = torch.randn(groups, expressions, generator=generator)
    poses = 0.3 * torch.randn(groups, 3, generator=generator)
    count = len(truth)
    parameters = HeadParameters.zeros(count, expressions).replaced(
        expression=faces[truth] + noise * torch.randn(count, expressions, generator=generator),
        neck=poses[truth] + 0.1 * noise * torch.randn(count, 3, generator=generator),
        translation=torch.tensor([0.0, 0.0, 0.3]) + 0.01 * torch.randn(count, 3, generator=generator),
    )
    return parameters, truth


@pytest.mark.parametrize("groups", [5, 7, 12])
def test_planted_groups_are_found(groups):
    parameters, truth = planted(groups, each=12)
    clusters = cluster_frames(parameters, CONFIG)
    assert clusters.count == groups
    assert max(clusters.silhouette, key=clusters.silhouette.get) == groups
    # numbered in order of appearance, which is the order the groups were planted in
    assert clusters.assignment.tolist() == truth.tolist()


def test_the_same_seed_gives_the_same_clusters():
    generator = torch.Generator().manual_seed(1)
    parameters = HeadParameters.zeros(90, 30).replaced(
        expression=torch.randn(90, 30, generator=generator), neck=torch.randn(90, 3, generator=generator)
    )
    first, second = (cluster_frames(parameters, CONFIG, seed=4) for _ in range(2))
    assert torch.equal(first.assignment, second.assignment)
    assert first.silhouette == second.silhouette
    assert set(first.silhouette) == set(CONFIG.clusters)


def test_weights_decide_what_counts():
    """Expression and pose group the frames differently; only the weighted part is listened to."""
    count = 48
    by_face, by_pose = torch.arange(count) % 5, torch.arange(count) // 10
    generator = torch.Generator().manual_seed(0)
    parameters = HeadParameters.zeros(count, 10).replaced(
        expression=torch.randn(5, 10, generator=generator)[by_face],
        neck=torch.randn(5, 3, generator=generator)[by_pose],
    )
    five = dataclasses.replace(CONFIG, clusters=(5,))
    faces = cluster_frames(parameters, dataclasses.replace(five, weights=(1.0, 0.0, 0.0))).assignment
    poses = cluster_frames(parameters, dataclasses.replace(five, weights=(0.0, 1.0, 0.0))).assignment
    assert faces.tolist() == by_face.tolist()
    assert poses.tolist() == by_pose.tolist()


@pytest.mark.parametrize(("frames", "most"), [(1, 1), (3, 1), (9, 2), (30, 7)])
def test_short_clips_get_fewer_clusters(frames, most):
    generator = torch.Generator().manual_seed(2)
    parameters = HeadParameters.zeros(frames, 52).replaced(
        expression=torch.rand(frames, 52, generator=generator), neck=torch.randn(frames, 3, generator=generator)
    )
    clusters = cluster_frames(parameters, CONFIG)
    assert clusters.count <= most
    assert clusters.assignment.unique().tolist() == list(range(clusters.count))  # none is empty
    assert clusters.scatter.shape == (frames, 2)
    assert torch.isfinite(clusters.scatter).all()


def test_a_still_clip_is_one_cluster():
    clusters = cluster_frames(HeadParameters.zeros(40, 52), CONFIG)
    assert clusters.count == 1 and clusters.silhouette == {}


@pytest.mark.parametrize("expressions", [1, 50, 100])
def test_any_heads_parameters_are_taken(expressions):
    parameters, truth = planted(6, each=8, expressions=expressions)
    assert len(cluster_frames(parameters, CONFIG).assignment) == len(truth)
