"""What can be seen of an avatar besides its looks: its Gaussians as bodies, what colours can show, its mesh."""

from __future__ import annotations

import torch
from torch import Tensor

from stavatar.avatar.avatar import PosedGaussians
from stavatar.avatar.gaussians import color_to_sh
from stavatar.avatar.runtime import Runtime
from stavatar.camera import Camera
from stavatar.head.model import REGIONS, HeadModel
from stavatar.mesh import rasterize_mesh
from stavatar.viewer.look import Colours, Mesh, Splats

POINT_SIZE = 0.0007
"""Standard deviation of a point, metres."""

_BODY = 0.5  # scale of an ellipsoid relative to its Gaussian, so that neighbours stay apart
_VISIBLE = 0.1  # opacity below which a Gaussian has no body
_FULL = 0.95  # quantile of the frame's offsets at which their colours are full

_GREY = (0.78, 0.78, 0.8)
_REGION_COLOURS = torch.tensor(
    [
        (0.94, 0.78, 0.66), (0.96, 0.88, 0.55), (0.93, 0.55, 0.35), (0.35, 0.60, 0.85), (0.95, 0.95, 0.95),
        (0.85, 0.25, 0.35), (0.50, 0.12, 0.20), (1.00, 1.00, 0.85), (0.70, 0.50, 0.85), (0.35, 0.28, 0.25),
        (0.60, 0.75, 0.50), (0.40, 0.60, 0.60),
    ]
)  # fmt: skip
assert len(_REGION_COLOURS) == len(REGIONS)


def colour(posed: PosedGaussians, runtime: Runtime, colours: Colours) -> Tensor | None:
    """RGB [N, 3] in [0, 1] of one frame's Gaussians, or None for their own.

    ``offsets`` shows the network's shift along x, y and z as red, green and blue around grey, full where it is as large
    as hardly any other in the frame; ``regions`` the part of the head that each Gaussian is bound to.
    """
    if colours == "regions":
        return _REGION_COLOURS.to(runtime.device)[runtime.head.regions[runtime.avatar.gaussians.face]]
    if colours == "offsets":
        if posed.offsets is None:
            return torch.full_like(posed.means[0], 0.5)
        shift = posed.offsets.position[0]
        full = shift.abs().amax(1).quantile(_FULL).clamp_min(1e-6)
        return (0.5 + 0.5 * shift / full).clamp(0, 1)
    return None


def bodies(posed: PosedGaussians, splats: Splats) -> tuple[Tensor, Tensor]:
    """Scales [1, N, 3] and opacities [1, N] that show Gaussians as they look, as points or as ellipsoids."""
    if splats == "none":
        return posed.scales, torch.zeros_like(posed.opacities)
    if splats == "points":
        return torch.full_like(posed.scales, POINT_SIZE), torch.ones_like(posed.opacities)
    if splats == "ellipsoids":
        return _BODY * posed.scales, (posed.opacities > _VISIBLE).to(posed.opacities)
    return posed.scales, posed.opacities


def plain(colors: Tensor, like: Tensor) -> Tensor:
    """Colours [N, 3] as spherical harmonics [1, N, K, 3] of the same shape as `like`."""
    sh = torch.zeros_like(like)
    sh[0, :, 0] = color_to_sh(colors)
    return sh


def mottled(sh: Tensor) -> Tensor:
    """Spherical harmonics [1, N, K, 3] made a little lighter or darker each, so that neighbours can be told apart."""
    shift = torch.rand(sh.shape[1], 1, generator=torch.Generator().manual_seed(0)).to(sh) - 0.5
    tinted = sh.clone()
    tinted[0, :, 0] += shift
    return tinted


def mesh_picture(head: HeadModel, vertices: Tensor, camera: Camera, mesh: Mesh) -> tuple[Tensor, Tensor]:
    """A mesh lit from the camera.

    Args:
        head: gives faces and regions.
        vertices: [V, 3] world space.
        camera: one.
        mesh: ``shaded`` in grey, or in the colours of its ``regions``.

    Returns:
        Colours [H, W, 3] and depth [H, W] in metres, infinite where there is no mesh; on the CPU.
    """
    vertices, faces = vertices.cpu(), head.faces.cpu()
    fragments = rasterize_mesh(vertices, faces, camera.to("cpu"))
    corners = vertices[faces]
    normals = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = torch.nn.functional.normalize(normals, dim=-1)
    to_camera = torch.nn.functional.normalize(camera.position.cpu() - corners.mean(1), dim=-1)
    light = 0.25 + 0.75 * (normals * to_camera).sum(-1, keepdim=True).clamp_min(0)
    base = _REGION_COLOURS[head.regions.cpu()] if mesh == "regions" else torch.tensor(_GREY)
    return (base * light)[fragments.face.clamp_min(0).long()], fragments.depth
