from __future__ import annotations

import numpy as np
import pytest
import torch

from stavatar.errors import InputError
from stavatar.head import HeadModel
from stavatar.head.uv import GUTTER, UVAtlas, _rasterise, gather_plainly, texel_centers


@pytest.fixture(scope="module")
def atlas(head: HeadModel) -> UVAtlas:
    return UVAtlas.build(head, 256)


def faces_over(triangles: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Indices of the triangles [F, 3, 2] that contain `point`, by the signs of the three edge functions."""
    a, b, c = triangles.transpose(1, 0, 2)

    def side(start: np.ndarray, end: np.ndarray) -> np.ndarray:
        return (end[:, 0] - start[:, 0]) * (point[1] - start[:, 1]) - (end[:, 1] - start[:, 1]) * (
            point[0] - start[:, 0]
        )

    signs = np.stack([side(a, b), side(b, c), side(c, a)])
    return np.flatnonzero((signs > 0).all(0) | (signs < 0).all(0))


def test_texel_centers_follow_the_documented_convention() -> None:
    centers = texel_centers(4)
    assert centers[0, 0].tolist() == [0.125, 0.125]
    assert centers[3, 1].tolist() == [0.375, 0.875], "the row grows with v, the column with u"


def test_grid_sample_reads_a_map_at_uv_without_a_flip() -> None:
    centers = texel_centers(8).permute(2, 0, 1)[None]
    uv = torch.tensor([[0.3, 0.8], [0.61, 0.12]])
    read = torch.nn.functional.grid_sample(centers, (2 * uv - 1)[None, None], align_corners=False)[0, :, 0].T
    torch.testing.assert_close(read, uv)


@pytest.mark.parametrize("resolution", [24, 64])
def test_every_texel_agrees_with_a_brute_force_search(head: HeadModel, resolution: int) -> None:
    triangles = head.uv.double()[head.uv_faces].numpy()
    atlas = UVAtlas.build(head, resolution)
    centers = texel_centers(resolution).double().numpy()
    for row in range(resolution):
        for column in range(resolution):
            found = faces_over(triangles, centers[row, column])
            if atlas.inside[row, column]:
                # A centre exactly on an edge lies strictly inside no face.
                assert atlas.face[row, column] in found or len(found) == 0
            else:
                assert len(found) == 0


def test_tiny_head_is_rasterised_as_drawn(tiny_head: HeadModel) -> None:
    atlas = UVAtlas.build(tiny_head, 10)
    assert atlas.face[1, 2] == 0, "(u, v) = (.25, .15) lies in the first face"
    assert atlas.face[3, 1] == 1, "(.15, .35) lies in the second"
    assert atlas.face[6, 7] == 2
    assert not (atlas.face == 3).any(), "a face without UV area owns no texel"
    assert not atlas.inside[8, 1]


def test_weights_reproduce_the_texel_centre(atlas: UVAtlas) -> None:
    inside = atlas.inside
    weights = atlas.barycentric[inside]
    assert weights.min() >= 0
    torch.testing.assert_close(weights.sum(1), torch.ones(len(weights)))
    uv = atlas.face_uv(atlas.face[inside], weights)
    torch.testing.assert_close(uv, texel_centers(256)[inside], atol=2e-7, rtol=0)


def test_gather_of_vertex_uv_gives_texel_centres(tiny_head: HeadModel) -> None:
    atlas = UVAtlas.build(tiny_head, 32)
    # The second island has UV vertices of its own: only the first, whose vertices 0-3 are UV vertices 0-3, can be told.
    first = atlas.inside & (atlas.face < 2)
    centers = atlas.gather(tiny_head.uv[None, :6])[0].permute(1, 2, 0)
    torch.testing.assert_close(centers[first], texel_centers(32)[first])


def test_gather_is_batched_zero_outside_and_differentiable(tiny_head: HeadModel) -> None:
    atlas = UVAtlas.build(tiny_head, 12)
    values = torch.randn(2, 6, 3, dtype=torch.float64, requires_grad=True)
    maps = atlas.gather(values)
    assert maps.shape == (2, 3, 12, 12)
    assert (maps[:, :, ~atlas.valid] == 0).all()
    corners = values[1, tiny_head.faces[atlas.face[1, 2]]]
    torch.testing.assert_close(maps[1, :, 1, 2], atlas.barycentric[1, 2].double() @ corners)
    assert torch.autograd.gradcheck(atlas.gather, (values,))


def test_the_kernel_gathers_as_torch_does(head: HeadModel) -> None:
    atlas = UVAtlas.build(head, 48)
    corners, weights = atlas.corners.flatten(0, 1), atlas.barycentric.flatten(0, 1)
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(2, len(head.template), 3, generator=generator)
    toward = torch.randn(2, 48 * 48, 3, generator=generator)
    found = []
    for kind in (torch.float32, torch.float64):
        leaf = values.to(kind, copy=True).requires_grad_()
        if kind == torch.float32:
            texels = atlas.gather(leaf).flatten(2).transpose(1, 2)
        else:
            texels = gather_plainly(leaf, corners, weights)
        texels.backward(toward.to(kind))
        found.append((texels, leaf.grad))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours.double(), theirs, atol=1e-6, rtol=1e-6)


def test_gather_faces(tiny_head: HeadModel) -> None:
    atlas = UVAtlas.build(tiny_head, 10)
    values = torch.arange(8.0).reshape(4, 2) + 1
    maps = atlas.gather_faces(values)
    assert maps.shape == (10, 10, 2)
    assert maps[6, 7].tolist() == [5, 6]
    assert (maps[~atlas.valid] == 0).all()
    assert atlas.gather_faces(torch.tensor([True] * 4)).equal(atlas.valid)


def test_gutter_surrounds_islands_and_shows_their_border(tiny_head: HeadModel) -> None:
    atlas = UVAtlas.build(tiny_head, 40)
    centers = texel_centers(40) * 40
    inside = centers[atlas.inside]
    distance = torch.cdist(centers.reshape(-1, 2), inside).amin(1).reshape(40, 40)
    assert atlas.valid.equal(distance <= GUTTER)
    gutter = atlas.valid & ~atlas.inside
    assert atlas.barycentric[gutter].min() >= 0
    torch.testing.assert_close(atlas.barycentric[gutter].sum(1), torch.ones(int(gutter.sum())))
    shown = atlas.face_uv(atlas.face[gutter], atlas.barycentric[gutter]) * 40
    assert ((shown - centers[gutter]).norm(dim=1) < GUTTER + 1.5).all(), "a gutter texel shows a point close by"


def test_bilinear_reads_do_not_mix_in_emptiness(head: HeadModel, atlas: UVAtlas) -> None:
    """Read a map of vertex positions at random surface points, those at island borders included."""
    generator = torch.Generator().manual_seed(3)
    faces = torch.randint(len(head.faces), (20000,), generator=generator)
    weights = torch.rand(20000, 3, generator=generator)
    weights = weights / weights.sum(1, keepdim=True)
    maps = atlas.gather(head.template[None] + 1)  # the origin is far from every point of the surface
    grid = 2 * atlas.face_uv(faces, weights) - 1
    read = torch.nn.functional.grid_sample(maps, grid[None, None], align_corners=False)[0, :, 0].T - 1
    true = (head.template[head.faces[faces]] * weights[..., None]).sum(1)
    assert (read - true).norm(dim=1).quantile(0.99) < 0.004
    assert (read - true).norm(dim=1).max() < 0.05


def test_a_centre_on_a_shared_edge_has_one_owner() -> None:
    square = torch.tensor([[[0, 0], [1, 0], [1, 1]], [[0, 0], [1, 1], [0, 1]]], dtype=torch.float64)
    face = _rasterise(square, 4)
    assert face.diagonal().tolist() == [0, 0, 0, 0], "the diagonal's centres go to the lower index"
    assert (face >= 0).all()


def test_faces_outside_the_square_are_cut_off_not_wrapped() -> None:
    far = torch.tensor([[[1.2, 1.2], [1.5, 1.2], [1.2, 1.5]], [[-0.5, -0.5], [0.3, -0.5], [-0.5, 0.3]]])
    assert (_rasterise(far.double(), 8) == -1).all()


def test_resolution_must_be_positive(tiny_head: HeadModel) -> None:
    with pytest.raises(InputError, match="at least 1"):
        UVAtlas.build(tiny_head, 0)
