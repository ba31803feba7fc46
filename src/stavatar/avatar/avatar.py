"""Avatar: head parameters in, posed Gaussians out (eq. 2 and 7)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stavatar.avatar.binding import bind, face_rows
from stavatar.avatar.gaussians import BoundGaussians
from stavatar.avatar.network import OffsetNetwork, Static
from stavatar.avatar.offsets import Offsets, read_maps, read_offsets, split_offsets
from stavatar.camera import Camera
from stavatar.config import Config
from stavatar.gpu import has_kernels
from stavatar.head import HeadModel, HeadParameters, PosedHead
from stavatar.head.uv import UVAtlas
from stavatar.splat import Rasterization, rasterize
from stavatar.splat.rasterize import Backend


@dataclass(frozen=True)
class PosedGaussians:
    """N Gaussians in world space, for B frames.

    Attributes:
        means: [B, N, 3] metres.
        quaternions: [B, N, 4] wxyz, not normalised.
        scales: [B, N, 3] metres.
        opacities: [B, N] in [0, 1].
        sh: [B, N, K, 3] colour coefficients.
        mesh: the posed head they are bound to.
        offsets: what the network added; None with hard binding.
    """

    means: Tensor
    quaternions: Tensor
    scales: Tensor
    opacities: Tensor
    sh: Tensor
    mesh: PosedHead
    offsets: Offsets | None


class Standardiser(nn.Module):
    """Shifts and scales conditions by what the training frames showed; `floor` keeps still parameters still."""

    mean: Tensor
    scale: Tensor

    def __init__(self, values: Tensor, floor: float) -> None:
        super().__init__()
        self.register_buffer("mean", values.mean(0))
        spread = values.std(0) if len(values) > 1 else torch.zeros_like(values[0])
        self.register_buffer("scale", spread.clamp_min(floor))

    def forward(self, values: Tensor) -> Tensor:
        return (values - self.mean) / self.scale


class Avatar(nn.Module):
    """One subject's animatable Gaussians.

    Args:
        config: of the run that makes it.
        head: the head model, shared and never trained.
        shape: [S] identity coefficients.
        gaussians: bound Gaussians.
        seen: parameters of the training frames; their statistics standardise the network's conditions.
        reference: parameters of the reference frame (one frame); its mesh is UV_pos.
        image: [3, H, W] the reference image in [0, 1].
        atlas, masks: UV atlas and the region masks [4, R, R], both at `config.network.uv_size`.
    """

    shape: Tensor
    _low: Tensor
    _extent: Tensor

    def __init__(
        self,
        config: Config,
        head: HeadModel,
        shape: Tensor,
        gaussians: BoundGaussians,
        *,
        seen: HeadParameters,
        reference: HeadParameters,
        image: Tensor,
        atlas: UVAtlas,
        masks: Tensor,
    ) -> None:
        super().__init__()
        self.config = config
        self.head = head
        self.atlas = atlas
        self.register_buffer("shape", shape)
        self.gaussians = gaussians

        vertices = self._shown_vertices(reference)[0]
        low, high = vertices.amin(0), vertices.amax(0)
        self.register_buffer("_low", low)
        self.register_buffer("_extent", (high - low) / 2)
        self.standardise_expression = Standardiser(seen.expression, floor=0.05)
        self.standardise_pose = Standardiser(pose_condition(seen), floor=0.02)
        self.standardise_translation = Standardiser(seen.translation, floor=0.005)
        self.network: OffsetNetwork | None = None
        if config.network.enabled:
            size = config.network.uv_size
            self.network = OffsetNetwork(
                config.network,
                expressions=head.expression_count,
                image=nn.functional.interpolate(image[None], size=(size, size), mode="area")[0],
                positions=self._uv_map(vertices[None])[0],
                masks=masks,
                generator=torch.Generator().manual_seed(config.training.seed),
            )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Avatar:
        """Moving the avatar to a device takes the atlas along, which is no module."""
        super()._apply(fn, recurse)
        self.atlas = self.atlas.to(self.shape.device)
        return self

    def forward(self, parameters: HeadParameters, *, soft: bool = True, static: Static | None = None) -> PosedGaussians:
        """Pose the Gaussians for B frames.

        Args:
            parameters: B frames.
            soft: add the network's offsets; False is hard binding (eq. 2) alone.
            static: the network's static features, where the caller has kept them.
        """
        mesh = self.head(self.shape, parameters)
        maps = self.offset_maps(parameters, mesh, static) if soft and self.network is not None else None
        return self.place(mesh, maps)

    def offsets(self, parameters: HeadParameters, mesh: PosedHead, static: Static | None = None) -> Offsets:
        """The network's offsets for B frames."""
        return read_offsets(self.offset_maps(parameters, mesh, static), self.gaussians.uv, self.config.network)

    def offset_maps(self, parameters: HeadParameters, mesh: PosedHead, static: Static | None = None) -> Tensor:
        """The network's raw maps [B, 13, R, R]."""
        assert self.network is not None
        shown = mesh.vertices
        if self.config.network.displacement == "expression":
            shown = self._shown_vertices(parameters) if mesh.unposed is None else mesh.unposed
        return self.network(
            self._uv_map(shown) - self._reference_map(),
            self.standardise_expression(parameters.expression),
            self.standardise_pose(pose_condition(parameters)),
            self.standardise_translation(parameters.translation),
            static,
        )

    def place(self, mesh: PosedHead, maps: Tensor | None) -> PosedGaussians:
        """The Gaussians of B posed heads, with the offsets that raw maps [B, 13, R, R] hold, or hard bound."""
        if has_kernels(self.shape.device) and len(self.gaussians) > 0:
            return self._place_on_gpu(mesh, maps)
        offsets = None if maps is None else read_offsets(maps, self.gaussians.uv, self.config.network)
        return self.bind(mesh, offsets)

    def bind(self, mesh: PosedHead, offsets: Offsets | None) -> PosedGaussians:
        """Carry the Gaussians from their faces into the world (eq. 2), then add offsets (eq. 7)."""
        g = self.gaussians
        means, quaternions, scales = bind(
            mesh.vertices, self.head.faces, g, offsets, in_face=self.config.network.offset_frame == "face"
        )
        count = len(means)
        opacities = g.opacity.expand(count, -1)
        sh_dc = g.sh_dc.expand(count, -1, -1, -1)
        if offsets is not None:
            opacities = (opacities + offsets.opacity).clamp(0, 1)
            sh_dc = sh_dc + offsets.color[:, :, None]
        sh = sh_dc if g.sh_rest.shape[1] == 0 else torch.cat([sh_dc, g.sh_rest.expand(count, -1, -1, -1)], 2)
        return PosedGaussians(means, quaternions, scales, opacities, sh, mesh, offsets)

    def _place_on_gpu(self, mesh: PosedHead, maps: Tensor | None) -> PosedGaussians:
        """:meth:`place` in one kernel."""
        from stavatar.avatar._binding_triton import Binding

        g, config = self.gaussians, self.config.network
        raw = None if maps is None else read_maps(maps, g.uv)
        means, scales, quaternions, opacities, sh, bounded = Binding.apply(
            face_rows(mesh.vertices, self.head.faces),
            g.face,
            g.position,
            g.log_scale,
            g.quaternion,
            g.opacity_logit,
            g.sh_dc,
            raw,
            config.position_range,
            config.scale_range,
            config.offset_frame == "face",
        )
        offsets = None if raw is None else split_offsets(bounded.transpose(1, 2))
        if g.sh_rest.shape[1] > 0:
            sh = torch.cat([sh, g.sh_rest.expand(len(sh), -1, -1, -1)], 2)
        return PosedGaussians(means, quaternions, scales, opacities, sh, mesh, offsets)

    def _shown_vertices(self, parameters: HeadParameters) -> Tensor:
        """The vertices that UV_pos and UV_disp show: posed, or with the expression alone. [B, V, 3]"""
        if self.config.network.displacement == "expression":
            return self.head.unposed(self.shape, parameters.expression)
        return self.head(self.shape, parameters).vertices

    def _uv_map(self, vertices: Tensor) -> Tensor:
        """Vertices [B, V, 3] as maps [B, 3, R, R], each axis scaled so that the reference spans [-1, 1]."""
        return self.atlas.gather((vertices - self._low) / self._extent - 1)

    def _reference_map(self) -> Tensor:
        assert self.network is not None
        return self.network.positions[:, :3]  # the Fourier encoding starts with the values themselves


def pose_condition(parameters: HeadParameters) -> Tensor:
    """[B, 15]: neck 3, jaw 3, eyes 6, global rotation 3 (METHOD section 2, beta)."""
    return torch.cat([parameters.neck, parameters.jaw, parameters.eyes, parameters.rotation], 1)


def render(
    posed: PosedGaussians,
    camera: Camera,
    *,
    background: Tensor | None = None,
    sh_degree: int | None = None,
    extra: Tensor | None = None,
    statistics: bool = False,
    backend: Backend = "auto",
    room: int | None = None,
) -> Rasterization:
    """Splat posed Gaussians.

    Args:
        posed: B frames.
        camera: one, or B.
        background: [3] RGB; white by default.
        sh_degree: highest degree to use; all that the Gaussians have by default.
        extra: [B, N, D] more channels to blend along, without background.
        statistics: also count pixels and blending weights per Gaussian.
        backend, room: of :func:`stavatar.splat.rasterize`.
    """
    have = round(posed.sh.shape[2] ** 0.5) - 1
    return rasterize(
        posed.means,
        posed.quaternions,
        posed.scales,
        posed.opacities,
        posed.sh,
        camera,
        sh_degree=have if sh_degree is None else min(sh_degree, have),
        background=posed.means.new_ones(3) if background is None else background,
        extra=extra,
        statistics=statistics,
        backend=backend,
        room=room,
    )
