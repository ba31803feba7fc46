"""The mesh rasteriser against a brute-force one, exact coverage of shared edges, and analytic surfaces."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from stavatar.camera import Camera
from stavatar.mesh import Fragments, interpolate, rasterize_mesh


def image_plane(points: list[tuple[float, float]], depth: float, camera: Camera) -> Tensor:
    """World points that a frontal camera at distance 1 sees at the given pixels and depth."""
    pixels = torch.tensor(points, dtype=torch.float64)
    xy = (pixels - camera.center[0]) / camera.focal[0] * depth
    return torch.cat([xy[:, :1], -xy[:, 1:], torch.full((len(points), 1), 1 - depth)], 1).float()


def brute_force(vertices: Tensor, faces: Tensor, camera: Camera, cull: bool) -> tuple[np.ndarray, np.ndarray]:
    """Intersect every pixel's ray with every face (Möller-Trumbore, float64) -> nearest face and depth."""
    points = camera.to_camera(vertices[None])[0].double().numpy()
    y, x = np.mgrid[: camera.height, : camera.width] + 0.5
    fx, fy = camera.focal[0].tolist()
    cx, cy = camera.center[0].tolist()
    rays = np.stack([(x - cx) / fx, (y - cy) / fy, np.ones_like(x)], -1)
    best = np.full(x.shape, np.inf)
    face = np.full(x.shape, -1)
    for index, (a, b, c) in enumerate(points[faces.numpy()]):
        if min(a[2], b[2], c[2]) < 0.01:
            continue
        p = np.cross(rays, c - a)
        det = p @ (b - a)
        with np.errstate(divide="ignore", invalid="ignore"):
            u = (p @ -a) / det
            q = np.cross(-a, b - a)
            v = (rays @ q) / det
            t = ((c - a) @ q) / det
        # A face that is counter-clockwise from the camera has a normal towards it: det > 0.
        hit = (u >= 0) & (v >= 0) & (u + v <= 1) & (t > 0) & (t < best) & ((det > 0) | (not cull))
        best[hit] = t[hit]
        face[hit] = index
    return face, best


def random_soup(seed: int, count: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    centers = torch.randn(count, 1, 3, generator=generator) * 0.15
    corners = centers + torch.randn(count, 3, 3, generator=generator) * 0.08
    return corners.flatten(0, 1), torch.arange(count * 3).view(count, 3)


@pytest.mark.parametrize("cull", [True, False])
def test_agrees_with_ray_casting(cull: bool) -> None:
    vertices, faces = random_soup(0, 150)
    camera = Camera.orbit(torch.tensor([0.02, 0.0, 0.01]), 0.8, torch.tensor([0.4]), torch.tensor([-0.2]), 70, 61, 47)
    fragments = rasterize_mesh(vertices, faces, camera, cull_back_faces=cull)
    face, depth = brute_force(vertices, faces, camera, cull)
    # Sub-pixel snapping (1/8192 pixel) may decide a silhouette pixel otherwise; more than a few would be a fault.
    differing = fragments.face.numpy() != face
    assert (face >= 0).mean() > 0.3
    assert differing.sum() <= 3
    same = ~differing & (face >= 0)
    np.testing.assert_allclose(fragments.depth.numpy()[same], depth[same], rtol=1e-3)
    assert np.isinf(fragments.depth.numpy()[fragments.face.numpy() < 0]).all()


def test_positions_from_barycentrics_lie_on_the_pixels_rays() -> None:
    vertices, faces = random_soup(1, 80)
    camera = Camera.frontal(0.9, 80, 64, 48)
    fragments = rasterize_mesh(vertices, faces, camera, cull_back_faces=False)
    covered = fragments.face >= 0
    positions = interpolate(fragments, vertices[faces])[covered]
    y, x = torch.where(covered)
    torch.testing.assert_close(camera.project(positions[None])[0], torch.stack([x, y], 1) + 0.5, atol=2e-3, rtol=0)
    torch.testing.assert_close(camera.to_camera(positions[None])[0, :, 2], fragments.depth[covered], atol=1e-5, rtol=0)
    torch.testing.assert_close(fragments.barycentric[covered].sum(1), torch.ones(len(x)))
    assert (fragments.barycentric[~covered] == 0).all()


def coverage(vertices: Tensor, faces: Tensor, camera: Camera) -> Tensor:
    """How often each pixel is claimed when every face is drawn alone [H, W]."""
    return torch.stack(
        [rasterize_mesh(vertices, face[None], camera, cull_back_faces=False).face >= 0 for face in faces]
    ).sum(0)


def test_shared_edges_leave_no_gap_and_no_double_hit() -> None:
    """A fan around a pixel centre, with corners on pixel centres too: the hardest cases of the fill rule."""
    camera = Camera.frontal(1, 64, 32, 32)
    ring = [(4.5, 4.5), (16.5, 4.5), (28.5, 4.5), (28.5, 17.25), (28.5, 28.5), (13.7, 28.5), (4.5, 28.5), (4.5, 9.1)]
    vertices = image_plane([(15.5, 15.5), *ring], 1.0, camera)
    faces = torch.tensor([[0, 1 + i, 1 + (i + 1) % len(ring)] for i in range(len(ring))])
    expected = torch.zeros(32, 32, dtype=torch.int64)
    expected[4:28, 4:28] = 1  # centres on the square's top and left sides belong to it, on its other sides not
    assert torch.equal(coverage(vertices, faces, camera), expected)
    assert torch.equal(coverage(vertices, faces.flip(1), camera), expected)


def test_random_triangulation_covers_each_pixel_once() -> None:
    camera = Camera.frontal(1, 64, 40, 40)
    generator = np.random.default_rng(3)
    lattice = np.stack(np.meshgrid(np.linspace(-2, 42, 9), np.linspace(-2, 42, 9)), -1)
    lattice[1:-1, 1:-1] += generator.uniform(-2, 2, (7, 7, 2))
    vertices = image_plane([tuple(p) for p in lattice.reshape(-1, 2)], 1.0, camera)
    vertices[:, 2] += torch.from_numpy(generator.uniform(-0.05, 0.05, 81)).float()  # also where depths differ
    index = np.arange(81).reshape(9, 9)
    a, b, c, d = index[:-1, :-1].ravel(), index[:-1, 1:].ravel(), index[1:, :-1].ravel(), index[1:, 1:].ravel()
    faces = torch.from_numpy(np.concatenate([np.stack([a, b, c], 1), np.stack([b, d, c], 1)]))
    counts = coverage(vertices, faces, camera)
    assert (counts[2:-2, 2:-2] == 1).all()


def test_nearer_face_wins_whatever_the_order() -> None:
    camera = Camera.frontal(1, 64, 16, 16)
    corners = [(1.0, 1.0), (1.0, 15.0), (15.0, 1.0)]
    near, far = image_plane(corners, 0.6, camera), image_plane(corners, 0.7, camera)
    faces = torch.tensor([[0, 1, 2], [3, 4, 5]])
    for vertices, expected in ((torch.cat([near, far]), 0), (torch.cat([far, near]), 1)):
        fragments = rasterize_mesh(vertices, faces, camera)
        assert set(fragments.face.unique().tolist()) == {-1, expected}
        torch.testing.assert_close(fragments.depth[4, 4], torch.tensor(0.6))


def test_equal_depths_go_to_the_lower_index() -> None:
    camera = Camera.frontal(1, 64, 16, 16)
    triangle = image_plane([(1.0, 1.0), (1.0, 15.0), (15.0, 1.0)], 0.5, camera)
    fragments = rasterize_mesh(torch.cat([triangle, triangle]), torch.tensor([[3, 4, 5], [0, 1, 2]]), camera)
    assert set(fragments.face.unique().tolist()) == {-1, 0}


def test_interpolation_is_perspective_correct_on_a_slanted_plane() -> None:
    """On the plane z = 0.8 x the attribute x is known at every pixel from the ray; screen-linear weights miss it."""
    camera = Camera.frontal(1, 64, 64, 32)
    xy = torch.tensor([[-0.4, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.4, 0.5]])
    vertices = torch.cat([xy, 0.8 * xy[:, :1]], 1)
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    fragments = rasterize_mesh(vertices, faces, camera)
    covered = fragments.face >= 0
    value = interpolate(fragments, vertices[faces])[..., 0][covered]
    slope = ((torch.arange(64) + 0.5 - 32) / 64).expand(32, 64)[covered]
    expected = slope / (1 + 0.8 * slope)  # x = slope * depth and depth = 1 - 0.8 x
    torch.testing.assert_close(value, expected, atol=1e-4, rtol=0)
    assert (slope - expected).abs().max() > 0.05  # the plane is slanted enough for the difference to show


def test_back_faces_and_faces_behind_the_camera_are_dropped() -> None:
    camera = Camera.frontal(1, 64, 16, 16)
    triangle = image_plane([(1.0, 1.0), (1.0, 15.0), (15.0, 1.0)], 0.5, camera)
    face = torch.tensor([[0, 1, 2]])

    def hits(vertices: Tensor, faces: Tensor, **options: bool) -> int:
        fragments: Fragments = rasterize_mesh(vertices, faces, camera, **options)
        return int((fragments.face >= 0).sum())

    assert hits(triangle, face) > 80
    assert hits(triangle, face.flip(1)) == 0
    assert hits(triangle, face.flip(1), cull_back_faces=False) == hits(triangle, face)
    triangle[0, 2] = 1.5  # one corner behind the camera
    assert hits(triangle, face, cull_back_faces=False) == 0


def test_huge_faces_are_clipped_by_the_image() -> None:
    camera = Camera.frontal(1, 64, 24, 20)
    vertices = image_plane([(-9e4, -9e4), (-9e4, 9e4), (9e4, -9e4)], 2.0, camera)
    fragments = rasterize_mesh(vertices, torch.tensor([[0, 1, 2]]), camera)
    y, x = torch.meshgrid(torch.arange(20) + 0.5, torch.arange(24) + 0.5, indexing="ij")
    inside = x + y < -0.5  # none: the long side runs from (-9e4, 9e4) to (9e4, -9e4), through the origin
    assert torch.equal(fragments.face >= 0, inside)


def test_one_camera_at_a_time() -> None:
    vertices, faces = random_soup(2, 3)
    with pytest.raises(ValueError, match="one camera"):
        rasterize_mesh(vertices, faces, Camera.frontal(1, 64, 8, 8).expand(2))
