"""The VHAP folder: round trips, folders of other programs, safe replacement, and every fault by name."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from stavatar.camera import Camera
from stavatar.errors import InputError
from stavatar.head.parameters import HeadParameters
from stavatar.sequence import Sequence, read_sequence, vhap, vhap_writer, write_sequence

FRAMES, HEIGHT, WIDTH, SHAPES, EXPRESSIONS = 5, 24, 32, 7, 9


def make_sequence(*, moving_camera: bool = False) -> Sequence:
    generator = torch.Generator().manual_seed(3)
    parameters = HeadParameters.zeros(FRAMES, EXPRESSIONS).map(
        lambda value: torch.randn(value.shape, generator=generator)
    )
    angle = torch.linspace(0, 0.4, FRAMES if moving_camera else 1)
    camera = Camera.orbit(torch.tensor([0.1, 0.2, 0.0]), 1.3, angle, angle / 2, 700.0, WIDTH, HEIGHT)
    camera = replace(camera, center=camera.center + torch.tensor([0.75, -1.5]))
    landmarks = torch.rand(FRAMES, 478, 2, generator=generator) * WIDTH
    landmarks[2] = torch.nan
    return Sequence(
        name="someone",
        head_model="embedded-1",
        shape=torch.randn(SHAPES, generator=generator),
        parameters=parameters,
        camera=camera,
        images=torch.randint(0, 256, (FRAMES, HEIGHT, WIDTH, 3), generator=generator, dtype=torch.uint8),
        masks=torch.randint(0, 256, (FRAMES, HEIGHT, WIDTH), generator=generator, dtype=torch.uint8),
        frame_ids=torch.tensor([3, 5, 7, 9, 12]),
        train=torch.tensor([0, 1, 3]),
        test=torch.tensor([4]),
        fps=12.5,
        landmarks=landmarks,
        confidence=torch.tensor([1.0, 0.5, 0.0, 0.25, 1.0]),
        history={"tracker": "landmarks-1", "test_frames": "landmarks"},
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_sequence(make_sequence(), tmp_path / "clip")
    return tmp_path / "clip"


def edit_json(path: Path, change: Callable[[Any], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def edit_npz(path: Path, **changes: np.ndarray | None) -> None:
    with np.load(path) as data:
        arrays = {**data, **changes}
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})


class TestRoundTrip:
    @pytest.mark.parametrize("moving_camera", [False, True])
    def test_everything_comes_back(self, tmp_path: Path, moving_camera: bool) -> None:
        written = make_sequence(moving_camera=moving_camera)
        write_sequence(written, tmp_path / "clip")
        read = read_sequence(tmp_path / "clip")
        for name in ("name", "head_model", "fps", "history", "width", "height"):
            assert getattr(read, name) == getattr(written, name), name
        for name in ("shape", "images", "masks", "frame_ids", "train", "test", "confidence"):
            torch.testing.assert_close(getattr(read, name), getattr(written, name), rtol=0, atol=0)
        for name, value in written.parameters.items():
            torch.testing.assert_close(getattr(read.parameters, name), value, rtol=0, atol=0)
        torch.testing.assert_close(read.landmarks, written.landmarks, rtol=0, atol=0, equal_nan=True)
        assert len(read.camera) == len(written.camera)
        torch.testing.assert_close(read.camera.focal, written.camera.focal, rtol=0, atol=0)
        torch.testing.assert_close(read.camera.center, written.camera.center, rtol=0, atol=0)
        torch.testing.assert_close(read.camera.world_to_camera, written.camera.world_to_camera, rtol=0, atol=1e-6)

    def test_a_flame_head_with_fewer_coefficients_keeps_its_own(self, tmp_path: Path) -> None:
        """They are filled up with zeros for other readers, which ours takes away again."""
        written = replace(make_sequence(), head_model="flame-2023-0123abcd-s6e4")
        write_sequence(written, tmp_path / "clip")
        with np.load(tmp_path / "clip" / "flame_param" / "00000.npz") as stored:
            assert stored["expr"].shape == (1, 100) and stored["shape"].shape == (300,)
        read = read_sequence(tmp_path / "clip")
        assert read.shape.equal(written.shape)
        assert read.parameters.expression.equal(written.parameters.expression)

    @pytest.mark.parametrize("width", [0, -1, 10_000, "six"])
    def test_more_coefficients_than_there_are_is_a_fault(self, tmp_path: Path, width: object) -> None:
        write_sequence(make_sequence(), tmp_path / "clip")
        main = tmp_path / "clip" / "transforms.json"
        content = json.loads(main.read_text())
        content["stavatar"]["coefficients"]["expression"] = width
        main.write_text(json.dumps(content))
        with pytest.raises(InputError, match=r"stavatar\.coefficients"):
            read_sequence(tmp_path / "clip")

    def test_what_was_never_detected_stays_none(self, tmp_path: Path) -> None:
        write_sequence(replace(make_sequence(), landmarks=None, confidence=None), tmp_path / "clip")
        read = read_sequence(tmp_path / "clip")
        assert read.landmarks is None and read.confidence is None

    def test_jpeg_is_close_and_its_masks_exact(self, tmp_path: Path) -> None:
        written = make_sequence()
        ramp = torch.linspace(40, 200, WIDTH).to(torch.uint8).expand(FRAMES, HEIGHT, WIDTH)
        written = replace(written, images=torch.stack([ramp, ramp // 2, 255 - ramp], -1))
        write_sequence(written, tmp_path / "clip", image_format="jpg")
        read = read_sequence(tmp_path / "clip")
        assert (tmp_path / "clip" / "images" / "00000_00.jpg").is_file()
        assert (read.images.int() - written.images.int()).abs().max() <= 4
        assert torch.equal(read.masks, written.masks)


class TestLayout:
    def test_files_and_splits(self, folder: Path) -> None:
        files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        expected = {f"images/0000{t}_00.png" for t in range(FRAMES)}
        expected |= {f"fg_masks/0000{t}_00.png" for t in range(FRAMES)}
        expected |= {f"flame_param/0000{t}.npz" for t in range(FRAMES)}
        expected |= {f"transforms{split}.json" for split in ("", "_train", "_val", "_test")}
        assert files == expected | {"canonical_flame_param.npz", "landmarks.npz"}
        steps = {
            split: json.loads((folder / f"transforms_{split}.json").read_text())["timestep_indices"]
            for split in ("train", "val", "test")
        }
        assert steps == {"train": [0, 1, 3], "val": [], "test": [4]}
        assert json.loads((folder / "transforms_val.json").read_text())["frames"] == []

    def test_frame_fields_are_those_of_the_layout(self, folder: Path) -> None:
        main = json.loads((folder / "transforms.json").read_text())
        frame = main["frames"][2]
        assert frame["timestep_index"] == 2 and frame["timestep_index_original"] == 7
        assert frame["timestep_id"] == "00007" and frame["camera_index"] == 0 and isinstance(frame["camera_id"], str)
        assert (frame["w"], frame["h"]) == (WIDTH, HEIGHT)
        assert (frame["fl_x"], frame["fl_y"], frame["cx"], frame["cy"]) == (700, 700, 16.75, 10.5)
        assert frame["camera_angle_x"] == pytest.approx(2 * math.atan(WIDTH / 1400))
        assert frame["camera_angle_y"] == pytest.approx(2 * math.atan(HEIGHT / 1400))
        assert frame["file_path"] == "images/00002_00.png"
        assert frame["fg_mask_path"] == "fg_masks/00002_00.png"
        assert frame["flame_param_path"] == "flame_param/00002.npz"
        assert main["timestep_indices"] == list(range(FRAMES)) and main["camera_indices"] == [0]
        assert {"cx", "cy", "fl_x", "fl_y", "h", "w", "camera_angle_x", "camera_angle_y"} <= main.keys()

    def test_parameter_files_have_the_layouts_shapes(self, folder: Path) -> None:
        widths = {
            "translation": 3,
            "rotation": 3,
            "neck_pose": 3,
            "jaw_pose": 3,
            "eyes_pose": 6,
            "expr": EXPRESSIONS,
            "neck_translation": 3,
        }
        for name in ("flame_param/00000.npz", "canonical_flame_param.npz"):
            with np.load(folder / name, allow_pickle=False) as data:
                shapes = {key: data[key].shape for key in data.files}
                assert all(data[key].dtype == np.float32 for key in data.files)
                if name.startswith("canonical"):
                    np.testing.assert_allclose(data["jaw_pose"], [[0.3, 0, 0]])
                    assert not data["expr"].any() and data["shape"].any()
            assert shapes == {"shape": (SHAPES,), **{key: (1, width) for key, width in widths.items()}}

    def test_camera_is_opengl_camera_to_world(self, folder: Path) -> None:
        """A point projected by hand with OpenGL's axes lands where our camera puts it."""
        frame = json.loads((folder / "transforms.json").read_text())["frames"][0]
        point = np.array([0.13, 0.22, 0.05])
        x, y, z, _ = np.linalg.inv(np.array(frame["transform_matrix"])) @ [*point, 1]
        assert z < 0, "OpenGL cameras look along -z"
        pixel = [frame["cx"] + frame["fl_x"] * x / -z, frame["cy"] - frame["fl_y"] * y / -z]
        ours = make_sequence().camera.project(torch.from_numpy(point).float()[None, None])[0, 0]
        np.testing.assert_allclose(pixel, ours.numpy(), atol=1e-3)
        assert pixel[0] > frame["cx"] + 5 and pixel[1] < frame["cy"] - 5, "right of and above the camera's target"

    def test_a_frame_0_that_no_split_has_is_remarked_on(self, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
        write_sequence(replace(make_sequence(), train=torch.tensor([1, 3])), tmp_path / "clip")
        assert "GaussianAvatars cannot read" in " ".join(capsys.readouterr().err.split())


class TestPlacing:
    def test_an_earlier_sequence_is_kept_unless_asked(self, folder: Path) -> None:
        with pytest.raises(InputError, match="already holds a sequence"):
            write_sequence(make_sequence(), folder)
        write_sequence(replace(make_sequence(), name="other"), folder, overwrite=True)
        assert read_sequence(folder).name == "other"
        assert [path.name for path in folder.parent.iterdir()] == ["clip"]

    def test_an_empty_folder_is_filled(self, tmp_path: Path) -> None:
        (tmp_path / "clip").mkdir()
        write_sequence(make_sequence(), tmp_path / "clip")
        assert len(read_sequence(tmp_path / "clip")) == FRAMES

    def test_a_folder_with_anything_else_is_never_replaced(self, folder: Path) -> None:
        (folder / "diary.txt").write_text("mine")
        with pytest.raises(InputError, match=r"diary\.txt"):
            write_sequence(make_sequence(), folder, overwrite=True)
        assert (folder / "diary.txt").read_text() == "mine"

    def test_a_folder_of_pictures_is_never_replaced(self, tmp_path: Path) -> None:
        (tmp_path / "clip" / "images").mkdir(parents=True)
        with pytest.raises(InputError, match=r"no transforms\.json"):
            write_sequence(make_sequence(), tmp_path / "clip", overwrite=True)

    def test_a_file_in_the_way(self, tmp_path: Path) -> None:
        (tmp_path / "clip").write_text("mine")
        with pytest.raises(InputError, match="is a file"):
            write_sequence(make_sequence(), tmp_path / "clip", overwrite=True)

    def test_a_failed_write_leaves_the_earlier_sequence_and_no_rubbish(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(vhap_writer, "_save_arrays", full)
        with pytest.raises(InputError, match="No space left"):
            write_sequence(replace(make_sequence(), name="other"), folder, overwrite=True)
        assert [path.name for path in folder.parent.iterdir()] == ["clip"]
        assert read_sequence(folder).name == "someone"

    @pytest.mark.parametrize("links", [True, False], ids=["linked", "copied"])
    def test_pictures_that_are_there_already_are_not_coded_again(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, links: bool
    ) -> None:
        before = read_sequence(folder)
        picture = next(folder.glob("images/*.png"))
        inode, content = picture.stat().st_ino, picture.read_bytes()
        monkeypatch.setattr(vhap_writer, "Image", None)
        if not links:

            def refuse(*_: object) -> None:
                raise OSError(95, "Operation not supported")

            monkeypatch.setattr("os.link", refuse)
        moved = before.parameters.replaced(neck=before.parameters.neck + 0.1)
        write_sequence(before.with_parameters(moved), folder, overwrite=True, pictures=folder)

        after = read_sequence(folder)
        assert torch.equal(after.images, before.images) and torch.equal(after.masks, before.masks)
        assert torch.allclose(after.parameters.neck, moved.neck)
        assert picture.read_bytes() == content and (picture.stat().st_ino == inode) == links

    def test_pictures_that_are_not_there_are_told(self, folder: Path, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="No such file"):
            write_sequence(make_sequence(), folder, overwrite=True, pictures=tmp_path / "nowhere")
        assert len(read_sequence(folder)) == FRAMES

    def test_a_failed_swap_puts_the_earlier_sequence_back(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        rename = Path.rename

        def refuse(self: Path, target: Path) -> Path:
            if self.suffix == ".partial":
                raise OSError(5, "Input/output error")
            return rename(self, target)

        monkeypatch.setattr(Path, "rename", refuse)
        with pytest.raises(InputError, match="Input/output"):
            write_sequence(replace(make_sequence(), name="other"), folder, overwrite=True)
        assert [path.name for path in folder.parent.iterdir()] == ["clip"]
        assert read_sequence(folder).name == "someone"

    def test_values_that_are_not_finite_are_not_written(self, tmp_path: Path) -> None:
        sequence = make_sequence()
        sequence.parameters.jaw[1, 0] = torch.nan
        with pytest.raises(ValueError, match="jaw"):
            write_sequence(sequence, tmp_path / "clip")
        assert not list(tmp_path.iterdir())


class TestForeignFolder:
    @pytest.fixture
    def foreign(self, tmp_path: Path) -> Path:
        """What VHAP leaves for a short clip: its names, its static offsets, none of our fields; RGBA, frame 1 first."""
        folder = tmp_path / "subject"
        for name in ("images", "fg_masks", "flame_param"):
            (folder / name).mkdir(parents=True)
        frames = []
        for step in (1, 0, 2):
            rgba = np.zeros((8, 8, 4), np.uint8)
            rgba[:, :4] = [200, 100, 50, 255]
            Image.fromarray(rgba).save(folder / f"images/{step:05d}_00.png")
            Image.fromarray(rgba[..., 3]).save(folder / f"fg_masks/{step:05d}_00.png")
            np.savez(
                folder / f"flame_param/{step:05d}.npz",
                translation=np.zeros((1, 3), np.float32),
                rotation=np.full((1, 3), step, np.float32),
                neck_pose=np.zeros((1, 3), np.float32),
                jaw_pose=np.zeros((1, 3), np.float32),
                eyes_pose=np.zeros((1, 6), np.float32),
                shape=np.ones(300, np.float32),
                expr=np.zeros((1, 100), np.float32),
                static_offset=np.full((1, 5143, 3), 0.001, np.float32),
            )
            frames.append(
                {
                    "timestep_index": step,
                    "timestep_index_original": 10 + step,
                    "timestep_id": f"frame_{step}",
                    "camera_index": 0,
                    "camera_id": "0",
                    "cx": 4.0,
                    "cy": 4.0,
                    "fl_x": 20.0,
                    "fl_y": 20.0,
                    "h": 8,
                    "w": 8,
                    "camera_angle_x": 0.4,
                    "camera_angle_y": 0.4,
                    "transform_matrix": [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 1]],
                    "file_path": f"images/{step:05d}_00.png",
                    "fg_mask_path": f"fg_masks/{step:05d}_00.png",
                    "flame_param_path": f"flame_param/{step:05d}.npz",
                }
            )
        for name, chosen in (("", frames), ("_train", frames[:2]), ("_val", []), ("_test", frames[2:])):
            stale = {"fl_x": 512, "frames": chosen, "timestep_indices": [], "camera_indices": [0]}
            (folder / f"transforms{name}.json").write_text(json.dumps(stale))
        return folder

    def test_is_read_with_stand_ins(self, foreign: Path, capsys: pytest.CaptureFixture) -> None:
        sequence = read_sequence(foreign)
        assert (sequence.name, sequence.head_model, sequence.fps) == ("subject", "flame-2023", 25)
        assert sequence.frame_ids.tolist() == [10, 11, 12]
        assert sequence.train.tolist() == [0, 1] and sequence.test.tolist() == [2]
        assert sequence.parameters.rotation[:, 0].tolist() == [0, 1, 2], "sorted by timestep"
        assert not sequence.parameters.neck_translation.any()
        assert len(sequence.camera) == 1 and sequence.camera.focal[0].tolist() == [20, 20]
        # VHAP's camera looks from (0, 0, 1) along -z: the origin lies one metre in front of it.
        assert sequence.camera.to_camera(torch.zeros(1, 1, 3))[0, 0].tolist() == [0, 0, 1]
        assert sequence.images[0, 0, 0].tolist() == [200, 100, 50]
        assert sequence.images[0, 0, 7].tolist() == [255, 255, 255], "transparent pixels become white"
        assert sequence.landmarks is None and sequence.confidence is None
        assert sequence.history["static_offset"] == "left out"
        assert capsys.readouterr().err.count("left out") == 1

    def test_a_split_with_a_picture_that_the_main_file_lacks(self, foreign: Path) -> None:
        edit_json(foreign / "transforms.json", lambda main: main["frames"][1].update(camera_index=8))
        with pytest.raises(InputError, match=r"transforms_train\.json: frames\[1\]\.timestep_index is 0 \(camera 0\)"):
            read_sequence(foreign)


def set_frame(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: edit_json(folder / "transforms.json", lambda main: main["frames"][1].update(changes))


def drop_frame_field(name: str) -> Callable[[Path], None]:
    return lambda folder: edit_json(folder / "transforms.json", lambda main: main["frames"][1].pop(name))


def set_main(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: edit_json(folder / "transforms.json", lambda main: main.update(changes))


def set_extras(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: edit_json(folder / "transforms.json", lambda main: main["stavatar"].update(changes))


def set_test_split(*steps: Any) -> Callable[[Path], None]:
    content = json.dumps({"frames": [{"timestep_index": step} for step in steps]})
    return lambda folder: (folder / "transforms_test.json").write_text(content) and None


def set_arrays(**changes: np.ndarray | None) -> Callable[[Path], None]:
    return lambda folder: edit_npz(folder / "flame_param" / "00001.npz", **changes)


def set_landmarks(**changes: np.ndarray | None) -> Callable[[Path], None]:
    return lambda folder: edit_npz(folder / "landmarks.npz", **changes)


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def replace_bytes(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content) and None


def truncate(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-40]) and None


def set_picture(name: str, mode: str, size: tuple[int, int]) -> Callable[[Path], None]:
    return lambda folder: Image.new(mode, size).save(folder / name)


def colour_mask(folder: Path) -> None:
    Image.new("RGB", (WIDTH, HEIGHT), "red").save(folder / "fg_masks" / "00001_00.png")


def link_outside(folder: Path) -> None:
    secret = folder.parent / "secret.png"
    (folder / "images" / "00001_00.png").rename(secret)
    (folder / "images" / "00001_00.png").symlink_to(secret)


SHEAR = [[1, 0.5, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 1]]
MIRROR = [[-1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 1]]
OBJECTS = np.array([{"a": 1}], dtype=object)

FAULTS: list[tuple[str, Callable[[Path], None], str]] = [
    ("no main file", remove("transforms.json"), r"transforms_train\.json: timestep_index must count .* 2 is missing"),
    ("not JSON", replace_bytes("transforms.json", b"{"), r"transforms\.json cannot be read as JSON"),
    ("not an object", replace_bytes("transforms.json", b"[]"), r"transforms\.json must hold a JSON object"),
    ("no frames", set_main(frames=[]), "frames is empty"),
    ("frames of a wrong type", set_main(frames={}), "frames must be a list"),
    ("frame of a wrong type", set_main(frames=[1]), r"frames\[0\] must be an object"),
    ("no timestep", drop_frame_field("timestep_index"), r"frames\[1\]\.timestep_index is missing"),
    ("timestep twice", set_frame(timestep_index=0), "1 is missing"),
    ("huge timestep", set_frame(timestep_index=10**30), "at most 62 bits"),
    ("no focal length", drop_frame_field("fl_x"), r"frames\[1\]\.fl_x must be a finite number \(missing\)"),
    ("negative focal length", set_frame(fl_y=-5), "must be positive"),
    ("infinite centre", set_frame(cx=math.inf), r"frames\[1\]\.cx must be a finite number"),
    ("text for a number", set_frame(cy="12"), r"frames\[1\]\.cy must be a finite number"),
    ("huge size", set_frame(w=1 << 40), "between 1 and"),
    ("two sizes", set_frame(w=8), "8 x 24 pixels and timestep 0 is 32 x 24"),
    ("no matrix", drop_frame_field("transform_matrix"), r"frames\[1\]\.transform_matrix is missing"),
    ("ragged matrix", set_frame(transform_matrix=[[1], [1, 2]]), r"frames\[1\]\.transform_matrix must be a 4 x 4"),
    ("small matrix", set_frame(transform_matrix=[[1, 0], [0, 1]]), r"transform_matrix must be a 4 x 4"),
    ("NaN in the matrix", set_frame(transform_matrix=[[math.nan] * 4] * 4), r"transform_matrix must be a 4 x 4"),
    ("sheared matrix", set_frame(transform_matrix=SHEAR), r"transform_matrix must be a 4 x 4"),
    ("mirrored matrix", set_frame(transform_matrix=MIRROR), r"transform_matrix must be a 4 x 4"),
    ("no image path", drop_frame_field("file_path"), r"frames\[1\]\.file_path is missing"),
    ("absolute path", set_frame(file_path="/etc/passwd"), r"file_path must be a path inside"),
    ("path upwards", set_frame(fg_mask_path="images/../../x.png"), r"fg_mask_path must be a path inside"),
    ("path upwards, other slashes", set_frame(flame_param_path="..\\x.npz"), r"flame_param_path must be a path inside"),
    ("path with a drive", set_frame(file_path="C:\\x.png"), r"file_path must be a path inside"),
    ("path of a share", set_frame(file_path="\\\\host\\x.png"), r"file_path must be a path inside"),
    ("path with NUL", set_frame(file_path="a\0b"), r"file_path must be a path inside"),
    ("empty path", set_frame(file_path=""), r"file_path must be a path inside"),
    ("link to the outside", link_outside, r"file_path must be a path inside"),
    ("no split", remove("transforms_test.json"), r"transforms_test\.json does not exist"),
    ("split beyond the end", set_test_split(99), r"transforms_test\.json: frames\[0\]\.timestep_index is 99"),
    ("split twice the same", set_test_split(4, 4), "occurs twice"),
    ("split of a wrong type", set_test_split("4"), r"timestep_index must be an integer"),
    ("overlapping splits", set_test_split(1), r"transforms_test\.json: timestep 1 is in the training split"),
    ("no image", remove("images/00001_00.png"), r"00001_00\.png does not exist"),
    ("no mask", remove("fg_masks/00001_00.png"), r"00001_00\.png does not exist"),
    ("cut image", truncate("images/00001_00.png"), r"images.00001_00\.png cannot be read as a picture"),
    ("not an image", replace_bytes("images/00001_00.png", b"GIF89a"), r"cannot be read as a picture"),
    ("image of another size", set_picture("images/00001_00.png", "RGB", (9, 9)), r"00001_00\.png is 9 x 9 pixels"),
    ("grey image", set_picture("images/00001_00.png", "L", (WIDTH, HEIGHT)), "colour mode L"),
    ("colour mask", colour_mask, r"fg_masks/00001_00\.png is coloured"),
    ("deep mask", set_picture("fg_masks/00001_00.png", "I;16", (WIDTH, HEIGHT)), "colour mode I;16"),
    ("no parameters", remove("flame_param/00001.npz"), r"00001\.npz does not exist"),
    ("not an archive", replace_bytes("flame_param/00001.npz", b"PK"), r"00001\.npz cannot be read as an npz"),
    ("cut archive", truncate("flame_param/00001.npz"), r"00001\.npz cannot be read as an npz"),
    ("pickled array", set_arrays(expr=OBJECTS), r"00001\.npz: expr holds Python objects"),
    ("missing array", set_arrays(jaw_pose=None), r"00001\.npz: jaw_pose is missing"),
    ("wrong axes", set_arrays(rotation=np.zeros(3, np.float32)), r"rotation has the shape \(3,\), and \(1, 3\)"),
    ("wrong width", set_arrays(eyes_pose=np.zeros((1, 3), np.float32)), r"eyes_pose has the shape"),
    ("batched shape", set_arrays(shape=np.zeros((1, SHAPES), np.float32)), r"shape has the shape \(1, 7\)"),
    ("other identity", set_arrays(shape=np.zeros(SHAPES, np.float32)), "one person"),
    ("other expressions", set_arrays(expr=np.zeros((1, 4), np.float32)), "expr has 4 numbers, and 00000.npz 9"),
    ("NaN", set_arrays(translation=np.full((1, 3), np.nan, np.float32)), "translation must hold finite"),
    ("integers", set_arrays(translation=np.zeros((1, 3), np.int64)), "translation must hold finite floating"),
    ("landmarks missing", set_landmarks(landmarks=None, x=np.zeros(1)), r"landmarks\.npz: landmarks is missing"),
    ("landmarks of a wrong shape", set_landmarks(landmarks=np.zeros((2, 2))), r"landmarks must be \(5, 478, 2\)"),
    ("infinite landmarks", set_landmarks(landmarks=np.full((5, 478, 2), np.inf)), "landmarks must be finite"),
    ("extras of a wrong type", set_main(stavatar=[]), "stavatar must be an object"),
    ("a later format", set_extras(format=99), r"stavatar\.format is 99"),
    ("frames per second", set_extras(fps=0), r"stavatar\.fps must be positive"),
    ("too few frame ids", set_extras(frame_ids=[1]), r"stavatar\.frame_ids must be 5 integers"),
    ("frame ids of a wrong type", set_extras(frame_ids=[0.5] * 5), r"stavatar\.frame_ids must be 5 integers"),
    ("confidence above one", set_extras(confidence=[2.0] * 5), r"stavatar\.confidence must be 5 numbers"),
    ("confidence of a wrong type", set_extras(confidence=["1"] * 5), r"stavatar\.confidence\.0 must be a finite"),
    ("history of a wrong type", set_extras(history={"a": 1}), r"stavatar\.history must map"),
    ("name of a wrong type", set_extras(name=3), r"stavatar\.name must be a text"),
]


@pytest.mark.parametrize(("spoil", "message"), [fault[1:] for fault in FAULTS], ids=[fault[0] for fault in FAULTS])
def test_fault(folder: Path, spoil: Callable[[Path], None], message: str) -> None:
    spoil(folder)
    with pytest.raises(InputError, match=message):
        read_sequence(folder)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a folder"):
        read_sequence(tmp_path / "nothing")


def test_an_archive_that_unpacks_too_large_is_not_unpacked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(folder / "flame_param" / "00001.npz", expr=np.zeros((1, 1 << 16)))
    monkeypatch.setattr(vhap, "MOST_ARRAY_BYTES", 1 << 18)
    with pytest.raises(InputError, match="unpacks to more than"):
        read_sequence(folder)
