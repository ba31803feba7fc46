"""PLY files: what public viewers expect to find, and nothing lost on the way back."""

import dataclasses

import numpy as np
import pytest
import torch

from stavatar.camera import Camera
from stavatar.errors import InputError
from stavatar.export.commands import export_ply, neutral_face
from stavatar.export.ply import read_ply, write_ply
from stavatar.export.splats import Splats


@pytest.fixture(scope="module")
def splats():
    """Fifty Gaussians of degree 3, all numbers different."""
    generator = np.random.default_rng(0)
    quaternions = generator.normal(size=(50, 4))
    return Splats(
        generator.normal(0, 0.1, (50, 3)).astype(np.float32),
        generator.normal(-4, 0.3, (50, 3)).astype(np.float32),
        (quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)).astype(np.float32),
        generator.normal(1, 1, 50).astype(np.float32),
        generator.normal(0, 0.3, (50, 16, 3)).astype(np.float32),
    )


def header_and_table(path):
    """Read without our reader: property names and the numbers [N, properties]."""
    head, body = path.read_bytes().split(b"end_header\n", 1)
    lines = head.decode().splitlines()
    names = [line.split()[2] for line in lines if line.startswith("property float ")]
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    return names, np.frombuffer(body, "<f4").reshape(-1, len(names))


def test_properties_are_those_of_3d_gaussian_splatting(splats, tmp_path):
    write_ply(tmp_path / "a.ply", splats)
    names, table = header_and_table(tmp_path / "a.ply")
    rest = [f"f_rest_{i}" for i in range(45)]
    assert names == [
        *("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", *rest, "opacity"),
        *("scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),
    ]
    column = dict(zip(names, table.T, strict=True))
    np.testing.assert_array_equal(column["x"], splats.positions[:, 0])
    np.testing.assert_array_equal(column["y"], -splats.positions[:, 1])
    np.testing.assert_array_equal(column["z"], -splats.positions[:, 2])
    np.testing.assert_array_equal(column["opacity"], splats.logits)
    np.testing.assert_array_equal(column["scale_2"], splats.log_scales[:, 2])
    np.testing.assert_array_equal(column["f_dc_1"], splats.sh[:, 0, 1])
    # Channel by channel: the third harmonic after the constant (-x) of green is at 15 + 2, and keeps its sign.
    np.testing.assert_array_equal(column["f_rest_17"], splats.sh[:, 3, 1])
    # Half a turn about x: (0, 1, 0, 0) times the quaternion.
    np.testing.assert_allclose(column["rot_0"], -splats.quaternions[:, 1], atol=1e-6)


def test_a_degree_of_zero_has_no_rest(splats, tmp_path):
    plain = dataclasses.replace(splats, sh=splats.sh[:, :1])
    write_ply(tmp_path / "a.ply", plain)
    names, _ = header_and_table(tmp_path / "a.ply")
    assert len(names) == 17
    assert read_ply(tmp_path / "a.ply").sh.shape == (50, 1, 3)


def test_everything_comes_back(splats, tmp_path):
    write_ply(tmp_path / "a.ply", splats)
    back = read_ply(tmp_path / "a.ply")
    for field in dataclasses.fields(Splats):
        expected, found = getattr(splats, field.name), getattr(back, field.name)
        if field.name == "quaternions":  # q and -q are one rotation
            found = found * np.sign((found * expected).sum(1, keepdims=True))
        np.testing.assert_allclose(found, expected, atol=1e-6, err_msg=field.name)


def test_turned_over_splats_look_the_same_to_a_camera_that_is_turned_as_well(splats):
    """The picture of the file's content through a camera in the file's axes is the avatar's picture: harmonics too."""
    camera = Camera.frontal(0.8, 100, 48, 40)
    half_turn = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    turned_camera = dataclasses.replace(camera, world_to_camera=camera.world_to_camera @ half_turn)
    upright, turned = (s.draw(c).image for s, c in ((splats, camera), (splats.turned_over(), turned_camera)))
    assert upright.amin() < 0.5
    torch.testing.assert_close(turned, upright, atol=1e-4, rtol=0)


def test_an_independent_reader_agrees(splats, tmp_path):
    gsply = pytest.importorskip("gsply", reason="needs the extra: pip install 'stavatar[export]'")
    write_ply(tmp_path / "a.ply", splats)
    data = gsply.plyread(tmp_path / "a.ply")
    turned = splats.turned_over()
    np.testing.assert_array_equal(data.means, turned.positions)
    np.testing.assert_array_equal(data.opacities, turned.logits)
    np.testing.assert_array_equal(data.shN, turned.sh[:, 1:])


def test_a_frame_and_the_neutral_face(folder, avatar, motion, tmp_path):
    assert export_ply(folder, tmp_path / "frame.ply", frame=4) == len(avatar.gaussians)
    export_ply(folder, tmp_path / "neutral.ply", frame=None)
    frame, neutral = read_ply(tmp_path / "frame.ply"), read_ply(tmp_path / "neutral.ply")
    expected = avatar(motion.parameters[[4]])
    np.testing.assert_allclose(frame.positions, expected.means[0].numpy(), atol=1e-6)
    np.testing.assert_allclose(np.exp(frame.log_scales), expected.scales[0].numpy(), rtol=1e-4)
    opacity = 1 / (1 + np.exp(-frame.logits))
    np.testing.assert_allclose(opacity, expected.opacities[0].numpy(), atol=2e-6)  # 0 and 1 have no logit
    at_rest = avatar(neutral_face(motion)).means[0].numpy()
    np.testing.assert_allclose(neutral.positions, at_rest, atol=1e-6)
    assert np.abs(neutral.positions - frame.positions).max() > 5e-3


def test_a_frame_that_is_not_there_and_a_wrong_suffix_are_named(folder, tmp_path):
    with pytest.raises(InputError, match="frames 0 to 9"):
        export_ply(folder, tmp_path / "a.ply", frame=10)
    with pytest.raises(InputError, match=r"must end in \.ply"):
        export_ply(folder, tmp_path / "a.obj", frame=0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda content: content[:-1], "bytes of Gaussians"),
        (lambda content: content[10:], "not a PLY"),
        (lambda content: content.replace(b"f_rest_44", b"something"), "properties of 3D Gaussian splatting"),
        (lambda content: content.replace(b"little", b"bigger"), "not a binary PLY"),
        (lambda content: content.replace(b"end_header", b"somewhere"), "not a PLY"),
    ],
)
def test_damaged_files_are_named(splats, tmp_path, damage, complaint):
    path = tmp_path / "a.ply"
    write_ply(path, splats)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=complaint):
        read_ply(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_ply(tmp_path / "none.ply")
