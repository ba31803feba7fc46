"""The offset basis that stands in for the network, and quantisation."""

import dataclasses

import numpy as np
import pytest
import torch

from stavatar.avatar.offsets import read_offsets
from stavatar.export.web.distil import _reduced_rank_regression, _texels_read, distil, flatten
from stavatar.export.web.quantise import quantise


@pytest.fixture(scope="module")
def basis(avatar, motion):
    return distil(avatar, motion, 6)


def raw_maps(avatar, parameters):
    return avatar.offset_maps(parameters, avatar.head(avatar.shape, parameters))


def test_the_basis_follows_the_network_on_held_out_frames(avatar, motion, basis):
    """Much closer than the mean map, which is all that a basis without motion could give."""
    error, motionless = [], []
    for frame in motion.test.tolist():
        maps = raw_maps(avatar, motion.parameters[[frame]])[0].flatten(1).T[basis.texels]
        ours = basis(motion.parameters[[frame]])[0].flatten(1).T[basis.texels]
        error.append((ours - maps).square().mean())
        motionless.append((basis.mean - maps).square().mean())
    assert sum(error) < 0.5 * sum(motionless)


def test_held_out_frames_are_not_looked_at(avatar, motion, basis):
    spoiled = motion.parameters.map(torch.clone)
    spoiled.expression[motion.test] = 7.0
    other = distil(avatar, dataclasses.replace(motion, parameters=spoiled), 6)
    assert torch.equal(other.coefficients, basis.coefficients)
    assert torch.equal(other.high, basis.high)


def test_parameters_beyond_the_recorded_range_are_clamped(motion, basis):
    wild = motion.parameters[[3]].map(lambda value: value + 50.0)
    border = wild.map(torch.clone)
    start = 0
    for _, value in border.items():
        value[:] = basis.high[start : start + value.shape[1]]
        start += value.shape[1]
    assert torch.equal(basis(wild), basis(border))
    assert not torch.equal(basis(wild), basis(motion.parameters[[3]]))


def test_texels_left_out_are_read_by_no_gaussian(avatar):
    config = avatar.config.network
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(1, 13, config.uv_size, config.uv_size, generator=generator)
    texels = _texels_read(avatar.gaussians.uv, config.uv_size)
    assert len(texels) < config.uv_size**2
    kept = torch.full_like(maps, float("nan")).flatten(2)
    kept[..., texels] = maps.flatten(2)[..., texels]
    whole = read_offsets(maps, avatar.gaussians.uv, config)
    fewer = read_offsets(kept.view_as(maps), avatar.gaussians.uv, config)
    assert torch.equal(fewer.position, whole.position)


def test_reduced_rank_regression_finds_a_linear_map_of_that_rank():
    """Slightly shrunk by the ridge, and nothing is left for a third direction."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(400, 8, generator=generator) * torch.tensor([1.0, 5, 1, 0.1, 1, 1, 1, 0])  # the last is still
    truth = torch.randn(8, 2, generator=generator) @ torch.randn(2, 30, generator=generator)
    targets = inputs @ truth
    targets -= targets.mean(0)
    directions, coefficients = _reduced_rank_regression(inputs, targets, 3)
    torch.testing.assert_close(directions[:2] @ directions[:2].T, torch.eye(2), atol=1e-4, rtol=0)
    amounts = inputs @ coefficients[:-1] + coefficients[-1]
    assert (amounts @ directions - targets).norm() < 0.06 * targets.norm()
    assert amounts[:, 2].abs().max() < 1e-2 * amounts[:, :2].abs().max()
    assert torch.equal(coefficients[7], torch.zeros(3))


def test_flatten_keeps_the_order_of_the_fields(motion):
    flat = flatten(motion.parameters)
    widths = [value.shape[1] for _, value in motion.parameters.items()]
    assert flat.shape[1] == sum(widths)
    assert torch.equal(flat[:, widths[0] : widths[0] + 3], motion.parameters.rotation)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_quantisation_is_off_by_half_a_step_at_most(kind):
    values = np.random.default_rng(0).normal(0, [1, 100, 1e-3], (4, 50, 3)).astype(np.float32)
    values[2, :, 1] = 3.25  # a channel that does not vary
    packed = quantise(values, kind)
    assert packed.integers.dtype == kind
    error = np.abs(packed.values() - values)
    assert (error <= packed.step[:, None] * 0.501 + 1e-5 * np.abs(values)).all()
    np.testing.assert_array_equal(packed.values()[2, :, 1], 3.25)
    np.testing.assert_allclose(packed.step[0], np.ptp(values[0], axis=0) / np.iinfo(kind).max, rtol=1e-5)
