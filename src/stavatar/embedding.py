"""Where MediaPipe's 478 landmarks lie on a head model, found by showing its detector pictures of the model.

The neutral head is rendered (painted, without hair) from a few sides, the detector places its landmarks in each
picture, and each landmark's ray is followed to the face that it hits. A landmark's points from the different views are
averaged, views that look straight at its place counting more, and the mean is moved to the nearest point of the
surface that the landmark may lie on: irises on the eyeballs, everything else on skin.

How straight is judged by the normal of the place that the frontal view found. (The normal of each view's own hit would
mislead: on the face's far side contour landmarks slide forward along the cheek to where the face happens to end.)

:func:`embed` serves any head model and any detector; :func:`landmarks_of` keeps what it found for a head.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from scipy.spatial import KDTree
from torch import Tensor
from torch.nn.functional import normalize

from stavatar import assets
from stavatar.camera import Camera
from stavatar.errors import InputError
from stavatar.files import atomic_path
from stavatar.head import HeadModel, HeadParameters, LandmarkEmbedding, load_embedded_landmarks
from stavatar.head.embedded import NAME as EMBEDDED
from stavatar.head.flame import flame_cache
from stavatar.head.landmarks import LANDMARKS
from stavatar.head.posing import JOINTS
from stavatar.mesh import rasterize_mesh
from stavatar.synth import Renderer, Subject

Detector = Callable[[np.ndarray], np.ndarray | None]
"""uint8 RGB image [H, W, 3] -> landmarks [478, 2] in pixels, or None where no face is found."""

SIZE = 640
# The frontal view comes first.
VIEWS = ((0.0, 0.0), (0.2, 0.0), (-0.2, 0.0), (0.4, 0.0), (-0.4, 0.0), (0.0, 0.2), (0.0, -0.15))
"""(yaw, pitch) of the camera in radians."""
RAY_PIXELS = 4
"""The mesh is drawn this many times finer than the picture, so that rays are exact to 1/8 pixel."""
CANDIDATES = 64
"""Triangles around a point among which the nearest is sought."""
FIRST_IRIS = 468
SKIN = ("face", "forehead", "nose", "eyes", "lips")
"""Regions that landmarks other than the irises may lie on."""


def view_camera(head: HeadModel, yaw: float, pitch: float, size: int = SIZE) -> Camera:
    """A camera 1.2 m from the face that sees the whole head."""
    eyes = head.joint_template[[JOINTS.index("left_eye"), JOINTS.index("right_eye")]]
    target = eyes.mean(0) + torch.tensor([0.0, -0.02, -0.07])
    return Camera.orbit(target, 1.2, torch.tensor([yaw]), torch.tensor([pitch]), 3.75 * size, size, size)


def render(renderer: Renderer, parameters: HeadParameters, camera: Camera) -> np.ndarray:
    """The picture [H, W, 3] of one frame."""
    return next(renderer.frames(parameters, camera))


def cast(vertices: Tensor, faces: Tensor, camera: Camera, pixels: np.ndarray) -> tuple[Tensor, Tensor]:
    """What the mesh shows at `pixels` [N, 2], or nearest to them where they miss it (as contour landmarks do).

    Returns points [N, 3] in world space and the unit normals [N, 3] of the faces they lie on.
    """
    fine = camera.resized(camera.width * RAY_PIXELS, camera.height * RAY_PIXELS)
    fragments = rasterize_mesh(vertices, faces, fine)
    rows, columns = distance_transform_edt(
        fragments.face.numpy() < 0, return_distances=False, return_indices=True
    )  # of the nearest pixel that shows the mesh
    x, y = (
        np.clip(np.floor(pixels[:, i] * RAY_PIXELS).astype(int), 0, last - 1)
        for i, last in enumerate((fine.width, fine.height))
    )
    y, x = rows[y, x], columns[y, x]
    corners = vertices[faces[fragments.face[y, x].long()]]
    points = (corners * fragments.barycentric[y, x][:, :, None]).sum(1)
    a, b, c = corners.unbind(1)
    return points, normalize(torch.linalg.cross(b - a, c - a), dim=1)


def nearest_on_surface(points: Tensor, triangles: Tensor) -> tuple[Tensor, Tensor]:
    """Closest point of `triangles` [F, 3, 3] to each of `points` [N, 3]: triangle indices [N] and barycentrics [N, 3].

    Only the triangles whose centroids are nearest are looked at. Of each, the candidates are the orthogonal projection,
    where it falls inside, and the projections on the three edges, clamped to them.
    """
    count = min(CANDIDATES, len(triangles))
    near = torch.from_numpy(KDTree(triangles.mean(1).numpy()).query(points.numpy(), [*range(1, count + 1)])[1])
    a, b, c = triangles[near].double().unbind(2)  # [N, K, 3] each
    at = points.double()[:, None]
    zero = torch.zeros(a.shape[:2], dtype=a.dtype)

    def along(start: Tensor, end: Tensor) -> Tensor:
        edge = end - start
        return (((at - start) * edge).sum(-1) / (edge * edge).sum(-1).clamp_min(1e-18)).clamp(0, 1)

    first, second = b - a, c - a
    d11, d12, d22 = (first * first).sum(-1), (first * second).sum(-1), (second * second).sum(-1)
    e1, e2 = ((at - a) * first).sum(-1), ((at - a) * second).sum(-1)
    area = (d11 * d22 - d12 * d12).clamp_min(1e-24)
    v, w = (d22 * e1 - d12 * e2) / area, (d11 * e2 - d12 * e1) / area
    ab, bc, ca = along(a, b), along(b, c), along(c, a)
    inside = torch.stack([1 - v - w, v, w], -1)
    weights = torch.stack(
        [
            inside,
            torch.stack([1 - ab, ab, zero], -1),
            torch.stack([zero, 1 - bc, bc], -1),
            torch.stack([ca, zero, 1 - ca], -1),
        ],
        2,
    )  # [N, K, 4, 3]
    distance = (weights @ torch.stack([a, b, c], 2) - at[:, :, None]).norm(dim=-1)
    distance[:, :, 0] = distance[:, :, 0].masked_fill((inside < 0).any(-1), torch.inf)
    best = distance.flatten(1).argmin(1)
    rows = torch.arange(len(points))
    return near[rows, best // 4], weights.flatten(1, 2)[rows, best].float()


def embed(head: HeadModel, detect: Detector) -> LandmarkEmbedding:
    """Embed the detector's landmarks in the neutral mean head.

    Raises:
        InputError: the detector finds no face in one of the pictures.
    """
    renderer = Renderer(head, Subject.neutral(head))
    vertices = head(torch.zeros(1, head.shape_count), head.neutral()).vertices[0]
    is_iris = torch.arange(LANDMARKS) >= FIRST_IRIS
    surfaces = ((is_iris, head.faces_in("eyeballs")), (~is_iris, head.faces_in(*SKIN)))

    total, weights = torch.zeros(LANDMARKS, 3), torch.zeros(LANDMARKS, 1)
    frontal_normals: Tensor | None = None
    for yaw, pitch in VIEWS:
        camera = view_camera(head, yaw, pitch)
        pixels = detect(render(renderer, head.neutral(), camera))
        if pixels is None:
            raise InputError(f"no face was found in the picture of {head.name} from yaw {yaw}, pitch {pitch}")
        points, normals = torch.zeros(LANDMARKS, 3), torch.zeros(LANDMARKS, 3)
        for kind, allowed in surfaces:
            points[kind], normals[kind] = cast(vertices, head.faces[allowed], camera, pixels[kind.numpy()])
        if frontal_normals is None:
            frontal_normals = normals
        straight = (frontal_normals * normalize(camera.position - points, dim=1)).sum(1, keepdim=True)
        weight = straight.clamp_min(0) ** 4 + 1e-6
        total += points * weight
        weights += weight

    face, barycentric = torch.zeros(LANDMARKS, dtype=torch.int64), torch.zeros(LANDMARKS, 3)
    for kind, allowed in surfaces:
        numbers = torch.where(allowed)[0]
        means = total[kind] / weights[kind]
        index, barycentric[kind] = nearest_on_surface(means, vertices[head.faces[numbers]])
        face[kind] = numbers[index]
    return LandmarkEmbedding(face, barycentric)


def landmarks_of(head: HeadModel) -> LandmarkEmbedding:
    """The embedding for a head model: the stored one of the embedded head, else computed once and kept in the cache.

    Raises:
        AssetError: the face landmarker, which is needed to compute it, is missing.
        InputError: the landmarker finds no face in a picture of the head.
    """
    if head.name == EMBEDDED:
        return load_embedded_landmarks()
    path = flame_cache(head.name, "landmarks")
    try:
        return _read(path, len(head.faces))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        pass  # not there, or damaged: made again
    embedding = embed(head, mediapipe_detector(assets.path("face_landmarker")))
    write_embedding(path, embedding)
    return embedding


def write_embedding(path: Path, embedding: LandmarkEmbedding) -> None:
    """Write ``face`` [478] uint16 and ``barycentric`` [478, 3] float32 to an npz file."""
    with atomic_path(path) as temporary:
        np.savez_compressed(
            temporary, face=embedding.face.numpy().astype(np.uint16), barycentric=embedding.barycentric.numpy()
        )


def _read(path: Path, faces: int) -> LandmarkEmbedding:
    with np.load(path, allow_pickle=False) as stored:
        face = torch.from_numpy(stored["face"].astype(np.int64))
        barycentric = torch.from_numpy(stored["barycentric"].astype(np.float32))
    if face.shape != (LANDMARKS,) or barycentric.shape != (LANDMARKS, 3) or int(face.max()) >= faces:
        raise ValueError(f"{path} is not a landmark embedding")
    return LandmarkEmbedding(face, barycentric)


def reprojection_error(
    head: HeadModel, embedding: LandmarkEmbedding, parameters: HeadParameters, camera: Camera, detected: np.ndarray
) -> np.ndarray:
    """Distances [478] of embedded and detected landmarks of the mean head, in % of the outer-eye distance."""
    vertices = head(torch.zeros(1, head.shape_count), parameters).vertices
    projected = camera.project(embedding.points(head, vertices))[0].numpy()
    outer_eye = np.linalg.norm(projected[33] - projected[263])
    return np.linalg.norm(projected - detected, axis=1) / outer_eye * 100


def mediapipe_detector(model: Path) -> Detector:
    """MediaPipe's face landmarker on single pictures."""
    import mediapipe as mp
    from mediapipe.tasks.python import BaseOptions, vision

    landmarker = vision.FaceLandmarker.create_from_options(
        vision.FaceLandmarkerOptions(base_options=BaseOptions(model_asset_buffer=model.read_bytes()))
    )

    def detect(image: np.ndarray) -> np.ndarray | None:
        result = landmarker.detect(mp.Image(image_format=mp.ImageFormat.SRGB, data=image))
        if not result.face_landmarks:
            return None
        height, width = image.shape[:2]
        return np.array([(point.x * width, point.y * height) for point in result.face_landmarks[0]])

    return detect
