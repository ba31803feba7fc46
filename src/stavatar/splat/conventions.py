"""What all rasteriser backends agree on: the constants of the drawing rule and the type of the result.

The rule (3D Gaussian splatting, with the details of gsplat 1.5):

- a Gaussian nearer than `NEAR` is not drawn; its covariance is projected with the Jacobian at its centre (EWA), where
  x/z and y/z are first clamped to the image plus 15% of its size on each side; `BLUR` is added to the diagonal;
- at a pixel centre at distance d from the screen mean, alpha = min(ALPHA_MOST, opacity * exp(-d' conic d / 2)), and the
  Gaussian counts there only if alpha >= ALPHA_LEAST;
- pixels are blended front to back, weight = alpha * transmittance; the first Gaussian that would bring a pixel's
  transmittance to TRANSMITTANCE_LEAST or below is not blended any more and ends that pixel.

Equal depths are drawn in the order of the Gaussians' indices.

Numba does not notice a change of these constants: delete the `__pycache__` beside this file after editing them.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

NEAR = 0.01  # metres
BLUR = 0.3  # square pixels
ALPHA_LEAST = 1 / 255
ALPHA_MOST = 0.999
TRANSMITTANCE_LEAST = 1e-4


@dataclass(frozen=True)
class Rasterization:
    """What :func:`stavatar.splat.rasterize` returns for B images of H x W pixels and N Gaussians.

    Attributes:
        image: [B, H, W, 3] colours, over the background where one was given.
        alpha: [B, H, W] coverage in [0, 1].
        extra: [B, H, W, D] weighted sums of the extra channels without background, or None.
        means2d: [B, N, 2] screen positions in pixels. Part of the graph: after ``means2d.retain_grad()`` and a backward
            pass ``means2d.grad`` is the gradient that density control reads.
        depths: [B, N] camera z in metres, without gradient.
        radii: [B, N] int32, half the longer side of the box where alpha >= 1/255, in whole pixels rounded up.
            It is 0 for a Gaussian that is not drawn (behind the near plane, too transparent, outside the image, not a
            number); its `means2d` and `depths` are 0 too.
        pixel_counts: [B, N] number of pixels that each Gaussian was blended into (C_i), or None without statistics.
        blending_weights: [B, N] sum over pixels of alpha * transmittance (A_i), or None without statistics.
        entries: how many pairs of a Gaussian and a tile there are; on a GPU only, and with `room` still on the device.
    """

    image: Tensor
    alpha: Tensor
    extra: Tensor | None
    means2d: Tensor
    depths: Tensor
    radii: Tensor
    pixel_counts: Tensor | None = None
    blending_weights: Tensor | None = None
    entries: int | Tensor | None = None
