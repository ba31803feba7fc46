"""Data sets of the field: told apart by content, and read so that our head and camera see what theirs do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import data_sets
import numpy as np
import pytest
import torch
from data_sets import FRAMES, Truth
from PIL import Image

from stavatar.errors import InputError
from stavatar.head.model import HeadModel
from stavatar.sequence import Sequence, read_sequence, split_holdout, write_sequence
from stavatar.sequence.fit_to_head import fit_to_head, with_still_camera
from stavatar.sequence.formats import detect, open_dataset, read_data
from stavatar.sequence.inspection import inspect_dataset

SUB_PIXEL = 0.01


def seen(head: HeadModel, sequence: Sequence) -> np.ndarray:
    """Where our own head and camera put the vertices: pixels [T, V, 2]."""
    return (
        sequence.camera[list(range(len(sequence)))].project(head(sequence.shape, sequence.parameters).vertices).numpy()
    )


def seen_by_lenses(folder: Path, points: np.ndarray) -> np.ndarray:
    """Points [T, V, 3] through the cameras of a data set without head parameters."""
    pixels = []
    for view, world in zip(open_dataset(folder).views, points, strict=True):
        pose = view.lens.world_to_camera
        assert np.linalg.det(pose[:3, :3]) == pytest.approx(1)
        camera = world @ pose[:3, :3].T + pose[:3, 3]
        pixels.append(camera[:, :2] / camera[:, 2:] * view.lens.focal + view.lens.center)
    return np.array(pixels)


class TestDetection:
    @pytest.mark.parametrize("name", ["vhap", "lam", "imavatar", "metrical", "insta", "nerface"])
    def test_by_content(self, tmp_path: Path, name: str) -> None:
        getattr(data_sets, f"write_{name}")(tmp_path / "subject", Truth.make())
        assert detect(tmp_path / "subject") == name

    def test_a_broken_first_entry_does_not_hide_the_format(self, tmp_path: Path) -> None:
        data_sets.write_vhap(tmp_path, Truth.make())
        for name in ("", "_train"):
            data_sets.edit_json(tmp_path / f"transforms{name}.json", lambda main: main["frames"][0].clear())
        dataset = open_dataset(tmp_path)
        assert dataset.format == "vhap"
        assert dataset.faults.sentences == [f"{tmp_path / 'transforms.json'}: frames[0].timestep_index is missing"]

    def test_plain_pictures(self, tmp_path: Path) -> None:
        data_sets.picture(tmp_path / "images/1.png", 64, 64)
        assert detect(tmp_path) == detect(tmp_path / "images") == "pictures"

    def test_insta_with_the_trackers_checkpoints_is_read_from_those(self, tmp_path: Path) -> None:
        data_sets.write_insta(tmp_path, Truth.make())
        data_sets.write_metrical(tmp_path, Truth.make())
        dataset = open_dataset(tmp_path)
        assert dataset.format == "metrical" and any("also looks like insta" in remark for remark in dataset.remarks)

    def test_a_folder_above_names_the_data_sets_in_it(self, tmp_path: Path) -> None:
        data_sets.write_imavatar(tmp_path / "subject/subject/MVI_1810", Truth.make(100, 50))
        with pytest.raises(InputError, match=r"is no data set itself.*subject/subject/MVI_1810"):
            detect(tmp_path)

    def test_nothing_known(self, tmp_path: Path) -> None:
        (tmp_path / "letter.txt").write_text("dear")
        with pytest.raises(InputError, match=r"holds no data in a format .*NerFace"):
            detect(tmp_path)


class TestVhap:
    def test_vertices_land_where_the_layout_puts_them(self, tmp_path: Path) -> None:
        truth = Truth.make(width=48, height=64)
        pixels = data_sets.write_vhap(tmp_path, truth)
        sequence = read_data(tmp_path)
        np.testing.assert_allclose(seen(truth.head, sequence), pixels[:, 0], atol=SUB_PIXEL)
        assert sequence.head_model == "flame-2023" and len(sequence.camera) == 1
        assert sequence.train.tolist() == [0, 1, 2] and sequence.test.tolist() == [3]

    def test_stale_numbers_at_the_top_are_remarked_on(self, tmp_path: Path) -> None:
        data_sets.write_vhap(tmp_path, Truth.make())
        assert any("fl_x" in remark and "not used" in remark for remark in open_dataset(tmp_path).remarks)

    def test_several_cameras(self, tmp_path: Path) -> None:
        truth = Truth.make()
        pixels = data_sets.write_vhap(tmp_path, truth, cameras=(2, 5, 8))
        sequence = read_data(tmp_path)
        np.testing.assert_allclose(seen(truth.head, sequence), pixels.reshape(-1, *pixels.shape[2:]), atol=SUB_PIXEL)
        assert sequence.views is not None and sequence.views.names == {i: f"2222000{i:02d}" for i in (2, 5, 8)}
        assert sequence.views.timesteps.tolist() == [step for step in range(FRAMES) for _ in range(3)]
        assert sequence.train.tolist() == [0, 1, 3, 4, 6, 7], "cameras 2 and 5 of three timesteps"
        assert sequence.val.tolist() == [2, 5, 8] and sequence.test.tolist() == [9, 10, 11]

    def test_several_cameras_come_back_from_disk(self, tmp_path: Path) -> None:
        data_sets.write_vhap(tmp_path / "theirs", Truth.make(), cameras=(2, 5, 8))
        written = read_data(tmp_path / "theirs")
        write_sequence(written, tmp_path / "ours")
        read = read_sequence(tmp_path / "ours")
        for name in ("images", "masks", "frame_ids", "train", "val", "test", "shape"):
            assert torch.equal(getattr(read, name), getattr(written, name)), name
        for name, value in written.parameters.items():
            assert torch.equal(getattr(read.parameters, name), value), name
        torch.testing.assert_close(read.camera.world_to_camera, written.camera.world_to_camera, rtol=0, atol=1e-6)
        assert torch.equal(read.views.cameras, written.views.cameras) and read.views.names == written.views.names
        names = {path.name for path in (tmp_path / "ours").rglob("*.*")}
        assert names == {path.name for path in (tmp_path / "theirs").rglob("*.*") if "backup" not in path.name}

    def test_pictures_of_one_moment_with_different_parameters_are_not_written(self, tmp_path: Path) -> None:
        data_sets.write_vhap(tmp_path / "theirs", Truth.make(), cameras=(0, 1))
        sequence = read_data(tmp_path / "theirs")
        sequence.parameters.jaw[1] += 0.1
        with pytest.raises(ValueError, match="jaw"):
            write_sequence(sequence, tmp_path / "ours")

    def test_one_camera_of_several(self, tmp_path: Path) -> None:
        truth = Truth.make()
        pixels = data_sets.write_vhap(tmp_path, truth, cameras=(2, 5, 8))
        for name in ("5", "222200005"):
            sequence = read_data(tmp_path, camera=name)
            np.testing.assert_allclose(seen(truth.head, sequence), pixels[:, 1], atol=SUB_PIXEL)
            assert sequence.views is None and len(sequence.camera) == 1
            assert sequence.train.tolist() == [0, 1, 2] and sequence.test.tolist() == [3]
        with pytest.raises(InputError, match=r"no camera '7'.*5 \(222200005\)"):
            read_data(tmp_path, camera="7")

    def test_holding_out_keeps_the_pictures_of_a_moment_together(self, tmp_path: Path) -> None:
        data_sets.write_vhap(tmp_path, Truth.make(), cameras=(2, 5, 8))
        split = split_holdout(read_data(tmp_path), 2)
        assert split.train.tolist() == [0, 1, 3, 4] and split.test.tolist() == [6, 7, 9, 10, 11]

    def test_a_picture_that_is_not_listed_is_remarked_on(self, tmp_path: Path) -> None:
        data_sets.write_vhap(tmp_path, Truth.make(), cameras=(0, 1))
        for name in ("transforms.json", "transforms_val.json"):
            data_sets.edit_json(
                tmp_path / name,
                lambda main: main["frames"].remove(
                    next(f for f in main["frames"] if (f["timestep_index"], f["camera_index"]) == (1, 1))
                ),
            )
        dataset = open_dataset(tmp_path)
        assert len(dataset.views) == 2 * FRAMES - 1 and not dataset.faults.count
        assert any(remark.startswith("1 of 4 x 2 pictures") for remark in dataset.remarks)

    def test_a_data_set_without_mask_files_uses_transparency(self, tmp_path: Path) -> None:
        data_sets.write_vhap(tmp_path, Truth.make())
        for name in ("", "_train", "_val", "_test"):
            data_sets.edit_json(
                tmp_path / f"transforms{name}.json", lambda main: [f.pop("fg_mask_path") for f in main["frames"]]
            )
        with pytest.raises(InputError, match="has no mattes"):
            read_data(tmp_path)
        for picture in (tmp_path / "images").iterdir():
            data_sets.picture(picture, 64, 64, "RGBA")
        sequence = read_data(tmp_path)
        assert np.array_equal(sequence.masks[0].numpy(), data_sets.half(64, 64))
        assert sequence.images[0, 0, -1].tolist() == [255, 255, 255] and sequence.images[0, 0, 0].tolist() == [20, 0, 0]


class TestCombinedSet:
    @pytest.fixture
    def union(self, tmp_path: Path) -> Path:
        """Two recordings of one person, and the set that joins them: the second one's timesteps come after."""
        truth = Truth.make()
        frames: list[dict] = []
        for k, name in enumerate(("EMO-1", "EXP-2")):
            data_sets.write_vhap(tmp_path / name, truth)
            content = data_sets.json.loads((tmp_path / name / "transforms.json").read_text())
            for frame in content["frames"]:
                paths = {key: f"../{name}/{frame[key]}" for key in ("file_path", "fg_mask_path", "flame_param_path")}
                frames.append({**frame, **paths, "timestep_index": k * FRAMES + frame["timestep_index"]})
        folder = tmp_path / "UNION"
        for split, chosen in {"train": frames[:6], "val": [], "test": frames[6:]}.items():
            data_sets.write_json(folder / f"transforms_{split}.json", {"frames": chosen})
        (folder / "canonical_flame_param.npz").write_bytes((tmp_path / "EMO-1/canonical_flame_param.npz").read_bytes())
        return folder

    def test_is_read_across_its_recordings(self, union: Path) -> None:
        sequence = read_data(union)
        assert len(sequence) == 2 * FRAMES and sequence.test.tolist() == [6, 7]
        assert torch.equal(sequence.parameters.jaw[:FRAMES], sequence.parameters.jaw[FRAMES:])

    def test_leads_into_no_folder_that_is_no_data_set(self, union: Path) -> None:
        (union.parent / "EXP-2/canonical_flame_param.npz").unlink()
        with pytest.raises(InputError, match=r"transforms_train\.json: frames\[4\]\.file_path must be a path inside"):
            read_data(union)

    def test_does_not_follow_a_linked_recording(self, union: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
        elsewhere = tmp_path_factory.mktemp("elsewhere") / "EXP-2"
        (union.parent / "EXP-2").rename(elsewhere)
        (union.parent / "EXP-2").symlink_to(elsewhere)
        with pytest.raises(InputError, match=r"frames\[4\]\.file_path must be a path inside"):
            read_data(union)

    @pytest.mark.parametrize(
        "path", ["../../EXP-2/images/00000_00.png", "../EXP-2/../EXP-2/images/00000_00.png", "../EXP-2/other/x.png"]
    )
    def test_goes_up_in_no_other_way(self, union: Path, path: str) -> None:
        data_sets.edit_json(union / "transforms_test.json", lambda main: main["frames"][0].update(file_path=path))
        with pytest.raises(InputError, match=r"transforms_test\.json: frames\[0\]\.file_path must be a path inside"):
            read_data(union)


class TestWritingFlame:
    def test_files_are_what_gaussianavatars_reads(self, tmp_path: Path) -> None:
        data_sets.write_imavatar(tmp_path / "theirs", Truth.make(100, 50))
        write_sequence(read_data(tmp_path / "theirs"), tmp_path / "ours")
        expected = {
            "translation": (1, 3),
            "rotation": (1, 3),
            "neck_pose": (1, 3),
            "jaw_pose": (1, 3),
            "eyes_pose": (1, 6),
            "shape": (300,),
            "expr": (1, 100),
            "static_offset": (1, 5143, 3),
        }
        for name in ("canonical_flame_param.npz", "flame_param/00000.npz", f"flame_param/{FRAMES - 1:05d}.npz"):
            with np.load(tmp_path / "ours" / name, allow_pickle=False) as data:
                assert {key: data[key].shape for key in data.files} == expected
                assert all(data[key].dtype == np.float32 for key in data.files)
                assert not data["static_offset"].any() and not data["shape"][100:].any() and data["shape"][:100].any()
        for split in ("train", "val", "test"):
            assert (tmp_path / "ours" / f"transforms_{split}.json").exists()

    def test_conversion_changes_no_picture_of_the_head(self, tmp_path: Path) -> None:
        truth = Truth.make(100, 50)
        pixels = data_sets.write_imavatar(tmp_path / "theirs", truth)
        write_sequence(read_data(tmp_path / "theirs"), tmp_path / "ours")
        read = fit_to_head(read_data(tmp_path / "ours"), truth.head)
        np.testing.assert_allclose(seen(truth.head, read), pixels, atol=SUB_PIXEL)


class TestLam:
    def test_the_missing_first_expression_is_made_up_for(self, tmp_path: Path) -> None:
        truth = Truth.make()
        pixels = data_sets.write_lam(tmp_path, truth)
        sequence = read_data(tmp_path)
        np.testing.assert_allclose(sequence.parameters.expression[1:], truth.expression[1:], rtol=1e-6)
        assert torch.equal(sequence.parameters.expression[0], sequence.parameters.expression[1])
        np.testing.assert_allclose(seen(truth.head, sequence)[1:], pixels[1:], atol=SUB_PIXEL)
        remarks = open_dataset(tmp_path).remarks
        assert any("moved back by one frame" in remark for remark in remarks)
        assert not any("also looks like" in remark for remark in remarks), "a LAM set is a VHAP set, of course"

    def test_a_complete_list_is_left_as_it_is(self, tmp_path: Path) -> None:
        truth = Truth.make()
        pixels = data_sets.write_lam(tmp_path, truth)
        first = {f"expr{i}": value for i, value in enumerate(truth.expression[0])}
        data_sets.edit_json(tmp_path / "flame_params.json", lambda main: main["expr"].insert(0, first))
        np.testing.assert_allclose(seen(truth.head, read_data(tmp_path)), pixels, atol=SUB_PIXEL)
        assert not any("moved back" in remark for remark in open_dataset(tmp_path).remarks)

    def test_motion_without_pictures(self, tmp_path: Path) -> None:
        data_sets.write_lam(tmp_path, Truth.make())
        for path in (tmp_path / "images").iterdir():
            path.unlink()
        dataset = open_dataset(tmp_path)
        assert len(dataset.parameters) == FRAMES
        assert inspect_dataset(dataset, None)["uses"] == [
            "it holds motion only: without pictures there is nothing to train on"
        ]
        with pytest.raises(InputError, match="no pictures"):
            dataset.load()


class TestImavatar:
    @pytest.mark.parametrize("old", [False, True])
    def test_vertices_land_where_the_layout_puts_them(self, tmp_path: Path, old: bool) -> None:
        truth = Truth.make(100, 50)
        pixels = data_sets.write_imavatar(tmp_path, truth, old=old)
        sequence = read_data(tmp_path)
        np.testing.assert_allclose(seen(truth.head, sequence), pixels, atol=SUB_PIXEL)
        assert sequence.head_model == "flame-2020" and sequence.frame_ids.tolist() == [1, 2, 3, 4]
        assert sequence.parameters.expression.shape == (FRAMES, 50) and sequence.shape.shape == (100,)

    def test_pictures_are_in_metres_and_over_white(self, tmp_path: Path) -> None:
        data_sets.write_imavatar(tmp_path, Truth.make(100, 50))
        sequence = read_data(tmp_path)
        depth = sequence.camera.to_camera(torch.zeros(FRAMES, 1, 3))[..., 2]
        assert torch.allclose(depth, torch.tensor(1.0)), "the layout's 4 units are one metre"
        assert sequence.images[0, 0, -1].tolist() == [255, 255, 255] and sequence.images[0, 0, 0].tolist() == [20, 0, 0]

    def test_frames_are_put_in_the_order_of_their_pictures(self, tmp_path: Path) -> None:
        truth = Truth.make(100, 50)
        pixels = data_sets.write_imavatar(tmp_path, truth)
        data_sets.edit_json(tmp_path / "flame_params.json", lambda main: main["frames"].reverse())
        np.testing.assert_allclose(seen(truth.head, read_data(tmp_path)), pixels, atol=SUB_PIXEL)

    def test_the_other_name_of_the_picture_folder(self, tmp_path: Path) -> None:
        data_sets.write_imavatar(tmp_path, Truth.make(100, 50))
        (tmp_path / "image").rename(tmp_path / "images")
        assert len(read_data(tmp_path)) == FRAMES


class TestMetrical:
    @pytest.mark.parametrize("enlarged", [1, 2])
    def test_vertices_land_where_the_tracker_saw_them(self, tmp_path: Path, enlarged: int) -> None:
        truth = Truth.make()
        pixels = data_sets.write_metrical(tmp_path, truth, enlarged=enlarged)
        sequence = read_data(tmp_path)
        np.testing.assert_allclose(seen(truth.head, sequence), pixels, atol=SUB_PIXEL * enlarged)
        np.testing.assert_allclose(sequence.parameters.jaw, truth.jaw, atol=1e-6)
        assert len(sequence.camera) == FRAMES and sequence.history["eyelids"] == "left out"

    def test_frame_n_is_the_nth_picture_whatever_they_are_counted_from(self, tmp_path: Path) -> None:
        data_sets.write_metrical(tmp_path, Truth.make(), first=1)
        names = [view.image.name for view in open_dataset(tmp_path).views]
        assert names == ["00001.png", "00002.png", "00003.png", "00004.png"]

    def test_a_hole_in_the_checkpoints_does_not_shift_the_pictures(self, tmp_path: Path) -> None:
        data_sets.write_metrical(tmp_path, Truth.make(), first=1)
        (tmp_path / "checkpoint/00001.frame").unlink()
        dataset = open_dataset(tmp_path)
        assert [view.image.name for view in dataset.views] == ["00001.png", "00003.png", "00004.png"]
        assert any("1 pictures have no checkpoint" in remark for remark in dataset.remarks)

    def test_masks_in_a_folder(self, tmp_path: Path) -> None:
        data_sets.write_metrical(tmp_path, Truth.make(), mode="RGB")
        with pytest.raises(InputError, match="has no mattes"):
            read_data(tmp_path)
        for step in range(FRAMES):
            data_sets.picture(tmp_path / f"alpha/{step:05d}.jpg", 64, 64, "L")
        assert np.array_equal(read_data(tmp_path).masks[0].numpy() > 127, data_sets.half(64, 64) > 127)

    def test_pictures_without_mattes_are_cut_out_by_whoever_can(self, tmp_path: Path) -> None:
        data_sets.write_metrical(tmp_path, Truth.make(), mode="RGB")
        sequence = read_data(tmp_path, cut_out=lambda pictures: ((255 - p, p[..., 0]) for p in pictures))
        assert sequence.images[0, 0, 0].tolist() == [235, 255, 255] and sequence.masks[0, 0, 0] == 20


class TestMovingCamera:
    def test_its_motion_can_be_the_heads(self, tmp_path: Path) -> None:
        truth = Truth.make()
        pixels = data_sets.write_metrical(tmp_path, truth)
        still = fit_to_head(read_data(tmp_path), truth.head)
        assert len(still.camera) == 1 and still.head_model == truth.head.name
        np.testing.assert_allclose(seen(truth.head, still), pixels, atol=SUB_PIXEL)
        assert torch.equal(still.camera.world_to_camera[0, :3, :3], torch.diag(torch.tensor([1.0, -1.0, -1.0])))
        assert still.parameters.rotation.abs().max() > 0.1, "the head turns now"
        assert still.history["parameters_of"] == "flame-2020"

    def test_comes_on_top_of_the_heads_own(self, tmp_path: Path) -> None:
        """Root, neck and translation that are there already are kept."""
        truth = Truth.make(100, 50)
        pixels = data_sets.write_imavatar(tmp_path, truth)
        still = with_still_camera(read_data(tmp_path), truth.head)
        assert len(still.camera) == 1
        np.testing.assert_allclose(seen(truth.head, still), pixels, atol=SUB_PIXEL)

    def test_several_cameras_stay(self, tmp_path: Path) -> None:
        truth = Truth.make()
        data_sets.write_vhap(tmp_path, truth, cameras=(0, 1))
        sequence = read_data(tmp_path)
        assert with_still_camera(sequence, truth.head) is sequence


class TestFitToHead:
    def test_missing_coefficients_are_zero(self, tmp_path: Path) -> None:
        data_sets.write_imavatar(tmp_path, Truth.make(100, 50))
        wide = data_sets.tiny_flame(300, 100)
        fitted = fit_to_head(read_data(tmp_path), wide)
        assert fitted.parameters.expression.shape == (FRAMES, 100) and fitted.shape.shape == (300,)
        assert not fitted.parameters.expression[:, 50:].any() and fitted.parameters.expression[:, :50].all()

    def test_coefficients_that_the_head_lacks_are_told_of(self, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
        data_sets.write_vhap(tmp_path, Truth.make())
        fitted = fit_to_head(read_data(tmp_path), data_sets.tiny_flame(100, 50, "flame-2023-tiny"))
        assert fitted.parameters.expression.shape == (FRAMES, 50)
        assert "expression has 100 coefficients, and the head 50" in capsys.readouterr().err

    def test_another_head_is_refused(self, tmp_path: Path) -> None:
        data_sets.write_vhap(tmp_path, Truth.make())
        sequence = read_data(tmp_path)
        for other in ("embedded-1", "flame-2020-0123abcd"):
            with pytest.raises(InputError, match=f"'flame-2023', not '{other}'"):
                fit_to_head(sequence, data_sets.tiny_flame(300, 100, other))
        own = replace(sequence, head_model="embedded-1")
        assert fit_to_head(own, data_sets.tiny_flame(300, 100, "embedded-1")) is own


class TestInsta:
    def test_mesh_vertices_land_where_the_camera_saw_them(self, tmp_path: Path) -> None:
        truth = Truth.make()
        pixels = data_sets.write_insta(tmp_path, truth)
        np.testing.assert_allclose(seen_by_lenses(tmp_path, truth.vertices()), pixels, atol=SUB_PIXEL)

    def test_says_why_it_cannot_be_trained_on(self, tmp_path: Path) -> None:
        data_sets.write_insta(tmp_path, Truth.make())
        dataset = open_dataset(tmp_path)
        assert dataset.split == {"train": [0, 1], "test": [2, 3]}
        assert dataset.fields["exp"] == (FRAMES, 100) and not dataset.faults.count
        with pytest.raises(InputError, match="no identity, jaw or gaze"):
            dataset.load()


class TestNerface:
    def test_points_on_a_pixels_ray_land_in_that_pixel(self, tmp_path: Path) -> None:
        """The layout's camera mirrors the world, ours does not: the point is mirrored instead."""
        truth = Truth.make()
        data_sets.write_nerface(tmp_path, truth)
        pixels = np.array([[10.0, 20.0], [50.0, 33.0], [31.5, 60.0]])
        points = []
        fx, fy, cx, cy = data_sets.NERFACE_INTRINSICS
        for step in range(FRAMES):
            rays = np.stack([(pixels[:, 0] - 64 * cx) / fx, -(pixels[:, 1] - 64 * cy) / fy, -np.ones(3)], 1)
            pose = data_sets.nerface_pose(step)
            points.append((0.5 * rays @ pose[:3, :3].T + pose[:3, 3]) * [-1, 1, 1])
        found = seen_by_lenses(tmp_path, np.array(points))
        np.testing.assert_allclose(found, np.broadcast_to(pixels, found.shape), atol=SUB_PIXEL)

    def test_pictures_are_in_the_order_of_the_video(self, tmp_path: Path) -> None:
        data_sets.write_nerface(tmp_path, Truth.make())
        dataset = open_dataset(tmp_path)
        assert [view.image.name for view in dataset.views] == [f"f_000{i}.png" for i in range(4)]
        assert dataset.split == {"train": [0, 2], "val": [1], "test": [3]}
        with pytest.raises(InputError, match=r"not FLAME's.*stavatar reconstruct"):
            dataset.load()


class TestPictures:
    def test_order_and_masks(self, tmp_path: Path) -> None:
        for number in (10, 9, 100):
            data_sets.picture(tmp_path / f"frame{number}.jpg", 64, 64)
            data_sets.picture(tmp_path / f"mask/frame{number}.png", 64, 64, "L")
        dataset = open_dataset(tmp_path)
        assert [view.image.name for view in dataset.views] == ["frame9.jpg", "frame10.jpg", "frame100.jpg"]
        assert [view.mask.name for view in dataset.views] == ["frame9.png", "frame10.png", "frame100.png"]
        assert dataset.mattes == "mask files" and inspect_dataset(dataset, None)["fault_count"] == 0

    def test_a_missing_mask_is_named(self, tmp_path: Path) -> None:
        for number in (1, 2):
            data_sets.picture(tmp_path / f"images/{number}.png", 64, 64)
        data_sets.picture(tmp_path / "masks/1.png", 64, 64, "L")
        assert open_dataset(tmp_path).faults.sentences == [f"{tmp_path / 'masks'} holds no mask for 2.png"]

    def test_a_link_out_of_the_folder_is_refused(self, tmp_path: Path) -> None:
        data_sets.picture(tmp_path / "secret/1.png", 64, 64)
        (tmp_path / "clip").mkdir()
        (tmp_path / "clip/1.png").symlink_to(tmp_path / "secret/1.png")
        with pytest.raises(InputError, match=r"1\.png is a link that leads out"):
            open_dataset(tmp_path / "clip")


class TestInspection:
    def test_says_what_there_is(self, tmp_path: Path) -> None:
        data_sets.write_vhap(tmp_path, Truth.make(width=48), cameras=(2, 5, 8))
        found = inspect_dataset(open_dataset(tmp_path), no_head="get FLAME")
        assert found["format"] == "vhap" and found["size"] == [48, 64]
        assert (found["pictures"], found["timesteps"]) == (12, 4)
        assert found["cameras"] == {"2": "222200002", "5": "222200005", "8": "222200008"}
        assert found["split"] == {"train": 6, "val": 3, "test": 3} and found["head_model"] == "flame-2023"
        assert found["fields"]["expr"] == [4, 100] and found["fields"]["shape"] == [300]
        assert found["camera"] == "still, focal length 90.0 to 95.0 pixels" and found["mattes"] == "mask files"
        assert found["fault_count"] == 0 and "train, once its head model is there: get FLAME" in found["uses"]
        assert not any("reconstruct" in use for use in found["uses"]), "tracking needs one camera"

    def test_faults_are_grouped_and_counted(self, tmp_path: Path) -> None:
        data_sets.write_vhap(tmp_path, Truth.make())
        for step in (1, 2, 3):
            (tmp_path / f"fg_masks/{step:05d}_00.png").unlink()
        Image.new("RGB", (9, 9)).save(tmp_path / "images/00002_00.png")
        found = inspect_dataset(open_dataset(tmp_path), None)
        assert found["fault_count"] == 4
        assert found["faults"] == [
            f"{tmp_path / 'fg_masks/00001_00.png'} does not exist (2 more like this)",
            f"{tmp_path / 'images/00002_00.png'} is 9 x 9 pixels, and 64 x 64 are expected",
        ]
        assert found["uses"] == ["nothing before its faults are mended"]

    def test_every_broken_entry_counts(self, tmp_path: Path) -> None:
        data_sets.write_vhap(tmp_path, Truth.make())

        def spoil(main: dict) -> None:
            main["frames"][0]["fl_x"] = "wide"
            main["frames"][2]["fl_x"] = None
            del main["frames"][3]["transform_matrix"]

        data_sets.edit_json(tmp_path / "transforms.json", spoil)
        dataset = open_dataset(tmp_path)
        assert dataset.faults.count == 3
        path = tmp_path / "transforms.json"
        with pytest.raises(InputError, match=r"frames\[0\]\.fl_x must be a finite number \(2 more faults"):
            dataset.load()
        assert f"{path}: frames[3].transform_matrix is missing" in dataset.faults.sentences
