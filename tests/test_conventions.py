"""The conventions that rooms share: what one of them writes, the others read the same way. See docs/conventions.md."""

from __future__ import annotations

import ast
import math
import re
from pathlib import Path

import pytest
import torch

from stavatar.avatar.gaussians import color_to_sh
from stavatar.camera import Camera
from stavatar.head.posing import JOINTS
from stavatar.mesh import rasterize_mesh
from stavatar.rotations import axis_angle_to_quaternion
from stavatar.splat import rasterize

ROOT = Path(__file__).parents[1]
CAMERA = Camera.frontal(1.0, 100.0, 32, 24)
"""One metre in front of the origin: a pixel there is a centimetre."""


def center_of(head, *regions):
    return head.template[head.faces[head.faces_in(*regions)].unique()].mean(0)


def posed(head, **changes):
    """Vertices of the head with a few parameters that are not zero."""
    parameters = head.neutral().replaced(**{name: torch.tensor([value]) for name, value in changes.items()})
    return head(torch.zeros(head.shape_count), parameters).vertices[0]


def draw(means, colors, scale=0.004, quaternion=(1.0, 0, 0, 0), scales=None, **options):
    means = torch.tensor([means])
    count = means.shape[1]
    return rasterize(
        means,
        torch.tensor([[quaternion] * count]),
        torch.full((1, count, 3), scale) if scales is None else torch.tensor([[scales] * count]),
        torch.full((1, count), 0.99),
        colors,
        CAMERA,
        **options,
    )


# --------------------------------------------------------------------------------------------------------------- axes


def test_the_head_is_in_metres_looks_along_z_and_has_y_up(head):
    face = center_of(head, "face")
    assert center_of(head, "nose")[2] > face[2] > center_of(head, "ears")[2]
    assert center_of(head, "forehead")[1] > center_of(head, "nose")[1] > center_of(head, "lips")[1]
    ears = head.template[head.faces[head.faces_in("ears")].unique(), 0]
    assert 0.12 < ears.max() - ears.min() < 0.25


def test_the_heads_left_is_plus_x(head):
    eyes = head.joint_template[[JOINTS.index("left_eye"), JOINTS.index("right_eye")], 0]
    assert eyes[0] > 0.02
    assert eyes[1] < -0.02


def test_positive_angles_turn_left_and_nod_down(head):
    """Right-handed axis-angle vectors in radians: about +y towards the head's left, about +x downwards."""
    tip = head.template[head.faces[head.faces_in("nose")].unique()][:, 2].argmax()
    nose = head.faces[head.faces_in("nose")].unique()[tip]
    rest = posed(head)[nose]
    assert posed(head, neck=[0.0, 0.3, 0.0])[nose, 0] > rest[0] + 0.02
    assert posed(head, neck=[0.3, 0.0, 0.0])[nose, 1] < rest[1] - 0.02
    joint = head.joint_template[0]
    turned = posed(head, rotation=[0.0, math.pi / 2, 0.0])[nose] - joint
    torch.testing.assert_close(turned, (rest - joint)[[2, 1, 0]] * torch.tensor([1.0, 1, -1]), atol=1e-5, rtol=0)


def test_eyes_hold_the_left_eye_first(head):
    moved = (posed(head, eyes=[0.0, 0.2, 0.0, 0.0, 0.0, 0.0]) - posed(head)).norm(dim=1)
    eyeballs = head.faces[head.faces_in("eyeballs")].unique()
    left = head.template[eyeballs, 0] > 0
    assert moved[eyeballs[left]].max() > 5e-4
    assert moved[eyeballs[~left]].max() < 1e-6


def test_the_jaw_joint_moves_nothing_where_expressions_open_the_mouth(head):
    assert head.jaw_by_expression
    torch.testing.assert_close(posed(head, jaw=[0.4, 0.0, 0.0]), posed(head))
    opened = head.neutral()
    opened.expression[:, head.expression_names.index("jawOpen")] = 1
    lowered = posed(head) - head(torch.zeros(head.shape_count), opened).vertices[0]
    assert lowered[:, 1].max() > 0.01


def test_translation_is_added_last(head):
    turned = posed(head, rotation=[0.0, 1.0, 0.0])
    both = posed(head, rotation=[0.0, 1.0, 0.0], translation=[0.1, 0.2, 0.3])
    torch.testing.assert_close(both - turned, torch.tensor([0.1, 0.2, 0.3]).expand_as(turned), atol=1e-5, rtol=0)


def test_uv_has_its_origin_at_the_bottom_left(head):
    """v grows upwards: the forehead's texture lies above that of the lips."""

    def height(region):
        return head.uv[head.uv_faces[head.faces_in(region)].unique(), 1].mean()

    assert height("forehead") > height("nose") > height("lips")


# ------------------------------------------------------------------------------------------------------------- pictures


@pytest.mark.parametrize(("column", "row"), [(16, 12), (3, 20), (30, 1)])
def test_camera_splats_and_meshes_agree_on_pixel_centres(column, row):
    """The centre of pixel (row, column) has image coordinates (column + 0.5, row + 0.5)."""
    x, y = (column + 0.5 - 16) / 100, (12 - row - 0.5) / 100
    point = torch.tensor([x, y, 0.0])
    torch.testing.assert_close(CAMERA.project(point[None, None])[0, 0], torch.tensor([column + 0.5, row + 0.5]))

    for backend in ("reference", "cpu"):
        view = draw([point.tolist()], torch.ones(1, 1, 3), backend=backend)
        assert view.image.shape == (1, 24, 32, 3)
        assert divmod(int(view.alpha[0].argmax()), 32) == (row, column)
        torch.testing.assert_close(view.means2d[0, 0], torch.tensor([column + 0.5, row + 0.5]))
        around = view.alpha[0, row - 1 : row + 2, column - 1 : column + 2]
        torch.testing.assert_close(around, around.flip(0, 1))  # alike on all sides: its centre and no corner

    # Half a pixel around that centre, and no other pixel's centre.
    corners = point + 0.0045 * torch.tensor([[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])
    face = rasterize_mesh(corners, torch.tensor([[0, 1, 2], [0, 2, 3]]), CAMERA).face
    assert (face >= 0).nonzero().tolist() == [[row, column]]


def test_nearer_means_smaller_z_in_the_camera_and_larger_z_in_the_world():
    near_red = draw([[0.0, 0, 0.1], [0.0, 0, -0.1]], torch.tensor([[[1.0, 0, 0], [0, 1, 0]]]), backend="reference")
    assert near_red.depths[0].tolist() == pytest.approx([0.9, 1.1])
    pixel = near_red.image[0, 11, 15]
    assert pixel[0] > pixel[1] > pixel[2] - 1e-6  # red before green, channels in the order RGB


def test_quaternions_have_the_scalar_first():
    """A Gaussian that is long along x, turned by a quarter about z, stands upright in the picture."""
    turn = axis_angle_to_quaternion(torch.tensor([0.0, 0, math.pi / 2]))
    torch.testing.assert_close(turn, torch.tensor([math.sqrt(0.5), 0, 0, math.sqrt(0.5)]))
    for backend in ("reference", "cpu"):
        view = draw(
            [[0.0, 0, 0]],
            torch.ones(1, 1, 3),
            scales=[0.05, 0.005, 0.005],
            quaternion=tuple(turn.tolist()),
            backend=backend,
        )
        seen = (view.alpha[0] > 0.3).nonzero()
        height, width = (seen.amax(0) - seen.amin(0) + 1).tolist()
        assert height > 3 * width


def test_spherical_harmonics_are_offsets_from_mid_grey():
    color = torch.tensor([[0.9, 0.5, 0.2]])
    plain = draw([[0.0, 0, 0]], color[None], backend="reference").image
    harmonic = draw([[0.0, 0, 0]], color_to_sh(color)[None, :, None], sh_degree=0, backend="reference").image
    torch.testing.assert_close(plain, harmonic)
    torch.testing.assert_close(color_to_sh(torch.full((1, 3), 0.5)), torch.zeros(1, 3))


# ------------------------------------------------------------------------------------------------------------- the page


@pytest.mark.parametrize(("name", "least"), [("conventions.md", 16), ("formats.md", 8)])
def test_every_test_that_the_page_names_exists(name, least):
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", page)
    assert len(named) >= least
    for file, name in named:
        tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
        assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, f"{file}::{name}"
