from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from stavatar.head import HeadModel
from stavatar.head.sampling import TexelPool, sample_uv
from stavatar.head.uv import UVAtlas


def reference(atlas: UVAtlas, faces: torch.Tensor, seed: int) -> torch.Tensor:
    """Algorithm 1, one Gaussian at a time."""
    pool: dict[int, list[torch.Tensor]] = {}
    for row in range(atlas.resolution):
        for column in range(atlas.resolution):
            if atlas.inside[row, column]:
                pool.setdefault(int(atlas.face[row, column]), []).append(atlas.barycentric[row, column])
    total: dict[int, int] = {}
    for face in faces.tolist():
        total[face] = total.get(face, 0) + 1
    uncovered = sum(face not in pool for face in faces.tolist())
    draws = iter(torch.rand(uncovered, 2, generator=torch.Generator().manual_seed(seed)))
    seen: dict[int, int] = {}
    result = []
    for face in faces.tolist():
        rank = seen.get(face, 0)
        seen[face] = rank + 1
        if face in pool:
            texels = pool[face]
            result.append(texels[math.floor((rank + 0.5) * len(texels) / total[face])])
        else:
            first, second = next(draws)
            root = first.sqrt()
            result.append(torch.stack([1 - root, root * (1 - second), root * second]))
    return torch.stack(result)


@pytest.mark.parametrize("resolution", [48, 128])
def test_equals_the_plain_algorithm(head: HeadModel, resolution: int) -> None:
    """Faces in random order, with none, one, a few and more Gaussians than texels."""
    rng = np.random.default_rng(0)
    per_face = rng.choice([0, 1, 2, 3, 7, 40], p=[0.3, 0.4, 0.1, 0.1, 0.08, 0.02], size=len(head.faces))
    faces = torch.from_numpy(rng.permutation(np.repeat(np.arange(len(head.faces)), per_face)))
    atlas = UVAtlas.build(head, resolution)
    pool = TexelPool.build(atlas)
    assert (pool.count == 0).any() and (pool.count[faces] > 0).any()
    barycentric, uv = sample_uv(atlas, pool, faces, torch.Generator().manual_seed(5))
    assert barycentric.equal(reference(atlas, faces, 5))
    assert uv.equal(atlas.face_uv(faces, barycentric))


def test_few_gaussians_take_different_texels_and_many_reuse_them_evenly(tiny_head: HeadModel) -> None:
    atlas = UVAtlas.build(tiny_head, 40)
    pool = TexelPool.build(atlas)
    texels = int(pool.count[2])
    few, _ = sample_uv(atlas, pool, torch.full((texels,), 2))
    assert few.unique(dim=0).shape[0] == texels
    many, _ = sample_uv(atlas, pool, torch.full((3 * texels,), 2))
    _, reuse = many.unique(dim=0, return_counts=True)
    assert reuse.tolist() == [3] * texels


def test_a_lone_gaussian_sits_in_the_middle_of_the_pool(tiny_head: HeadModel) -> None:
    atlas = UVAtlas.build(tiny_head, 40)
    pool = TexelPool.build(atlas)
    alone, _ = sample_uv(atlas, pool, torch.tensor([1]))
    assert alone[0].equal(pool.barycentric[int(pool.start[1]) + int(pool.count[1]) // 2])


def test_pool_is_ordered_by_face_then_texel(tiny_head: HeadModel) -> None:
    atlas = UVAtlas.build(tiny_head, 16)
    pool = TexelPool.build(atlas)
    for face in range(4):
        start, count = int(pool.start[face]), int(pool.count[face])
        assert pool.barycentric[start : start + count].equal(atlas.barycentric[atlas.inside & (atlas.face == face)])


def test_faces_without_texels_draw_uniformly_and_reproducibly(tiny_head: HeadModel) -> None:
    atlas = UVAtlas.build(tiny_head, 8)
    pool = TexelPool.build(atlas)
    faces = torch.full((40000,), 3)  # has no UV area
    first, _ = sample_uv(atlas, pool, faces, torch.Generator().manual_seed(1))
    again, _ = sample_uv(atlas, pool, faces, torch.Generator().manual_seed(1))
    other, _ = sample_uv(atlas, pool, faces, torch.Generator().manual_seed(2))
    assert first.equal(again) and not first.equal(other)
    assert first.min() >= 0
    torch.testing.assert_close(first.sum(1), torch.ones(len(first)))
    # Uniform over a triangle: each weight has mean 1/3 and P(weight > 1/2) = 1/4.
    torch.testing.assert_close(first.mean(0), torch.full((3,), 1 / 3), atol=0.005, rtol=0)
    torch.testing.assert_close((first > 0.5).float().mean(0), torch.full((3,), 0.25), atol=0.01, rtol=0)


def test_no_gaussians(tiny_head: HeadModel) -> None:
    atlas = UVAtlas.build(tiny_head, 8)
    barycentric, uv = sample_uv(atlas, TexelPool.build(atlas), torch.zeros(0, dtype=torch.long))
    assert barycentric.shape == (0, 3) and uv.shape == (0, 2)
