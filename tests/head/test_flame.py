"""FLAME as a head model, against skinning written down once more, slowly and in float64."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from made_up_flame import JOINTS as PLACES
from made_up_flame import made_up_arrays, write_npz, write_pickle
from stavatar.errors import InputError
from stavatar.head import HeadModel, HeadParameters, flame, flame_uv, load_flame
from stavatar.head.flame_file import VERTICES
from stavatar.head.model import REGIONS

FIELDS = ("expression", "rotation", "neck", "jaw", "eyes", "translation", "neck_translation")


def slow_flame(arrays: dict[str, np.ndarray], shape: Tensor, pose: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """FLAME as its paper has it, for one frame: vertices [5023, 3] and joints [5, 3]; 4 x 4 matrices down the tree."""
    of = {name: torch.from_numpy(np.asarray(array, np.float64)) for name, array in arrays.items()}

    def turn(vector: Tensor) -> Tensor:
        x, y, z = vector
        zero = torch.zeros_like(x)
        return torch.linalg.matrix_exp(torch.stack([zero, -z, y, z, zero, -x, -y, x, zero]).reshape(3, 3))

    turns = [turn(pose[name]) for name in ("rotation", "neck", "jaw")]
    turns += [turn(pose["eyes"][:3]), turn(pose["eyes"][3:])]
    shaped = of["v_template"] + of["shapedirs"] @ shape + of["expressiondirs"] @ pose["expression"]
    joints = of["J_regressor"] @ shaped
    feature = torch.cat([(rotation - torch.eye(3)).reshape(9) for rotation in turns[1:]])
    posed = shaped + of["posedirs"] @ feature

    worlds: list[Tensor] = []
    for joint, parent in enumerate((-1, 0, 1, 1, 1)):
        bone = joints[joint] - (joints[parent] if parent >= 0 else 0)
        if joint == 1:
            bone = bone + pose["neck_translation"]
        local = torch.cat([torch.cat([turns[joint], bone[:, None]], 1), torch.tensor([[0.0, 0, 0, 1]]).double()])
        worlds.append(local if parent < 0 else worlds[parent] @ local)
    out = torch.zeros_like(posed)
    for joint, world in enumerate(worlds):
        moved = (posed - joints[joint]) @ world[:3, :3].T + world[:3, 3]
        out = out + of["weights"][:, joint, None] * moved
    return out + pose["translation"], torch.stack([world[:3, 3] for world in worlds]) + pose["translation"]


def random_pose(seed: int, expressions: int) -> tuple[Tensor, dict[str, Tensor]]:
    random = torch.Generator().manual_seed(seed)
    widths = {"expression": expressions, "eyes": 6}
    pose = {name: 0.3 * torch.randn(widths.get(name, 3), generator=random).double() for name in FIELDS}
    return torch.randn(6, generator=random).double(), pose


@pytest.mark.parametrize("seed", [0, 1])
def test_vertices_joints_and_gradients_are_those_of_slow_skinning(flame_head: HeadModel, seed: int) -> None:
    arrays = made_up_arrays()
    shape, pose = random_pose(seed, 5)
    random = torch.Generator().manual_seed(9)
    upstream = torch.randn(VERTICES, 3, generator=random).double()

    def run(one: bool) -> tuple[Tensor, Tensor, list[Tensor]]:
        inputs = [shape.clone().requires_grad_(), *(pose[name].clone().requires_grad_() for name in FIELDS)]
        named = dict(zip(FIELDS, inputs[1:], strict=True))
        if one:
            vertices, joints = slow_flame(arrays, inputs[0], named)
        else:
            head = copy.deepcopy(flame_head).double()
            posed = head(inputs[0], HeadParameters(**{name: value[None] for name, value in named.items()}))
            vertices, joints = posed.vertices[0, :VERTICES], posed.joints[0]
        ((vertices * upstream).sum() + joints.square().sum()).backward()
        return vertices.detach(), joints.detach(), [value.grad for value in inputs if value.grad is not None]

    expected, found = run(True), run(False)
    torch.testing.assert_close(found[0], expected[0], atol=2e-7, rtol=0)  # the arrays are float32 in the head
    torch.testing.assert_close(found[1], expected[1], atol=2e-7, rtol=0)
    assert len(found[2]) == len(expected[2]) == 8
    for name, ours, theirs in zip(("shape", *FIELDS), found[2], expected[2], strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-5 * float(theirs.abs().max()), rtol=0, msg=name)


def test_joints_are_regressed_and_follow_identity(flame_head: HeadModel) -> None:
    torch.testing.assert_close(flame_head.joint_template, torch.from_numpy(PLACES).float(), atol=1e-6, rtol=0)
    arrays = made_up_arrays()
    expected = np.einsum("jv,vcs->sjc", arrays["J_regressor"], arrays["shapedirs"])
    torch.testing.assert_close(flame_head.joint_basis, torch.from_numpy(expected).float(), atol=1e-7, rtol=0)


def test_the_jaw_joint_opens_the_mouth(flame_head: HeadModel) -> None:
    assert not flame_head.jaw_by_expression
    rest = flame_head(torch.zeros(6), flame_head.neutral()).vertices[0]
    opened = flame_head(torch.zeros(6), flame_head.neutral().replaced(jaw=torch.tensor([[0.3, 0, 0]]))).vertices[0]
    assert (opened - rest)[3503, 1] < -0.01, "the lower lip goes down"
    assert (opened - rest)[3543].norm() < 0.004, "the upper lip stays, but for correctives"


def test_counts_and_names(flame_head: HeadModel) -> None:
    assert flame_head.template.shape == (5143, 3)
    assert flame_head.faces.shape == flame_head.uv_faces.shape == (10144, 3)
    assert (flame_head.shape_count, flame_head.expression_count) == (6, 5)
    assert flame_head.expression_names == [f"expr{k}" for k in range(5)]
    assert flame_head.name.startswith("flame-unknown-")


def test_fewer_directions_are_the_first_ones_and_show_in_the_name(
    flame_head: HeadModel, flame_file: Path, flame_cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAVATAR_CACHE", str(flame_cache_folder))
    fewer = load_flame(flame_file, shapes=4, expressions=2)
    assert fewer.name == f"{flame_head.name}-s4e2"
    assert fewer.shape_basis.equal(flame_head.shape_basis[:4])
    assert fewer.expression_basis.equal(flame_head.expression_basis[:2])
    assert load_flame(flame_file, shapes=6, expressions=100).name == flame_head.name
    with pytest.raises(InputError, match="at least one"):
        load_flame(flame_file, expressions=0)


def test_a_whole_file_has_300_and_100(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAVATAR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(flame_uv, "ROUNDS", 1)
    expressions = np.random.default_rng(0).normal(size=(5023, 3, 100)) * 1e-3
    head = load_flame(write_pickle(tmp_path / "flame2023.pkl", expressiondirs=expressions))
    assert (head.shape_count, head.expression_count) == (300, 100)
    assert head.name.startswith("flame-2023-")
    np.testing.assert_allclose(head.expression_basis[7, :5023], expressions[..., 7], atol=1e-9)


def test_the_layout_is_computed_once(
    flame_head: HeadModel, flame_file: Path, flame_cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAVATAR_CACHE", str(flame_cache_folder))
    monkeypatch.setattr(flame, "lay_out_flame", lambda *_: pytest.fail("laid out again"))
    again = load_flame(flame_file)
    assert again.uv.equal(flame_head.uv)
    assert again.uv_faces.equal(flame_head.uv_faces)


@pytest.mark.parametrize("damage", [b"PK\x03\x04", b"nonsense"])
def test_a_damaged_layout_is_made_again(
    tmp_path: Path, flame_file: Path, monkeypatch: pytest.MonkeyPatch, damage: bytes
) -> None:
    monkeypatch.setenv("STAVATAR_CACHE", str(tmp_path))
    monkeypatch.setattr(flame_uv, "ROUNDS", 1)
    head = load_flame(flame_file)
    (stored,) = (tmp_path / "flame" / "computed").glob("*-uv-*.npz")
    stored.write_bytes(damage)
    assert load_flame(flame_file).uv.equal(head.uv)
    assert stored.stat().st_size > 1000


def test_every_region_but_ears_and_torso_is_on_the_made_up_head(flame_head: HeadModel) -> None:
    present = {REGIONS[k] for k in flame_head.regions.unique().tolist()}
    assert present == set(REGIONS) - {"ears", "torso"}  # it has no ears, and FLAME no torso


def test_two_files_have_two_names(tmp_path: Path, flame_head: HeadModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAVATAR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(flame_uv, "ROUNDS", 1)
    other = load_flame(write_npz(tmp_path / "other.npz", **made_up_arrays(seed=1)))
    assert other.name != flame_head.name


@pytest.mark.parametrize("fault", ["shuffled faces", "one lump", "random template", "eyes in one place"])
def test_a_mesh_with_flames_counts_that_is_no_face(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    monkeypatch.setenv("STAVATAR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(flame_uv, "ROUNDS", 1)
    rng = np.random.default_rng(0)
    arrays = made_up_arrays()
    if fault == "shuffled faces":
        changes = {"f": np.stack([rng.permutation(5023)[:3] for _ in range(9976)])}
    elif fault == "one lump":
        changes = {"f": np.tile([[0, 1, 2]], (9976, 1))}
    elif fault == "random template":
        changes = {"v_template": rng.normal(size=(5023, 3)) * 0.03}
    else:
        regressor = arrays["J_regressor"].copy()
        regressor[3] = regressor[4]
        changes = {"J_regressor": regressor}
    with pytest.raises(InputError, match="are not FLAME's mesh: no face is found on it"):
        load_flame(write_npz(tmp_path / "head.npz", **changes))
