"""An avatar at work on a GPU: from head parameters to Gaussians and pictures in few, large steps without gradients.

It computes what :class:`Avatar` does. Whatever is the same in all frames is found once: the identity's part of the
head, the network's static features, its conditions' layers with their standardisation as two matrices, each region's
head as part of the convolution after it. The local branch runs on its canvas (:mod:`stavatar.avatar.canvas`), beside
the global one. Between the convolutions there are kernels of our own, which :class:`stavatar.avatar.replay.Replay`
records as one CUDA graph.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from stavatar.avatar import _inference_triton as kernels
from stavatar.avatar._binding_triton import Binding
from stavatar.avatar.avatar import Avatar, PosedGaussians, pose_condition
from stavatar.avatar.canvas import make_canvas
from stavatar.avatar.encoding import frequencies
from stavatar.avatar.network import REACH, FreeFeatures, OffsetNetwork, ReferenceEncoder
from stavatar.avatar.network_gpu import HALF, Folded, encode_reference, fold
from stavatar.avatar.offsets import split_offsets
from stavatar.camera import Camera
from stavatar.gpu.convolution import convolve, rectify
from stavatar.head import HeadParameters, PosedHead
from stavatar.head._posing_triton import PosedByKernels
from stavatar.splat import Rasterization
from stavatar.splat.cuda import draw

_TRIED = 4  # ways to do a convolution, of those that cuDNN expects to be fast


class Inference:
    """An avatar with all that never changes from frame to frame.

    Args:
        avatar: on a GPU that Triton compiles for, with at least one Gaussian; not to be changed from here on.
    """

    def __init__(self, avatar: Avatar) -> None:
        self._avatar = avatar
        self._head = PosedByKernels(avatar.head, avatar.shape)
        self._faces = avatar.head.faces.int()
        self._side = torch.cuda.Stream(avatar.shape.device)
        self._network = None if avatar.network is None else _Network(avatar, avatar.network)

    @torch.no_grad()
    def pose(self, parameters: HeadParameters, *, soft: bool) -> PosedGaussians:
        """What the avatar gives for B frames on its device."""
        bound = self._bind(parameters, soft)
        offsets = None if bound.offsets is None else split_offsets(bound.offsets.transpose(1, 2))
        rest = self._avatar.gaussians.sh_rest.expand(len(parameters), -1, -1, -1)
        sh = torch.cat([bound.direct, rest], 2)
        return PosedGaussians(bound.means, bound.quaternions, bound.scales, bound.opacities, sh, bound.mesh, offsets)

    @torch.no_grad()
    def picture(
        self, parameters: HeadParameters, camera: Camera, background: Tensor, *, soft: bool, room: int | None
    ) -> Rasterization:
        """Pictures of B frames, as :func:`stavatar.avatar.avatar.render` draws them.

        Args:
            parameters, camera, background: on the avatar's device; one camera, or B.
            soft: add the network's offsets.
            room: of the rasteriser (:func:`stavatar.splat.rasterize`).
        """
        bound = self._bind(parameters, soft)
        rest = self._avatar.gaussians.sh_rest
        return draw(
            bound.means, bound.quaternions, bound.scales, bound.opacities, bound.direct, rest,
            camera.expand(len(parameters)), background, room,
        )  # fmt: skip

    def _bind(self, parameters: HeadParameters, soft: bool) -> _Bound:
        """Gaussians of B frames. Two streams: what needs the mesh, and what needs the conditions alone."""
        g, config = self._avatar.gaussians, self._avatar.config.network
        network = self._network if soft else None
        main = torch.cuda.current_stream(g.uv.device)
        raw = None
        with torch.cuda.device(g.uv.device), _fastest_convolutions():
            self._side.wait_stream(main)
            with torch.cuda.stream(self._side):
                mesh, expressed = self._head(parameters)
                told = kernels.face_rows(mesh.vertices, self._faces)
                shown = mesh.vertices if config.displacement == "posed" else expressed
            if network is not None:
                overall, local = network.conditions(parameters)
                self._side.wait_stream(main)
                with torch.cuda.stream(self._side):
                    parts = network.local_parts(shown, local)
                base = network.global_map(overall)
                main.wait_stream(self._side)
                raw = network.read(base, parts, g.uv)
            main.wait_stream(self._side)
            means, scales, quaternions, opacities, direct, bounded = Binding.apply(
                told, g.face, g.position, g.log_scale, g.quaternion, g.opacity_logit, g.sh_dc, raw,
                config.position_range, config.scale_range, config.offset_frame == "face",
            )  # fmt: skip
        return _Bound(means, quaternions, scales, opacities, direct, mesh, None if raw is None else bounded)


@dataclass(frozen=True)
class _Bound:
    """As :class:`PosedGaussians`, but of the colours degree 0 alone [B, N, 1, 3], and offsets as [B, 13, N]."""

    means: Tensor
    quaternions: Tensor
    scales: Tensor
    opacities: Tensor
    direct: Tensor
    mesh: PosedHead
    offsets: Tensor | None


class _Network:
    """The offset network, folded for inference."""

    @torch.no_grad()
    def __init__(self, avatar: Avatar, network: OffsetNetwork) -> None:
        folded = fold(network)
        self._overall, self._second = folded.overall, folded.second
        self._fuse_first, self._fuse_second = folded.fuse_first, folded.fuse_second
        self._second_bias = _row(network.global_second.bias)
        self._fuse_first_bias = _row(network.fuse_first.conv.bias)
        self._fuse_second_bias = _row(network.fuse_second.bias)
        self._last, self._last_bias = network.fuse_last.weight[:, :, 0, 0].contiguous(), _row(network.fuse_last.bias)
        self._fold_conditions(avatar, network, folded.overall_weights, folded.local_expression)
        self._local = _Local(avatar, network, folded) if network.boxes else None

    def _fold_conditions(
        self, avatar: Avatar, network: OffsetNetwork, overall: tuple[Tensor, ...], local: Tensor | None
    ) -> None:
        """Two layers from all conditions in a row to what they add to the first layer of either branch."""
        embeds = [network.embed_expression, network.embed_pose, network.embed_translation]
        into = torch.block_diag(*(layer.weight.T for layer in embeds))
        into_bias = torch.cat([layer.bias for layer in embeds])
        out, out_bias = torch.cat(overall, 1).T, _row(network.global_first.conv.bias)[0]
        self._overall_width = len(out_bias)
        if local is not None:
            weight = network.local_expression.weight.T
            into = torch.cat([into, F.pad(weight, (0, 0, 0, len(into) - len(weight)))], 1)
            into_bias = torch.cat([into_bias, _row(network.local_expression.bias)[0]])
            out = torch.block_diag(out, local.T)
            out_bias = torch.cat([out_bias, _row(network.local_first.conv.bias)[0]])
        standards = [avatar.standardise_expression, avatar.standardise_pose, avatar.standardise_translation]
        mean, scale = (torch.cat([getattr(each, name) for each in standards]) for name in ("mean", "scale"))
        self._into = (into / scale[:, None]).contiguous()
        self._into_bias = into_bias - mean @ self._into
        self._out, self._out_bias = out.contiguous(), out_bias

    def conditions(self, parameters: HeadParameters) -> tuple[Tensor, Tensor]:
        """What a frame's conditions add to the first layer of the global branch and of the local one: [B, C] each."""
        told = torch.cat([parameters.expression, pose_condition(parameters), parameters.translation], 1)
        added = torch.addmm(self._out_bias, torch.addmm(self._into_bias, told, self._into).relu_(), self._out)
        return added[:, : self._overall_width].contiguous(), added[:, self._overall_width :].contiguous()

    def global_map(self, added: Tensor) -> Tensor:
        """What the global branch gives to the fused map, before bias and ReLU."""
        overall = convolve(rectify(self._overall, added), self._second, self._second_bias)
        return _last(torch.conv2d(overall, self._fuse_first, padding=1))

    def local_parts(self, vertices: Tensor, added: Tensor) -> list[Tensor]:
        """What each region's local branch gives to it, on its rows of the canvas."""
        return [] if self._local is None else self._local.parts(vertices, added)

    def read(self, base: Tensor, parts: list[Tensor], uv: Tensor) -> Tensor:
        """Raw offsets [B, 13, N] at texture coordinates, from what both branches gave."""
        if self._local is None:
            base = rectify(base, self._fuse_first_bias)
        else:
            self._local.join(base, parts, self._fuse_first_bias)
        features = _last(torch.conv2d(base, self._fuse_second, padding=1))
        return kernels.read_features(features, self._fuse_second_bias, self._last, self._last_bias, uv)


class _Local:
    """The local branch on its canvas."""

    def __init__(self, avatar: Avatar, network: OffsetNetwork, folded: Folded) -> None:
        assert folded.moved is not None and folded.local_first is not None and folded.local_second is not None
        canvas, atlas, device = make_canvas(network.masks, REACH), avatar.atlas, network.masks.device
        self._moved, self._first, self._second = folded.moved, folded.local_first, folded.local_second
        self._moved_bias = _row(network.displacement_features.bias)
        self._second_bias = _row(network.local_second.bias)
        self._mask = canvas.mask.to(device)
        self._shape = canvas.mask.shape
        texel = canvas.texel.to(device)
        shows = texel.flatten() >= 0
        index = texel.flatten().clamp_min(0)
        self._shows = shows.float().reshape(self._shape)

        self._scale = 1 / avatar._extent
        self._rates = frequencies(self._scale)
        self._corners = atlas.corners.flatten(0, 1)[index].int()
        weights = atlas.barycentric.flatten(0, 1)[index]
        self._weights = torch.where(shows[:, None], weights, -1.0).contiguous()
        # The maps are of (vertices - low) / extent - 1, which the kernel does not subtract.
        still = network.positions[0, :3].flatten(1).T[index]
        self._still = still + weights.sum(1, keepdim=True) * (avatar._low / avatar._extent + 1)

        assert isinstance(network.encoder, ReferenceEncoder | FreeFeatures)
        reference = encode_reference(network.encoder, network.image)[0].flatten(1)[:, index].unflatten(1, self._shape)
        _, to_reference, _ = network.local_first.conv.weight.split(network.local_first.inputs, 1)
        masked = _last((reference * self._mask.to(HALF))[None])
        self._reference = convolve(masked, _last(to_reference.to(HALF)), relu=False)

        kernels_of = network.fuse_first.conv.weight.split(network.fuse_first.inputs, 1)[1:]
        self._rows, self._fuse, constants = list(canvas.rows.values()), [], []
        for region, (top, bottom) in canvas.rows.items():
            head, fuse = network.local_heads[region], kernels_of[region]
            assert isinstance(head, torch.nn.Conv2d) and head.bias is not None
            self._fuse.append(_last(torch.einsum("omyx,mi->oiyx", fuse, head.weight[:, :, 0, 0]).to(HALF)))
            biased = head.bias[None, :, None, None] * self._mask[None, None, top:bottom]
            constants.append(torch.conv2d(biased, fuse, padding=1)[0].flatten(1).T)
        self._constants = torch.cat(constants).to(HALF).contiguous()
        self._places = canvas.places.to(device)

    def parts(self, vertices: Tensor, added: Tensor) -> list[Tensor]:
        encoded = kernels.encode_canvas(
            vertices, self._scale, self._corners, self._weights, self._still, self._rates, HALF
        )
        encoded = encoded.unflatten(1, self._shape).permute(0, 3, 1, 2)
        moved = convolve(encoded, self._moved, self._moved_bias, mask=self._mask, relu=False)
        hidden = convolve(moved, self._first, added, add=self._reference, mask=self._shows)
        hidden = convolve(hidden, self._second, self._second_bias, mask=self._mask)
        return [
            torch.conv2d(_last(hidden[:, :, top:bottom]), fuse, padding=1)
            for (top, bottom), fuse in zip(self._rows, self._fuse, strict=True)
        ]

    def join(self, base: Tensor, parts: list[Tensor], bias: Tensor) -> None:
        """Make `base` relu(base + bias + parts)."""
        starts = [top * self._shape[1] for top, _ in self._rows]
        kernels.join_regions(base, parts, self._constants, self._places, bias, starts)


@contextmanager
def _fastest_convolutions() -> Iterator[None]:
    """Within it cuDNN times its ways to do a convolution the first time, and takes the fastest from then on."""
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.benchmark_limit
    cudnn.benchmark, cudnn.benchmark_limit = True, _TRIED
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.benchmark_limit = before


def _row(bias: Tensor | None) -> Tensor:
    """A layer's bias as convolutions take it: [1, C]."""
    assert bias is not None
    return bias[None]


def _last(maps: Tensor) -> Tensor:
    return maps.contiguous(memory_format=torch.channels_last)
