"""Drawing 3D Gaussians: one function, :func:`rasterize`, with interchangeable backends."""

from stavatar.splat.conventions import Rasterization
from stavatar.splat.rasterize import Backend, rasterize

__all__ = ["Backend", "Rasterization", "rasterize"]
