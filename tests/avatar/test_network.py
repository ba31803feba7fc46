"""The offset network against the plain form of what it computes."""

import dataclasses

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from stavatar.avatar.encoding import CHANNELS, fourier_encode
from stavatar.avatar.network import OFFSETS, OffsetNetwork, SplitConv
from stavatar.avatar.offsets import read_offsets
from stavatar.config import NetworkConfig

SIZE = 32
CONFIG = NetworkConfig(uv_size=SIZE, width=0.25, init="kaiming")


def make_network(config=CONFIG, expressions=7, untrained=False):
    """A network that says something; an untrained one starts with offsets of zero."""
    generator = torch.Generator().manual_seed(0)
    masks = torch.zeros(4, SIZE, SIZE)
    masks[0, 8:13, 9:20], masks[1, 14:20, 14:18], masks[2, 22:27, 10:21], masks[3, 4:7, 8:24] = 1, 1, 0.5, 1
    network = OffsetNetwork(
        config,
        expressions=expressions,
        image=torch.rand(3, SIZE, SIZE, generator=generator),
        positions=torch.rand(3, SIZE, SIZE, generator=generator) * 2 - 1,
        masks=masks,
        generator=generator,
    )
    if not untrained:
        nn.init.normal_(network.fuse_last.weight, 0, 0.01, generator=generator)
    return network


def inputs(frames, expressions=7):
    generator = torch.Generator().manual_seed(1)

    def draw(*shape):
        return torch.randn(*shape, generator=generator)

    return 0.05 * draw(frames, 3, SIZE, SIZE), draw(frames, expressions), draw(frames, 15), draw(frames, 3)


def test_fourier_features_are_the_values_and_twelve_waves_of_each():
    values = torch.rand(2, 3, 4, 5)
    encoded = fourier_encode(values)
    assert encoded.shape == (2, CHANNELS, 4, 5)
    assert CHANNELS == 39
    torch.testing.assert_close(encoded[:, :3], values)
    torch.testing.assert_close(encoded[:, 3:6], torch.sin(2 * torch.pi * values))
    torch.testing.assert_close(encoded[:, 18:21], torch.sin(2 * torch.pi * 10 * values), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(encoded[:, 36:39], torch.cos(2 * torch.pi * 10 * values), atol=1e-5, rtol=1e-4)


def test_split_convolution_equals_the_convolution_over_the_concatenation():
    torch.manual_seed(0)
    split = SplitConv([4, 3, 5], 6)
    nn.init.normal_(split.conv.bias)
    shared, own, condition = torch.randn(1, 4, 9, 9), torch.randn(2, 3, 9, 9), torch.randn(2, 5)
    together = torch.cat([shared.expand(2, -1, -1, -1), own, condition[:, :, None, None].expand(-1, -1, 9, 9)], 1)
    inside = (..., slice(1, -1), slice(1, -1))
    torch.testing.assert_close(split([shared, own, condition])[inside], split.conv(together)[inside])


def test_the_network_equals_its_plain_form_over_whole_maps():
    """Every layer applied to full concatenated maps, as eq. 4 to 6 are written."""
    network = make_network().double()
    displacement, expression, pose, translation = (value.double() for value in inputs(2))

    def spread(condition):
        return condition[:, :, None, None].expand(-1, -1, SIZE + 8, SIZE + 8)

    def padded(maps):  # a rim of zeros keeps the plain form's borders away from the texels compared
        return F.pad(maps, (4, 4, 4, 4)).expand(2, -1, -1, -1)

    reference = network.encoder(network.image)
    positions = network.position_features(network.positions)
    conditions = [
        F.relu(layer(value))
        for layer, value in (
            (network.embed_expression, expression),
            (network.embed_pose, pose),
            (network.embed_translation, translation),
        )
    ]
    together = torch.cat([padded(reference), padded(positions), *map(spread, conditions)], 1)
    overall = F.relu(network.global_first.conv(together)[..., 4:-4, 4:-4])
    overall = F.relu(network.global_second(overall))
    moved = network.displacement_features(fourier_encode(displacement))
    projected = F.relu(network.local_expression(expression))
    regions = []
    for mask, head in zip(network.masks, network.local_heads, strict=True):
        local = torch.cat([padded(moved * mask), padded(reference * mask), spread(projected)], 1)
        local = F.relu(network.local_second(F.relu(network.local_first.conv(local)[..., 4:-4, 4:-4])))
        regions.append(head(local) * mask)
    fused = F.relu(network.fuse_first.conv(torch.cat([overall, *regions], 1)))
    plain = network.fuse_last(F.relu(network.fuse_second(fused)))

    torch.testing.assert_close(network(displacement, expression, pose, translation), plain)


def test_a_batch_equals_its_frames_one_by_one():
    network = make_network()
    batch = inputs(3)
    together = network(*batch)
    for frame in range(3):
        alone = network(*(value[frame : frame + 1] for value in batch))
        torch.testing.assert_close(together[frame : frame + 1], alone, atol=1e-5, rtol=1e-4)


def test_kept_static_features_change_nothing():
    network = make_network()
    batch = inputs(2)
    torch.testing.assert_close(network(*batch, network.static_features()), network(*batch))


def test_every_weight_takes_part():
    network = make_network()
    network(*inputs(2)).square().sum().backward()
    dead = [name for name, value in network.named_parameters() if value.grad is None or not value.grad.any()]
    assert dead == []


def test_offsets_start_at_zero_where_the_network_starts_wide():
    batch = inputs(2)
    assert make_network(untrained=True)(*batch).abs().max() == 0
    assert make_network(dataclasses.replace(CONFIG, init="normal"), untrained=True)(*batch).abs().max() > 0


def test_local_offsets_stay_near_their_region():
    """The expression reaches a masked texel through both branches, but displacement only through the local one."""
    network = make_network()
    displacement, expression, pose, translation = inputs(1)
    change = network(displacement, expression, pose, translation) - network(
        torch.zeros_like(displacement), expression, pose, translation
    )
    reach = F.max_pool2d(network.masks.amax(0)[None], 5, 1, 2)[0]  # two more 3x3 convolutions follow the fusion
    reach = F.max_pool2d(reach[None], 3, 1, 1)[0]
    assert change.abs().amax((0, 1))[reach == 0].max() == 0
    assert change.abs().amax((0, 1))[network.masks.amax(0) > 0].max() > 0


def test_without_the_local_branch_displacement_is_ignored():
    network = make_network(dataclasses.replace(CONFIG, local_branch=False))
    displacement, *conditions = inputs(1)
    torch.testing.assert_close(network(displacement, *conditions), network(-displacement, *conditions))


def test_the_paper_network_has_the_published_size():
    masks = torch.zeros(4, 32, 32)
    masks[:, 10:20, 10:20] = 1
    config = NetworkConfig(uv_size=32)
    network = OffsetNetwork(
        config, expressions=100, image=torch.zeros(3, 32, 32), positions=torch.zeros(3, 32, 32), masks=masks
    )
    assert sum(value.numel() for value in network.parameters()) == pytest.approx(5.9e6, rel=0.01)


def test_offsets_are_bounded_and_read_at_texel_centres():
    config = dataclasses.replace(CONFIG, position_range=0.02, scale_range=1.5)
    maps = 100 * torch.randn(2, OFFSETS, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    row, column = torch.tensor([3, 17]), torch.tensor([5, 30])
    uv = torch.stack([column + 0.5, row + 0.5], 1) / SIZE
    offsets = read_offsets(maps, uv, config)
    expected = 0.02 * torch.tanh(maps[:, :3, row, column].transpose(1, 2))
    torch.testing.assert_close(offsets.position, expected, atol=1e-4, rtol=0)
    assert offsets.position.abs().max() <= 0.02
    assert offsets.scale.max() <= torch.tensor(1.5).exp() * 1.0001
    assert offsets.rotation.abs().max() <= torch.pi * 1.0001
    assert offsets.color.abs().max() <= 0.7001
    assert offsets.opacity.abs().max() <= 0.5001


def test_a_zero_map_changes_nothing():
    offsets = read_offsets(torch.zeros(1, OFFSETS, SIZE, SIZE), torch.rand(10, 2), CONFIG)
    assert (offsets.scale == 1).all()
    for value in (offsets.position, offsets.rotation, offsets.color, offsets.opacity):
        assert (value == 0).all()
