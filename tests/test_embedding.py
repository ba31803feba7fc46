"""The landmark embedding: how it is found, and the one that is stored."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from stavatar import assets
from stavatar import embedding as embedding_of
from stavatar.errors import AssetError, InputError
from stavatar.head import HeadModel, load_embedded_landmarks, load_flame
from stavatar.mesh import rasterize_mesh
from stavatar.synth import Renderer, Subject

OPEN_FLAME = Path(__file__).parents[1].parent / "shared/data/flame_open/flame2023_open_partial.npz"
MIRRORED = ((33, 263), (133, 362), (61, 291), (50, 280), (105, 334), (129, 358), (468, 473))
MIRRORED_CONTOUR = ((234, 454), (172, 397))  # where the face ends for a viewer: no fixed spot, so less exact
MIDLINE = (10, 151, 6, 1, 0, 17, 152)
"""From the top of the forehead down to the chin."""


@pytest.fixture(scope="module")
def bald(head: HeadModel) -> Renderer:
    return Renderer(head, Subject.neutral(head))


def test_stored_embedding_is_on_the_right_surfaces(head: HeadModel) -> None:
    embedding = load_embedded_landmarks()
    assert embedding.face.shape == (478,)
    assert embedding.face.min() >= 0
    assert embedding.face.max() < len(head.faces)
    torch.testing.assert_close(embedding.barycentric.sum(1), torch.ones(478))
    assert embedding.barycentric.min() >= 0
    assert head.faces_in("eyeballs")[embedding.face[468:]].all()
    assert head.faces_in(*embedding_of.SKIN)[embedding.face[:468]].all()


def test_stored_embedding_has_the_layout_of_a_face(head: HeadModel) -> None:
    points = load_embedded_landmarks().points(head, head.template[None])[0]
    for pairs, most in ((MIRRORED, 0.004), (MIRRORED_CONTOUR, 0.010)):
        for right, left in pairs:
            assert points[right, 0] < 0 < points[left, 0]
            assert (points[right] * torch.tensor([-1, 1, 1]) - points[left]).norm() < most, (right, left)
    assert points[list(MIDLINE), 0].abs().max() < 0.002
    heights = points[list(MIDLINE), 1]
    assert (heights[1:] < heights[:-1]).all()
    assert points[1, 2] > points[[33, 61, 152], 2].max()  # nothing is further out than the tip of the nose
    assert points[159, 1] > points[468, 1] > points[145, 1]  # the iris lies between the lids


def test_nearest_point_on_one_triangle() -> None:
    triangle = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]])
    points = torch.tensor([[0.2, 0.3, 5.0], [0.5, -2.0, 1.0], [1.0, 1.0, 0.0], [3.0, -1.0, 0.0], [-1.0, -1.0, 2.0]])
    expected = torch.tensor([[0.5, 0.2, 0.3], [0.5, 0.5, 0.0], [0.0, 0.5, 0.5], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    index, weights = embedding_of.nearest_on_surface(points, triangle)
    assert (index == 0).all()
    torch.testing.assert_close(weights, expected)


def test_nearest_point_beats_every_sample_of_the_surface() -> None:
    generator = torch.Generator().manual_seed(0)
    triangles, points = torch.randn(40, 3, 3, generator=generator), torch.randn(25, 3, generator=generator)
    index, weights = embedding_of.nearest_on_surface(points, triangles)
    assert weights.min() >= 0
    found = (triangles[index] * weights[:, :, None]).sum(1)
    steps = 40
    grid = torch.tensor(
        [(i, j, steps - i - j) for i, j in itertools.product(range(steps + 1), repeat=2) if i + j <= steps]
    )
    samples = (grid / steps) @ triangles  # [40, G, 3]
    best = torch.cdist(points, samples.flatten(0, 1)).amin(1)
    distance = (found - points).norm(dim=1)
    assert (distance <= best + 1e-6).all()
    assert (distance >= best - 0.15).all()  # half a grid step of the largest triangles


def test_embed_recovers_points_that_every_view_sees(head: HeadModel) -> None:
    """A detector that reports where known points of the surface are seen."""
    known = torch.cat(
        [
            seen_by_all_views(head, head.faces_in(*embedding_of.SKIN), 468),
            seen_by_all_views(head, head.faces_in("eyeballs"), 10),
        ]
    )
    views = iter(embedding_of.VIEWS)

    def detect(image: np.ndarray) -> np.ndarray:
        assert image.shape == (embedding_of.SIZE, embedding_of.SIZE, 3)
        assert 20 < image.mean() < 235
        return embedding_of.view_camera(head, *next(views)).project(known[None])[0].double().numpy()

    embedding = embedding_of.embed(head, detect)
    found = embedding.points(head, head.template[None])[0]
    assert next(views, None) is None
    # A ray is exact to 1/8 pixel, which is 0.1 mm here; on slanted surfaces it shifts points along the view.
    error = (found - known).norm(dim=1) * 1e3
    assert error.median() < 0.1
    assert error.max() < 1.0
    assert head.faces_in("eyeballs")[embedding.face[468:]].all()


def seen_by_all_views(head: HeadModel, allowed: torch.Tensor, count: int) -> torch.Tensor:
    """Random points [count, 3] of faces in `allowed` that lie in plain view of every camera of the embedding_of."""
    corners = head.template[head.faces[allowed]]
    normals = torch.nn.functional.normalize(
        torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), dim=1
    )
    points, good = corners.mean(1), torch.ones(len(corners), dtype=torch.bool)
    for view in embedding_of.VIEWS:
        camera = embedding_of.view_camera(head, *view)
        fragments = rasterize_mesh(head.template, head.faces[allowed], camera)
        x, y = camera.project(points[None])[0].long().unbind(1)
        good &= (fragments.depth[y, x] - camera.to_camera(points[None])[0, :, 2]).abs() < 1e-3
        good &= (normals * torch.nn.functional.normalize(camera.position - points, dim=1)).sum(1) > 0.5
    places = torch.where(good)[0]
    assert len(places) > count / 3
    return points[places[torch.arange(count) % len(places)]]


def test_embed_says_when_no_face_is_found(head: HeadModel) -> None:
    with pytest.raises(InputError, match="no face was found in the picture of"):
        embedding_of.embed(head, lambda image: None)


@pytest.mark.parametrize(
    ("expression", "yaw", "pitch", "most"),
    [
        ({}, 0.0, 0.0, 1.0),
        ({}, 0.2, -0.1, 1.6),
        ({"mouthSmileLeft": 0.7, "mouthSmileRight": 0.7}, 0.1, 0.0, 1.6),
        ({"jawOpen": 0.6}, -0.1, 0.05, 2.1),
        ({"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0}, 0.0, 0.0, 1.9),
    ],
    ids=["front", "side", "smile", "jaw", "blink"],
)
def test_stored_embedding_meets_detections(
    head: HeadModel,
    bald: Renderer,
    expression: dict[str, float],
    yaw: float,
    pitch: float,
    most: float,
) -> None:
    """Mean distance to what MediaPipe finds in new pictures, in % of the outer-eye distance (irises left out)."""
    try:
        detect = embedding_of.mediapipe_detector(assets.path("face_landmarker"))
    except AssetError as reason:
        pytest.skip(str(reason))
    parameters = head.neutral()
    for name, value in expression.items():
        parameters.expression[0, head.expression_names.index(name)] = value
    camera = embedding_of.view_camera(head, yaw, pitch)
    detected = detect(embedding_of.render(bald, parameters, camera))
    assert detected is not None
    error = embedding_of.reprojection_error(head, load_embedded_landmarks(), parameters, camera, detected)
    assert error[:468].mean() < most


# ---------------------------------------------------------------------------------------------------- any head model


def test_the_embedded_heads_embedding_is_the_stored_one(head: HeadModel) -> None:
    stored = load_embedded_landmarks()
    found = embedding_of.landmarks_of(head)
    assert found.face.equal(stored.face)
    assert found.barycentric.equal(stored.barycentric)


@pytest.fixture
def seen_flame(flame_head: HeadModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A detector that sees landmarks all over the made-up head's face; counts its pictures."""
    monkeypatch.setenv("STAVATAR_CACHE", str(tmp_path))
    pictures = [0]

    def detector(model: Path) -> embedding_of.Detector:
        views = iter(embedding_of.VIEWS)
        spots = flame_head.template[flame_head.faces[flame_head.faces_in("face", "nose")]].mean(1)
        spots = spots[spots[:, 2] > 0.02][::4][:468]
        spots = torch.cat([spots, spots[: 478 - len(spots)]])

        def detect(image: np.ndarray) -> np.ndarray:
            pictures[0] += 1
            return embedding_of.view_camera(flame_head, *next(views)).project(spots[None])[0].double().numpy()

        return detect

    monkeypatch.setattr(embedding_of, "VIEWS", embedding_of.VIEWS[:2])
    monkeypatch.setattr(embedding_of, "mediapipe_detector", detector)
    monkeypatch.setattr(embedding_of, "Renderer", lambda *_: None)  # nobody looks at the pictures
    monkeypatch.setattr(embedding_of, "render", lambda *_: np.zeros((8, 8, 3), np.uint8))
    monkeypatch.setattr(assets, "path", lambda name: tmp_path / name)
    return pictures


def test_another_heads_embedding_is_found_once_and_kept(
    flame_head: HeadModel, seen_flame: list[int], tmp_path: Path
) -> None:
    first = embedding_of.landmarks_of(flame_head)
    assert seen_flame[0] == len(embedding_of.VIEWS)
    assert flame_head.faces_in("eyeballs")[first.face[468:]].all()
    assert flame_head.faces_in(*embedding_of.SKIN)[first.face[:468]].all()
    again = embedding_of.landmarks_of(flame_head)
    assert seen_flame[0] == len(embedding_of.VIEWS), "taken from the cache"
    assert again.face.equal(first.face)
    assert again.barycentric.equal(first.barycentric)

    (stored,) = tmp_path.rglob("*-landmarks-*.npz")
    stored.write_bytes(b"PK damaged")
    assert embedding_of.landmarks_of(flame_head).face.equal(first.face)
    assert seen_flame[0] == 2 * len(embedding_of.VIEWS)


def test_without_the_landmarker_it_says_how_to_get_it(
    flame_head: HeadModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAVATAR_CACHE", str(tmp_path))
    monkeypatch.delenv("STAVATAR_ASSET_FACE_LANDMARKER", raising=False)
    with pytest.raises(AssetError, match=r"face_landmarker\.task is missing: run `stavatar assets`"):
        embedding_of.landmarks_of(flame_head)


@pytest.mark.slow
def test_the_landmarker_finds_the_face_of_the_open_flame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Painted by our own regions on the real topology; the embedding meets what is detected in another picture."""
    if not OPEN_FLAME.exists():
        pytest.skip(f"the partial FLAME 2023 Open is not here: {OPEN_FLAME}")
    try:
        model = assets.path("face_landmarker")
    except AssetError as reason:
        pytest.skip(str(reason))
    monkeypatch.setenv("STAVATAR_CACHE", str(tmp_path))
    stored = dict(np.load(OPEN_FLAME))
    stored["f"] = stored.pop("faces")
    np.savez(tmp_path / "open.npz", expressiondirs=np.full((5023, 3, 1), 1e-6), **stored)
    flame = load_flame(tmp_path / "open.npz")
    detect = embedding_of.mediapipe_detector(model)
    embedding = embedding_of.embed(flame, detect)
    bald = Renderer(flame, Subject.neutral(flame))
    camera = embedding_of.view_camera(flame, 0.1, -0.05)
    detected = detect(embedding_of.render(bald, flame.neutral(), camera))
    assert detected is not None
    error = embedding_of.reprojection_error(flame, embedding, flame.neutral(), camera, detected)
    assert error[:468].mean() < 1.5
