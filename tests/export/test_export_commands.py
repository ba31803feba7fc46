"""`stavatar export`: what it prints, and what it refuses."""

import json
import re

import pytest
from typer.testing import CliRunner

from stavatar import cli


@pytest.fixture
def export(monkeypatch):
    """Call `stavatar export ...`: (exit code, output, errors)."""
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments):
        result = CliRunner().invoke(cli.app, ["export", *map(str, arguments)])
        return result.exit_code, result.stdout, result.stderr

    return call


@pytest.mark.parametrize(
    ("command", "name"), [("ply", "a.ply"), ("glb", "a.glb"), ("motion", "a.npz"), ("motion", "a.csv")]
)
def test_files_are_written_and_named(export, folder, tmp_path, command, name):
    code, output, _ = export(command, folder, "-o", tmp_path / name)
    assert code == 0
    assert str(tmp_path / name) in output
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_spz_states_its_loss(export, folder, tmp_path):
    pytest.importorskip("gsply", reason="needs the extra: pip install 'stavatar[export]'")
    code, output, _ = export("spz", folder, "-o", tmp_path / "a.spz", "--frame", 3)
    assert code == 0
    assert re.search(r"\d+\.\d dB PSNR", output)


def test_web_prints_what_the_site_says(export, folder, tmp_path):
    code, output, _ = export("web", folder, "-o", tmp_path / "site", "--rank", 3, "--frames", 5)
    assert code == 0
    meta = json.loads((tmp_path / "site" / "meta.json").read_text())
    assert (meta["measured"]["rank"], meta["frames"]) == (3, 5)
    assert f"{meta['measured']['psnr_to_full_model']:.2f} dB" in output
    assert f"{meta['measured']['megabytes']:.2f} MB" in output


@pytest.mark.slow
def test_web_writes_one_file_where_the_name_is_a_pages(export, folder, tmp_path):
    code, output, _ = export("web", folder, "-o", tmp_path / "me.html", "--rank", 1)
    assert code == 0
    assert [file.name for file in tmp_path.iterdir()] == ["me.html"]
    assert "open it in a browser" in output


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("ply", "--frame", 3, "--neutral", "-o", "a.ply"), "exclude each other"),
        (("ply", "--frame", 99, "-o", "a.ply"), "frames 0 to 9"),
        (("ply", "-o", "a.txt"), "must end in .ply"),
        (("glb", "-o", "a.gltf"), "must end in .glb"),
        (("motion", "-o", "a.json"), "must end in .npz or .csv"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_sentence(export, folder, tmp_path, monkeypatch, arguments, complaint):
    monkeypatch.chdir(tmp_path)
    code, _, errors = export(arguments[0], folder, *arguments[1:])
    assert code == 2
    assert complaint in errors
    assert errors.startswith("error: ")
    assert list(tmp_path.iterdir()) == []


def test_no_avatar_is_told_too(export, tmp_path):
    code, _, errors = export("ply", tmp_path, "-o", tmp_path / "a.ply")
    assert code == 2
    assert "is not an avatar" in errors
