"""Compare the cuda rasteriser with the reference on random scenes, values and gradients; for a machine with a GPU.

    python benchmarks/check_cuda.py

Prints the largest relative difference of each output and gradient, and fails where one is above 1e-3 (float32).
"""

from __future__ import annotations

import sys

import torch

from stavatar.camera import Camera
from stavatar.splat import rasterize

_LIMIT = 1e-3


def scene(batch: int, count: int) -> dict[str, torch.Tensor]:
    """Gaussians of a few centimetres, half a metre to either side of the origin."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    return {
        "means": 0.15 * normal(batch, count, 3),
        "quaternions": normal(batch, count, 4),
        "scales": 0.02 * torch.exp(0.5 * normal(batch, count, 3)),
        "opacities": torch.sigmoid(normal(batch, count)),
        "colors": 0.5 * normal(batch, count, 16, 3),
    }


def draw(values: dict[str, torch.Tensor], backend: str, device: str, degree: int) -> dict[str, torch.Tensor]:
    leaves = {name: value.clone().to(device).requires_grad_() for name, value in values.items()}
    camera = Camera.frontal(1.0, 120.0, 72, 56).to(device)
    view = rasterize(
        *leaves.values(), camera, sh_degree=degree, background=torch.ones(3, device=device), backend=backend
    )
    view.means2d.retain_grad()
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(view.image.shape, generator=generator).to(device)
    ((view.image * weight).sum() + view.alpha.square().sum()).backward()
    results = {"image": view.image, "alpha": view.alpha, "means2d gradient": view.means2d.grad}
    results |= {f"{name} gradient": leaf.grad for name, leaf in leaves.items()}
    return {name: value.detach().cpu() for name, value in results.items()}


def main() -> None:
    worst = 0.0
    for batch, count, degree in ((1, 300, 0), (3, 300, 3), (2, 3000, 1)):
        values = scene(batch, count)
        truth, found = draw(values, "reference", "cpu", degree), draw(values, "cuda", "cuda", degree)
        for name, expected in truth.items():
            error = float((found[name] - expected).norm() / expected.norm().clamp_min(1e-12))
            worst = max(worst, error)
            print(f"batch {batch}, {count} Gaussians, SH degree {degree}: {name:22s} {error:.2e}")
    if not worst < _LIMIT:
        sys.exit(f"the largest difference is {worst:.2e}, above {_LIMIT:.0e}")


if __name__ == "__main__":
    main()
