"""What the doctor says about a machine."""

from __future__ import annotations

import pytest
import torch

from stavatar import doctor
from stavatar.head.library import VARIABLE


def finding(topic: str) -> doctor.Finding:
    return next(found for found in doctor.inspect() if found.topic == topic)


def test_every_finding_says_something_and_every_lack_has_advice():
    findings = doctor.inspect()
    assert len({found.topic for found in findings}) == len(findings)
    for found in findings:
        assert found.value
        assert bool(found.advice) == (found.verdict == "lacking")


@pytest.mark.parametrize(
    ("cuda", "gsplat", "presets"),
    [(False, False, ["cpu"]), (True, False, ["cpu"]), (False, True, ["cpu"]), (True, True, ["gpu", "paper", "cpu"])],
)
def test_presets_need_a_gpu_and_gsplat(monkeypatch, cuda, gsplat, presets):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: object() if gsplat else None)
    assert doctor.presets() == presets


def test_an_empty_cache_lacks_the_default_assets_only(tmp_path, monkeypatch):
    monkeypatch.setenv("STAVATAR_CACHE", str(tmp_path))
    assert finding("asset face_landmarker").verdict == "lacking"
    assert "stavatar assets" in finding("asset face_landmarker").advice
    assert finding("asset u2net").verdict == "plain"


def test_a_cache_folder_that_does_not_exist_yet_is_judged_by_its_parent(tmp_path, monkeypatch):
    monkeypatch.setenv("STAVATAR_CACHE", str(tmp_path / "not" / "yet"))
    assert "GiB free" in finding("disk").value
    assert not (tmp_path / "not").exists(), "looking changes nothing"


def test_too_little_memory_is_told(monkeypatch):
    monkeypatch.setattr(doctor.os, "sysconf", lambda name: 4096 if name == "SC_PAGE_SIZE" else 2**30 // 4096)
    assert finding("memory").value == "1.0 GiB"
    assert finding("memory").verdict == "lacking"


def test_flame_is_optional_and_a_file_that_is_known_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("STAVATAR_CACHE", str(tmp_path))
    monkeypatch.delenv(VARIABLE, raising=False)
    assert finding("FLAME").verdict == "plain"
    (tmp_path / "flame").mkdir()
    (tmp_path / "flame" / "flame2023.pkl").write_bytes(b"")
    assert finding("FLAME").verdict == "good"
    assert "flame2023.pkl" in finding("FLAME").value
    monkeypatch.setenv(VARIABLE, str(tmp_path / "nowhere.pkl"))
    assert finding("FLAME").verdict == "lacking"
    assert VARIABLE in finding("FLAME").advice


def test_a_server_without_graphics_libraries_is_told_what_to_install(monkeypatch):
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(doctor.platform, "system", lambda: "Linux")
    monkeypatch.setattr(doctor.ctypes, "CDLL", missing)
    assert finding("libraries").verdict == "lacking"
    assert "apt install libegl1 libgles2" in finding("libraries").advice
