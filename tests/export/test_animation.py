"""The GLB file, decoded without our writer: morphs and skin give the head model's vertices."""

import json
import os
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

from stavatar.export import export_glb

ROOT = Path(__file__).parents[2]
KINDS = {5126: "<f4", 5121: "u1", 5123: "<u2", 5125: "<u4"}
WIDTHS = {"SCALAR": (), "VEC2": (2,), "VEC3": (3,), "VEC4": (4,), "MAT4": (4, 4)}


class Glb:
    """A GLB file's document, and its accessors as arrays."""

    def __init__(self, path):
        content = path.read_bytes()
        magic, version, length = struct.unpack_from("<4sII", content)
        assert (magic, version, length) == (b"glTF", 2, len(content))
        size, kind = struct.unpack_from("<I4s", content, 12)
        assert kind == b"JSON"
        self.document = json.loads(content[20 : 20 + size])
        _, kind = struct.unpack_from("<I4s", content, 20 + size)
        assert kind == b"BIN\0"
        self.buffer = content[28 + size :]

    def array(self, index):
        accessor = self.document["accessors"][index]
        view = self.document["bufferViews"][accessor["bufferView"]]
        width = WIDTHS[accessor["type"]]
        count = accessor["count"] * int(np.prod(width, dtype=int))
        kind = KINDS[accessor["componentType"]]
        return np.frombuffer(self.buffer, kind, count, view["byteOffset"]).reshape(-1, *width)

    def primitive(self):
        return self.document["meshes"][0]["primitives"][0]

    def attribute(self, name):
        return self.array(self.primitive()["attributes"][name])

    def key(self, node, path, frame):
        """The value of an animation's channel at one of its keys."""
        animation = self.document["animations"][0]
        for channel in animation["channels"]:
            if channel["target"] == {"node": node, "path": path}:
                values = self.array(animation["samplers"][channel["sampler"]]["output"])
                times = self.array(animation["samplers"][channel["sampler"]]["input"])
                return values.reshape(len(times), -1)[frame]
        return None

    def pose(self, frame):
        """Vertices [V', 3] at a key, as the specification says: morph targets first, then the skin."""
        points = self.attribute("POSITION").astype(np.float64)
        for weight, target in zip(self.key(0, "weights", frame), self.primitive()["targets"], strict=True):
            points = points + weight * self.array(target["POSITION"])
        skin = self.document["skins"][0]
        world = self._world_matrices(frame)
        inverse = self.array(skin["inverseBindMatrices"]).transpose(0, 2, 1)  # stored column after column
        matrices = np.stack([world[node] for node in skin["joints"]]) @ inverse
        joints, weights = self.attribute("JOINTS_0"), self.attribute("WEIGHTS_0")
        blended = np.einsum("vk,vkij->vij", weights, matrices[joints])
        return np.einsum("vij,vj->vi", blended[:, :3, :3], points) + blended[:, :3, 3]

    def _world_matrices(self, frame):
        nodes = self.document["nodes"]
        world = {}

        def visit(index, parent):
            x, y, z, w = rotation if (rotation := self.key(index, "rotation", frame)) is not None else (0, 0, 0, 1)
            translation = self.key(index, "translation", frame)
            local = np.eye(4)
            local[:3, 3] = nodes[index].get("translation", (0, 0, 0)) if translation is None else translation
            local[:3, :3] = [
                [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
                [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
                [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
            ]
            world[index] = parent @ local
            for child in nodes[index].get("children", ()):
                visit(child, world[index])

        for root in self.document["scenes"][0]["nodes"]:
            visit(root, np.eye(4))
        return world


@pytest.fixture(scope="module")
def path(folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("glb") / "head.glb"
    export_glb(folder, path)
    return path


@pytest.fixture(scope="module")
def glb(path):
    return Glb(path)


@pytest.mark.parametrize("frame", [0, 4, 9])
def test_the_decoded_mesh_is_the_head_models(glb, avatar, motion, frame):
    expected = avatar.head(avatar.shape, motion.parameters[[frame]]).vertices[0].numpy()
    vertex = glb.attribute("_VERTEX").astype(int)
    assert np.unique(vertex).tolist() == list(range(len(expected)))
    np.testing.assert_allclose(glb.pose(frame), expected[vertex], atol=1e-5)


def test_faces_keep_their_corners_and_texture_coordinates(glb, head):
    indices = glb.array(glb.primitive()["indices"]).reshape(-1, 3)
    np.testing.assert_array_equal(glb.attribute("_VERTEX").astype(int)[indices], head.faces.numpy())
    uv = glb.attribute("TEXCOORD_0")[indices]
    np.testing.assert_allclose(uv[..., 0], head.uv[head.uv_faces][..., 0], atol=1e-6)
    np.testing.assert_allclose(1 - uv[..., 1], head.uv[head.uv_faces][..., 1], atol=1e-6)  # from the top


def test_normals_point_outwards(glb, head):
    """On the scalp, away from its middle."""
    points, normals = glb.attribute("POSITION"), glb.attribute("NORMAL")
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-5)
    scalp = np.isin(glb.attribute("_VERTEX").astype(int), head.faces[head.faces_in("scalp")].numpy())
    outwards = points[scalp] - points[scalp].mean(0)
    assert ((outwards * normals[scalp]).sum(1) > 0).mean() > 0.9


def test_names_times_and_speed(glb, head, motion):
    mesh = glb.document["meshes"][0]
    assert mesh["extras"]["targetNames"] == head.expression_names
    assert [node["name"] for node in glb.document["nodes"][1:]] == ["root", "neck", "jaw", "left_eye", "right_eye"]
    sampler = glb.document["animations"][0]["samplers"][0]
    np.testing.assert_allclose(glb.array(sampler["input"]), np.arange(len(motion.parameters)) / 25, atol=1e-6)


def test_vertices_have_the_colours_of_their_gaussians(glb, avatar, head):
    """Within the range of the faces around, once turned back from linear light."""
    colors = glb.attribute("COLOR_0")
    assert colors.min() >= 0 and colors.max() <= 1
    face_color = (0.5 + 0.28209479 * avatar.gaussians.sh_dc[: len(head.faces), 0]).clamp(0, 1).numpy()
    vertex = int(glb.attribute("_VERTEX")[100])
    around = (head.faces == vertex).any(1).numpy()
    linear = colors[100]
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    assert (srgb >= face_color[around].min(0) - 0.02).all()
    assert (srgb <= face_color[around].max(0) + 0.02).all()


def test_the_validator_finds_nothing(path):
    """The Khronos group's validator, from npm: here, or in the folder that NODE_PATH names."""
    if shutil.which("node") is None:
        pytest.skip("needs node")
    places = os.pathsep.join(filter(None, [os.environ.get("NODE_PATH"), str(ROOT / "node_modules")]))
    script = (
        "const v = require('gltf-validator');"
        f"v.validateBytes(new Uint8Array(require('fs').readFileSync({json.dumps(str(path))})))"
        ".then((r) => console.log(JSON.stringify(r.issues)))"
    )
    ran = subprocess.run(
        ["node", "-e", script], env={**os.environ, "NODE_PATH": places}, capture_output=True, text=True, check=False
    )
    if "Cannot find module" in ran.stderr:
        pytest.skip("needs the package gltf-validator: npm install gltf-validator")
    issues = json.loads(ran.stdout)
    assert (issues["numErrors"], issues["numWarnings"]) == (0, 0), issues["messages"]
