"""Getting a head model by what the user says, and by the name in a file."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from made_up_flame import made_up_arrays, write_npz
from stavatar.errors import InputError
from stavatar.head import HeadModel, choose_head, flame_uv, load_head
from stavatar.head.embedded import NAME
from stavatar.head.library import VARIABLE, known_flame_files


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, flame_head: HeadModel, flame_cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache in which the made-up head's layout lies already, and nothing else is known."""
    folder = tmp_path / "cache"
    shutil.copytree(flame_cache_folder, folder)
    monkeypatch.setenv("STAVATAR_CACHE", str(folder))
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(flame_uv, "ROUNDS", 1)
    return folder / "flame"


def test_the_embedded_head_is_always_there() -> None:
    for choice in (None, "embedded", NAME):
        assert choose_head(choice).name == NAME
    assert load_head(NAME).name == NAME
    assert known_flame_files() == []


def test_a_file_that_was_chosen_once_is_found_by_the_name_of_its_head(flame_head: HeadModel, flame_file: Path) -> None:
    with pytest.raises(
        InputError, match=rf"{flame_head.name} is not known here: give your FLAME file .* --head PATH or"
    ):
        load_head(flame_head.name)
    assert choose_head(str(flame_file)).name == flame_head.name
    assert load_head(flame_head.name).template.equal(flame_head.template)
    assert choose_head("flame").name == flame_head.name
    assert known_flame_files() == [flame_file]


def test_the_environment_names_a_file(flame_head: HeadModel, flame_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(flame_file))
    assert load_head(flame_head.name).name == flame_head.name
    assert choose_head("flame").name == flame_head.name


def test_a_file_in_the_cache_folder_is_found(flame_head: HeadModel, flame_file: Path, cache: Path) -> None:
    shutil.copy(flame_file, cache / "flame2023.npz")
    assert load_head("flame-2023").name.startswith("flame-2023-")
    assert known_flame_files() == [cache / "flame2023.npz"], "what was computed lies there too and is no model"


def test_a_name_without_digits_is_any_file_of_that_version(flame_file: Path, tmp_path: Path) -> None:
    renamed = tmp_path / "flame2020.npz"
    shutil.copy(flame_file, renamed)
    head = choose_head(str(renamed))
    assert head.name.startswith("flame-2020-")
    assert load_head("flame-2020").name == head.name
    with pytest.raises(InputError, match=rf"flame-2023 is not known here \({renamed} is {head.name}\)"):
        load_head("flame-2023")


def test_a_file_of_another_content_is_not_taken(flame_file: Path, flame_head: HeadModel, tmp_path: Path) -> None:
    other = write_npz(tmp_path / "other.npz", **made_up_arrays(seed=1))
    other_head = choose_head(str(other))
    with pytest.raises(InputError, match=f"is {other_head.name}"):
        load_head(flame_head.name)
    choose_head(str(flame_file))
    assert load_head(flame_head.name).expression_basis.equal(flame_head.expression_basis)
    assert load_head(other_head.name).name == other_head.name


def test_the_same_file_under_another_name_is_the_same_head(
    flame_head: HeadModel, flame_file: Path, tmp_path: Path
) -> None:
    """What was made while it was called flame2023 opens though it is called otherwise by now."""
    first = tmp_path / "flame2023.npz"
    shutil.copy(flame_file, first)
    name = choose_head(str(first)).name
    first.unlink()
    choose_head(str(flame_file))
    assert flame_head.name != name
    assert load_head(name).name == name


def test_fewer_directions_by_name(flame_head: HeadModel, flame_file: Path) -> None:
    choose_head(str(flame_file))
    head = load_head(f"{flame_head.name}-s3e2")
    assert (head.shape_count, head.expression_count) == (3, 2)
    assert head.name == f"{flame_head.name}-s3e2"


@pytest.mark.parametrize("name", ["", "smplx", "flame", "flame-2023-0123", "embedded-99", "flame-2023-../../x"])
def test_other_names(name: str) -> None:
    with pytest.raises(InputError, match="here"):
        load_head(name)


def test_files_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"nowhere\.pkl does not exist"):
        choose_head(str(tmp_path / "nowhere.pkl"))
    with pytest.raises(InputError, match="no FLAME file is known here: give your FLAME file"):
        choose_head("flame")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "nowhere.pkl"))
    with pytest.raises(InputError, match=f"correct or remove {VARIABLE}"):
        load_head("flame-2023")


def test_a_damaged_memory_is_forgotten(flame_head: HeadModel, flame_file: Path, cache: Path) -> None:
    (cache / "files.json").write_text("[]")
    assert known_flame_files() == []
    choose_head(str(flame_file))
    assert load_head(flame_head.name).name == flame_head.name
