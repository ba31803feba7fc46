"""The site as one file: its scripts may be put one after the other, and nothing of it is lost."""

import base64
import json
import re
import shutil
import subprocess

import pytest
import torch
from safetensors.torch import load, load_file

from stavatar.export.web.page import MAIN, WORKER, bundle, export_page
from stavatar.export.web.site import PLAYER


@pytest.fixture(scope="module")
def page(avatar, motion, tmp_path_factory):
    """(path, content of its description)."""
    path = tmp_path_factory.mktemp("page") / "avatar.html"
    return path, export_page(path, avatar, motion, rank=6)


def embedded(text, name):
    return re.search(rf'<script type="[\w/]+" id="embedded-{name}">(.*?)</script>', text, re.DOTALL).group(1)


def test_the_page_holds_the_files_of_the_site(page, site):
    path, meta = page
    text = path.read_text(encoding="utf-8")
    inside, beside = load(base64.b64decode(embedded(text, "avatar"))), load_file(site[0] / "avatar.safetensors")
    assert {name: value.shape for name, value in inside.items()} == {
        name: value.shape for name, value in beside.items()
    }
    for name, value in inside.items():
        # The offsets' basis is cut off between directions that matter nearly the same, so that last digits decide which
        # of them are in; how well it does is compared below.
        if not name.startswith(("maps", "coefficients", "mean")):
            assert torch.equal(value, beside[name]), name
    assert json.loads(embedded(text, "meta")) == meta
    assert meta["measured"]["psnr_to_full_model"] == pytest.approx(site[1]["measured"]["psnr_to_full_model"], abs=0.3)
    assert meta["measured"]["megabytes"] == pytest.approx(path.stat().st_size / 1e6, abs=2e-3)
    assert [file.name for file in path.parent.iterdir()] == ["avatar.html"]
    assert not re.search(r'src="|href="(?!data:)|https?://', text)


@pytest.mark.parametrize("modules", [MAIN, WORKER])
def test_scripts_put_together_share_no_names(site, modules):
    text = bundle(site[0], modules)
    declared = re.findall(r"^(?:async )?(?:const|let|var|class|function)\s+(\w+)", text, re.MULTILINE)
    assert len(declared) == len(set(declared))
    assert not re.search(r"^\s*(import|export)\b(?!\.)", text, re.MULTILINE)
    assert "</script" not in text


def test_modules_stand_after_those_that_they_import(site):
    assert set(MAIN) | set(WORKER) | {"index.html", "style.css"} == set(PLAYER)
    for modules in (MAIN, WORKER):
        for place, name in enumerate(modules):
            imported = re.findall(r'^import .* from "\./([\w.]+)";$', (site[0] / name).read_text(), re.MULTILINE)
            assert set(imported) <= set(modules[:place]), name


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
@pytest.mark.parametrize("modules", [MAIN, WORKER])
def test_scripts_put_together_are_well_formed(site, modules, tmp_path):
    (tmp_path / "script.mjs").write_text(bundle(site[0], modules))
    subprocess.run(["node", "--check", tmp_path / "script.mjs"], check=True, timeout=30)
