"""Atomic writes and strict JSON."""

import errno
import os
import stat

import pytest

from stavatar import files
from stavatar.errors import InputError
from stavatar.files import atomic_folder, atomic_path, read_json, write_json


def test_a_failed_write_leaves_the_old_file_and_no_leftovers(tmp_path):
    final = tmp_path / "result.bin"
    final.write_bytes(b"old")
    with pytest.raises(RuntimeError), atomic_path(final) as temporary:
        temporary.write_bytes(b"half of the n")
        raise RuntimeError("killed in the middle")
    assert final.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [final]


def test_a_finished_write_replaces_the_file_and_is_readable_by_others(tmp_path):
    final = tmp_path / "deep" / "result.bin"
    with atomic_path(final) as temporary:
        assert temporary.parent == final.parent, "a rename is atomic within one folder only"
        temporary.write_bytes(b"new")
        assert not final.exists()
    assert final.read_bytes() == b"new"
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(final.stat().st_mode) == 0o666 & ~mask


def test_a_folder_that_is_a_file_is_named(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(InputError, match="cannot write"), atomic_path(tmp_path / "taken" / "result.bin"):
        pass


def test_json_is_strict(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"psnr": float("nan")})
    assert not (tmp_path / "a.json").exists()


@pytest.mark.parametrize("text", ["{", "", "\x80", "[" * 100_000])
def test_what_is_not_json_is_named(text, tmp_path):
    (tmp_path / "a.json").write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=r"a\.json"):
        read_json(tmp_path / "a.json")


def test_a_file_larger_than_the_limit_is_not_read(tmp_path):
    (tmp_path / "a.json").write_text("[" + "1," * 600_000 + "1]")
    with pytest.raises(InputError, match="larger than"):
        read_json(tmp_path / "a.json", most_bytes=1 << 20)


# -------------------------------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[" * 200_000, "is nested too deep"),
        ("[" + "1," * 100 + "1]", "holds more than 100 values"),
        ("9" * 5000, "cannot be read as JSON"),
        ("\ufeff\x00", "cannot be read as JSON"),
        ('{"a": 1}' + " " * 5000, "is larger than 2 KiB"),
    ],
    ids=["nested", "many values", "a huge number", "no JSON", "large"],
)
def test_json_that_is_not_read(tmp_path, monkeypatch, content, message):
    path = tmp_path / "x.json"
    path.write_text(content)
    monkeypatch.setattr(files, "MOST_JSON_VALUES", 100 if "values" in message else 10**6)
    with pytest.raises(InputError, match=message):
        files.read_json(path, most_bytes=2048 if "larger" in message else 1 << 20)


def test_json_that_must_be_an_object(tmp_path):
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(InputError, match=r"x\.json must hold a JSON object"):
        files.read_json_object(tmp_path / "x.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &a [1]\nb: *a", "uses aliases"),
        ("a: !!python/name:os.system", "could not determine a constructor"),
        ("a: 2001-99-99", "month must be in 1..12"),
        ("[" * 5000, "nested too deep"),
        ("a: !!timestamp soon", "NoneType"),
        ("a: [", "expected"),
    ],
)
def test_yaml_that_is_not_read(text, message):
    with pytest.raises(InputError, match=f"settings is not YAML.*{message}"):
        files.parse_yaml(text, "settings")


def test_yaml_as_it_is_meant():
    assert files.parse_yaml("a: {b: [1, 2.5, x, null, true]}", "settings") == {"a": {"b": [1, 2.5, "x", None, True]}}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_not_waited_on(tmp_path):
    os.mkfifo(tmp_path / "x.json")
    with pytest.raises(InputError, match=r"x\.json is no ordinary file"):
        files.read_json(tmp_path / "x.json")


def test_results_stay_out_of_what_is_read(tmp_path):
    (tmp_path / "in").mkdir()
    for out in (tmp_path / "in", tmp_path / "in" / "deep" / "out", tmp_path / "x" / ".." / "in" / "out"):
        with pytest.raises(InputError, match="which is read: choose an output folder outside of it"):
            files.require_apart(out, tmp_path / "in")
    files.require_apart(tmp_path / "inside", tmp_path / "in")
    files.require_apart(tmp_path, tmp_path / "in")


def test_a_folder_appears_whole_and_replaces_the_one_before(tmp_path):
    final = tmp_path / "site"
    for text in ("old", "new"):
        with atomic_folder(final) as temporary:
            assert temporary.parent == final.parent
            (temporary / text).write_text(text)
            assert not (final / text).exists()
        assert [path.name for path in final.iterdir()] == [text]
    assert list(tmp_path.iterdir()) == [final]
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(final.stat().st_mode) == 0o777 & ~mask


def test_a_failed_folder_leaves_the_old_one_and_no_leftovers(tmp_path):
    final = tmp_path / "site"
    with atomic_folder(final) as temporary:
        (temporary / "page").write_text("old")
    with pytest.raises(RuntimeError), atomic_folder(final) as temporary:
        (temporary / "page").write_text("half of the n")
        raise RuntimeError("killed in the middle")
    assert (final / "page").read_text() == "old"
    assert list(tmp_path.iterdir()) == [final]


def test_a_folder_that_cannot_take_its_place_leaves_the_old_one(tmp_path, monkeypatch):
    final = tmp_path / "site"
    with atomic_folder(final) as temporary:
        (temporary / "page").write_text("old")
    rename = type(final).rename

    def refuse(path, target):
        if path.name.endswith(".partial"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return rename(path, target)

    monkeypatch.setattr(type(final), "rename", refuse)
    with pytest.raises(InputError, match=r"cannot write .*site: .*check it"), atomic_folder(final):
        pass
    assert (final / "page").read_text() == "old"
    assert list(tmp_path.iterdir()) == [final]


def test_the_content_is_on_the_disk_before_the_name_and_the_name_before_the_end(tmp_path, monkeypatch):
    """Else a power failure could leave the name with nothing behind it."""
    order = []
    fsync, replace = os.fsync, type(tmp_path).replace

    def noted(handle):
        order.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "content")
        return fsync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(type(tmp_path), "replace", lambda path, target: order.append("name") or replace(path, target))
    write_json(tmp_path / "a.json", {})
    assert order == ["content", "name", "folder"]


def test_errors_that_are_not_of_the_disk_are_not_those_of_the_file(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a"):
        (tmp_path / "what is to be copied").read_bytes()
