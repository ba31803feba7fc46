"""A written sequence, read as programs read this layout that know nothing of stavatar: with json, numpy and Pillow."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stavatar.camera import Camera
from stavatar.head import HeadModel, HeadParameters
from stavatar.sequence import Sequence, read_sequence, write_sequence

FRAMES, SIZE = 5, 48


@pytest.fixture
def written(flame_head: HeadModel, tmp_path: Path) -> tuple[Sequence, Path]:
    """A FLAME head that moves on its torso, as tracking leaves it."""
    random = torch.Generator().manual_seed(3)

    def some(width: int, size: float) -> torch.Tensor:
        return size * torch.randn(FRAMES, width, generator=random)

    sequence = Sequence(
        name="somebody",
        head_model=flame_head.name,
        shape=0.5 * torch.randn(flame_head.shape_count, generator=random),
        parameters=HeadParameters(
            expression=some(flame_head.expression_count, 0.5),
            rotation=some(3, 0.1),
            neck=some(3, 0.3),
            jaw=some(3, 0.1),
            eyes=some(6, 0.1),
            translation=some(3, 0.02),
            neck_translation=some(3, 0.02),
        ),
        camera=Camera.frontal(1.0, 2.4 * SIZE, SIZE, SIZE),
        images=torch.randint(0, 256, (FRAMES, SIZE, SIZE, 3), generator=random, dtype=torch.uint8),
        masks=torch.randint(0, 256, (FRAMES, SIZE, SIZE), generator=random, dtype=torch.uint8),
        frame_ids=torch.arange(FRAMES),
        train=torch.arange(4),
        test=torch.tensor([4]),
        fps=25.0,
    )
    write_sequence(sequence, tmp_path / "clip")
    return sequence, tmp_path / "clip"


def test_a_reader_of_flame_sees_the_head_where_it_is(written: tuple[Sequence, Path], flame_head: HeadModel) -> None:
    """FLAME has no shift of the neck: with the parameters that such a reader takes, the skull is in its true place."""
    sequence, folder = written
    skull = flame_head.weights[:, 1] > 0.999
    assert skull.any()
    expected = sequence.camera.project(flame_head(sequence.shape, sequence.parameters).vertices[:, skull])
    for split, frames in (("train", [0, 1, 2, 3]), ("test", [4])):
        listing = json.loads((folder / f"transforms_{split}.json").read_text())
        assert [frame["timestep_index"] for frame in listing["frames"]] == frames
        for frame in listing["frames"]:
            with np.load(folder / frame["flame_param_path"], allow_pickle=False) as file:
                known = {key: torch.from_numpy(file[key]) for key in file.files if file[key].dtype == np.float32}
            assert known["shape"].shape == (300,) and known["static_offset"].shape == (1, 5143, 3)
            posed = flame_head(
                known["shape"][None, : flame_head.shape_count],
                HeadParameters(
                    expression=known["expr"][:, : flame_head.expression_count],
                    rotation=known["rotation"],
                    neck=known["neck_pose"],
                    jaw=known["jaw_pose"],
                    eyes=known["eyes_pose"],
                    translation=known["translation"],
                    neck_translation=torch.zeros(1, 3),
                ),
            )
            to_world = np.array(frame["transform_matrix"])
            to_world[:3, 1:3] *= -1
            points = np.c_[posed.vertices[0, skull].numpy(), np.ones(int(skull.sum()))] @ np.linalg.inv(to_world).T
            focal = frame["w"] / (2 * np.tan(frame["camera_angle_x"] / 2))
            assert focal == pytest.approx(frame["fl_x"])
            pixels = focal * points[:, :2] / points[:, 2:3] + [frame["w"] / 2, frame["h"] / 2]
            np.testing.assert_allclose(pixels, expected[frame["timestep_index"]].numpy(), atol=0.01)


def test_the_torso_comes_back_with_the_shift_of_the_neck(written: tuple[Sequence, Path]) -> None:
    sequence, folder = written
    read = read_sequence(folder)
    for (name, value), (_, wanted) in zip(read.parameters.items(), sequence.parameters.items(), strict=True):
        assert torch.equal(value, wanted), name


def test_the_whole_listing_counts_moments_from_zero_and_names_files_that_open(
    written: tuple[Sequence, Path],
) -> None:
    sequence, folder = written
    main = json.loads((folder / "transforms.json").read_text())
    assert len(main["timestep_indices"]) == max(main["timestep_indices"]) + 1 == FRAMES
    assert main["camera_indices"] == [0]
    for frame in main["frames"]:
        assert frame["file_path"].endswith(".png")
        with Image.open(folder / frame["file_path"]) as picture, Image.open(folder / frame["fg_mask_path"]) as mask:
            assert (picture.mode, mask.mode) == ("RGB", "L")
            assert picture.size == mask.size == (frame["w"], frame["h"])
            np.testing.assert_array_equal(np.array(picture), sequence.images[frame["timestep_index"]].numpy())
        integers = ("timestep_index", "timestep_index_original", "camera_index", "h", "w")
        assert all(type(frame[key]) is int for key in integers)
        assert isinstance(frame["timestep_id"], str) and isinstance(frame["camera_id"], str)
    empty = json.loads((folder / "transforms_val.json").read_text())
    assert empty["frames"] == [] and "timestep_indices" in empty and "camera_indices" in empty
