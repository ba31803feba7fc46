"""Where Gaussians are added and removed during training: temporal adaptive density control (METHOD section 3)."""

from stavatar.density.clustering import Clusters, cluster_frames
from stavatar.density.control import (
    AdaptiveDensity,
    DensityControl,
    DensityEvent,
    FixedDensity,
    Observation,
    Reduction,
)
from stavatar.density.error import box_error, fused_error

__all__ = [
    "AdaptiveDensity",
    "Clusters",
    "DensityControl",
    "DensityEvent",
    "FixedDensity",
    "Observation",
    "Reduction",
    "box_error",
    "cluster_frames",
    "fused_error",
]
