"""Contact sheets and comparison videos: the right pictures in the right places."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from stavatar.errors import InputError
from stavatar.evaluation import pictures
from stavatar.evaluation.pictures import Example, choose_examples, comparison_video, contact_sheet, error_picture

SIZE = 64
TRUE, RENDERED = (0.2, 0.6, 0.4), (0.2, 0.3, 0.4)


def plain(colour: tuple[float, float, float]) -> Tensor:
    return torch.tensor(as_bytes(colour), dtype=torch.uint8).expand(SIZE, SIZE, 3)


def as_bytes(colour: tuple[float, float, float]) -> list[int]:
    return [round(255 * value) for value in colour]


class TestChoice:
    def test_evenly_spaced_with_the_worst(self) -> None:
        psnr = [30.0] * 71
        psnr[23] = 12.0
        assert choose_examples(psnr) == [0, 10, 20, 23, 30, 40, 50, 60, 70]

    def test_few_frames_are_all_shown_once(self) -> None:
        assert choose_examples([3.0, 2.0, 5.0]) == [0, 1, 2]
        assert choose_examples([3.0]) == [0]


class TestErrorColours:
    def test_equal_pictures_are_black_and_colours_end_at_the_limit(self) -> None:
        grey = torch.full((1, 3, 3), 128, dtype=torch.uint8)
        offset = torch.tensor([0, 64, 128], dtype=torch.uint8).reshape(1, 3, 1)
        colours = error_picture(grey, grey - offset)[0]
        assert colours[0].tolist() == [0, 0, 0]
        assert colours[1].tolist() == colours[2].tolist() == [250, 250, 170], "64 of 255 is just above the limit"
        middle = pictures._colour(np.array(0.5))
        assert middle.tolist() == [185, 50, 85]

    def test_is_the_mean_of_the_channels_either_way(self) -> None:
        black = torch.zeros(1, 1, 3, dtype=torch.uint8)
        one_channel = torch.tensor([[[96, 0, 0]]], dtype=torch.uint8)
        assert np.array_equal(error_picture(black, one_channel), error_picture(black, black + 32))
        assert np.array_equal(error_picture(black, one_channel), error_picture(one_channel, black))

    def test_rounding_to_bytes(self) -> None:
        assert pictures.to_uint8(torch.tensor([-1.0, 0.0, 0.4999 / 255, 0.5001 / 255, 1.0, 7.0])).tolist() == [
            *(0, 0, 0, 1, 255, 255),
        ]

    def test_lightness_grows_along_the_scale(self) -> None:
        luma = pictures._colour(np.linspace(0, 1, 64)) @ np.array([0.299, 0.587, 0.114])
        assert (np.diff(luma) > 0).all()


class TestContactSheet:
    def test_has_all_pictures_and_marks_the_worst(self, tmp_path: Path) -> None:
        examples = [Example(i, plain(TRUE), plain(RENDERED), psnr) for i, psnr in ((3, 30.0), (9, 12.0), (12, 28.0))]
        contact_sheet(tmp_path / "sheet.png", examples, title="someone")
        sheet = np.asarray(Image.open(tmp_path / "sheet.png").convert("RGB")).astype(int)
        error = error_picture(plain(TRUE), plain(RENDERED))[0, 0].tolist()
        tops = []
        for colour in (as_bytes(TRUE), as_bytes(RENDERED), error):
            matches = (sheet == colour).all(-1)
            row = matches.sum(1) >= 3 * SIZE
            assert row.sum() == SIZE, "three pictures beside each other"
            tops.append(int(np.flatnonzero(row)[0]))
        assert tops == sorted(tops), "input above render above error"
        red = (sheet[..., 0] > 150) & (sheet[..., 1] < 60) & (sheet[..., 2] < 60)
        columns = np.flatnonzero(red[: tops[0]].any(0))
        second = (sheet[tops[0] + 5] == as_bytes(TRUE)).all(-1).nonzero()[0][SIZE]
        assert columns.min() >= second - 2, "the label of the second column is the red one"

    def test_a_folder_that_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(InputError, match="cannot write"):
            contact_sheet(tmp_path / "file" / "sheet.png", [Example(0, plain(TRUE), plain(TRUE), 30.0)])


class TestVideo:
    def test_shows_input_render_and_error_in_every_frame(self, tmp_path: Path) -> None:
        comparison_video(tmp_path / "side.mp4", ((i, plain(TRUE), plain(RENDERED)) for i in range(5)), 12.5)
        with av.open(tmp_path / "side.mp4") as container:
            assert container.streams.video[0].average_rate == 12.5
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert len(frames) == 5 and frames[0].shape[1] == 3 * SIZE
        expected = [as_bytes(TRUE), as_bytes(RENDERED), error_picture(plain(TRUE), plain(RENDERED))[0, 0].tolist()]
        for frame in frames:
            middle = frame[-SIZE // 2, SIZE // 2 :: SIZE].astype(int)
            assert np.abs(middle - expected).max() < 12, "H.264 halves the resolution of colours"

    def test_no_frames(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="no frames"):
            comparison_video(tmp_path / "side.mp4", [], 25)
