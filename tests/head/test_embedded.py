"""What the embedded head promises, beyond what any HeadModel does."""

from __future__ import annotations

import pytest
import torch

from stavatar.head import REGIONS, HeadModel
from stavatar.head.posing import JOINTS
from stavatar.head.uv import UVAtlas
from stavatar.rotations import axis_angle_to_matrix

NECK, LEFT_EYE, RIGHT_EYE = (JOINTS.index(name) for name in ("neck", "left_eye", "right_eye"))


def posed(head: HeadModel, expression: dict[str, float] | None = None, **changes: list[float]) -> torch.Tensor:
    """Vertices [V, 3] of the average person."""
    coefficients = torch.zeros(1, head.expression_count)
    for name, value in (expression or {}).items():
        coefficients[0, head.expression_names.index(name)] = value
    tensors = {name: torch.tensor([value]) for name, value in changes.items()}
    return head(torch.zeros(100), head.neutral().replaced(expression=coefficients, **tensors)).vertices[0]


def vertices_in(head: HeadModel, *regions: str) -> torch.Tensor:
    return head.faces[head.faces_in(*regions)].unique()


def pieces(head: HeadModel, region: str) -> list[torch.Tensor]:
    """Vertices of each connected piece of a region, the highest piece first."""
    faces = head.faces[head.faces_in(region)]
    label = torch.arange(len(head.template))
    for _ in range(100):
        lowest = label[faces].amin(1, keepdim=True).expand(-1, 3)
        label = label.scatter_reduce(0, faces.flatten(), lowest.flatten(), "amin")
    vertices = faces.unique()
    found = [vertices[label[vertices] == piece] for piece in label[vertices].unique()]
    return sorted(found, key=lambda piece: -float(head.template[piece, 1].mean()))


def front_of(vertices: torch.Tensor, piece: torch.Tensor, depth: float) -> torch.Tensor:
    """Those of a piece's vertices that lie within `depth` of its foremost one."""
    return piece[vertices[piece, 2] > vertices[piece, 2].max() - depth]


def areas(head: HeadModel) -> tuple[torch.Tensor, torch.Tensor]:
    """Of every face: area on the average person in m², and signed area in the UV square."""
    a, b, c = head.template.double()[head.faces].unbind(1)
    p, q, r = head.uv.double()[head.uv_faces].unbind(1)
    u, v = q - p, r - p
    return torch.linalg.cross(b - a, c - a).norm(dim=1) / 2, (u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]) / 2


def test_sizes(head: HeadModel) -> None:
    assert head.shape_count == 100 and head.expression_count == 52
    assert len(set(head.expression_names)) == 52 and {"jawOpen", "eyeBlinkLeft", "tongueOut"} <= {
        *head.expression_names
    }
    assert head.jaw_by_expression
    assert 9_000 < len(head.faces) < 13_000
    assert head.faces.unique().equal(torch.arange(len(head.template))), "every vertex is used"
    assert head.uv_faces.unique().equal(torch.arange(len(head.uv)))
    height = head.template[vertices_in(head, "scalp"), 1].max() - head.template[vertices_in(head, "face"), 1].min()
    assert 0.2 < height < 0.26, "a head is about 23 cm high, in metres"


def test_it_looks_along_z_with_y_up(head: HeadModel) -> None:
    def middle(region: str) -> torch.Tensor:
        return head.template[vertices_in(head, region)].mean(0)

    assert middle("nose")[2] > middle("ears")[2] + 0.06 > middle("scalp")[2]
    assert middle("forehead")[1] > middle("eyes")[1] > middle("lips")[1] > middle("neck")[1] > middle("torso")[1]
    assert head.joint_template[LEFT_EYE, 0] > 0.02 > -0.02 > head.joint_template[RIGHT_EYE, 0], "its left is at +x"


def test_faces_are_counter_clockwise_from_outside(head: HeadModel) -> None:
    """By the divergence theorem a head has a positive volume; and every face of an eyeball points outwards."""
    a, b, c = (head.template - head.template.mean(0))[head.faces[head.faces_in("scalp", "face", "ears")]].unbind(1)
    assert (a * torch.linalg.cross(b, c)).sum() > 0
    for joint in (LEFT_EYE, RIGHT_EYE):
        own = (head.weights[head.faces, joint] == 1).all(1)
        a, b, c = (head.template - head.joint_template[joint])[head.faces[own]].unbind(1)
        assert (a * torch.linalg.cross(b, c)).sum(1).min() > 0


def test_weights(head: HeadModel) -> None:
    torch.testing.assert_close(head.weights.sum(1), torch.ones(len(head.template)), atol=1e-6, rtol=0)
    assert head.weights.min() >= 0
    assert (head.weights[:, JOINTS.index("jaw")] == 0).all(), "the mouth opens by expression only"
    assert abs(head.joint_template[NECK, 0]) < 1e-6


def test_the_neck_turns_the_head_on_a_torso_that_stays(head: HeadModel) -> None:
    turn = [0.2, 0.6, -0.1]
    vertices = posed(head, neck=turn)
    torso = vertices_in(head, "torso")
    torso = torso[head.weights[torso, 0] == 1]
    assert len(torso) > 100
    torch.testing.assert_close(vertices[torso], head.template[torso], atol=1e-6, rtol=0)
    face = vertices_in(head, "nose", "lips", "forehead", "eyes", "scalp", "teeth", "mouth_interior")
    face = face[head.weights[face, NECK] == 1]
    assert len(face) > 0.9 * len(vertices_in(head, "nose", "lips", "forehead", "eyes", "scalp", "teeth"))
    joint = head.joint_template[NECK]
    expected = (head.template[face] - joint) @ axis_angle_to_matrix(torch.tensor(turn)).T + joint
    torch.testing.assert_close(vertices[face], expected, atol=1e-6, rtol=0)


def test_neck_translation_shifts_the_head_only(head: HeadModel) -> None:
    shift = torch.tensor([0.01, -0.02, 0.03])
    difference = posed(head, neck_translation=shift.tolist()) - head.template
    torch.testing.assert_close(difference, (1 - head.weights[:, :1]) * shift, atol=1e-6, rtol=0)


def test_neck_weights_are_smooth(head: HeadModel) -> None:
    """No edge of the skin steps from torso to head at once."""
    skin = head.faces[head.faces_in("neck", "torso", "face", "scalp")]
    weight = head.weights[skin, NECK]
    assert (weight.amax(1) - weight.amin(1)).max() < 0.35


@pytest.mark.parametrize(("joint", "slot"), [(LEFT_EYE, 0), (RIGHT_EYE, 3)])
def test_an_eye_turns_its_eyeball_and_nothing_else(head: HeadModel, joint: int, slot: int) -> None:
    eyes = [0.0] * 6
    eyes[slot : slot + 3] = [0.3, -0.4, 0.1]
    vertices = posed(head, eyes=eyes)
    ball = head.weights[:, joint] == 1
    assert ball.sum() > 100
    torch.testing.assert_close(vertices[~ball], head.template[~ball], atol=1e-6, rtol=0)
    assert (vertices[ball] - head.template[ball]).norm(dim=1).max() > 0.004
    before, after = ((points[ball] - head.joint_template[joint]).norm(dim=1) for points in (head.template, vertices))
    torch.testing.assert_close(before, after, atol=1e-6, rtol=0)
    assert before.max() - before.min() < 1e-4, "the eyeball is a sphere about its joint"


def test_eyeballs_stay_spheres_for_every_identity(head: HeadModel) -> None:
    shape = torch.randn(8, 100, generator=torch.Generator().manual_seed(4))
    result = head(shape, head.neutral(8))
    for joint in (LEFT_EYE, RIGHT_EYE):
        radius = (result.vertices[:, head.weights[:, joint] == 1] - result.joints[:, joint, None]).norm(dim=2)
        assert ((radius - radius.mean(1, keepdim=True)).abs() < 2e-4).all()


def test_no_expression_moves_an_eyeball(head: HeadModel) -> None:
    """Gaze is counted once."""
    eyeballs = vertices_in(head, "eyeballs")
    assert (head.expression_basis[:, eyeballs] == 0).all()
    for name in ("eyeLookUpLeft", "eyeLookDownRight"):
        lids = head.expression_basis[head.expression_names.index(name)][vertices_in(head, "eyes")]
        assert lids.norm(dim=1).max() > 0.001, f"{name} moves the lids"


def test_lids_close_over_the_eyeballs(head: HeadModel) -> None:
    closed = posed(head, {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0})
    for joint in (LEFT_EYE, RIGHT_EYE):
        center = head.joint_template[joint]
        radius = (head.template[head.weights[:, joint] == 1] - center).norm(dim=1).mean()
        lids = vertices_in(head, "eyes")
        distance = (head.template[lids] - center).norm(dim=1)
        lids = lids[(distance > radius) & (distance < radius + 0.003) & (head.template[lids, 2] > center[2])]
        assert len(lids) > 50
        assert (closed[lids] - center).norm(dim=1).min() > radius, "a lid that was outside stays outside"
        edge = closed[lids][(closed[lids, 0] - center[0]).abs() < 0.002]
        assert edge[:, 1].sort().values.diff().max() < 0.004, "no gap is left between the lids"


def test_jaw_open_opens_the_mouth(head: HeadModel) -> None:
    opened = posed(head, {"jawOpen": 1.0})
    lips = vertices_in(head, "lips")
    middle = lips[head.template[lips, 0].abs() < 0.004]
    inner = middle[(head.template[middle, 1] - head.template[middle, 1].median()).abs() < 0.005]

    def gap(vertices: torch.Tensor) -> torch.Tensor:
        return vertices[inner, 1].max() - vertices[inner, 1].min()

    assert gap(opened) > gap(head.template) + 0.015


def test_the_lower_teeth_follow_the_jaw_rigidly_and_the_upper_stay(head: HeadModel) -> None:
    upper, lower = pieces(head, "teeth")
    assert (head.expression_basis[:, upper] == 0).all()
    opened = posed(head, {"jawOpen": 1.0})
    front = front_of(head.template, lower, 0.01)
    assert (opened[front, 1] - head.template[front, 1]).max() < -0.012
    for name in ("jawOpen", "jawLeft", "jawForward"):
        moved = posed(head, {name: 1.0})[lower]
        rest = head.template[lower]
        before, after = ((points[:, None] - points).norm(dim=2) for points in (rest, moved))
        assert (before - after).abs().max() < 1e-4, f"{name} bends the lower teeth"


def test_the_tongue_does_not_hide_the_lower_teeth(head: HeadModel) -> None:
    *_, tongue = pieces(head, "mouth_interior")
    _, lower = pieces(head, "teeth")
    for amount in (0.3, 0.6, 1.0):
        opened = posed(head, {"jawOpen": amount})
        teeth, tip = front_of(opened, lower, 0.01), front_of(opened, tongue, 0.006)
        assert opened[tip, 2].max() < opened[teeth, 2].max() - 0.003, "the tongue ends behind the teeth"
    assert opened[tip, 1].max() < opened[teeth, 1].max() - 0.002, "and in the open mouth its tip is below their edge"


def test_collar_is_a_straight_edge(head: HeadModel) -> None:
    edges = torch.cat([head.faces[:, [0, 1]], head.faces[:, [1, 2]], head.faces[:, [2, 0]]]).sort(1).values
    unique, count = edges.unique(dim=0, return_counts=True)
    border = head.template[unique[count == 1].unique()]
    lowest = head.template[:, 1].min()
    chest = border[(border[:, 1] < lowest + 0.03) & (border[:, 0].abs() < 0.14)]
    assert len(chest) > 20
    assert chest[:, 1].max() - lowest < 0.001, "the chest ends in one horizontal plane"


def test_regions_are_whole_pieces(head: HeadModel) -> None:
    """No face of the skin differs from all of its neighbours, and every region is there on both sides."""
    edges = torch.cat([head.faces[:, [0, 1]], head.faces[:, [1, 2]], head.faces[:, [2, 0]]]).sort(1).values
    _, edge, count = edges.unique(dim=0, return_inverse=True, return_counts=True)
    order = edge.argsort(stable=True)
    starts = count.cumsum(0) - count
    shared = starts[count == 2]
    face = torch.arange(len(head.faces)).repeat(3)
    first, second = face[order[shared]], face[order[shared + 1]]
    same = head.regions[first] == head.regions[second]
    alike = (
        torch.zeros(len(head.faces), dtype=torch.long)
        .index_add(0, first, same.long())
        .index_add(0, second, same.long())
    )
    assert alike.min() >= 1
    center = head.template[head.faces].mean(1)
    for number, name in enumerate(REGIONS):
        x = center[head.regions == number, 0]
        assert len(x) > 50 and x.min() < -0.005 and x.max() > 0.005, name
    forehead = center[head.faces_in("forehead")]
    eyes = center[head.faces_in("eyes")]
    assert forehead[:, 1].min() > eyes[:, 1].median() + 0.015, "the forehead begins above the brows"
    assert forehead[:, 2].min() > 0.05, "and ends at the hairline"


def test_uv_layout_has_no_flips_and_no_overlaps(head: HeadModel) -> None:
    _, flat = areas(head)
    assert flat.min() > 0
    assert head.uv.min() >= 0 and head.uv.max() <= 1
    covered = UVAtlas.build(head, 1024).inside.double().mean()
    assert abs(flat.sum() - covered) < 2e-4, "where faces overlapped, their areas would add up to more than they cover"


def test_uv_density_favours_the_face(head: HeadModel) -> None:
    surface, flat = areas(head)

    def density(*regions: str) -> torch.Tensor:
        chosen = head.faces_in(*regions)
        return flat[chosen].sum() / surface[chosen].sum()

    face, scalp = density("face", "forehead", "nose", "eyes", "lips"), density("scalp")
    assert 2 < face / scalp < 3.5
    assert density("eyes") > density("face") and density("lips") > density("face")
    assert density("torso") < scalp / 2


@pytest.mark.parametrize(("resolution", "coverage", "fewest"), [(64, 0.8, 30), (256, 0.8, 700)])
def test_every_region_has_texels(head: HeadModel, resolution: int, coverage: float, fewest: int) -> None:
    atlas = UVAtlas.build(head, resolution)
    assert atlas.inside.float().mean() > coverage
    texels = torch.bincount(atlas.gather_faces(head.regions)[atlas.inside], minlength=len(REGIONS))
    assert texels.min() >= fewest, dict(zip(REGIONS, texels.tolist(), strict=True))


def test_the_seam_runs_along_the_back(head: HeadModel) -> None:
    """Edges of the skin whose two faces lie apart in the UV square."""
    skin = ~head.faces_in("mouth_interior", "teeth", "eyeballs")
    faces, uv_faces = head.faces[skin], head.uv_faces[skin]
    corners = torch.stack([faces.flatten(), uv_faces.flatten()], 1).unique(dim=0)
    vertex, count = corners[:, 0].unique(return_counts=True)
    seam = head.template[vertex[count > 1]]
    assert len(seam) > 5
    assert seam[:, 2].max() < 0.03 and seam[:, 0].abs().max() < 0.002


def test_the_unposed_head_is_the_head_with_all_joints_at_rest(head):
    draw = torch.Generator().manual_seed(0)
    shape = torch.randn(20, generator=draw)
    expression = torch.rand(3, head.expression_count, generator=draw)
    still = head.neutral(3).replaced(expression=expression)
    torch.testing.assert_close(head.unposed(shape, expression), head(shape, still).vertices, atol=1e-6, rtol=0)


def test_a_posed_head_keeps_its_unposed_vertices(head):
    draw = torch.Generator().manual_seed(0)
    parameters = head.neutral(2).replaced(
        expression=torch.rand(2, head.expression_count, generator=draw), rotation=torch.rand(2, 3, generator=draw)
    )
    shape = torch.randn(20, generator=draw)
    kept = head(shape, parameters).unposed
    assert torch.equal(kept, head.unposed(shape, parameters.expression))
