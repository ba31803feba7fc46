"""Places that are paths or URLs: what goes up comes down, and what fails names the URL."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from stavatar.batch import storage
from stavatar.errors import InputError


@pytest.fixture(autouse=True)
def empty_memory():
    fsspec.filesystem("memory").store.clear()


def test_a_folder_goes_up_and_comes_down(tmp_path: Path) -> None:
    source = tmp_path / "run"
    (source / "avatar").mkdir(parents=True)
    (source / "results.json").write_text("{}")
    (source / "avatar" / "tensors").write_bytes(b"12345")
    assert storage.upload(source, "memory://bucket/run") == {"avatar/tensors": 5, "results.json": 2}
    assert storage.exists("memory://bucket/run")
    assert not storage.exists("memory://bucket/ru")
    assert storage.size("memory://bucket/run/avatar/tensors") == 5
    assert storage.size("memory://bucket/run") is None
    back = storage.fetch("memory://bucket/run", tmp_path / "work")
    assert back == tmp_path / "work" / "run"
    assert (back / "avatar" / "tensors").read_bytes() == b"12345"
    assert (back / "results.json").read_text() == "{}"


def test_a_file_is_fetched_once(tmp_path: Path) -> None:
    fsspec.filesystem("memory").pipe_file("/clips/a.mp4", b"first")
    for _ in range(2):
        assert storage.fetch("memory://clips/a.mp4", tmp_path / "w").read_bytes() == b"first"
        fsspec.filesystem("memory").pipe_file("/clips/a.mp4", b"second")


def test_what_arrived_in_part_is_fetched_anew(tmp_path: Path) -> None:
    fsspec.filesystem("memory").pipe_file("/clips/a.mp4", b"whole")
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / ".a.mp4.partial").write_bytes(b"wh")
    assert storage.fetch("memory://clips/a.mp4", tmp_path / "w").read_bytes() == b"whole"
    assert [path.name for path in (tmp_path / "w").iterdir()] == ["a.mp4"]


def test_json_is_the_same_at_paths_and_urls(tmp_path: Path) -> None:
    for place in (str(tmp_path / "a" / "x.json"), "memory://a/x.json"):
        storage.write(place, {"k": [1]})
        assert storage.read(place) == {"k": [1]}
        storage.remove(place)
        assert not storage.exists(place)
        storage.remove(place)


@pytest.mark.parametrize("call", [storage.read, storage.size, lambda url: storage.fetch(url, Path("/nowhere"))])
def test_what_is_not_there_is_named(call) -> None:
    with pytest.raises(InputError, match=r"memory://bucket/none\.json does not exist"):
        call("memory://bucket/none.json")


def test_a_missing_driver_is_named(monkeypatch) -> None:
    def missing(scheme):
        raise ImportError("Install s3fs to access S3", name="s3fs")

    monkeypatch.setattr(fsspec, "get_filesystem_class", missing)
    with pytest.raises(InputError, match=r"s3://b/x: a package for s3:// is not installed: Install s3fs"):
        storage.check_driver("s3://b/x")


def test_a_failing_store_is_told_in_one_sentence(monkeypatch) -> None:
    def denied(*_, **__):
        raise PermissionError("Access Denied")

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "info", denied)
    with pytest.raises(InputError, match="memory://b/x cannot be reached: PermissionError: Access Denied"):
        storage.size("memory://b/x")


def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, monkeypatch) -> None:
    fsspec.filesystem("memory").pipe_file("/b/run/a", b"1")
    monkeypatch.setattr(type(fsspec.filesystem("memory")), "find", lambda *_: ["/b/run/a", "/b/run/../../evil"])
    with pytest.raises(InputError, match="leads out"):
        storage.fetch("memory://b/run", tmp_path / "work" / "w")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_what_is_a_url() -> None:
    assert storage.is_url("s3://b/x")
    for path in ("C:\\x", "/a/b", "a:b", "./s3"):
        assert not storage.is_url(path)
