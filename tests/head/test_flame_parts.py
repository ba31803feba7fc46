"""What is added to FLAME: teeth, region labels, a UV layout. On the made-up head, and on the real topology."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from made_up_flame import made_up_arrays, write_npz
from stavatar.head import flame_uv
from stavatar.head.flame_file import FlameArrays, read_flame
from stavatar.head.flame_regions import label_flame
from stavatar.head.flame_teeth import LOWER_LIP, UPPER_LIP, add_teeth
from stavatar.head.flame_uv import lay_out_flame
from stavatar.head.model import REGIONS

OPEN = Path(__file__).parents[2].parent / "shared/data/flame_open/flame2023_open_partial.npz"
JAW, NECK = 2, 1


def open_flame(folder: Path) -> FlameArrays:
    """The published part of FLAME 2023 Open with made-up expressions, which that part lacks."""
    if not OPEN.exists():
        pytest.skip(f"the partial FLAME 2023 Open is not here: {OPEN}")
    stored = dict(np.load(OPEN))
    expressions = np.random.default_rng(0).normal(size=(5023, 3, 4)) * 1e-3
    given = {
        name: stored[name] for name in ("v_template", "shapedirs", "posedirs", "weights", "J_regressor", "parents")
    }
    np.savez(folder / "open.npz", f=stored["faces"], expressiondirs=expressions, **given)
    return read_flame(folder / "open.npz")


@pytest.fixture(scope="module", params=["made up", "open"])
def bare(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FlameArrays:
    folder = tmp_path_factory.mktemp("flame")
    return open_flame(folder) if request.param == "open" else read_flame(write_npz(folder / "made_up.npz"))


@pytest.fixture(scope="module")
def whole(bare: FlameArrays) -> FlameArrays:
    return add_teeth(bare)


def test_the_open_model_is_known_by_its_template(tmp_path: Path) -> None:
    flame = open_flame(tmp_path)
    assert (flame.version, flame.told_by) == ("flame-2023-open", "content")
    assert (len(flame.shape_basis), len(flame.expression_basis)) == (60, 4)


# --------------------------------------------------------------------------------------------------------------- teeth


def test_the_lip_borders_are_rows_of_joined_vertices_that_mirror_each_other(bare: FlameArrays) -> None:
    edges = {pair for face in bare.faces.tolist() for pair in itertools.permutations(face, 2)}
    for row in (UPPER_LIP, LOWER_LIP):
        assert all(pair in edges for pair in itertools.pairwise(row))
        points = bare.template[list(row)]
        np.testing.assert_allclose(points[::-1] * [-1, 1, 1], points, atol=1e-3)
        assert (np.diff(points[:, 0]) < 0).all(), "from the subject's left to the right"
    assert (bare.template[list(UPPER_LIP)][:, 1] > bare.template[list(LOWER_LIP)][:, 1]).all()


def test_teeth_are_two_rows_behind_the_lips(bare: FlameArrays, whole: FlameArrays) -> None:
    upper, lower = bare.template[list(UPPER_LIP)], bare.template[list(LOWER_LIP)]
    height = np.linalg.norm(upper - lower, axis=1).mean()
    rows = whole.template[5023:].reshape(8, 15, 3)
    upper_root, lower_root, upper_edge, lower_edge, upper_root_back, upper_edge_back, *lower_back = rows
    middle = (upper[:, 1] + lower[:, 1]).mean() / 2
    for row, up in ((upper_root, 2.1), (upper_edge, 0.1), (lower_edge, -0.1), (lower_root, -2.1)):
        np.testing.assert_allclose(row[:, 1], middle + up * height)
        np.testing.assert_allclose(row[:, 0], (upper + lower)[:, 0] / 2)
    np.testing.assert_allclose(upper_edge[:, 2], (upper + lower)[:, 2] / 2 - 1.5 * height)
    np.testing.assert_allclose(upper_edge[:, 2] - lower_edge[:, 2], 0.4 * height)
    fronts = (upper_root, upper_edge, lower_root, lower_edge)
    for front, back in zip(fronts, (upper_root_back, upper_edge_back, *lower_back), strict=True):
        np.testing.assert_allclose(front - back, np.broadcast_to([0, 0, height], (15, 3)), atol=1e-12)


def test_teeth_face_outwards(whole: FlameArrays) -> None:
    """28 triangles in each of front, back and biting edge, of the upper row and then of the lower one."""
    corners = whole.template[whole.faces[9976:]]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).reshape(6, 28, 3)
    assert (normals[[0, 3], :, 2] > 0).all()
    assert (normals[[1, 4], :, 2] < 0).all()
    assert (normals[2, :, 1] < 0).all(), "the upper row bites downwards"
    assert (normals[5, :, 1] > 0).all()
    assert np.bincount(whole.faces[9976:].ravel(), minlength=5143)[5023:].min() > 0


def test_teeth_are_rigid_and_follow_identity_only(bare: FlameArrays, whole: FlameArrays) -> None:
    rows = whole.weights[5023:].reshape(8, 15, 5)
    assert (rows[[0, 2, 4, 5], :, NECK] == 1).all()
    assert (rows[[1, 3, 6, 7], :, JAW] == 1).all()
    assert (rows.sum(-1) == 1).all()
    assert not whole.expression_basis[:, 5023:].any()
    assert not whole.pose_basis[:, 5023:].any()
    assert not whole.joint_regressor[:, 5023:].any()
    pairs = (bare.shape_basis[:, list(UPPER_LIP)] + bare.shape_basis[:, list(LOWER_LIP)]) / 2
    for row in whole.shape_basis[:, 5023:].reshape(-1, 8, 15, 3).transpose(1, 0, 2, 3):
        np.testing.assert_array_equal(row, pairs)
    np.testing.assert_array_equal(whole.template[:5023], bare.template)


# ------------------------------------------------------------------------------------------------------------- regions


def test_regions_lie_where_a_face_has_them(whole: FlameArrays) -> None:
    label = label_flame(whole)
    middle = whole.template[whole.faces].mean(1)

    def of(name: str) -> np.ndarray:
        return middle[label == REGIONS.index(name)]

    heights = [of(name)[:, 1].mean() for name in ("scalp", "forehead", "eyes", "nose", "lips", "neck")]
    assert (np.diff(heights[1:]) < 0).all()
    assert heights[0] > heights[2]
    assert (label == REGIONS.index("eyeballs")).sum() == 2176
    assert (label == REGIONS.index("teeth")).sum() == 168
    assert (label == REGIONS.index("torso")).sum() == 0
    for name in ("eyes", "eyeballs", "lips", "nose", "forehead", "scalp", "neck"):
        left = (of(name)[:, 0] > 0).mean()
        assert 0.4 < left < 0.6, f"{name} lies on both sides"
    lips = whole.template[[*UPPER_LIP, *LOWER_LIP]]
    for name, margin in (("lips", 0.001), ("mouth_interior", 0.01)):  # which goes up and down behind the lips
        assert (of(name).min(0)[:2] > lips.min(0)[:2] - margin).all()
        assert (of(name).max(0)[:2] < lips.max(0)[:2] + margin).all()
    assert of("mouth_interior")[:, 2].mean() < of("lips")[:, 2].mean() - 0.005
    assert np.abs(of("nose")[:, 0]).max() < 0.025


def test_ears_of_the_open_model(tmp_path: Path) -> None:
    flame = add_teeth(open_flame(tmp_path))
    ears = flame.template[flame.faces[label_flame(flame) == REGIONS.index("ears")]].mean(1)
    assert len(ears) > 1500, "FLAME's ears are finely meshed"
    assert np.abs(ears[:, 0]).min() > 0.055
    widest = np.abs(flame.template[:3931, 0]) > 0.09
    on_ears = np.isin(flame.faces[label_flame(flame) == REGIONS.index("ears")], np.flatnonzero(widest)).any(1)
    above_collar = widest & (flame.template[:3931, 1] > -0.1)
    assert on_ears.sum() > above_collar.sum(), "what sticks out furthest is ear"


def test_regions_do_not_depend_on_where_the_head_stands(whole: FlameArrays) -> None:
    moved = replace(whole, template=whole.template * 1.1 + np.array([0.3, -0.2, 0.5]))
    same = (label_flame(moved) == label_flame(whole)).mean()
    assert same > 0.999


# ------------------------------------------------------------------------------------------------------------------ UV


def triangle_areas(uv: np.ndarray, uv_faces: np.ndarray) -> np.ndarray:
    a, b, c = uv[uv_faces].transpose(1, 0, 2)
    return ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]) / 2


def surface_areas(flame: FlameArrays) -> np.ndarray:
    a, b, c = flame.template[flame.faces].transpose(1, 0, 2)
    return np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2


def overlaps(uv: np.ndarray, uv_faces: np.ndarray, resolution: int) -> int:
    """Texel centres that lie inside more than one triangle."""
    count = np.zeros((resolution, resolution), int)
    for corners in uv[uv_faces] * resolution:
        low, high = np.ceil(corners.min(0) - 0.5).astype(int), np.floor(corners.max(0) - 0.5).astype(int)
        x, y = np.meshgrid(np.arange(low[0], high[0] + 1), np.arange(low[1], high[1] + 1), indexing="ij")
        if not x.size:
            continue
        points = np.stack([x, y], -1) + 0.5
        inside = np.ones(x.shape, bool)
        for here, there in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            edge, arm = there - here, points - here
            inside &= edge[0] * arm[..., 1] - edge[1] * arm[..., 0] > 1e-9
        count[x, y] += inside
    return int((count > 1).sum())


@pytest.fixture(scope="module")
def layout(whole: FlameArrays) -> tuple[np.ndarray, np.ndarray]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flame_uv, "ROUNDS", 2)
        return lay_out_flame(whole, label_flame(whole))


def test_the_layout_neither_flips_nor_overlaps_nor_leaves_the_square(layout: tuple[np.ndarray, np.ndarray]) -> None:
    uv, uv_faces = layout
    assert uv.min() > 0
    assert uv.max() < 1
    assert (triangle_areas(uv, uv_faces) > 0).all()
    assert overlaps(uv, uv_faces, 128) == 0
    assert uv_faces.max() == len(uv) - 1


def test_seams_lie_on_the_back_of_the_head_only(whole: FlameArrays, layout: tuple[np.ndarray, np.ndarray]) -> None:
    """Vertices of the skin that the layout has twice lie near the middle of the back."""
    regions = label_flame(whole)
    skin = ~np.isin(regions, [REGIONS.index("eyeballs"), REGIONS.index("teeth")])
    places = np.unique(np.stack([whole.faces[skin].ravel(), layout[1][skin].ravel()], 1), axis=0)
    vertex, copies = np.unique(places[:, 0], return_counts=True)
    cut = whole.template[vertex[copies > 1]]
    assert copies.max() == 2
    assert 8 < len(cut) < 60
    assert np.abs(cut[:, 0]).max() < 0.03
    assert cut[:, 2].max() < 0, "no seam where a camera in front looks"


def test_the_layout_is_the_same_every_time(
    bare: FlameArrays, whole: FlameArrays, layout: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flame_uv, "ROUNDS", 2)
    uv, uv_faces = lay_out_flame(add_teeth(bare), label_flame(whole))
    assert np.array_equal(uv, layout[0])
    assert np.array_equal(uv_faces, layout[1])


@pytest.mark.slow
def test_texels_are_even_on_the_face_of_the_open_model(tmp_path: Path) -> None:
    flame = add_teeth(open_flame(tmp_path))
    regions = label_flame(flame)
    uv, uv_faces = lay_out_flame(flame, regions)
    area = triangle_areas(uv, uv_faces)
    assert (area > 0).all()
    density = area / surface_areas(flame)
    on_face = density[regions == REGIONS.index("face")]
    low, high = np.quantile(on_face, [0.1, 0.9])
    assert high / low < 2, "evenly dense on the face"
    scalp = np.median(density[regions == REGIONS.index("scalp")])
    assert np.median(on_face) > 2 * scalp, "and sparser on the scalp"
    assert area.sum() > 0.8, "most of the square is used"
    assert overlaps(uv, uv_faces, 512) == 0


def test_made_up_arrays_have_flames_counts() -> None:
    arrays = made_up_arrays()
    edges = np.sort(np.concatenate([arrays["f"][:, [0, 1]], arrays["f"][:, [1, 2]], arrays["f"][:, [2, 0]]]), axis=1)
    _, times = np.unique(edges, axis=0, return_counts=True)
    assert arrays["v_template"].shape == (5023, 3)
    assert arrays["f"].shape == (9976, 3)
    assert times.max() == 2
    assert (times == 1).sum() == 62
