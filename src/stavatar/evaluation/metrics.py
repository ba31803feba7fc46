"""Metrics, declared by name with the network and the input range that their numbers depend on.

The declarations go into every result file, because numbers under one name are not comparable across papers: the
network behind LPIPS and the range it is fed differ, and so do borders in SSIM. Pictures are [B, H, W, 3] in [0, 1];
every function returns one value per picture, [B].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from stavatar.evaluation.lpips import LPIPS, Network
from stavatar.training.losses import ssim_map

SMALLEST_ERROR = 1e-10
"""Mean squared errors below this count as this, so that equal pictures have a PSNR of 100 dB and not infinity."""


@dataclass(frozen=True)
class Metric:
    """What a name in a result file stands for.

    Attributes:
        better: whether higher or lower values are better.
        definition: of the value of one picture; the result is the mean over pictures.
        input_range: of the values that the definition is applied to.
        network: behind LPIPS, else None.
    """

    better: Literal["higher", "lower"]
    definition: str
    input_range: str = "[0, 1]"
    network: Network | None = None


_LPIPS = "LPIPS v0.1"

METRICS: dict[str, Metric] = {
    "psnr": Metric("higher", "-10 log10 of the mean squared error over pixels and channels, at most 100 dB"),
    "ssim": Metric(
        "higher",
        "structural similarity under an 11 x 11 Gaussian window of sigma 1.5 with C1 = 0.01², C2 = 0.03², zeros beyond "
        "the border ('same', as in 3DGS), mean over all pixels and channels",
    ),
    "l1": Metric("lower", "mean absolute difference over pixels and channels"),
    "lpips_alex": Metric("lower", _LPIPS, "[-1, 1]", "alexnet"),
    "lpips_vgg": Metric("lower", _LPIPS, "[-1, 1]", "vgg16"),
    "lpips_alex_01": Metric(
        "lower",
        _LPIPS + " fed outside the range that it is defined for, to compare with papers that do so",
        "[0, 1]",
        "alexnet",
    ),
    "flicker": Metric(
        "lower",
        "mean absolute difference over pixels and channels between the error picture (render minus truth, signed) and "
        "that of the frame before, so that motion and errors that both pictures share do not count; frames whose "
        "predecessor is not measured are left out",
    ),
}
"""All metrics of whole pictures."""

REGION_METRICS = ("psnr", "l1")
"""Those that are computed inside a mask as well: sums over its pixels instead of all."""


def psnr(render: Tensor, truth: Tensor, mask: Tensor | None = None) -> Tensor:
    """Peak signal-to-noise ratio in dB of each picture [B]; inside `mask` [B, H, W] where given, NaN if it is empty."""
    return -10 * _mean((render - truth).square(), mask).clamp_min(SMALLEST_ERROR).log10()


def l1(render: Tensor, truth: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean absolute difference of each picture [B]; inside `mask` [B, H, W] where given, NaN if it is empty."""
    return _mean((render - truth).abs(), mask)


def ssim(render: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity of each picture [B]; the window is that of the training loss."""
    return ssim_map(render.movedim(-1, 1), truth.movedim(-1, 1)).mean((1, 2, 3))


def lpips(name: str, network: LPIPS, render: Tensor, truth: Tensor) -> Tensor:
    """The LPIPS metric `name` of each picture [B], with the network that its declaration asks for."""
    rescale = METRICS[name].input_range == "[-1, 1]"
    return network(render.movedim(-1, 1), truth.movedim(-1, 1), rescale=rescale)


def flicker(render: Tensor, truth: Tensor) -> Tensor:
    """How much the error of each of B successive frames differs from that of the one before: [B - 1]."""
    return _mean((render - truth).diff(dim=0).abs(), None)


def _mean(error: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over pixels and channels of [B, H, W, 3], weighted by `mask`."""
    error = error.mean(-1)
    if mask is None:
        return error.mean((1, 2))
    weight = mask.to(error.dtype)
    return torch.einsum("bhw,bhw->b", error, weight) / weight.sum((1, 2))
