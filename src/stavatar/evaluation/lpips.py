"""LPIPS v0.1: how different two pictures look, as the distance between features of an image classifier.

Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR 2018. The networks are
VGG16 and AlexNet up to their last convolution; the weights are external files (:mod:`stavatar.assets`). The module
serves as a metric and as L_vgg in eq. 12.

Convention: pictures are [B, 3, H, W] in [0, 1] like everywhere in this package and are mapped to [-1, 1], for which
LPIPS is defined. Some papers, STAvatar's among them, feed [0, 1] as it is: ``rescale=False`` gives their numbers, which
are not comparable with the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import conv2d, max_pool2d, pad

from stavatar import assets
from stavatar.errors import AssetError
from stavatar.gpu import has_kernels
from stavatar.gpu.convolution import convolve

Network = Literal["vgg16", "alexnet"]

_IN = 8  # channels that pictures are padded to where tensor cores read them

SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
"""Inputs in [-1, 1] are taken to (x - SHIFT) / SCALE, which is ImageNet's standardisation."""


@dataclass(frozen=True)
class _Convolution:
    """A convolution and its ReLU, named by its index in torchvision's ``features``.

    ``pool`` is the side of the stride-2 max-pooling in front of it (0: none); ``tapped`` outputs are compared.
    """

    index: int
    inputs: int
    outputs: int
    kernel: int = 3
    stride: int = 1
    padding: int = 1
    pool: int = 0
    tapped: bool = False


_TRUNKS: dict[str, tuple[_Convolution, ...]] = {
    "vgg16": (
        _Convolution(0, 3, 64),
        _Convolution(2, 64, 64, tapped=True),
        _Convolution(5, 64, 128, pool=2),
        _Convolution(7, 128, 128, tapped=True),
        _Convolution(10, 128, 256, pool=2),
        _Convolution(12, 256, 256),
        _Convolution(14, 256, 256, tapped=True),
        _Convolution(17, 256, 512, pool=2),
        _Convolution(19, 512, 512),
        _Convolution(21, 512, 512, tapped=True),
        _Convolution(24, 512, 512, pool=2),
        _Convolution(26, 512, 512),
        _Convolution(28, 512, 512, tapped=True),
    ),
    "alexnet": (
        _Convolution(0, 3, 64, kernel=11, stride=4, padding=2, tapped=True),
        _Convolution(3, 64, 192, kernel=5, padding=2, pool=3, tapped=True),
        _Convolution(6, 192, 384, pool=3, tapped=True),
        _Convolution(8, 384, 256, tapped=True),
        _Convolution(10, 256, 256, tapped=True),
    ),
}


class LPIPS(nn.Module):
    """LPIPS with one network. Frozen, and no part of a state dict; differentiable with respect to the pictures.

    Args:
        network: ``vgg16`` or ``alexnet``.
        reduced: as a loss on a GPU: convolutions in bfloat16, the comparison in float32. ``vgg16`` only.

    Raises:
        AssetError: the weights are not there, or are not those of this network.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, network: Network, *, reduced: bool = False) -> None:
        super().__init__()
        if network not in get_args(Network):
            raise ValueError(f"LPIPS knows the networks {', '.join(get_args(Network))}, not {network!r}")
        if reduced and network != "vgg16":
            raise ValueError(f"only vgg16 can be reduced, not {network}")
        self._reduced = reduced
        self._trunk = _TRUNKS[network]
        self._half: dict[str, Tensor] = {}  # weights in bfloat16, where they were asked for
        for name, tensor in _load_weights(network, self._trunk).items():
            self.register_buffer(_buffer(name), tensor, persistent=False)
        self.register_buffer("shift", torch.tensor(SHIFT).reshape(3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(SCALE).reshape(3, 1, 1), persistent=False)

    def forward(self, render: Tensor, truth: Tensor | list[Tensor], *, rescale: bool = True) -> Tensor:
        """Distances [B] between pictures [B, 3, H, W] in [0, 1].

        Args:
            render: receives gradients.
            truth: pictures, or what :meth:`features` returned for them, to be spared half of the work.
            rescale: map [0, 1] to [-1, 1] first, as LPIPS is defined.
        """
        if self._reduced and isinstance(truth, Tensor) and has_kernels(render.device):
            return self._reduced_distances(render, truth, rescale)
        ours = self.features(render, rescale=rescale)
        theirs = self.features(truth, rescale=rescale) if isinstance(truth, Tensor) else truth
        distances = [(a - b).square().sum(1).mean((1, 2)) for a, b in zip(ours, theirs, strict=True)]
        return torch.stack(distances).sum(0)

    def features(self, images: Tensor, *, rescale: bool = True) -> list[Tensor]:
        """What is compared: of each tapped layer the features [B, C, h, w], scaled to unit length at every position and
        then by the square root of the layer's learned weights, so that the squared difference is the weighted one."""
        if rescale:
            images = 2 * images - 1
        signal = (images - self.shift) / self.scale
        result: list[Tensor] = []
        for layer in self._trunk:
            if layer.pool:
                signal = max_pool2d(signal, layer.pool, stride=2)
            weight, bias = (self.get_buffer(_buffer(f"features.{layer.index}.{part}")) for part in ("weight", "bias"))
            signal = conv2d(signal, weight, bias, layer.stride, layer.padding).relu()
            if layer.tapped:
                tapped = signal.float() if signal.dtype in (torch.bfloat16, torch.float16) else signal
                length = torch.linalg.vector_norm(tapped, dim=1, keepdim=True)
                head = self.get_buffer(_buffer(f"heads.{len(result)}.weight"))
                result.append(tapped / (length + 1e-10) * head.sqrt())
        return result

    def _reduced_distances(self, render: Tensor, truth: Tensor, rescale: bool) -> Tensor:
        """:meth:`forward` in bfloat16, with few passes over memory."""
        from stavatar.evaluation._lpips_triton import Distance

        ours = self._reduced_features(render, rescale)
        with torch.no_grad():
            theirs = self._reduced_features(truth, rescale)
        heads = [self.get_buffer(_buffer(f"heads.{index}.weight")).flatten() for index in range(len(ours))]
        distances = [Distance.apply(a, b, head) for a, b, head in zip(ours, theirs, heads, strict=True)]
        return torch.stack(distances).sum(0)

    def _reduced_features(self, images: Tensor, rescale: bool) -> list[Tensor]:
        """Features of the tapped layers as they come, bfloat16, channels last."""
        if rescale:
            images = 2 * images - 1
        signal = ((images - self.shift) / self.scale).to(torch.bfloat16)
        # Three channels are too few for tensor cores.
        signal = pad(signal, (0, 0, 0, 0, 0, _IN - 3)).contiguous(memory_format=torch.channels_last)
        result: list[Tensor] = []
        for layer in self._trunk:
            if layer.pool:
                signal = max_pool2d(signal, layer.pool, stride=2)
            bias = self.get_buffer(_buffer(f"features.{layer.index}.bias"))[None]
            signal = convolve(signal, self._half_weight(layer), bias)
            if layer.tapped:
                result.append(signal)
        return result

    def _half_weight(self, layer: _Convolution) -> Tensor:
        """A layer's weight in bfloat16, channels last, cast once."""
        name = _buffer(f"features.{layer.index}.weight")
        weight = self.get_buffer(name)
        if name not in self._half or self._half[name].device != weight.device:
            if layer.inputs == 3:
                weight = pad(weight, (0, 0, 0, 0, 0, _IN - 3))
            self._half[name] = weight.to(torch.bfloat16, memory_format=torch.channels_last)
        return self._half[name]


def _buffer(name: str) -> str:
    """Buffer names may not contain dots."""
    return name.replace(".", "_")


def _load_weights(network: Network, trunk: tuple[_Convolution, ...]) -> dict[str, Tensor]:
    """Read and check all tensors of a network."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in trunk:
        shapes[f"features.{layer.index}.weight"] = (layer.outputs, layer.inputs, layer.kernel, layer.kernel)
        shapes[f"features.{layer.index}.bias"] = (layer.outputs,)
    for k, layer in enumerate(layer for layer in trunk if layer.tapped):
        shapes[f"heads.{k}.weight"] = (1, layer.outputs, 1, 1)

    name = f"lpips_{network}"
    path = assets.path(name)
    advice = f"fetch it again with `stavatar assets {name}`"
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise AssetError(f"{path} cannot be read as safetensors ({error}): {advice}") from error
    for key, shape in shapes.items():
        if key not in tensors or tuple(tensors[key].shape) != shape:
            raise AssetError(f"{path} is not LPIPS with {network}, since {key} is not of the shape {shape}: {advice}")
        if key.startswith("heads") and bool((tensors[key] < 0).any()):
            raise AssetError(f"{path}: {key} must not be negative: {advice}")
    return {key: tensors[key].float() for key in shapes}
