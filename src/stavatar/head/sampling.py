"""UV-adaptive sampling (Algorithm 1): where in the UV map each Gaussian reads its offsets."""

from __future__ import annotations

import torch
from torch import Tensor

from stavatar.head.model import HeadModel
from stavatar.head.uv import UVAtlas


def sample_uv(head: HeadModel, atlas: UVAtlas, face: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Give every Gaussian a point of its face.

    The n Gaussians of a face take n texels of that face's pool (its texels in the order of their position in the map),
    spread evenly: the i-th takes the texel number floor((i + 0.5) p / n) of the pool's p. Where the pool is smaller
    than n, texels are used again; where a face covers no texel centre, the point is drawn uniformly from the face.

    Args:
        head: the head model.
        atlas: its atlas.
        face: [N] the face of each Gaussian, in any order.
        generator: for faces without texels.

    Returns:
        barycentric [N, 3] weights in the face, and uv [N, 2].
    """
    texel_face = atlas.face.flatten().cpu()
    covered = texel_face >= 0
    texels = covered.nonzero()[:, 0]
    texels = texels[texel_face[texels].argsort(stable=True)]  # the pools, one face after the other
    pool_size = torch.bincount(texel_face[covered], minlength=atlas.face_count)
    pool_start = pool_size.cumsum(0) - pool_size

    # The rank of each Gaussian among those of its face, in order of index.
    order = face.argsort(stable=True)
    members = torch.bincount(face, minlength=atlas.face_count)
    first = members.cumsum(0) - members
    rank = torch.empty_like(face)
    rank[order] = torch.arange(len(face)) - first[face[order]]

    pool = pool_size[face]
    place = ((2 * rank + 1) * pool).div(2 * members[face], rounding_mode="floor")
    uniform = _uniform_barycentric(len(face), generator)
    barycentric = uniform
    if len(texels):
        chosen = texels[(pool_start[face] + place).clamp_max(len(texels) - 1)]
        barycentric = torch.where(pool[:, None] > 0, atlas.barycentric.cpu().flatten(0, 1)[chosen], uniform)
    uv = (head.uv.cpu()[head.uv_faces.cpu()[face]] * barycentric[..., None]).sum(1)
    return barycentric, uv


def _uniform_barycentric(count: int, generator: torch.Generator) -> Tensor:
    """Points spread uniformly over triangles [count, 3] (the square folded along its diagonal)."""
    a, b = torch.rand(2, count, generator=generator)
    folded = a + b > 1
    a, b = torch.where(folded, 1 - a, a), torch.where(folded, 1 - b, b)
    return torch.stack([1 - a - b, a, b], 1)
