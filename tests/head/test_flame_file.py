"""FLAME's files: every layout read alike, every fault told with file and field, versions told apart."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest

from made_up_flame import made_up_arrays, write_npz, write_pickle
from stavatar.errors import InputError
from stavatar.head import flame_file
from stavatar.head.flame_file import read_flame


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    return made_up_arrays()


def test_an_npz_holds_what_was_written(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    flame = read_flame(write_npz(tmp_path / "head.npz"))
    np.testing.assert_array_equal(flame.template, arrays["v_template"])
    np.testing.assert_array_equal(flame.faces, arrays["f"])
    np.testing.assert_array_equal(flame.shape_basis[2], arrays["shapedirs"][..., 2])
    np.testing.assert_array_equal(flame.expression_basis[4], arrays["expressiondirs"][..., 4])
    np.testing.assert_array_equal(flame.pose_basis[35], arrays["posedirs"][..., 35])
    np.testing.assert_array_equal(flame.joint_regressor, arrays["J_regressor"])
    assert (flame.version, flame.told_by) == ("flame-unknown", "nothing")
    assert re.fullmatch("flame-unknown-[0-9a-f]{8}", flame.name)


def test_a_pickle_as_flame_comes_with_chumpy_and_a_sparse_regressor(
    tmp_path: Path, arrays: dict[str, np.ndarray]
) -> None:
    """All 300 + 5 directions in one array: the first 300 are identity."""
    flame = read_flame(write_pickle(tmp_path / "head.pkl"))
    assert len(flame.shape_basis) == 300
    np.testing.assert_array_equal(flame.template, arrays["v_template"])
    np.testing.assert_array_equal(flame.shape_basis[5], arrays["shapedirs"][..., 5])
    assert not flame.shape_basis[6:].any()
    np.testing.assert_array_equal(flame.expression_basis, arrays["expressiondirs"].transpose(2, 0, 1))
    np.testing.assert_array_equal(flame.joint_regressor, arrays["J_regressor"])


def test_the_digits_go_with_the_content_and_not_with_the_container(
    tmp_path: Path, arrays: dict[str, np.ndarray]
) -> None:
    plain = read_flame(write_npz(tmp_path / "a.npz")).fingerprint
    single = {name: array.astype(np.float32) for name, array in arrays.items() if array.dtype == np.float64}
    assert read_flame(write_npz(tmp_path / "b.npz", **single)).fingerprint == plain
    other_layout = arrays["posedirs"].reshape(-1, 36).T
    assert read_flame(write_npz(tmp_path / "c.npz", posedirs=other_layout)).fingerprint == plain
    stacked = arrays["posedirs"].transpose(2, 0, 1)
    assert read_flame(write_npz(tmp_path / "d.npz", posedirs=stacked)).fingerprint == plain
    changed = arrays["expressiondirs"].copy()
    changed[0, 0, -1] += 1e-3
    assert read_flame(write_npz(tmp_path / "e.npz", expressiondirs=changed)).fingerprint != plain


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("flame2023.npz", "flame-2023"),
        ("FLAME2023/generic_model.npz", "flame-2023"),
        ("flame2023_no_jaw.npz", "flame-2023-no-jaw"),
        ("flame2023_Open.npz", "flame-2023-open"),
        ("FLAME2020/generic_model.npz", "flame-2020"),
        ("FLAME2020/flame2023.npz", "flame-2023"),
        ("female_model.npz", "flame-unknown"),
        ("flame2021.npz", "flame-unknown"),
    ],
)
def test_what_nothing_in_the_file_tells_its_name_may(tmp_path: Path, name: str, version: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    flame = read_flame(write_npz(path))
    assert flame.version == version
    assert flame.told_by == ("nothing" if version == "flame-unknown" else "file name")


def test_the_content_counts_for_more_than_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_npz(tmp_path / "flame2023.npz")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(flame_file, "_KNOWN_FILES", {digest: "flame-2020"})
    assert (read_flame(path).version, read_flame(path).told_by) == ("flame-2020", "content")
    template = made_up_arrays()["v_template"].astype("<f4")
    known = {hashlib.sha256(template.tobytes()).hexdigest(): "flame-2023-open"}
    monkeypatch.setattr(flame_file, "_KNOWN_TEMPLATES", known)
    assert read_flame(path).version == "flame-2023-open"


def changed(name: str, index: object, value: float) -> np.ndarray:
    array = made_up_arrays()[name].astype(np.float64)
    array[index] = value
    return array


FAULTS = {
    "a vertex less": ({"v_template": np.zeros((5022, 3))}, r"v_template has the shape \(5022, 3\), and FLAME's is \(5"),
    "millimetres": ({"v_template": made_up_arrays()["v_template"] * 1000}, "v_template measures 2"),
    "infinity": ({"v_template": changed("v_template", (7, 1), np.inf)}, "v_template must hold finite numbers"),
    "NaN": ({"posedirs": changed("posedirs", (7, 1, 2), np.nan)}, "posedirs must hold finite numbers"),
    "beyond": ({"shapedirs": changed("shapedirs", (7, 1, 2), 1e6)}, "shapedirs holds numbers beyond"),
    "text": ({"weights": np.full((5023, 5), "x")}, "weights must hold finite numbers"),
    "a face beyond": ({"f": changed("f", (3, 1), 5023)}, "f must hold indices of the 5023 vertices"),
    "half a face": ({"f": changed("f", (3, 1), 0.5)}, "f must hold indices"),
    "a flat face": ({"f": changed("f", (3, slice(None)), 4)}, "triangles with one vertex twice"),
    "no face": ({"f": np.zeros((0, 3), int)}, r"f has the shape \(0, 3\)"),
    "weights": ({"weights": changed("weights", (7, 2), 0.5)}, "weights must be positive and sum to 1"),
    "negative": ({"weights": changed("weights", (7, slice(3)), [-1, 1, 1])}, "weights must be positive"),
    "regressor": ({"J_regressor": changed("J_regressor", 2, 0.0)}, "rows of J_regressor must sum to 1"),
    "another tree": ({"kintree_table": np.array([[-1, 0, 0, 1, 1], range(5)])}, "kintree_table is not FLAME's tree"),
    "a body": ({"kintree_table": np.zeros((2, 24), int)}, "kintree_table is not FLAME's tree"),
    "pose": ({"posedirs": np.zeros((5023, 3, 27))}, "posedirs has the shape"),
    "too many": ({"shapedirs": np.zeros((5023, 3, 301))}, "301 identity and 5 expression directions are more than"),
    "objects": ({"J_regressor": np.array({}, dtype=object)}, "J_regressor holds Python objects and not plain numbers"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_faults_are_told_with_file_and_field(tmp_path: Path, changes: dict, message: str) -> None:
    path = write_npz(tmp_path / "head.npz", **changes)
    with pytest.raises(InputError, match=message) as told:
        read_flame(path)
    assert str(told.value).startswith(str(path))


@pytest.mark.parametrize("name", ["v_template", "shapedirs", "posedirs", "J_regressor", "weights", "f"])
def test_a_missing_field_is_told(tmp_path: Path, arrays: dict[str, np.ndarray], name: str) -> None:
    np.savez(tmp_path / "head.npz", **{key: value for key, value in arrays.items() if key != name})
    with pytest.raises(InputError, match=f"{name} is missing, so this is no FLAME model"):
        read_flame(tmp_path / "head.npz")


def test_a_file_without_expressions_is_told(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    np.savez(tmp_path / "head.npz", **{key: value for key, value in arrays.items() if key != "expressiondirs"})
    with pytest.raises(InputError, match="leaves none for expressions"):
        read_flame(tmp_path / "head.npz")


def test_parents_in_place_of_the_table(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    others = {key: value for key, value in arrays.items() if key != "kintree_table"}
    np.savez(tmp_path / "head.npz", parents=np.array([-1, 0, 1, 1, 1]), **others)
    assert read_flame(tmp_path / "head.npz").fingerprint


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"<html>not found</html>"])
@pytest.mark.parametrize("suffix", [".npz", ".pkl"])
def test_other_files_end_in_a_sentence(tmp_path: Path, content: bytes, suffix: str) -> None:
    (tmp_path / f"head{suffix}").write_bytes(content)
    with pytest.raises(InputError, match="head"):
        read_flame(tmp_path / f"head{suffix}")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"does not exist: give the FLAME file that you downloaded"):
        read_flame(tmp_path / "flame2023.pkl")


def test_an_npz_that_unpacks_to_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_npz(tmp_path / "head.npz")
    monkeypatch.setattr(flame_file, "MOST_BYTES", path.stat().st_size)  # packed it would fit
    np.savez_compressed(path, **made_up_arrays(), more=np.zeros(10**6))
    with pytest.raises(InputError, match="unpacks to more than"):
        read_flame(path)
