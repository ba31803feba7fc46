"""Pictures show what the parameters say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stavatar.camera import Camera
from stavatar.head import HeadModel
from stavatar.head.posing import JOINTS
from stavatar.mesh import rasterize_mesh
from stavatar.rotations import axis_angle_to_matrix
from stavatar.synth import Renderer, Subject, make_performance, perform, portrait_camera

PLAIN = [
    [192.60, 147.69, 149.29, 188.17],
    [184.27, 132.17, 153.89, 181.44],
    [177.74, 157.67, 153.24, 173.98],
    [156.83, 152.31, 148.83, 156.29],
]


def face_camera(head: HeadModel, size: int) -> Camera:
    eyes = head.joint_template[[JOINTS.index("left_eye"), JOINTS.index("right_eye")]].mean(0)
    return Camera.orbit(
        eyes + torch.tensor([0.0, -0.03, 0.0]), 0.8, torch.zeros(1), torch.zeros(1), 4 * size, size, size
    )


def picture(renderer: Renderer, parameters, camera: Camera) -> np.ndarray:  # type: ignore[no-untyped-def]
    return next(renderer.frames(parameters, camera)).astype(np.float64) / 255


def test_pupils_are_dark_where_the_gaze_says(head: HeadModel, renderer: Renderer) -> None:
    camera = face_camera(head, 320)
    for yaw in (-0.25, 0.0, 0.25):
        p = head.neutral()
        p.neck[0, 1] = 0.1
        p.eyes[0, 1] = p.eyes[0, 4] = yaw
        image = picture(renderer, p, camera)
        joints = head(renderer.subject.shape[None], p).joints[0]
        gaze = (axis_angle_to_matrix(p.neck) @ axis_angle_to_matrix(p.eyes[:, :3]))[0, :, 2]
        beside = (axis_angle_to_matrix(p.neck) @ axis_angle_to_matrix(p.eyes[:, :3]))[0, :, 0]
        for eye in (JOINTS.index("left_eye"), JOINTS.index("right_eye")):
            # The eyeball's radius is about 12 mm, the iris' about 6 mm.
            points = torch.stack([joints[eye] + 0.012 * gaze, joints[eye] + 0.011 * gaze + 0.0045 * beside])
            (x, y), (x_iris, y_iris) = camera.project(points[None])[0].int().tolist()
            pupil = image[y - 1 : y + 2, x - 1 : x + 2].mean()
            assert pupil < 0.35
            assert pupil < 0.75 * image[y_iris, x_iris].mean()


def test_only_the_person_changes_between_frames(head: HeadModel, renderer: Renderer) -> None:
    camera = portrait_camera(head, 128, 128)
    parameters = perform(head, 40, seed=1)[[0, 39]]
    first, second = renderer.frames(parameters, camera)
    covered = np.zeros((128, 128), bool)
    for vertices in renderer.pose(parameters):
        fragments = rasterize_mesh(vertices, renderer._faces, camera.resized(256, 256))
        covered |= (fragments.face.numpy() >= 0).reshape(128, 2, 128, 2).any((1, 3))
    differs = (first != second).any(-1)
    assert differs.sum() > 1000
    assert not (differs & ~covered).any()
    assert 0.2 < covered.mean() < 0.8


def test_renders_are_repeatable_and_batches_do_not_matter(head: HeadModel, renderer: Renderer) -> None:
    camera = portrait_camera(head, 64, 64)
    parameters = perform(head, 40, seed=2)
    whole = list(renderer.frames(parameters, camera))
    assert len(whole) == 40
    assert np.array_equal(whole[36], picture_bytes(renderer, parameters[36:37], camera))


def picture_bytes(renderer: Renderer, parameters, camera: Camera) -> np.ndarray:  # type: ignore[no-untyped-def]
    return next(renderer.frames(parameters, camera))


def test_hair_follows_the_head_rigidly_and_hides_the_scalp(head: HeadModel, renderer: Renderer) -> None:
    parameters = perform(head, 60, seed=3)[[0, 30, 59]]
    hair = renderer.pose(parameters)[:, len(head.template) :]
    inner = torch.cdist(hair[:, ::97].double(), hair[:, ::97].double())
    torch.testing.assert_close(inner, inner[:1].expand_as(inner), atol=2e-5, rtol=0)
    # Its distance to the scalp, which is skinned to the same joint, hardly changes.
    scalp = head.faces[head.faces_in("scalp")].unique()
    posed = renderer.pose(parameters)
    top = scalp[head.template[scalp, 1].argmax()]
    gap = torch.cdist(posed[:, top : top + 1], hair).amin((1, 2))
    assert gap.max() - gap.min() < 1e-3

    camera = Camera.orbit(head.template[top], 1.0, torch.tensor([np.pi]), torch.tensor([0.4]), 400, 128, 128)
    bald = rasterize_mesh(posed[0, : len(head.template)], head.faces, camera)
    full = rasterize_mesh(posed[0], renderer._faces, camera)
    on_scalp = (bald.face >= 0) & head.faces_in("scalp")[bald.face.long().clamp_min(0)]
    assert on_scalp.sum() > 500
    hidden = full.face[on_scalp] >= len(head.faces)
    assert hidden.float().mean() > 0.9


def test_an_open_mouth_is_darker_inside(head: HeadModel, renderer: Renderer) -> None:
    camera = face_camera(head, 256)
    shut, wide = head.neutral(), head.neutral()
    wide.expression[0, head.expression_names.index("jawOpen")] = 0.8
    lips = head.faces[head.faces_in("lips")].unique()
    vertices = head(renderer.subject.shape[None], wide).vertices
    x, y = camera.project(vertices[:, lips])[0].mean(0).int().tolist()
    before, after = (picture(renderer, p, camera)[y - 3 : y + 4, x - 3 : x + 4].mean() for p in (shut, wide))
    assert after < 0.7 * before


def test_noise_has_the_strength_asked_for(head: HeadModel, renderer: Renderer) -> None:
    camera = portrait_camera(head, 96, 96)
    clean = picture(renderer, head.neutral(), camera)
    noisy = next(renderer.frames(head.neutral(), camera, noise=0.03, seed=1)).astype(np.float64) / 255
    same = next(renderer.frames(head.neutral(), camera, noise=0.03, seed=1)).astype(np.float64) / 255
    other = next(renderer.frames(head.neutral(), camera, noise=0.03, seed=2)).astype(np.float64) / 255
    inside = (clean > 0.15) & (clean < 0.85)
    assert inside.sum() > 5000
    assert (noisy - clean)[inside].std() == pytest.approx(0.03, rel=0.05)
    assert np.array_equal(noisy, same)
    assert not np.array_equal(noisy, other)


def test_people_differ_and_are_reproducible(head: HeadModel) -> None:
    one, again, two = Subject.random(head, 1), Subject.random(head, 1), Subject.random(head, 2)
    assert torch.equal(one.shape, again.shape)
    assert (one.skin, one.hair, one.shirt) == (again.skin, again.hair, again.shirt)
    assert (one.shape - two.shape).abs().max() > 0.5
    assert one.skin != two.skin
    assert Subject.neutral(head).hair_volume == 0


def test_the_plain_person_looks_as_ever(head: HeadModel, renderer: Renderer) -> None:
    """Measured before wrinkles and fine mouths existed: grey values of a picture of 64 x 64 in 4 x 4 tiles."""
    camera = portrait_camera(head, 64, 64)
    parameters = perform(head, 40, seed=1)[[30]]
    tiles = picture_bytes(renderer, parameters, camera).astype(float).mean(-1).reshape(4, 16, 4, 16).mean((1, 3))
    np.testing.assert_allclose(tiles, PLAIN, atol=0.1)


def test_cutouts_are_the_frames_without_their_wall(head: HeadModel, renderer: Renderer) -> None:
    camera = portrait_camera(head, 128, 128)
    parameters = perform(head, 40, seed=1)[[5]]
    frame = next(renderer.frames(parameters, camera)).astype(float)
    picture, matte = (array.astype(float) for array in next(renderer.cutouts(parameters, camera)))
    assert np.array_equal(picture[matte == 255], frame[matte == 255])
    assert (picture[matte == 0] == 255).all()
    edge = (matte > 0) & (matte < 255)
    assert set(np.unique(matte)) == {0, 64, 128, 191, 255}  # four samples
    assert edge.sum() > 100
    # What is left of the border after taking the white off is as dark as the hair beside it.
    colour = 255 - (255 - picture[edge].mean(-1)) / (matte[edge] / 255)
    rows = np.nonzero(edge)[0]
    top = rows < np.nonzero(matte.any(1))[0][0] + 12
    hair = picture[matte == 255].mean(-1)[np.nonzero(matte == 255)[0] < rows[top].max()]
    assert abs(np.median(colour[top]) - np.median(hair)) < 20


def test_teeth_and_tongue_are_seen_in_few_frames(head: HeadModel) -> None:
    frames, size = 100, 128
    performance = make_performance(head, frames=frames, size=size, seed=2, style="expressive")
    inside = torch.cat([head.faces_in("teeth", "mouth_interior"), torch.zeros(1, dtype=torch.bool)])
    vertices = head(performance.truth.shape[None], performance.truth.parameters).vertices
    pixels = np.array(
        [int(inside[rasterize_mesh(v, head.faces, performance.truth.camera).face.long()].sum()) for v in vertices]
    )
    wide = pixels > 0.4 * pixels.max()
    assert pixels.max() > 100
    assert 0.04 < wide.mean() < 0.16
    assert wide[:80].any()
    assert wide[80:].any()
    assert np.median(pixels) < 0.1 * pixels.max()
