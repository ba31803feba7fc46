"""The UV offset network: from a frame's head parameters to a 13-channel map of offsets over the UV square (eq. 4 to 6).

Three facts make it cheap without changing what it computes:

- The reference image and the reference positions never change, so whatever depends on them alone is computed once per
  step for all frames of a batch.
- A condition is the same at every texel, so a convolution over it is a bias per channel.
- The local branch is masked to four small regions, so it runs on their bounding boxes.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Series
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias, Union

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stavatar.avatar.encoding import CHANNELS as ENCODED
from stavatar.avatar.encoding import fourier_encode
from stavatar.config import NetworkConfig
from stavatar.gpu import has_kernels

if TYPE_CHECKING:
    from stavatar.avatar.network_cpu import FoldedOnCpu
    from stavatar.avatar.network_gpu import Folded

Static: TypeAlias = Union[tuple[Tensor, Tensor], "Folded", "FoldedOnCpu"]
"""What :meth:`OffsetNetwork.static_features` returns and :meth:`OffsetNetwork.forward` takes."""

OFFSETS = 13
"""Channels of the offset map: position 3, scale 3, rotation 3, colour 3, opacity 1."""

REACH = 3
"""Texels around a region that its local branch reads: one for each of three 3x3 convolutions in a row."""


class SplitConv(nn.Module):
    """A convolution over the concatenation of several inputs that is never built.

    A convolution is linear, so it may be applied to each input with its own slice of the kernel, and the results added.
    An input may be a map [B, C, H, W], a map shared by the whole batch [1, C, H, W], or a condition [B, C] that is the
    same at every texel; for a condition the kernel collapses to the sum of its taps. (At the outermost ring of texels
    zero padding would count fewer taps of a condition; those texels are never read, as UV islands keep clear of the
    edge.)
    """

    def __init__(self, inputs: Series[int], outputs: int, kernel: int = 3) -> None:
        super().__init__()
        self.inputs = tuple(inputs)
        self.conv = nn.Conv2d(sum(self.inputs), outputs, kernel, padding=kernel // 2)

    def forward(self, parts: Series[Tensor]) -> Tensor:
        kernels = self.conv.weight.split(self.inputs, 1)
        bias = self.conv.bias
        assert bias is not None
        total: Tensor | None = None
        # First the conditions, which are few numbers, so that only one pass over the map is theirs.
        for part, kernel in zip(parts, kernels, strict=True):
            if part.dim() == 2:
                bias = F.linear(part, kernel.sum((2, 3))) + bias
        for part, kernel in zip(parts, kernels, strict=True):
            if part.dim() == 4:
                result = F.conv2d(part, kernel, padding=self.conv.padding)
                total = result if total is None else total + result
        assert total is not None
        return total + bias.to(total.dtype)[..., None, None]


def _double_conv(inputs: int, middle: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, middle, 3, padding=1, bias=False),
        nn.ReLU(),
        nn.Conv2d(middle, outputs, 3, padding=1, bias=False),
        nn.ReLU(),
    )


class ReferenceEncoder(nn.Module):
    """The small U-Net E_i: reference image [1, 3, R, R] -> features T [1, 64 w, R, R] (w the width factor)."""

    def __init__(self, width: float) -> None:
        super().__init__()
        a, b, c = _scaled(width, 64), _scaled(width, 128), _scaled(width, 256)
        self.entry = _double_conv(3, a, a)
        self.down = nn.ModuleList([_double_conv(a, b, b), _double_conv(b, c, c), _double_conv(c, c, c)])
        self.up = nn.ModuleList([_double_conv(c + c, c, b), _double_conv(b + b, b, a), _double_conv(a + a, a, a)])

    def forward(self, image: Tensor) -> Tensor:
        levels = [self.entry(image)]
        for block in self.down:
            levels.append(block(F.max_pool2d(levels[-1], 2)))
        features = levels.pop()
        for block in self.up:
            skip = levels.pop()
            grown = F.interpolate(features, size=skip.shape[-2:], mode="bilinear", align_corners=True)
            features = block(torch.cat([skip, grown], 1))
        return features


class FreeFeatures(nn.Module):
    """Features T as free parameters: the U-Net's input is constant, so all it can produce is one constant map."""

    def __init__(self, channels: int, size: int, generator: torch.Generator | None) -> None:
        super().__init__()
        self.features = nn.Parameter(0.1 * torch.randn(1, channels, size, size, generator=generator))

    def forward(self, _: Tensor) -> Tensor:
        return self.features


class OffsetNetwork(nn.Module):
    """Predicts offsets for every texel (eq. 4 to 6).

    Args:
        config: sizes and variants.
        expressions: number of expression coefficients E.
        image: [3, R, R] reference image in [0, 1].
        positions: [3, R, R] UV_pos, the reference mesh's positions scaled to [-1, 1].
        masks: [4, R, R] region masks M_i in [0, 1]: eyes, nose, lips, forehead.
        generator: draws the starting weights.
    """

    image: Tensor
    positions: Tensor
    masks: Tensor

    def __init__(
        self,
        config: NetworkConfig,
        *,
        expressions: int,
        image: Tensor,
        positions: Tensor,
        masks: Tensor,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self._reduced = False
        self.register_buffer("image", image[None])
        self.register_buffer("positions", fourier_encode(positions[None]))
        self.register_buffer("masks", masks, persistent=False)
        self.boxes = [_box(mask) for mask in masks] if config.local_branch else []

        def width(channels: int) -> int:
            return _scaled(config.width, channels)

        features, embedding, small = width(64), width(96), width(16)
        self.encoder: nn.Module = (
            ReferenceEncoder(config.width)
            if config.encoder == "unet"
            else FreeFeatures(features, config.uv_size, generator)
        )
        self.embed_expression = nn.Linear(expressions, embedding)
        self.embed_pose = nn.Linear(15, small)
        self.embed_translation = nn.Linear(3, small)
        self.position_features = nn.Conv2d(ENCODED, features, 3, padding=1)
        self.global_first = SplitConv([features, features, embedding, small, small], width(256))
        self.global_second = nn.Conv2d(width(256), width(128), 3, padding=1)

        regions = len(self.boxes)
        if regions:
            self.displacement_features = nn.Conv2d(ENCODED, features, 3, padding=1)
            self.local_expression = nn.Linear(expressions, features)
            self.local_first = SplitConv([features, features, features], features)
            self.local_second = nn.Conv2d(features, features, 3, padding=1)
            self.local_heads = nn.ModuleList([nn.Conv2d(features, features, 1) for _ in range(regions)])
        self.fuse_first = SplitConv([width(128)] + [features] * regions, width(128))
        self.fuse_second = nn.Conv2d(width(128), width(64), 3, padding=1)
        self.fuse_last = nn.Conv2d(width(64), OFFSETS, 1)
        self._initialise(config.init, generator)

    def _initialise(self, kind: str, generator: torch.Generator | None) -> None:
        for name, module in self.named_modules():
            if not isinstance(module, nn.Conv2d | nn.Linear):
                continue
            if kind == "normal":
                nn.init.normal_(module.weight, 0, 0.01, generator=generator)
            elif name == "fuse_last":
                # Offsets start at exactly zero. Random ones would do harm, and the quickest way to stop that is to
                # switch the units behind them off, from which ReLUs do not come back.
                nn.init.zeros_(module.weight)
            else:
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    def static_features(self) -> Static:
        """What does not depend on the frame: features T of the reference image and those of its positions.

        Where the device has its own way through the network, that and more, as only the network itself can use.
        """
        if self._is_fast_on_gpu(self.image.device):
            from stavatar.avatar.network_gpu import fold

            return fold(self)
        if self._is_fast_on_cpu(self.image.device):
            return self._fold_on_cpu()
        return self._plain_features()

    def _fold_on_cpu(self) -> FoldedOnCpu:
        from stavatar.avatar.network_cpu import fold, reduced_type

        return fold(self, reduced_type() if self._reduced else torch.float32)

    def _plain_features(self) -> tuple[Tensor, Tensor]:
        return self.encoder(self.image), self.position_features(self.positions)

    def forward(
        self,
        displacement: Tensor,
        expression: Tensor,
        pose: Tensor,
        translation: Tensor,
        static: Static | None = None,
    ) -> Tensor:
        """Offset maps before their activations.

        Args:
            displacement: [B, 3, R, R] UV_disp, scaled like UV_pos.
            expression: [B, E] standardised coefficients.
            pose: [B, 15] neck, jaw, eyes and global rotation.
            translation: [B, 3].
            static: result of :meth:`static_features`, where the caller has kept it.

        Returns:
            [B, 13, R, R].
        """
        if self._is_fast_on_cpu(displacement.device):
            from stavatar.avatar import network_cpu

            kept = static if isinstance(static, network_cpu.FoldedOnCpu) else self._fold_on_cpu()
            return network_cpu.offset_maps(self, kept, displacement, expression, pose, translation)
        if self._is_fast_on_gpu(displacement.device):
            from stavatar.avatar.network_gpu import Folded, fold, offset_maps

            folded = static if isinstance(static, Folded) else fold(self)
            return offset_maps(self, folded, displacement, expression, pose, translation)
        assert static is None or isinstance(static, tuple), "static features are those of a reduced network"
        if not (self._reduced and displacement.is_cuda):
            return self._maps(displacement, expression, pose, translation, static)
        # What autocast casts must not be kept from one replay of a recorded step to the next.
        with torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
            return self._maps(displacement, expression, pose, translation, static)

    @contextmanager
    def reducing(self, wanted: bool = True) -> Iterator[None]:
        """Within it, convolutions are in bfloat16 where the device is faster at that.

        On a GPU all around them happens in few kernels then. Not every CPU is: see
        :func:`stavatar.avatar.network_cpu.reduced_type`.
        """
        before, self._reduced = self._reduced, wanted
        try:
            yield
        finally:
            self._reduced = before

    def _is_fast_on_gpu(self, device: torch.device) -> bool:
        """Whether the GPU's own way through the network is to be taken."""
        return self._reduced and has_kernels(device)

    def _is_fast_on_cpu(self, device: torch.device) -> bool:
        """Whether the CPU's own way is to be taken, which in float32 computes the same."""
        return device.type == "cpu" and self.fuse_last.weight.dtype == torch.float32

    def _maps(
        self,
        displacement: Tensor,
        expression: Tensor,
        pose: Tensor,
        translation: Tensor,
        static: tuple[Tensor, Tensor] | None,
    ) -> Tensor:
        reference, positions = self._plain_features() if static is None else static
        conditions = [
            F.relu(self.embed_expression(expression)),
            F.relu(self.embed_pose(pose)),
            F.relu(self.embed_translation(translation)),
        ]
        overall = F.relu(self.global_first([reference, positions, *conditions]))
        overall = F.relu(self.global_second(overall))  # w_g, eq. 4

        kernels = self.fuse_first.conv.weight.split(self.fuse_first.inputs, 1)
        fused = F.conv2d(overall, kernels[0], self.fuse_first.conv.bias, padding=1)
        projected = F.relu(self.local_expression(expression)) if self.boxes else None
        for index, kernel in enumerate(kernels[1:]):
            assert projected is not None
            local = self._local(index, displacement, reference, projected)  # w_l of one region, eq. 5
            top, bottom, left, right = self.boxes[index]
            fused[..., top:bottom, left:right] += F.conv2d(local, kernel, padding=1)
        fused = F.relu(self.fuse_second(F.relu(fused)))
        with torch.autocast(fused.device.type, enabled=False):  # what comes out are lengths and angles
            return self.fuse_last(fused.to(self.fuse_last.weight.dtype))  # eq. 6

    def _local(self, index: int, displacement: Tensor, reference: Tensor, expression: Tensor) -> Tensor:
        """The local branch of one region, over its box: [B, 64 w, h, w]; zero outside the region's mask."""
        top, bottom, left, right = self.boxes[index]
        window = (..., slice(top, bottom), slice(left, right))
        mask = self.masks[index][window]
        moved = self.displacement_features(fourier_encode(displacement[window]))
        mask = mask.to(moved.dtype)
        hidden = F.relu(self.local_first([moved * mask, reference[window] * mask, expression]))
        hidden = F.relu(self.local_second(hidden))
        return self.local_heads[index](hidden) * mask


def _scaled(width: float, channels: int) -> int:
    return max(4, round(width * channels))


def _box(mask: Tensor) -> tuple[int, int, int, int]:
    """(top, bottom, left, right) of a mask's non-zero texels, grown by the local branch's reach, inside the map."""
    rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
    if len(rows) == 0:
        return 0, 1, 0, 1
    height, width = mask.shape
    return (
        max(0, int(rows[0]) - REACH),
        min(height, int(rows[-1]) + 1 + REACH),
        max(0, int(columns[0]) - REACH),
        min(width, int(columns[-1]) + 1 + REACH),
    )
