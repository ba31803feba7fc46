"""A run's pictures: what training noted is read with care, and offset maps are what the Gaussians get."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from stavatar import config
from stavatar.avatar.storage import Motion
from stavatar.errors import InputError
from stavatar.files import write_json
from stavatar.head.uv import texel_centers
from stavatar.run import Run
from stavatar.run_pictures import offset_maps, read_clusters, read_curve
from stavatar.training.trainer import start_avatar

CURVE = {
    "step": [1, 2],
    "frames": [4, 8],
    "seconds": [0.5, 1.0],
    "gaussians": [10, 12],
    "loss": [1, 1],
    "psnr": [20, 21],
}
CLUSTERS = {
    "frames": [0, 2],
    "cluster": [0, 1],
    "scatter": [[0.1, 0.2], [0.3, 0.4]],
    "silhouette": {"2": 0.5},
    "chosen": 2,
}


@pytest.fixture
def run(tmp_path):
    return Run.start(tmp_path / "run", config.preset("cpu"), {}, resume=False)


def test_a_curve_counts_frames(run):
    write_json(run.curve, CURVE)
    curve = read_curve(run, "talk")
    assert (curve.name, curve.frames, curve.psnr) == ("talk", [4, 8], [20, 21])


@pytest.mark.parametrize(
    "change", [{"psnr": [20]}, {"psnr": ["high", "low"]}, {"psnr": None}, {name: [] for name in CURVE}]
)
def test_a_damaged_curve_is_named(run, change):
    write_json(run.curve, CURVE | change)
    with pytest.raises(InputError, match=r"curve\.json is damaged"):
        read_curve(run, "talk")


def test_clusters_come_as_written(run):
    write_json(run.clusters, CLUSTERS)
    clusters = read_clusters(run, 3)
    assert clusters.scatter == [(0.1, 0.2), (0.3, 0.4)]
    assert clusters.silhouette == {2: 0.5}


@pytest.mark.parametrize(
    "change",
    [{"frames": [0, 3]}, {"frames": [-1, 0]}, {"cluster": [0]}, {"scatter": [[1], [2]]}, {"silhouette": [0.5]}],
)
def test_damaged_clusters_are_named(run, change):
    write_json(run.clusters, CLUSTERS | change)
    with pytest.raises(InputError, match=r"clusters\.json is damaged"):
        read_clusters(run, 3)


def test_a_map_shows_what_a_gaussian_at_the_texel_gets(small_sequence, small_config, head):
    """With a network whose last layer is far from zero, so that every group of channels has something to show."""
    avatar = start_avatar(small_sequence, head, small_config)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in avatar.network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    frame, row, column = 4, 20, 11
    size = small_config.network.uv_size
    avatar.gaussians.uv[:] = texel_centers(size)[row, column]
    parameters = small_sequence.parameters
    with torch.no_grad():
        given = avatar.offsets(parameters[[frame]], head(avatar.shape, parameters[[frame]]))
    motion = Motion(parameters, small_sequence.camera, 25.0, small_sequence.train, small_sequence.test)
    maps = offset_maps(avatar, motion, frame, "talk")

    def at(values):
        return torch.as_tensor(values[row, column])

    close = {"rtol": 1e-4, "atol": 1e-5}
    assert given.position[0, 0].norm() > 1e-4
    torch.testing.assert_close(at(maps.position), 1000 * given.position[0, 0].norm(), **close)
    torch.testing.assert_close(at(maps.scale).exp(), given.scale[0, 0].prod() ** (1 / 3), **close)
    torch.testing.assert_close(at(maps.rotation), given.rotation[0, 0].norm().rad2deg(), **close)
    torch.testing.assert_close(at(maps.color), 0.28209479 * given.color[0, 0], **close)
    torch.testing.assert_close(at(maps.opacity), given.opacity[0, 0], **close)
    assert dataclasses.asdict(maps)["position"].shape == (size, size)
