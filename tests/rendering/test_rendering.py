"""Camera moves, and pictures into files."""

import av
import numpy as np
import pytest
import torch
from PIL import Image

from stavatar.errors import InputError
from stavatar.rendering import CameraMove, check_target, play, save_image, to_uint8


def test_an_orbit_swings_thirty_degrees_to_the_left_in_a_quarter_of_its_time(small_motion):
    pivot = torch.tensor([0.0, 0.05, 0.0])
    (view,) = CameraMove(orbit=True).cameras(small_motion.camera, pivot, 1.5)
    offset = view.position[0] - pivot
    start = small_motion.camera.position[0] - pivot
    turned = torch.rad2deg(torch.atan2(offset[0], offset[2]))
    assert float(turned) == pytest.approx(30, abs=0.01)
    torch.testing.assert_close(offset.norm(), start.norm())


def test_a_dolly_is_nearest_half_way_and_back_at_the_end(small_motion):
    pivot, move = torch.zeros(3), CameraMove(dolly=0.5)
    distances = [float(move.cameras(small_motion.camera, pivot, t)[0].position.norm()) for t in (0.0, 3.0, 6.0)]
    assert distances == pytest.approx([1.0, 0.5, 1.0])


def test_each_yaw_is_a_view(small_motion):
    left, middle, right = CameraMove(yaw=(30, 0, -30)).cameras(small_motion.camera, torch.zeros(3), 0.0)
    assert left.position[0, 0] > 0.4
    torch.testing.assert_close(middle.position, small_motion.camera.position)
    assert right.position[0, 0] < -0.4


def test_straight_alpha_undoes_the_drawing_over_black():
    colour, alpha = torch.tensor([0.8, 0.4, 0.2]), torch.tensor([[0.5]])
    picture = to_uint8((colour * alpha[..., None]).expand(1, 1, 3), alpha)
    assert picture.tolist() == [[[204, 102, 51, 128]]]
    assert to_uint8(torch.zeros(1, 1, 3), torch.zeros(1, 1)).tolist() == [[[0, 0, 0, 0]]]


def test_pngs_composite_to_what_the_video_shows(small_runtime, small_motion, tmp_path):
    parameters = small_motion.parameters[:2]
    play(small_runtime, parameters, small_motion.camera, 25.0, tmp_path / "frames", size=48)
    files = sorted((tmp_path / "frames").iterdir())
    assert [file.name for file in files] == ["00000.png", "00001.png"]
    rgba = np.asarray(Image.open(files[1])).astype(np.float64) / 255
    assert rgba.shape == (48, 48, 4)
    assert rgba[0, 0, 3] == 0
    over_white = rgba[..., :3] * rgba[..., 3:] + 1 - rgba[..., 3:]
    expected = small_runtime.render(parameters[[1]], size=48).image[0].numpy().clip(0, 1)
    assert np.abs(over_white - expected).max() < 0.02


def test_views_and_the_driver_stand_side_by_side(small_runtime, small_motion, tmp_path):
    def beside(frame, height):
        return np.full((height, 20, 3), 100 * frame, np.uint8)

    play(
        small_runtime,
        small_motion.parameters[:2],
        small_motion.camera,
        25.0,
        tmp_path / "out.mp4",
        move=CameraMove(yaw=(-40, 0)),
        size=48,
        beside=beside,
    )
    with av.open(str(tmp_path / "out.mp4")) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert [frame.shape for frame in frames] == [(48, 20 + 2 * 48, 3)] * 2
    assert abs(int(frames[1][24, 8].mean()) - 100) < 12
    assert frames[1][2, 30].mean() > 240  # white behind the avatar


@pytest.mark.parametrize(("name", "folder"), [("a.mp4", False), ("A.MP4", False), ("frames", True)])
def test_the_name_says_what_is_written(tmp_path, name, folder):
    assert check_target(tmp_path / name) is folder


def test_nothing_of_the_users_is_written_among(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "a.txt").touch()
    (tmp_path / "letter").touch()
    for out, complaint in (("thesis", "new or empty"), ("letter", "new or empty"), ("a.gif", "ends in .mp4")):
        with pytest.raises(InputError, match=complaint):
            check_target(tmp_path / out)


def test_a_picture_comes_back(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    save_image(torch.from_numpy(picture).float() / 255, tmp_path / "a.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), picture)
    with pytest.raises(InputError, match=r"must end in \.png"):
        save_image(picture, tmp_path / "a.jpg")
