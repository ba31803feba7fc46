"""One writer at a time, and what killed ones left behind."""

import os
import threading

import pytest

from stavatar import locks
from stavatar.errors import InputError
from stavatar.files import atomic_folder
from stavatar.locks import locked, sole_writer


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_second_writer_is_refused_and_told_who_the_first_is(tmp_path):
    with sole_writer(tmp_path / "site"):
        assert names(tmp_path) == [".site.lock"]
        message = rf"site is in use by process {os.getpid()} on \S+: wait until it ends, end it, or choose"
        with pytest.raises(InputError, match=message), sole_writer(tmp_path / "site"):
            pass
        with sole_writer(tmp_path / "another"):
            pass
    assert names(tmp_path) == []
    with sole_writer(tmp_path / "site"):
        pass


def test_an_old_lock_file_without_a_holder_is_no_lock(tmp_path):
    (tmp_path / ".site.lock").write_text("process 1 on elsewhere")
    with sole_writer(tmp_path / "site"):
        assert (tmp_path / ".site.lock").read_text().startswith(f"process {os.getpid()} on ")
    assert names(tmp_path) == []


def test_a_lock_whose_file_was_removed_meanwhile_is_taken_anew(tmp_path, monkeypatch):
    """Between opening and locking, the last holder ended and removed the name: whoever comes next makes another."""
    try_lock, removed = locks._try_lock, []

    def slow(handle):
        if not removed:
            (tmp_path / "lock").unlink()
            removed.append(True)
        return try_lock(handle)

    monkeypatch.setattr(locks, "_try_lock", slow)
    with locked(tmp_path / "lock", tmp_path):
        assert (tmp_path / "lock").exists()
        with pytest.raises(InputError), locked(tmp_path / "lock", tmp_path):
            pass


def test_only_one_of_many_holds_it(tmp_path):
    """Threads that come and go; none is in while another is."""
    inside, most, entered = 0, 0, 0

    def work():
        nonlocal inside, most, entered
        for _ in range(200):
            try:
                with locked(tmp_path / "lock", tmp_path):
                    inside += 1
                    most, entered = max(most, inside), entered + 1
                    inside -= 1
            except InputError:
                pass

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert most == 1 and entered > 0 and names(tmp_path) == []


def test_leftovers_of_this_target_are_swept_and_no_others(tmp_path):
    leftovers = [".model-abcd1234.partial.ply", ".site-abcd1234.partial", ".model-abcd1234.partial.spz"]
    (tmp_path / leftovers[0]).write_text("half")
    (tmp_path / leftovers[1]).mkdir()
    (tmp_path / leftovers[1] / "index.html").write_text("half")
    (tmp_path / leftovers[2]).write_text("half")
    (tmp_path / ".bashrc").write_text("the user's")
    with sole_writer(tmp_path / "model.ply"):
        pass
    assert names(tmp_path) == sorted([*leftovers[1:], ".bashrc"])
    with sole_writer(tmp_path / "site"):
        pass
    assert names(tmp_path) == sorted([leftovers[2], ".bashrc"])


@pytest.mark.parametrize("replaced", [False, True])
def test_a_folder_moved_aside_comes_back_unless_the_new_one_is_there(tmp_path, replaced):
    """What a kill between the two renames of a replacement leaves, or after both."""
    (tmp_path / ".site-abcd1234.replaced").mkdir()
    (tmp_path / ".site-abcd1234.replaced" / "page").write_text("old")
    (tmp_path / ".site-abcd1234.partial").mkdir()
    if replaced:
        with atomic_folder(tmp_path / "site") as temporary:
            (temporary / "page").write_text("new")
    with sole_writer(tmp_path / "site"):
        assert (tmp_path / "site" / "page").read_text() == ("new" if replaced else "old")
    assert names(tmp_path) == ["site"]


def test_a_place_that_does_not_exist_is_made_and_one_that_cannot_be_is_named(tmp_path):
    with sole_writer(tmp_path / "deep" / "site"):
        pass
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write .*site"), sole_writer(tmp_path / "file" / "site"):
        pass
