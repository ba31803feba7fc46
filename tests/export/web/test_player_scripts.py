"""The player's arithmetic, run by node: it poses and colours Gaussians as the package does."""

import json
import shutil
import subprocess

import numpy as np
import pytest
import torch

from stavatar.export.web.distil import flatten
from stavatar.export.web.package import read_package
from stavatar.export.web.site import export_site
from stavatar.rotations import quaternion_to_matrix
from stavatar.splat import spherical_harmonics

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="needs node")

SCRIPT = """
import fs from "node:fs";
import { unpack } from "./avatar.js";
import { Poser } from "./pose.js";
import { FLOATS, packSplats } from "./splats.js";
const meta = JSON.parse(fs.readFileSync("meta.json"));
const file = fs.readFileSync("avatar.safetensors");
const poser = new Poser(unpack(meta, file.buffer.slice(file.byteOffset, file.byteOffset + file.byteLength)));
const input = JSON.parse(fs.readFileSync("input.json"));
input.poses.forEach((parameters, i) => {
  poser.pose(new Float32Array(parameters));
  const packed = new Float32Array(poser.count * FLOATS);
  packSplats(poser, input.view, packed);
  fs.writeFileSync(`packed${i}.bin`, packed);
  fs.writeFileSync(`means${i}.bin`, poser.means);
  fs.writeFileSync(`joints${i}.json`, JSON.stringify(poser.joints));
});
"""


def run_player(folder, poses, motion):
    """Have node pose the site in `folder`: a list of (means [N, 3], sorted table [N, 13], joints [5, 3])."""
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "run.js").write_text(SCRIPT)
    vectors = [flatten(parameters)[0].tolist() for parameters in poses]
    view = motion.camera.world_to_camera[0].flatten().tolist()
    (folder / "input.json").write_text(json.dumps({"poses": vectors, "view": view}))
    subprocess.run(["node", "run.js"], cwd=folder, check=True, timeout=60)
    return [
        (
            np.fromfile(folder / f"means{i}.bin", "<f4").reshape(-1, 3),
            np.fromfile(folder / f"packed{i}.bin", "<f4").reshape(-1, 13),
            np.array(json.loads((folder / f"joints{i}.json").read_text())),
        )
        for i in range(len(poses))
    ]


@pytest.fixture(scope="module", params=["face", "world"])
def results(site, poses, motion, request, tmp_path_factory):
    """For each pose what torch computes, and what node does: with offsets in the face's axes, and in the world's."""
    folder = tmp_path_factory.mktemp("scripts")
    for file in site[0].iterdir():
        shutil.copy(file, folder)
    meta = json.loads((folder / "meta.json").read_text())
    meta["offsets"]["frame"] = request.param
    (folder / "meta.json").write_text(json.dumps(meta))
    packed = read_package(folder)
    found = run_player(folder, poses, motion)
    return [(packed(parameters), *numbers) for parameters, numbers in zip(poses, found, strict=True)]


def assert_close_but_for_faces_without_area(found, expected, tolerance):
    """The axes of a face that is a sliver depend on the last digits of its corners; there are a few dozen of them."""
    error = np.abs(found - np.asarray(expected)).reshape(len(found), -1).max(1)
    assert np.quantile(error, 0.995) < tolerance, np.quantile(error, [0.5, 0.9, 0.99, 0.995, 1])
    assert error.max() < 100 * tolerance


def test_gaussians_lie_where_torch_puts_them(results):
    for posed, means, _, joints in results:
        assert_close_but_for_faces_without_area(means, posed.means[0], 1e-5)
        np.testing.assert_allclose(joints, posed.mesh.joints[0], atol=2e-6)
    assert np.abs(results[0][1] - results[2][1]).max() > 0.01


def test_gaussians_are_sorted_from_far_to_near(results, motion):
    for posed, _, table, _ in results:
        depths = motion.camera.to_camera(torch.from_numpy(table[None, :, :3]))[0, :, 2]
        slice_of_depth = float(depths.max() - depths.min()) / 65535
        assert (depths[1:] - depths[:-1]).max() <= 1.01 * slice_of_depth
        assert len(table) == posed.means.shape[1]


def test_shapes_opacities_and_colours_are_those_of_torch(results, motion):
    for posed, means, table, _ in results:
        # The place of each Gaussian in the sorted table: means are unique up to a few coincidences, which agree anyway.
        order = np.lexsort(means.T)
        rows = table[np.lexsort(table[:, :3].T)]
        turn = quaternion_to_matrix(posed.quaternions[0])
        covariance = (turn * posed.scales[0, :, None].square()) @ turn.mT
        entries = covariance[:, [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]].numpy()[order]
        np.testing.assert_allclose(rows[:, 3], posed.opacities[0].numpy()[order], atol=1e-5)
        size = entries[:, [0, 3, 5]].sum(1, keepdims=True)
        assert_close_but_for_faces_without_area(rows[:, 4:10] / size, entries / size, 1e-3)
        direction = posed.means - motion.camera.position[:, None]
        color = spherical_harmonics.color(posed.sh, direction, 3)[0].numpy()[order]
        assert_close_but_for_faces_without_area(rows[:, 10:], color, 1e-4)
        assert np.ptp(color) > 0.5


def test_an_avatar_without_a_network_is_posed_as_well(true_avatar, motion, tmp_path):
    export_site(tmp_path / "site", true_avatar, motion, frames=1)
    pose = motion.parameters[[4]]
    [(means, _, _)] = run_player(tmp_path / "site", [pose], motion)
    np.testing.assert_allclose(means, read_package(tmp_path / "site")(pose).means[0], atol=1e-5)
