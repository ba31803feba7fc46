"""The rasteriser in plain torch: every pixel x every Gaussian, gradients by autograd, float32 or float64.

It is the definition that the fast backends are tested against, for tiny scenes only: memory grows with
B * H * W * N. No tiles and no bounding boxes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stavatar.camera import Camera
from stavatar.rotations import quaternion_to_matrix
from stavatar.splat.conventions import ALPHA_LEAST, ALPHA_MOST, BLUR, NEAR, TRANSMITTANCE_LEAST, Rasterization


def rasterize(
    means: Tensor,
    quaternions: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colors: Tensor,
    camera: Camera,
    background: Tensor | None,
    extra: Tensor | None,
    statistics: bool,
) -> Rasterization:
    """See :func:`stavatar.splat.rasterize`; every tensor has the batch size B of `camera`."""
    means2d, conics, depths, radii = _project(means, quaternions, scales, opacities, camera)
    weights = _blending_weights(means2d, conics, opacities, depths, radii, camera)  # [B, H, W, N]
    alpha = weights.sum(-1)
    image = torch.einsum("bhwn,bnc->bhwc", weights, colors)
    if background is not None:
        image = image + (1 - alpha)[..., None] * background
    return Rasterization(
        image=image,
        alpha=alpha,
        extra=None if extra is None else torch.einsum("bhwn,bnd->bhwd", weights, extra),
        means2d=means2d,
        depths=depths.detach(),
        radii=radii,
        pixel_counts=(weights.detach() > 0).sum((1, 2)).to(means.dtype) if statistics else None,
        blending_weights=weights.detach().sum((1, 2)) if statistics else None,
    )


def _project(
    means: Tensor, quaternions: Tensor, scales: Tensor, opacities: Tensor, camera: Camera
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Means [B, N, 2], inverse covariances [B, N, 2, 2], depths [B, N], radii [B, N]; zeros where not drawn."""
    points = camera.to_camera(means)
    in_front = points[..., 2] >= NEAR
    points = torch.where(in_front[..., None], points, points.new_tensor([0, 0, 1]))  # keeps gradients finite
    x, y, z = points.unbind(-1)
    size = camera.focal.new_tensor([camera.width, camera.height])
    margin = 0.15 * size / camera.focal
    lowest = (-camera.center / camera.focal - margin)[:, None]
    highest = ((size - camera.center) / camera.focal + margin)[:, None]
    u, v = torch.stack([x / z, y / z], -1).clamp(lowest, highest).unbind(-1)
    fx, fy = camera.focal[:, None].unbind(-1)
    zero = torch.zeros_like(z)
    jacobian = torch.stack([fx / z, zero, -fx * u / z, zero, fy / z, -fy * v / z], -1).unflatten(-1, (2, 3))
    axes = camera.world_to_camera[:, None, :3, :3] @ (quaternion_to_matrix(quaternions) * scales[..., None, :])
    spread = jacobian @ axes
    covariance = spread @ spread.mT + BLUR * torch.eye(2, dtype=means.dtype, device=means.device)
    means2d = torch.stack([fx * x / z, fy * y / z], -1) + camera.center[:, None]

    with torch.no_grad():
        extent = (2 * (opacities / ALPHA_LEAST).clamp_min(1).log()).sqrt()
        reach = (extent[..., None] * covariance.diagonal(dim1=-2, dim2=-1).sqrt()).ceil()
        inside = ((means2d + reach > 0) & (means2d - reach < size)).all(-1)
        radii = torch.where(in_front & inside & (opacities >= ALPHA_LEAST), reach.amax(-1), 0).int()
    drawn = radii > 0
    means2d = torch.where(drawn[..., None], means2d, 0)
    return means2d, torch.linalg.inv(covariance), torch.where(drawn, z, 0), radii


def _blending_weights(
    means2d: Tensor, conics: Tensor, opacities: Tensor, depths: Tensor, radii: Tensor, camera: Camera
) -> Tensor:
    """Alpha times transmittance of each Gaussian at each pixel: [B, H, W, N] in the order of the input."""
    ys = torch.arange(camera.height, dtype=means2d.dtype, device=means2d.device) + 0.5
    xs = torch.arange(camera.width, dtype=means2d.dtype, device=means2d.device) + 0.5
    ys, xs = torch.meshgrid(ys, xs, indexing="ij")
    offset = torch.stack([xs, ys], -1)[None, :, :, None] - means2d[:, None, None]
    sigma = 0.5 * torch.einsum("bhwni,bnij,bhwnj->bhwn", offset, conics, offset)
    alpha = (opacities[:, None, None] * torch.exp(-sigma)).clamp_max(ALPHA_MOST)
    alpha = torch.where((alpha >= ALPHA_LEAST) & (radii > 0)[:, None, None], alpha, 0)

    order = torch.argsort(depths.detach(), dim=-1, stable=True)[:, None, None].expand_as(alpha)
    alpha = alpha.gather(-1, order)
    after = torch.cumprod(1 - alpha, -1)
    # transmittance falls monotonically, so no Gaussian after the first that ends a pixel passes this test either
    alpha = torch.where(after > TRANSMITTANCE_LEAST, alpha, 0)
    before = torch.cat([torch.ones_like(after[..., :1]), after[..., :-1]], -1)
    return torch.zeros_like(alpha).scatter(-1, order, alpha * before)
