"""UV-adaptive sampling (STAvatar, Algorithm 1): where on its face each Gaussian reads the offset map.

The n Gaussians of a face share the texels that the face covers: they take n of them, spread evenly, so that one network
serves any number of Gaussians at any density.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stavatar.head.uv import UVAtlas


@dataclass(frozen=True)
class TexelPool:
    """The texels whose centres lie in each face, ordered by texel position (row, then column).

    Attributes:
        barycentric: [P, 3] weights of the texel centres, those of face 0 first.
        start: [F] where a face's texels begin in `barycentric`.
        count: [F] how many texels a face has.
    """

    barycentric: Tensor
    start: Tensor
    count: Tensor

    @staticmethod
    def build(atlas: UVAtlas) -> TexelPool:
        face = atlas.face[atlas.inside]
        by_face = face.argsort(stable=True)
        count = torch.bincount(face, minlength=len(atlas.uv_faces))
        return TexelPool(atlas.barycentric[atlas.inside][by_face], count.cumsum(0) - count, count)

    def to(self, device: torch.device | str) -> TexelPool:
        return replace(
            self, barycentric=self.barycentric.to(device), start=self.start.to(device), count=self.count.to(device)
        )


def sample_uv(
    atlas: UVAtlas, pool: TexelPool, faces: Tensor, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Give every Gaussian a point of its face.

    The r-th of a face's n Gaussians (in the order of `faces`) takes texel floor((r + 1/2) m / n) of the face's m: all
    different while n <= m, each reused equally often (within one) beyond that. A face that covers no texel centre draws
    barycentric weights uniformly.

    Args:
        faces: [N] face of each Gaussian, in any order, any number per face.
        generator: source of the random weights (on any device); torch's default generator if None.

    Returns:
        Barycentric weights [N, 3] and UV coordinates [N, 2].
    """
    rank, shared = _rank_within_face(faces, len(pool.count))
    texels = pool.count[faces]
    covered = texels > 0
    barycentric = torch.empty(len(faces), 3, device=faces.device)
    index = pool.start[faces] + (2 * rank + 1) * texels // (2 * shared)
    barycentric[covered] = pool.barycentric[index[covered]]
    barycentric[~covered] = _uniform_barycentric(int((~covered).sum()), generator).to(faces.device)
    return barycentric, atlas.face_uv(faces, barycentric)


def _rank_within_face(faces: Tensor, face_count: int) -> tuple[Tensor, Tensor]:
    """For each entry: how many entries of the same face come before it, and how many the face has; [N] each."""
    total = torch.bincount(faces, minlength=face_count)
    by_face = faces.argsort(stable=True)
    start = total.cumsum(0) - total
    rank = torch.empty_like(faces)
    rank[by_face] = torch.arange(len(faces), device=faces.device) - start[faces[by_face]]
    return rank, total[faces]


def _uniform_barycentric(count: int, generator: torch.Generator | None) -> Tensor:
    """Points distributed uniformly over a triangle [count, 3]."""
    device = generator.device if generator is not None else torch.device("cpu")
    first, second = torch.rand(count, 2, generator=generator, device=device).unbind(1)
    root = first.sqrt()
    return torch.stack([1 - root, root * (1 - second), root * second], 1)
