"""What the viewer shows, without a browser."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch

from stavatar.avatar.storage import Motion, save_avatar
from stavatar.camera import Camera
from stavatar.errors import InputError
from stavatar.rendering import to_uint8
from stavatar.rotations import matrix_to_quaternion
from stavatar.viewer.clusters import cluster_color, cluster_strip, read_clusters
from stavatar.viewer.look import Look, by_part, part_of, spoken
from stavatar.viewer.pace import LEAST_HEIGHT, Pace
from stavatar.viewer.scene import SPACING, Scene, camera_at

SIZE = 64


@pytest.fixture(scope="module")
def scene(small_avatar_folder):
    return Scene([small_avatar_folder])


@pytest.fixture(scope="module")
def pair(small_avatar_folder):
    return Scene([small_avatar_folder, small_avatar_folder])


def home(scene, width=SIZE, height=SIZE):
    position, _, fov = scene.home()
    return camera_at(position, np.array([0.0, 1.0, 0.0, 0.0]), fov, width, height)  # half a turn about x: looks to -z


def test_from_home_a_frame_looks_as_it_was_recorded(scene, small_runtime):
    picture = scene.draw(Look(frame=4), home(scene))
    recorded = to_uint8(small_runtime.render(small_runtime.frame(4)).image[0])
    assert np.abs(picture.astype(int) - recorded).max() <= 2


def test_a_browsers_camera_is_ours():
    """Its rotation goes from camera to world, its field of view is vertical."""
    expected = Camera.orbit(torch.zeros(3), 2.0, torch.tensor([0.4]), torch.tensor([0.2]), 100.0, 80, 60)
    wxyz = matrix_to_quaternion(expected.world_to_camera[0, :3, :3].T).numpy()
    found = camera_at(expected.position[0].numpy(), wxyz, 2 * math.atan(30 / 100), 80, 60)
    torch.testing.assert_close(found.world_to_camera, expected.world_to_camera, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.focal, expected.focal)


def test_two_avatars_stand_side_by_side_and_do_the_same(scene, pair):
    width = 2 * SIZE
    camera = home(pair, 2 * width, width)
    both = pair.draw(Look(frame=3), camera)
    left, right = both[:, :width], both[:, width:]
    assert left.min() < 128 and right.min() < 128
    # One avatar, seen from half a step to the side, is the other.
    shifted = dataclasses.replace(camera, world_to_camera=camera.world_to_camera.clone())
    shifted.world_to_camera[0, 0, 3] -= SPACING / 2
    alone = scene.draw(Look(frame=3), shifted)
    assert np.abs(alone[:, :width].astype(int) - left).mean() < 1


def test_a_slider_moves_the_mouth_and_hardly_anything_else(scene):
    camera = home(scene)
    before = scene.draw(Look(base="neutral", soft=False), camera).astype(int)
    after = scene.draw(Look(base="neutral", soft=False, expression=(("jawOpen", 0.8),)), camera).astype(int)
    change = np.abs(after - before).mean(2)
    eyes = scene.lead.head.faces[scene.lead.head.faces_in("eyeballs")].flatten()
    row = int(camera.project(scene._kept[2][0].vertices[eyes][None])[0, :, 1].max())
    assert change[row:].max() > 20
    assert change[:row].sum() < 0.05 * change.sum()


def test_sliders_add_to_the_frame_and_named_ones_end_at_one(scene, head):
    jaw = head.expression_names.index("jawOpen")
    recorded = scene.motions[0].expression[2, jaw]
    (added,) = scene.parameters(Look(frame=2, expression=(("jawOpen", 0.1),)))
    assert added.expression[0, jaw] == pytest.approx(float(recorded) + 0.1)
    (most,) = scene.parameters(Look(frame=2, expression=(("jawOpen", 1.0), ("browInnerUp", -0.5))))
    assert most.expression[0, jaw] == 1
    assert most.expression[0, head.expression_names.index("browInnerUp")] == 0


def test_joints_turn_by_degrees(scene):
    still, turned = (scene.parameters(Look(base="neutral", neck=(0, angle, 0), gaze=(10, 5)))[0] for angle in (0, 20))
    torch.testing.assert_close(turned.neck[0, 1] - still.neck[0, 1], torch.tensor(math.radians(20)), atol=0.01, rtol=0)
    torch.testing.assert_close(still.eyes[0, [1, 4]], scene.lead.motion.parameters.eyes[0, [1, 4]] + math.radians(10))
    assert still.eyes[0, 0] == pytest.approx(math.radians(5))


def test_the_camera_drives_the_first_avatar_only(pair, small_motion, head):
    live = small_motion.parameters[[7]]
    first, second = pair.parameters(Look(base="camera"), live)
    assert torch.equal(first.expression, live.expression)
    assert torch.equal(second.expression, pair.parameters(Look(base="neutral"))[1].expression)


@pytest.mark.parametrize(
    "change",
    [
        {"soft": False},
        {"splats": "points"},
        {"splats": "ellipsoids"},
        {"splats": "none"},
        {"colours": "offsets"},
        {"colours": "regions"},
        {"mesh": "shaded"},
        {"mesh": "regions"},
        {"background": (0.0, 0.2, 0.0)},
    ],
    ids=str,
)
def test_every_layer_changes_the_picture(scene, change):
    camera = home(scene)
    plain = scene.draw(Look(frame=1), camera).astype(int)
    changed = scene.draw(Look(frame=1, **change), camera).astype(int)
    assert np.abs(changed - plain).max() > 30
    assert np.array_equal(scene.draw(Look(frame=1), camera), plain), "and taking it back brings the picture back"


def test_the_mesh_lies_where_the_gaussians_are(scene):
    camera = home(scene)
    covered = scene.draw(Look(frame=1, soft=False), camera).min(2) < 250
    mesh = scene.draw(Look(frame=1, splats="none", mesh="shaded", mesh_opacity=1.0), camera).min(2) < 250
    assert (mesh & ~covered).sum() < 5  # untrained Gaussians reach beyond it
    middles = [np.argwhere(mask).mean(0) for mask in (covered, mesh)]
    assert np.abs(middles[0] - middles[1]).max() < 2


def test_region_colours_tell_lips_from_scalp(scene, head):
    """Of the mesh in the colours of its regions, the middle of the lips is red and the top of the head dark."""
    camera = home(scene)
    picture = scene.draw(Look(frame=1, splats="none", mesh="regions", mesh_opacity=1.0), camera).astype(int)
    vertices = scene._kept[2][0].vertices
    for region, is_it in (("lips", lambda c: c[0] > 1.8 * c[1]), ("ears", lambda c: c[2] > c[1])):
        points = camera.project(vertices[head.faces[head.faces_in(region)].flatten()][None])[0]
        column, row = points.median(0).values.long().tolist()
        if region == "ears":
            column, row = points[points[:, 0] > SIZE / 2].median(0).values.long().tolist()
        assert is_it(picture[row, column]), (region, picture[row, column])


def test_posing_is_kept_while_only_the_camera_moves(scene, monkeypatch):
    scene.draw(Look(frame=6), home(scene))
    monkeypatch.setattr(scene.lead, "pose", lambda *_, **__: pytest.fail("posed again"))
    scene.draw(Look(frame=6), home(scene, 80, 48))


def test_an_avatar_that_cannot_follow_is_refused(small_avatar_folder, small_avatar, small_motion, tmp_path):
    save_avatar(small_avatar, Motion(**vars(small_motion)), tmp_path / "other")
    description = tmp_path / "other" / "avatar.yaml"
    description.write_text(description.read_text().replace("embedded-1", "flame-2023"))
    with pytest.raises(InputError, match="flame-2023"):
        Scene([small_avatar_folder, tmp_path / "other"])


# ------------------------------------------------------------------------------------------------------ controls


def test_every_expression_of_the_embedded_head_has_a_part(head):
    groups = by_part(head.expression_names)
    assert "expression" not in groups
    assert sorted(name for group in groups.values() for name in group) == sorted(head.expression_names)
    assert groups["jaw"] == ["jawForward", "jawLeft", "jawOpen", "jawRight"]
    assert part_of("eyeBlinkLeft") == "eyes"


def test_unnamed_expressions_get_some_sliders():
    groups = by_part([f"expression_{index}" for index in range(100)])
    assert list(groups) == ["expression"]
    assert groups["expression"][:2] == ["expression_0", "expression_1"]
    assert 10 <= len(groups["expression"]) < 100


@pytest.mark.parametrize(
    ("name", "words"),
    [("jawOpen", "open"), ("mouthDimpleLeft", "dimple left"), ("tongueOut", "out"), ("expression_3", "expression_3")],
)
def test_sliders_are_named_within_their_part(name, words):
    assert spoken(name) == words


def test_pictures_shrink_while_drawing_is_slow_and_grow_again():
    pace = Pace(rate=15)
    for _ in range(30):
        height = pace.height(512, moving=True)
        pace.took(height, 3e-6 * height**2)  # 0.2 s at 256
    assert 135 <= height <= 165  # 1/15 s is reached at 149
    assert pace.height(512, moving=False) == 512
    assert pace.height(512, moving=True, adapt=False) == 512
    for _ in range(30):
        pace.took(pace.height(512, moving=True), 0.005)
    assert pace.height(512, moving=True) == 512
    for _ in range(30):
        pace.took(pace.height(512, moving=True), 5.0)
    assert pace.height(512, moving=True) == LEAST_HEIGHT


# ------------------------------------------------------------------------------------------------------ clusters


def test_clusters_are_found_beside_the_avatar_or_in_its_run(tmp_path):
    (tmp_path / "avatar").mkdir()
    assert read_clusters(tmp_path / "avatar") is None
    (tmp_path / "clusters.json").write_text(json.dumps({"frames": [0, 3, 5], "cluster": [1, 0, 1], "k": 2}))
    for path in (tmp_path, tmp_path / "avatar"):
        assert read_clusters(path) == {0: 1, 3: 0, 5: 1}


@pytest.mark.parametrize(
    "content", ["[]", "{}", '{"frames": [0, 1], "cluster": [0]}', '{"frames": [0.5], "cluster": [0]}', "nonsense"]
)
def test_damaged_clusters_are_named(tmp_path, content):
    (tmp_path / "clusters.json").write_text(content)
    with pytest.raises(InputError, match=r"clusters\.json"):
        read_clusters(tmp_path)


def test_the_strip_shows_clusters_from_left_to_right_and_the_frame():
    strip = cluster_strip({0: 2, 1: 2, 3: 0, 99: 1}, frames=4, frame=2, width=40, height=5)
    assert strip.shape == (5, 40, 3)
    assert strip[2, 5].tolist() == list(cluster_color(2))
    assert strip[2, 35].tolist() == list(cluster_color(0))
    assert strip[2, 22].tolist() == [200, 200, 200]
    assert strip[2, 25].tolist() == [0, 0, 0]
    assert len({cluster_color(index) for index in range(12)}) == 12
