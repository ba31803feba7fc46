"""The site's files: what they hold, what was lost, and that nothing else is needed."""

import dataclasses
import json
import re
from importlib import resources

import pytest
import torch
from safetensors.numpy import load_file, save_file

from stavatar.avatar.avatar import render
from stavatar.avatar.storage import save_avatar
from stavatar.errors import InputError
from stavatar.evaluation.metrics import psnr
from stavatar.export import export_web
from stavatar.export.web import distil
from stavatar.export.web.package import read_package
from stavatar.export.web.site import PLAYER, export_site
from stavatar.sequence import write_sequence


@pytest.fixture(autouse=True)
def fewer_variations(monkeypatch):
    """Sites made inside of these tests need not be good. (The one that they share is made before this.)"""
    monkeypatch.setattr(distil, "VARIED", 24)


def test_the_stated_loss_is_that_of_the_files(site, avatar, motion):
    folder, meta = site
    packed = read_package(folder)
    values = []
    for frame in motion.test.tolist():
        parameters, camera = motion.parameters[[frame]], motion.camera
        full, ours = (render(posed, camera).image.clamp(0, 1) for posed in (avatar(parameters), packed(parameters)))
        values.append(psnr(ours, full).item())
    measured = meta["measured"]
    assert measured["psnr_to_full_model"] == pytest.approx(sum(values) / len(values), abs=0.01)
    assert measured["psnr_to_full_model"] > 30
    assert measured["measured_on"] == "held-out frames"
    assert json.loads((folder / "meta.json").read_text())["measured"] == measured
    size = sum(file.stat().st_size for file in folder.iterdir() if file.name != "meta.json")
    assert measured["megabytes"] == pytest.approx(size / 1e6, abs=1e-3)


def test_more_maps_come_closer(avatar, motion, site, tmp_path):
    fewer = export_site(tmp_path / "one", avatar, motion, rank=1)["measured"]
    assert fewer["rank"] == 1
    assert fewer["psnr_to_full_model"] < site[1]["measured"]["psnr_to_full_model"] - 1
    assert fewer["megabytes"] < site[1]["measured"]["megabytes"]


def test_hard_binding_is_kept_but_for_rounding(avatar, site, poses):
    """Without offsets, what is read back lies where it was, to a fraction of a millimetre."""
    packed = read_package(site[0]).avatar
    for parameters in poses:
        before = avatar(parameters, soft=False)
        after = packed(parameters)
        torch.testing.assert_close(after.mesh.vertices, before.mesh.vertices, atol=5e-5, rtol=0)
        torch.testing.assert_close(after.means, before.means, atol=1e-4, rtol=0)
        torch.testing.assert_close(after.scales, before.scales, atol=0, rtol=5e-3)
        torch.testing.assert_close(after.opacities, before.opacities, atol=1e-3, rtol=0)
        torch.testing.assert_close(after.sh[:, :, 0], before.sh[:, :, 0], atol=1e-3, rtol=0)
        torch.testing.assert_close(after.sh, before.sh, atol=5e-3, rtol=0)


def test_an_avatar_without_a_network_needs_no_basis(true_avatar, motion, tmp_path):
    measured = export_site(tmp_path / "site", true_avatar, motion)["measured"]
    assert measured["rank"] == 0
    assert measured["psnr_to_full_model"] > 50
    assert "maps" not in load_file(tmp_path / "site" / "avatar.safetensors")


def test_fewer_frames_are_played(avatar, motion, tmp_path):
    meta = export_site(tmp_path / "site", avatar, motion, rank=1, frames=4)
    assert (meta["frames"], meta["held_out"]) == (4, [])
    assert len(load_file(tmp_path / "site" / "avatar.safetensors")["motion"]) == 4


def test_a_run_is_measured_against_its_pictures_as_well(avatar, motion, small_sequence, tmp_path):
    save_avatar(avatar, motion, tmp_path / "run" / "avatar")
    write_sequence(small_sequence, tmp_path / "run" / "sequence")
    measured = export_web(tmp_path / "run", tmp_path / "site", rank=6, frames=None, device=torch.device("cpu"))
    pictures = small_sequence.image(motion.test)
    full = render(avatar(motion.parameters[motion.test]), motion.camera).image.clamp(0, 1)
    assert measured["psnr_full_model"] == pytest.approx(psnr(full, pictures).mean().item(), abs=0.01)
    assert measured["psnr_lost"] == pytest.approx(measured["psnr_full_model"] - measured["psnr_player"], abs=2e-3)


def test_a_site_is_written_over_but_nothing_else(avatar, motion, site, tmp_path):
    export_site(site[0], avatar, motion, rank=6)
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="not a site"):
        export_site(tmp_path, avatar, motion)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


def test_the_page_needs_nothing_from_elsewhere(site):
    folder, _ = site
    shipped = {file.name for file in (resources.files("stavatar.export.web") / "player").iterdir()}
    assert shipped == set(PLAYER)
    assert {file.name for file in folder.iterdir()} == shipped | {"avatar.safetensors", "meta.json"}
    for name in PLAYER:
        text = (folder / name).read_text(encoding="utf-8")
        assert not re.search(r"https?://|//cdn", text), name
        for imported in re.findall(r'from "\./([^"]+)"|new URL\("\./([\w.]+)"', text):
            assert "".join(imported) in shipped, name


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ("no description", "does not exist"),
        ("other format", "format 1"),
        ("cut", "cannot be read as safetensors"),
        ("missing array", "not a complete site"),
        ("wrong shape", "not a complete site"),
    ],
)
def test_damaged_sites_are_named(site, tmp_path, fault, complaint):
    for name in ("meta.json", "avatar.safetensors"):
        (tmp_path / name).write_bytes((site[0] / name).read_bytes())
    meta, tensors = tmp_path / "meta.json", tmp_path / "avatar.safetensors"
    arrays = load_file(tensors)
    if fault == "no description":
        meta.unlink()
    elif fault == "other format":
        meta.write_text(json.dumps({**json.loads(meta.read_text()), "format": 99}))
    elif fault == "cut":
        tensors.write_bytes(tensors.read_bytes()[:-100])
    elif fault == "missing array":
        save_file({name: value for name, value in arrays.items() if name != "joints"}, tensors)
    else:
        save_file({**arrays, "sh_rest": arrays["sh_rest"][:, :-1]}, tensors)
    with pytest.raises(InputError, match=complaint):
        read_package(tmp_path)


def test_no_held_out_frames_means_recorded_ones(avatar, motion, tmp_path):
    everything = dataclasses.replace(motion, train=torch.arange(10), test=torch.arange(0))
    assert export_site(tmp_path / "site", avatar, everything, rank=1)["measured"]["measured_on"] == "recorded frames"
