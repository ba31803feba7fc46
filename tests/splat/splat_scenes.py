"""Scenes for the tests of the rasterisers: each a dict of float64 tensors, with the cameras that look at them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from stavatar.camera import Camera
from stavatar.splat import Rasterization, rasterize


def random_scene(count: int, seed: int = 0, batch: int = 1, size: float = 0.01) -> dict[str, Tensor]:
    """Gaussians of about `size` metres in a ball of the size of a head, with two extra channels."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(batch, count, *shape, generator=draw, dtype=torch.float64)

    return {
        "means": 0.06 * normal(3),
        "quaternions": normal(4),
        "scales": size * (0.6 * normal(3)).exp(),
        "opacities": torch.sigmoid(1.5 * normal()),
        "colors": torch.rand(batch, count, 3, generator=draw, dtype=torch.float64),
        "extra": normal(2),
    }


def cameras(count: int, width: int, height: int) -> Camera:
    """Cameras around the head, all different, none of them with its centre in the middle of the image."""
    step = torch.arange(count, dtype=torch.float64)
    focal = 3.2 * min(width, height)
    view = Camera.orbit(torch.zeros(3), 1.0, 0.3 + 0.4 * step, 0.2 - 0.3 * step, focal, width, height)
    return replace(
        view, focal=view.focal * torch.tensor([1.0, 1.1]) * (1 + 0.1 * step[:, None]), center=view.center + 1.3
    )


def draw_and_differentiate(
    scene: dict[str, Tensor], camera: Camera, backend: str, dtype: torch.dtype, **options: Any
) -> tuple[Rasterization, dict[str, Tensor]]:
    """Rasterise with statistics; gradients of a fixed random linear loss to all inputs and to means2d."""
    leaves = {name: tensor.to(dtype, copy=True).requires_grad_() for name, tensor in scene.items()}
    result = rasterize(
        leaves["means"],
        leaves["quaternions"],
        leaves["scales"],
        leaves["opacities"],
        leaves["colors"],
        camera,
        extra=leaves.get("extra"),
        backend=backend,
        statistics=True,
        **options,
    )
    result.means2d.retain_grad()
    draw = torch.Generator().manual_seed(7)
    loss = torch.zeros((), dtype=dtype, device=result.image.device)
    for output in (result.image, result.alpha, result.extra):
        if output is not None:
            weights = torch.randn(output.shape, generator=draw, dtype=torch.float64)
            loss = loss + (output * weights.to(output)).sum()
    loss.backward()
    gradients = {name: leaf.grad for name, leaf in leaves.items()} | {"means2d": result.means2d.grad}
    return result, {name: torch.zeros(0) if g is None else g for name, g in gradients.items()}


def relative_error(value: Tensor, truth: Tensor) -> float:
    """Norm of the difference over the norm of the truth; the plain norm where the truth is zero."""
    difference = (value.double().cpu() - truth.double().cpu()).norm().item()
    return difference / (truth.norm().item() or 1.0)
