"""Binding Gaussians to a head, and keeping avatars on disk."""

import copy
import dataclasses

import pytest
import torch
import yaml

from stavatar.avatar.avatar import render
from stavatar.avatar.storage import Motion, load_avatar, save_avatar
from stavatar.errors import InputError
from stavatar.head import face_frames
from stavatar.rotations import axis_angle_to_matrix, quaternion_to_matrix
from stavatar.training.reference import best_reference
from stavatar.training.trainer import start_avatar


@pytest.fixture
def avatar(small_sequence, head, small_config):
    """An untrained avatar whose network nevertheless says something."""
    avatar = start_avatar(small_sequence, head, small_config)
    generator = torch.Generator().manual_seed(0)
    torch.nn.init.normal_(avatar.network.fuse_last.weight, 0, 0.3, generator=generator)
    return avatar.eval()


def test_hard_binding_follows_equation_2(avatar, true_motion):
    parameters = true_motion[[4]]
    g = avatar.gaussians
    with torch.no_grad():
        g.position.normal_(generator=torch.Generator().manual_seed(1))
        g.quaternion.normal_(generator=torch.Generator().manual_seed(2))
    posed = avatar(parameters, soft=False)
    frames = face_frames(posed.mesh.vertices, avatar.head.faces)
    for i in (0, 1234, len(g) - 1):  # the last is a seed
        face = g.face[i]
        rotation, origin, size = frames.rotation[0, face], frames.origin[0, face], frames.size[0, face]
        torch.testing.assert_close(posed.means[0, i], size * rotation @ g.position[i] + origin)
        torch.testing.assert_close(posed.scales[0, i], size * g.log_scale[i].exp())
        expected = rotation @ quaternion_to_matrix(g.quaternion[i])
        torch.testing.assert_close(quaternion_to_matrix(posed.quaternions[0, i]), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(posed.opacities[0], torch.sigmoid(g.opacity_logit))


def test_a_rigid_motion_of_the_head_moves_every_gaussian_rigidly(avatar, true_motion):
    """With offsets in the face frame that depend on the expression alone, soft binding turns with the head too."""
    before = true_motion[[4]]
    turn = torch.tensor([[0.0, 0.7, 0.0]])
    rotation = axis_angle_to_matrix(turn)[0]
    still = before.replaced(neck=torch.zeros(1, 3))
    moved = still.replaced(rotation=turn, translation=still.translation + torch.tensor([[0.1, 0.0, 0.2]]))
    a, b = avatar(still, soft=False), avatar(moved, soft=False)
    root = a.mesh.joints[:, :1]
    expected = (a.means - root) @ rotation.T + b.mesh.joints[:, :1]
    torch.testing.assert_close(b.means, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(b.scales, a.scales, atol=1e-6, rtol=1e-3)


def test_soft_binding_adds_the_offsets_of_equation_7(avatar, true_motion):
    parameters = true_motion[[2]]
    with torch.no_grad():
        hard, soft = avatar(parameters, soft=False), avatar(parameters)
    offsets = soft.offsets
    assert offsets.position.abs().max() > 1e-3, "the test's network must say something"
    frames = face_frames(hard.mesh.vertices, avatar.head.faces)
    shift = (frames.rotation[:, avatar.gaussians.face] @ offsets.position[..., None])[..., 0]
    torch.testing.assert_close(soft.means, hard.means + shift)
    torch.testing.assert_close(soft.scales, hard.scales * offsets.scale)
    torch.testing.assert_close(soft.opacities, (hard.opacities + offsets.opacity).clamp(0, 1))
    torch.testing.assert_close(soft.sh[:, :, 0], hard.sh[:, :, 0] + offsets.color)
    turned = axis_angle_to_matrix(offsets.rotation) @ quaternion_to_matrix(hard.quaternions)
    torch.testing.assert_close(quaternion_to_matrix(soft.quaternions), turned, atol=1e-4, rtol=1e-3)


def test_the_offset_frame_decides_whose_axes_the_shift_has(avatar, true_motion):
    parameters = true_motion[[2]]
    world = dataclasses.replace(avatar.config.network, offset_frame="world")
    with torch.no_grad():
        hard = avatar(parameters, soft=False)
        avatar.config = dataclasses.replace(avatar.config, network=world)
        soft = avatar(parameters)
    torch.testing.assert_close(soft.means, hard.means + soft.offsets.position)


def test_a_batch_equals_its_frames_one_by_one(avatar, true_motion):
    with torch.no_grad():
        together = avatar(true_motion)
        for frame in (0, 7):
            alone = avatar(true_motion[[frame]])
            torch.testing.assert_close(together.means[frame], alone.means[0], atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(together.sh[frame], alone.sh[0], atol=1e-4, rtol=1e-4)


def test_uv_positions_are_the_reference_mesh_scaled_to_its_bounding_box(avatar, small_sequence):
    """The cpu preset shows the expression alone, so the reference mesh is the unposed head of the reference frame."""
    frame = best_reference(small_sequence)
    still = avatar.head.neutral().replaced(expression=small_sequence.parameters.expression[[frame]])
    vertices = avatar.head(avatar.shape, still).vertices[0]
    low, high = vertices.amin(0), vertices.amax(0)
    atlas = avatar.atlas
    for row, column in atlas.inside.nonzero()[::97].tolist():
        corners = vertices[avatar.head.faces[atlas.face[row, column]]]
        point = atlas.barycentric[row, column] @ corners
        expected = 2 * (point - low) / (high - low) - 1
        shown = avatar.network.positions[0, :3, row, column]
        torch.testing.assert_close(shown, expected, atol=1e-5, rtol=0)


def test_seeds_lie_beyond_the_mesh_and_are_exempt(small_sequence, head, small_config):
    """Of a matte larger than the mesh, seeds take only what the mesh leaves bare."""
    masks = small_sequence.masks.clone()
    masks[:, 5:20, 20:44] = 255  # a tall hair style
    sequence = dataclasses.replace(small_sequence, masks=masks)
    avatar = start_avatar(sequence, head, small_config)
    free = avatar.gaussians.free
    assert 0 < int(free.sum()) <= small_config.gaussians.seeds
    reference = sequence.parameters[[0]]
    camera = sequence.camera[[0]]
    pixels = camera.project(avatar(reference, soft=False).means)[0, free]
    inside = masks[0][pixels[:, 1].long().clamp(0, 63), pixels[:, 0].long().clamp(0, 63)]
    assert (inside > 200).float().mean() > 0.9
    assert not set(head.regions[avatar.gaussians.face[free]].tolist()) & {3, 4, 6, 7}, "no seed on eyes or mouth"


def test_a_saved_avatar_renders_the_same(avatar, small_sequence, tmp_path):
    motion = Motion(small_sequence.parameters, small_sequence.camera, 25.0, small_sequence.train, small_sequence.test)
    save_avatar(avatar, motion, tmp_path / "avatar")
    loaded, recorded = load_avatar(tmp_path / "avatar")
    with torch.no_grad():
        before = render(avatar(small_sequence.parameters), small_sequence.camera).image
        after = render(loaded(recorded.parameters), recorded.camera).image
    assert torch.equal(before, after)
    assert torch.equal(recorded.test, small_sequence.test)


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ("no description", "not an avatar"),
        ("other format", "format 99"),
        ("unknown head", "no head model"),
        ("unknown setting", "not a setting"),
        ("no tensors", r"avatar\.safetensors does not exist"),
        ("cut tensors", "cannot be read as safetensors"),
        ("missing tensor", "not a complete avatar"),
        ("wrong shape", "not a complete avatar"),
        ("not a number", "not a complete avatar"),
        ("face beyond the head", "not a complete avatar"),
    ],
)
def test_a_damaged_avatar_is_named(avatar, small_sequence, tmp_path, fault, complaint):
    from safetensors.torch import load_file, save_file

    motion = Motion(small_sequence.parameters, small_sequence.camera, 25.0, small_sequence.train, small_sequence.test)
    save_avatar(avatar, motion, tmp_path)
    description, tensors = tmp_path / "avatar.yaml", tmp_path / "avatar.safetensors"
    text, values = yaml.safe_load(description.read_text()), load_file(tensors)
    if fault == "no description":
        description.unlink()
    elif fault == "other format":
        text["format"] = 99
    elif fault == "unknown head":
        text["head_model"] = "nobody"
    elif fault == "unknown setting":
        text["config"]["network"]["colour"] = 3
    elif fault == "missing tensor":
        del values["gaussians.position"]
    elif fault == "wrong shape":
        values["gaussians.position"] = values["gaussians.position"][:, :2].contiguous()
    elif fault == "not a number":
        values["gaussians.position"][7, 1] = float("nan")
    elif fault == "face beyond the head":
        values["gaussians.face"][3] = 1 << 30
    if description.exists():
        description.write_text(yaml.safe_dump(text))
    save_file(values, tensors)
    if fault == "no tensors":
        tensors.unlink()
    elif fault == "cut tensors":
        tensors.write_bytes(tensors.read_bytes()[:1000])
    with pytest.raises(InputError, match=complaint):
        load_avatar(tmp_path)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("soft", [True, False])
@pytest.mark.parametrize("frame", ["world", "face"])
def test_on_a_gpu_one_kernel_binds_as_the_operations_do(small_avatar, small_motion, soft, frame):

    avatar = copy.deepcopy(small_avatar).cuda().requires_grad_()
    settings = dataclasses.replace(avatar.config.network, offset_frame=frame)
    avatar.config = dataclasses.replace(avatar.config, network=settings)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name in avatar.gaussians.PARAMETERS:
            value = getattr(avatar.gaussians, name)
            value += 0.3 * torch.randn(value.shape, generator=generator).cuda()
    results = []
    for fast in (False, True):
        rows = small_motion.parameters[[1, 4, 7]].to("cuda").map(lambda value: value.clone().requires_grad_())
        if fast:
            posed = avatar(rows, soft=soft)
        else:
            mesh = avatar.head(avatar.shape, rows)
            posed = avatar.bind(mesh, avatar.offsets(rows, mesh) if soft else None)
        told = [posed.means, posed.quaternions, posed.scales, posed.opacities, posed.sh]
        if posed.offsets is not None:
            told += [getattr(posed.offsets, item.name) for item in dataclasses.fields(posed.offsets)]
        leaves = {**dict(avatar.named_parameters()), **dict(rows.items())}
        weights = torch.Generator().manual_seed(1)
        total = sum((value * torch.randn(value.shape, generator=weights).cuda()).sum() for value in told)
        gradients = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
        results.append((told, dict(zip(leaves, gradients, strict=True))))
    (true_values, true_gradients), (values, gradients) = results
    for value, truth in zip(values, true_values, strict=True):
        torch.testing.assert_close(value, truth, rtol=1e-4, atol=1e-5)
    for name, truth in true_gradients.items():
        assert (truth is None) == (gradients[name] is None), name
        if truth is not None and truth.numel() and truth.norm() > 1e-6:
            assert (gradients[name] - truth).norm() < 2e-3 * truth.norm(), name
