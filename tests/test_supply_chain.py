"""What is installed: pinned with hashes, under licences that allow everybody to use it."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tomllib
import zipfile
from email.message import Message
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import dependency_licences
import lock_requirements
from dependency_licences import acceptable, stated

ROOT = Path(__file__).parents[1]


def lock_entries() -> dict[str, tuple[str, list[str]]]:
    """Canonical name -> (versions, hashes)."""
    entries: dict[str, tuple[str, list[str]]] = {}
    for entry in re.findall(r"^\w.*(?:\n[ \t].*)*", lock_requirements.LOCK.read_text(encoding="utf-8"), re.MULTILINE):
        name, version = re.match(r"([\w.-]+)==([\w.]+)", entry).groups()
        before = entries.get(canonicalize_name(name), ("", []))
        versions, hashes = (
            f"{before[0]} {version}".strip(),
            before[1] + re.findall(r"--hash=sha256:([0-9a-f]{64})\b", entry),
        )
        entries[canonicalize_name(name)] = versions, hashes
    return entries


def test_every_package_of_the_lock_has_hashes():
    entries = lock_entries()
    assert len(entries) > 80
    assert [name for name, (_, hashes) in entries.items() if not hashes] == []


def test_lock_and_constraints_name_the_same_versions():
    entries = lock_entries()
    pins = re.findall(r"^([\w.-]+)==(\S+)$", lock_requirements.CONSTRAINTS.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(pins) > 60
    differing = [
        (name, version, entries.get(canonicalize_name(name), ("not in the lock",))[0])
        for name, version in pins
        if name != "torch" and version not in entries.get(canonicalize_name(name), ("",))[0].split()
    ]
    assert differing == [], "`make lock` writes requirements.lock anew"


def test_everything_that_is_asked_for_is_in_the_lock():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"]
    wanted = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    wanted += [one for name in ("viewer", "export", "docs", "dev") for one in extras[name]]  # what `make install` takes
    names = {canonicalize_name(Requirement(text).name) for text in wanted} - {"torch", "stavatar"}
    assert names - set(lock_entries()) == set(), "`make lock` writes requirements.lock anew"


def test_torch_and_its_cuda_packages_are_left_to_the_machine():
    assert [name for name in lock_entries() if re.match("torch$|triton|nvidia-|cuda-", name)] == []
    text = (
        "torch==2.1 \\\n    --hash=sha256:1\nnvidia-cudnn-cu13==9 ; sys_platform == 'linux' \\\n    --hash=sha256:2\n"
    )
    kept = "torchlight==1 \\\n    --hash=sha256:3\n    --hash=sha256:4\nzstandard==1 \\\n    --hash=sha256:5\n"
    assert lock_requirements.without_torch(text + kept) == kept


def test_no_host_is_named():
    for file in (lock_requirements.LOCK, lock_requirements.CONSTRAINTS, ROOT / "Makefile"):
        assert not re.search(r"https?://|index-url|find-links", file.read_text(encoding="utf-8")), file


def test_pip_refuses_an_archive_whose_hash_is_another(tmp_path):
    """What `make install` relies on, with an archive of our own and without a network."""
    wheel = tmp_path / "somebody-1.0-py3-none-any.whl"
    write_wheel(wheel, "somebody")
    pinned = tmp_path / "requirements.lock"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--require-hashes", "--target"]
    pip += [str(tmp_path / "site"), "--find-links", str(tmp_path), "--requirement", str(pinned)]
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    for sha256, installed in (("0" * 64, False), (digest, True)):
        pinned.write_text(f"somebody==1.0 --hash=sha256:{sha256}\n")
        done = subprocess.run(pip, capture_output=True, text=True, check=False)
        assert (done.returncode == 0) is installed, done.stderr
        assert (tmp_path / "site" / "somebody.py").exists() is installed


def write_wheel(path: Path, name: str) -> None:
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}.py", "")
        folder = f"{name}-1.0.dist-info"
        wheel.writestr(f"{folder}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel.writestr(f"{folder}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{folder}/RECORD", "")


# ----------------------------------------------------------------------------------------------------------- licences


def test_no_package_is_under_a_licence_that_is_not_acceptable():
    """Of the default installation and of every extra, with what they bring, as far as it is installed here."""
    packages = dependency_licences.packages()
    assert len(packages) > 50
    assert [f"{package.name}: {package.licence}" for package in packages if not package.acceptable] == []


def test_every_extra_and_what_it_brings_is_listed():
    packages = {package.name: package.groups for package in dependency_licences.packages()}
    groups = {group for groups in packages.values() for group in groups}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert groups == {"default", *project["optional-dependencies"]}
    assert "default" in packages["sympy"], "which torch brings"
    assert "viewer" in packages["zstandard"], "which viser brings"


@pytest.mark.parametrize(
    ("expression", "right"),
    [
        ("MIT", True),
        ("Apache-2.0 WITH LLVM-exception AND BSD-3-Clause", True),
        ("GPL-3.0-only OR MIT", True),
        ("(GPL-3.0-only OR MIT) AND BSD-3-Clause", True),
        ("LGPL-3.0-or-later", True),
        ("MIT AND GPL-2.0-or-later", False),
        ("(MIT AND GPL-2.0-only) OR AGPL-3.0-only", False),
        ("AGPL-3.0-only", False),
        ("CC-BY-NC-4.0", False),
        ("LicenseRef-Proprietary", False),
        ("free for research", False),
        ("", False),
    ],
)
def test_what_is_acceptable(expression, right):
    assert acceptable(expression) is right


@pytest.mark.parametrize(
    ("facts", "licence"),
    [
        ({"License-Expression": "MIT AND PSF-2.0", "License": "other"}, "MIT AND PSF-2.0"),
        ({"License": "BSD-3-Clause", "Classifier": "License :: OSI Approved :: BSD License"}, "BSD-3-Clause"),
        ({"License": "Apache 2.0"}, "Apache-2.0"),
        ({"License": "Copyright (c) 2015\nAll of it", "Classifier": "License :: OSI Approved :: MIT License"}, "MIT"),
        ({"Classifier": "License :: OSI Approved :: GNU General Public License v3 (GPLv3)"}, None),
        ({"License": "Creative Commons BY-NC"}, None),
        ({"License": "MIT License for research only"}, None),
        ({}, None),
    ],
)
def test_what_packages_state_is_read(facts, licence):
    message = Message()
    for name, value in facts.items():
        message[name] = value
    assert stated(message) == licence if licence else not acceptable(stated(message))


def test_a_classifier_that_restricts_is_not_overlooked():
    message = Message()
    message["Classifier"] = "License :: OSI Approved :: MIT License"
    message["Classifier"] = "License :: Free for non-commercial use"
    assert not acceptable(stated(message))


def test_a_review_tells_licence_and_reason():
    for name, (licence, reason) in dependency_licences.REVIEWED.items():
        assert acceptable(licence), name
        assert len(reason) > 10, name


def test_the_page_of_licences_is_made_from_what_is_installed():
    assert "<!-- made by: dependencies -->" in (ROOT / "docs" / "licences.md").read_text(encoding="utf-8")
    table = dependency_licences.table()
    for package in dependency_licences.packages():
        assert f"| {package.name} | {package.version or 'not installed here'} | {package.licence}" in table
