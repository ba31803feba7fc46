"""Data sets that are broken or hostile: a fault is one sentence with file and field, and nothing is run or followed."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import data_sets
import numpy as np
import pytest
import torch
from data_sets import FRAMES, Truth, edit_json

from stavatar.errors import InputError
from stavatar.sequence import metrical, untrusted
from stavatar.sequence.formats import open_dataset
from stavatar.sequence.untrusted import Faults

Spoil = Callable[[Path], object]


def set_json(name: str, **changes: Any) -> Spoil:
    return lambda folder: edit_json(folder / name, lambda main: main.update(changes))


def drop_json(name: str, key: str) -> Spoil:
    return lambda folder: edit_json(folder / name, lambda main: main.pop(key))


def set_frame(name: str, **changes: Any) -> Spoil:
    return lambda folder: edit_json(folder / name, lambda main: main["frames"][1].update(changes))


def drop_row(name: str, key: str, count: int = 1) -> Spoil:
    return lambda folder: edit_json(folder / name, lambda main: main.update({key: main[key][count:]}))


def set_expression(key: str, value: Any) -> Spoil:
    return lambda folder: edit_json(folder / "flame_params.json", lambda main: main["expr"][1].update({key: value}))


def set_checkpoint(path: str, value: Any) -> Spoil:
    """Exchange ``group.field`` of the second checkpoint; None removes it."""

    def change(folder: Path) -> None:
        file = folder / "checkpoint/00001.frame"
        content = torch.load(file, weights_only=False)  # our own file
        *groups, name = path.split(".")
        holder = content
        for group in groups:
            holder = holder[group]
        if value is None:
            del holder[name]
        else:
            holder[name] = value
        torch.save(content, file)

    return change


def write(name: str, content: str | bytes) -> Spoil:
    return lambda folder: (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


def link_out(name: str) -> Spoil:
    def change(folder: Path) -> None:
        secret = folder.parent / "secret"
        (folder / name).rename(secret)
        (folder / name).symlink_to(secret)

    return change


LAM, IMAVATAR, INSTA, NERFACE = "flame_params.json", "flame_params.json", "transforms.json", "transforms_train.json"
NAN = float("nan")

FAULTS: list[tuple[str, str, Spoil, str]] = [
    ("lam", "rows", drop_row(LAM, "rotation"), r"flame_params\.json: rotation must be finite numbers .*\(4, 3\)"),
    ("lam", "no jaw", drop_json(LAM, "jaw_pose"), r"flame_params\.json: jaw_pose is missing"),
    ("lam", "two expressions short", drop_row(LAM, "expr"), r"expr has 2 rows, and 4 are expected"),
    ("lam", "expression without a number", set_expression("expr7", None), r"expr\[1\]\.expr7 must be a finite number"),
    ("lam", "expression too wide", set_expression("expr100", 0.0), r"expr\[1\] must be an object of 100 numbers"),
    ("lam", "NaN in shape", set_json(LAM, shape=[NAN]), r"flame_params\.json: shape must be finite"),
    ("lam", "batched shape", set_json(LAM, shape=[[0.0]]), r"flame_params\.json: shape must be finite numbers of the"),
    ("imavatar", "no frames", set_json(IMAVATAR, frames=[]), "frames is empty"),
    ("imavatar", "frame of a wrong type", set_json(IMAVATAR, frames=[3]), r"frames\[0\] must be an object"),
    ("imavatar", "short pose", set_frame(IMAVATAR, pose=[0.0] * 12), r"frames\[1\]\.pose must be .*\(15\)"),
    ("imavatar", "text in pose", set_frame(IMAVATAR, pose=["0"] * 15), r"frames\[1\]\.pose must be finite numbers"),
    ("imavatar", "NaN", set_frame(IMAVATAR, expression=[NAN] * 50), r"frames\[1\]\.expression must be finite numbers"),
    (
        "imavatar",
        "expression width",
        set_frame(IMAVATAR, expression=[0.0] * 4),
        r"frames\[1\]\.expression has 4 numbers",
    ),
    ("imavatar", "no matrix", set_frame(IMAVATAR, world_mat=[[1, 2]]), r"frames\[1\]\.world_mat must be a 4 x 4"),
    (
        "imavatar",
        "path upwards",
        set_frame(IMAVATAR, file_path="../../2"),
        r"frames\[1\]\.file_path must be a path inside",
    ),
    (
        "imavatar",
        "absolute path",
        set_frame(IMAVATAR, file_path="/etc/2"),
        r"frames\[1\]\.file_path must be a path inside",
    ),
    (
        "imavatar",
        "no number",
        set_frame(IMAVATAR, file_path="./image/x"),
        r"frames\[1\]\.file_path must end in the number",
    ),
    ("imavatar", "focal length", set_json(IMAVATAR, intrinsics=[1.5, 1.5, 0.5, 0.5]), "fx < 0 < fy"),
    ("imavatar", "intrinsics", set_json(IMAVATAR, intrinsics=[-1.5, 1.5]), r"intrinsics must be .*\(4\)"),
    ("imavatar", "no identity", drop_json(IMAVATAR, "shape_params"), "shape_params is missing"),
    ("imavatar", "linked picture", link_out("image/2.png"), r"image/2\.png is a link that leads out"),
    ("imavatar", "missing mask", lambda folder: (folder / "mask/3.png").unlink(), r"mask/3\.png does not exist"),
    ("metrical", "no identity", set_checkpoint("flame.shape", None), r"00001\.frame: shape is missing"),
    ("metrical", "jaw as angles", set_checkpoint("flame.jaw", np.zeros((1, 3), "f4")), r"jaw has the shape \(1, 3\)"),
    ("metrical", "no array", set_checkpoint("flame.exp", [1.0]), r"00001\.frame: exp has no array"),
    (
        "metrical",
        "NaN",
        set_checkpoint("flame.exp", np.full((1, 100), NAN, "f4")),
        r"00001\.frame: exp must hold finite",
    ),
    ("metrical", "other width", set_checkpoint("flame.exp", np.zeros((1, 9), "f4")), "exp has different lengths"),
    (
        "metrical",
        "shear",
        set_checkpoint("opencv.R", np.ones((1, 3, 3), "f4")),
        r"00001\.frame: opencv\.R and t must be",
    ),
    ("metrical", "no camera", set_checkpoint("opencv", None), r"00001\.frame: opencv is missing"),
    ("metrical", "focal length", set_checkpoint("opencv.K", np.zeros((1, 3, 3), "f4")), "K must have positive focal"),
    ("metrical", "size", set_checkpoint("img_size", np.array([64, 32])), r"img_size is \[64, 32\] \(height, width\)"),
    ("metrical", "no size", set_checkpoint("img_size", None), r"00001\.frame: img_size must be two positive"),
    ("metrical", "ragged size", set_checkpoint("img_size", [64, [64]]), r"00001\.frame: img_size must be two positive"),
    (
        "metrical",
        "not torch",
        write("checkpoint/00001.frame", b"x" * 99),
        r"00001\.frame cannot be read as a torch file",
    ),
    (
        "metrical",
        "missing picture",
        lambda folder: (folder / "images/00002.png").unlink(),
        r"00002\.frame has no picture",
    ),
    ("metrical", "linked checkpoint", link_out("checkpoint/00001.frame"), r"00001\.frame is a link that leads out"),
    ("insta", "text for a size", set_json(INSTA, w="64"), r"transforms\.json: w must be a finite number"),
    (
        "insta",
        "GL axes mirrored",
        set_frame(INSTA, transform_matrix=np.diag([-1, 1, 1, 1]).tolist()),
        r"frames\[1\]\.tran",
    ),
    (
        "insta",
        "short expression",
        write("flame/exp/00001.txt", "0.5\n0.5"),
        r"exp/00001\.txt must hold 100 finite numbers",
    ),
    ("insta", "NaN", write("flame/exp/00001.txt", "nan\n" * 100), r"exp/00001\.txt must hold 100 finite numbers"),
    (
        "insta",
        "no numbers",
        write("flame/exp/00001.txt", "os.system\n" * 100),
        r"exp/00001\.txt cannot be read as numbers",
    ),
    (
        "insta",
        "expression outside",
        set_frame(INSTA, exp_path="../x.txt"),
        r"frames\[1\]\.exp_path must be a path inside",
    ),
    ("nerface", "expression width", set_frame(NERFACE, expression=[0.0]), "expression has"),
    ("nerface", "no matrix", set_frame(NERFACE, transform_matrix=None), r"transform_matrix must be a list"),
    (
        "nerface",
        "intrinsics",
        set_json(NERFACE, intrinsics=[0, 1, 0.5, 0.5]),
        r"transforms_train\.json: intrinsics must",
    ),
    (
        "nerface",
        "missing picture",
        lambda folder: (folder / "val/f_0001.png").unlink(),
        r"val/f_0001\.png does not exist",
    ),
]


@pytest.mark.parametrize(
    ("name", "spoil", "message"), [(f[0], *f[2:]) for f in FAULTS], ids=[f"{f[0]}: {f[1]}" for f in FAULTS]
)
def test_fault(tmp_path: Path, name: str, spoil: Spoil, message: str) -> None:
    folder = tmp_path / "subject"
    truth = Truth.make(100, 50) if name == "imavatar" else Truth.make()
    getattr(data_sets, f"write_{name}")(folder, truth)
    clean = open_dataset(folder)
    clean.check_pictures()
    assert not clean.faults.count
    spoil(folder)
    with pytest.raises(InputError, match=message):
        dataset = open_dataset(folder)
        dataset.check_pictures()
        dataset.faults.refuse()


class Bomb:
    """Unpickling it would make a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (os.mkdir, (str(self.path),))


class TestCheckpointsAreNotRun:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        data_sets.write_metrical(tmp_path / "subject", Truth.make())
        return tmp_path / "subject"

    def test_a_torch_file_with_code_is_refused_by_name(self, folder: Path, tmp_path: Path) -> None:
        torch.save({"flame": Bomb(tmp_path / "hit")}, folder / "checkpoint/00002.frame")
        (sentence,) = open_dataset(folder).faults.sentences
        assert "00002.frame asks for the Python object posix.mkdir," in sentence and "nothing in it was run" in sentence
        assert not (tmp_path / "hit").exists()

    def test_nor_inside_an_array(self, folder: Path, tmp_path: Path) -> None:
        hidden = np.array([Bomb(tmp_path / "hit")], dtype=object)
        torch.save({"flame": hidden}, folder / "checkpoint/00002.frame")
        assert open_dataset(folder).faults.count == 1 and not (tmp_path / "hit").exists()

    def test_a_plain_pickle_is_refused(self, folder: Path, tmp_path: Path) -> None:
        (folder / "checkpoint/00002.frame").write_bytes(pickle.dumps(Bomb(tmp_path / "hit")))
        assert "cannot be read as a torch file" in open_dataset(folder).faults.sentences[0]
        assert not (tmp_path / "hit").exists()

    def test_one_that_unpacks_too_large_is_not_unpacked(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(metrical, "MOST_BYTES", 1 << 16)
        with zipfile.ZipFile(folder / "checkpoint/00002.frame", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("archive/data.pkl", bytes(1 << 20))
        assert "unpacks to more than" in open_dataset(folder).faults.sentences[-1]

    def test_torchs_tensors_do_as_well_as_arrays(self, folder: Path) -> None:
        file = folder / "checkpoint/00002.frame"
        content = torch.load(file, weights_only=False)
        before = metrical.load_checkpoint(file)["flame"]["jaw"]
        content["flame"] = {name: torch.from_numpy(value) for name, value in content["flame"].items()}
        torch.save(content, file)
        assert np.array_equal(metrical.load_checkpoint(file)["flame"]["jaw"].numpy(), before)
        assert not open_dataset(folder).faults.count


class TestBounds:
    def test_json_beyond_the_limit_is_not_parsed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        data_sets.write_imavatar(tmp_path, Truth.make(100, 50))
        monkeypatch.setattr(untrusted, "MOST_JSON_BYTES", 1 << 10)
        with pytest.raises(InputError, match=r"flame_params\.json is larger than"):
            open_dataset(tmp_path)

    def test_frames_without_end_are_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        data_sets.write_imavatar(tmp_path, Truth.make(100, 50))
        monkeypatch.setattr(untrusted, "MOST_FRAMES", FRAMES - 1)
        with pytest.raises(InputError, match="frames has 4 entries, and at most 3 are read"):
            open_dataset(tmp_path)

    def test_deeply_nested_numbers(self, tmp_path: Path) -> None:
        data_sets.write_imavatar(tmp_path, Truth.make(100, 50))
        nested: list = []
        for _ in range(200):
            nested = [nested]
        edit_json(tmp_path / IMAVATAR, lambda main: main["frames"][1].update(pose=nested))
        assert "frames[1].pose must be finite numbers" in open_dataset(tmp_path).faults.sentences[0]

    def test_pictures_that_need_too_much_memory_are_not_loaded(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data_sets.write_vhap(tmp_path, Truth.make(), cameras=(0, 1))
        monkeypatch.setattr("stavatar.sequence.dataset.MOST_BYTES", 7 * 64 * 64 * 4)
        with pytest.raises(InputError, match=r"8 pictures of 64 x 64 need .*--camera"):
            open_dataset(tmp_path).load()
        assert len(open_dataset(tmp_path).only_camera("1").load()) == FRAMES


class TestFaults:
    def test_kinds_are_bounded_and_all_are_counted(self) -> None:
        faults = Faults()
        for letter in "abcdefghijklmnopqrstuvwxyz":
            for i in range(3):
                faults.add(f"{letter}: frames[{i}] is bad")
        assert faults.count == 78 and len(faults.sentences) == Faults.MOST_GROUPS + 1
        assert faults.sentences[0] == "a: frames[0] is bad (2 more like this)"
        assert faults.sentences[-1] == f"{78 - 3 * Faults.MOST_GROUPS} more faults of other kinds"
