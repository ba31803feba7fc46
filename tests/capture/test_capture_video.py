"""Decoding, shots and writing, on small videos made here."""

from __future__ import annotations

import os
import struct
import wave
import zlib
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from stavatar.capture import capture, video
from stavatar.capture.capture import _cut_squares
from stavatar.capture.conditions import thumbnail
from stavatar.capture.crop import Crop
from stavatar.capture.video import find_shot, open_source
from stavatar.containers import write_video
from stavatar.errors import InputError


@contextmanager
def silent(title, total):
    yield lambda advance=1, note=None: None


def noise(count: int, height: int = 96, width: int = 128, seed: int = 0) -> list[np.ndarray]:
    """Frames of smooth noise, grey and a little coloured, that drifts: no two alike, no cut."""
    generator = np.random.default_rng(seed)
    shape = (height // 8 + 2, width // 8 + count + 2)
    big = generator.integers(30, 226, (*shape, 1)) + generator.integers(-30, 30, (*shape, 3))
    big = big.astype(np.uint8)
    big = np.asarray(Image.fromarray(big).resize((big.shape[1] * 8, big.shape[0] * 8), Image.Resampling.BICUBIC))
    return [np.ascontiguousarray(big[:height, t : t + width]) for t in range(count)]


def store(path: Path, frames: list[np.ndarray], times: list[int] | None = None, **stream_fields) -> Path:
    """An exact video (FFV1 in Matroska unless told otherwise); `times` in hundredths of a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(stream_fields.pop("codec", "ffv1"), rate=25)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = stream_fields.pop("pix_fmt", "bgr0")
        for name, value in stream_fields.items():
            setattr(stream.codec_context, name, value)
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 100)
        for t, array in enumerate(frames):
            layout = "rgba" if array.shape[-1] == 4 else "rgb24"
            frame = av.VideoFrame.from_ndarray(array, format=layout).reformat(format=stream.pix_fmt)
            if times is not None:
                frame.pts, frame.time_base = times[t], Fraction(1, 100)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def decoded(path: Path) -> list[video.Frame]:
    return list(open_source(path).frames())


# ------------------------------------------------------------------------------------------------------- bad input


def not_a_video(folder: Path) -> Path:
    file = folder / "clip.mp4"
    file.write_bytes(b"this is a text, whatever its name says\n" * 100)
    return file


def empty(folder: Path) -> Path:
    file = folder / "clip.mp4"
    file.touch()
    return file


def cut_in_the_index(folder: Path) -> Path:
    """An mp4 whose end, where the index is, was never copied."""
    whole = folder / "whole.mp4"
    with av.open(str(whole), "w") as container:  # without faststart
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 96, 128, "yuv420p"
        for array in noise(30):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(array, format="rgb24")))
        container.mux(stream.encode())
    file = folder / "clip.mp4"
    file.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    return file


def sound_only(folder: Path) -> Path:
    file = folder / "clip.wav"
    with wave.open(str(file), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(16000))
    return file


def still_image(folder: Path) -> Path:
    file = folder / "clip.png"
    Image.fromarray(noise(1)[0]).save(file)
    return file


def five_frames(folder: Path) -> Path:
    return store(folder / "clip.mkv", noise(5))


def one_frame_thirty_times(folder: Path) -> Path:
    return store(folder / "clip.mkv", noise(1) * 30)


def cut_every_eight_frames(folder: Path) -> Path:
    return store(folder / "clip.mkv", [frame for seed in range(4) for frame in noise(8, seed=seed)])


def tiny(folder: Path) -> Path:
    return store(folder / "clip.mkv", noise(20, height=20, width=20))


def huge(folder: Path) -> Path:
    """A PNG header that promises a picture of 100,000 pixels a side, and nothing behind it."""
    body = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    file = folder / "frames" / "0.png"
    file.parent.mkdir()
    file.write_bytes(
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body)) + b"\0\0\0\0IDAT"
    )
    return file.parent


def wide(folder: Path) -> Path:
    return store(folder / "clip.mkv", [np.zeros((64, 8200, 3), dtype=np.uint8)])


def folder_without_images(folder: Path) -> Path:
    (folder / "frames").mkdir()
    (folder / "frames" / "notes.txt").write_text("no images here")
    return folder / "frames"


def folder_of_two_sizes(folder: Path) -> Path:
    (folder / "frames").mkdir()
    for t, frame in enumerate([*noise(10), *noise(10, height=80)]):
        Image.fromarray(frame).save(folder / "frames" / f"{t}.png")
    return folder / "frames"


def folder_with_a_broken_image(folder: Path) -> Path:
    (folder / "frames").mkdir()
    (folder / "frames" / "0.png").write_bytes(b"\x89PNG and no more")
    return folder / "frames"


def folder_of_16_bit_images(folder: Path) -> Path:
    (folder / "frames").mkdir()
    Image.fromarray(np.full((96, 96), 40_000, dtype=np.uint16)).save(folder / "frames" / "0.png")
    return folder / "frames"


def playlist(folder: Path) -> Path:
    """A playlist, which FFmpeg would follow to other files or to the network."""
    store(folder / "other.mkv", noise(20))
    file = folder / "clip.mp4"
    file.write_text("ffconcat version 1.0\nfile http://127.0.0.1:9/other.mkv\n")
    return file


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "nothing.mp4", r"nothing\.mp4 does not exist"),
        (not_a_video, r"clip\.mp4 is not a video that can be read"),
        (empty, r"clip\.mp4 is empty \(0 bytes\)"),
        (cut_in_the_index, r"clip\.mp4 is not a video that can be read"),
        (sound_only, r"clip\.wav has no picture, only sound"),
        (still_image, r"clip\.png is one still image"),
        (five_frames, r"clip\.mkv has only 5 different frames: at least 10"),
        (one_frame_thirty_times, r"clip\.mkv has only 1 different frames: at least 10"),
        (cut_every_eight_frames, r"clip\.mkv has only 8 different frames without a cut: at least 10"),
        (tiny, r"clip\.mkv is 20 x 20 pixels, and at least 64"),
        (wide, r"clip\.mkv is 8200 x 64 pixels, and no more than 8192"),
        (huge, r"0\.png has more pixels than .* no more than 8192 a side"),
        (folder_without_images, r"frames contains no \.png, \.jpg, \.jpeg files"),
        (folder_of_two_sizes, r"10\.png is 128 x 80 pixels where the images before it are 128 x 96"),
        (folder_with_a_broken_image, r"0\.png cannot be read as an image"),
        (folder_of_16_bit_images, r"0\.png has more than 8 bits a channel"),
        (playlist, r"clip\.mp4 is not a video that can be read"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_cannot_be_used_is_refused_with_one_sentence(tmp_path, make, message):
    source = make(tmp_path)
    with pytest.raises(InputError, match=message) as failure:
        find_shot(open_source(source), None, silent)
    assert "\n" not in str(failure.value)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_refused(tmp_path):
    file = not_a_video(tmp_path)
    file.chmod(0)
    with pytest.raises(InputError, match="cannot be read: Permission denied"):
        open_source(file)


def test_a_truncated_video_is_used_as_far_as_it_goes(tmp_path):
    whole = store(tmp_path / "whole.mkv", noise(40)).read_bytes()
    file = tmp_path / "clip.mkv"
    file.write_bytes(whole[: len(whole) // 2])
    shot = find_shot(open_source(file), None, silent)
    assert 15 <= len(shot) <= 25
    np.testing.assert_array_equal(next(iter(shot.frames())).rgb, noise(40)[0])


def test_a_truncated_mp4_says_that_it_is_damaged(tmp_path, capfd):
    write_video(tmp_path / "whole.mp4", noise(120), fps=25)  # its index comes first
    whole = (tmp_path / "whole.mp4").read_bytes()
    file = tmp_path / "clip.mp4"
    file.write_bytes(whole[: len(whole) * 2 // 3])
    shot = find_shot(open_source(file), None, silent)
    assert 10 <= len(shot) < 120
    assert f"is damaged: it ends after {len(shot)} of 120 frames" in " ".join(capfd.readouterr().err.split())


# -------------------------------------------------------------------------------------------------------- decoding


def test_frames_are_exact_and_carry_their_times(tmp_path):
    frames, times = noise(12), [0, 4, 8, 12, 16, 20, 40, 44, 48, 60, 61, 90]
    seen = decoded(store(tmp_path / "clip.mkv", frames, times))
    assert [frame.index for frame in seen] == list(range(12))
    np.testing.assert_allclose([frame.seconds for frame in seen], np.array(times) / 100, atol=1e-3)
    for frame, original in zip(seen, frames, strict=True):
        np.testing.assert_array_equal(frame.rgb, original)


def test_only_wanted_frames_are_yielded(tmp_path):
    frames = noise(12)
    source = open_source(store(tmp_path / "clip.mkv", frames))
    seen = list(source.frames(frozenset({2, 7})))
    assert [frame.index for frame in seen] == [2, 7]
    np.testing.assert_array_equal(seen[1].rgb, frames[7])
    assert list(source.frames(frozenset())) == []


def test_odd_sizes_are_kept(tmp_path):
    frames = noise(3, height=97, width=131)
    np.testing.assert_array_equal(decoded(store(tmp_path / "clip.mkv", frames))[2].rgb, frames[2])


@pytest.mark.parametrize("layout", ["gray", "gray10le", "yuv420p10le", "rgb48le", "yuv444p"])
def test_other_pixel_layouts_come_out_as_rgb(tmp_path, layout):
    frames = noise(3)
    seen = decoded(store(tmp_path / "clip.mkv", frames, pix_fmt=layout))[1].rgb.astype(float)
    assert seen.shape == (96, 128, 3)
    original = frames[1].astype(float)
    if layout.startswith("gray"):
        original = np.repeat((original @ [0.299, 0.587, 0.114])[..., None], 3, axis=2)
        assert (seen[..., 0] == seen[..., 1]).all()
    assert np.abs(seen - original).mean() < 4


def test_transparency_is_put_over_white(tmp_path):
    clear = np.zeros((96, 128, 4), dtype=np.uint8)
    clear[:, :64] = (200, 40, 80, 255)
    clear[:48, 64:] = (0, 0, 0, 0)
    clear[48:, 64:] = (100, 0, 0, 51)  # a fifth of it: 255 * 0.8 + 100 * 0.2 = 224
    seen = decoded(store(tmp_path / "clip.mkv", [clear] * 3, pix_fmt="bgra"))[0].rgb
    np.testing.assert_array_equal(seen[20, 10], (200, 40, 80))
    np.testing.assert_array_equal(seen[20, 100], (255, 255, 255))
    np.testing.assert_array_equal(seen[80, 100], (224, 204, 204))


def turn(file: Path, matrix: tuple[int, int, int, int]) -> None:
    """Write a display matrix into an mp4, as telephones do: (a, b, c, d) maps (x, y) to (a x + c y, b x + d y)."""
    content = bytearray(file.read_bytes())
    header = content.index(b"tkhd") + 4
    place = header + 40  # version 0: the nine numbers follow forty bytes of other fields
    a, b, c, d = (value << 16 for value in matrix)
    content[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("matrix", "corner"),
    [
        # where the red top left corner of the stored picture is when the video is played
        ((0, 1, -1, 0), "top right"),  # a quarter turn clockwise
        ((-1, 0, 0, -1), "bottom right"),
        ((0, -1, 1, 0), "bottom left"),  # a quarter turn counterclockwise
    ],
)
def test_the_containers_rotation_is_applied(tmp_path, matrix, corner):
    stored = np.full((96, 128, 3), 128, dtype=np.uint8)
    stored[:32, :32] = (255, 0, 0)
    write_video(tmp_path / "clip.mp4", [stored] * 3, fps=25)
    turn(tmp_path / "clip.mp4", matrix)
    seen = decoded(tmp_path / "clip.mp4")[0].rgb
    assert seen.shape == ((128, 96, 3) if matrix[0] == 0 else (96, 128, 3))
    row, column = (8 if "top" in corner else -8), (8 if "left" in corner else -8)
    red, green, _ = seen[row, column].astype(int)
    assert red > 200, corner
    assert green < 60, corner


def test_pixels_that_are_not_square_are_made_so(tmp_path):
    frames = [frame[:, :120] for frame in noise(3)]
    file = tmp_path / "clip.mp4"
    store(file, frames, codec="mpeg4", pix_fmt="yuv420p", sample_aspect_ratio=Fraction(5, 4))
    seen = decoded(file)[0].rgb
    assert seen.shape == (96, 150, 3)
    edge = np.asarray(Image.fromarray(frames[0]).resize((150, 96)))
    assert np.abs(seen.astype(float) - edge).mean() < 6


def test_an_image_folder_is_read_in_the_order_of_its_numbers(tmp_path):
    frames = noise(12)
    for t, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / f"frame{t}.png")  # frame10 sorts before frame2 as text
    (tmp_path / "notes.txt").write_text("not an image")
    seen = decoded(tmp_path)
    assert [frame.index for frame in seen] == list(range(12))
    for frame, original in zip(seen, frames, strict=True):
        np.testing.assert_array_equal(frame.rgb, original)
    assert seen[5].seconds == pytest.approx(0.2)


def half_masks(folder: Path, count: int) -> list[Path]:
    """Masks of a person who fills the left half of 96 x 128 pixels, hard-edged."""
    mask = np.zeros((96, 128), np.uint8)
    mask[:, :64] = 255
    paths = [folder / f"mask{t}.png" for t in range(count)]
    for path in paths:
        Image.fromarray(mask).save(path)
    return paths


def test_an_alpha_channel_is_a_matte(tmp_path):
    for t, frame in enumerate(noise(2)):
        alpha = np.full(frame.shape[:2], 255, np.uint8)
        alpha[:, 64:] = 0
        Image.fromarray(np.dstack([frame, alpha])).save(tmp_path / f"{t}.png")
    source = open_source(tmp_path)
    frame = next(source.frames())
    assert source.matted and (frame.alpha[:, :64] == 255).all() and (frame.alpha[:, 64:] == 0).all()
    assert (frame.rgb[:, 64:] == 255).all(), "over white"


def test_an_alpha_channel_that_hides_nothing_is_no_matte(tmp_path):
    Image.fromarray(noise(1)[0]).convert("RGBA").save(tmp_path / "0.png")
    source = open_source(tmp_path)
    assert not source.matted and next(source.frames()).alpha is None


def test_the_sources_own_mattes_are_kept(tmp_path):
    frames = noise(12)
    for t, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / f"{t}.png")
    masks = half_masks(tmp_path, 12)
    source = video.ImageFiles(tmp_path, [tmp_path / f"{t}.png" for t in range(12)], masks)
    shot = find_shot(source, None, silent)
    thumbnails = []
    pairs = list(_cut_squares(shot, Crop(16, 0, 96, 96), None, thumbnails))
    assert len(pairs) == 12
    np.testing.assert_array_equal(thumbnails, [thumbnail(frame[:, 16:112]) for frame in frames])
    for (image, matte), frame in zip(pairs, frames, strict=True):
        np.testing.assert_array_equal(matte, np.repeat([[255] * 48 + [0] * 48], 96, axis=0))
        np.testing.assert_array_equal(image[:, :48], frame[:, 16:64])
        assert (image[:, 48:] == 255).all()


def test_pictures_that_are_cut_out_already_stay_as_they_are(tmp_path):
    """A broad soft edge over white: taking white out again and putting it back would not give the same."""
    alpha = np.tile(np.linspace(0, 255, 96).astype(np.uint8), (96, 1))
    for t in range(12):
        colour = np.full((96, 96, 3), [150 + 5 * t, 90, 40], np.uint8)
        Image.fromarray(np.dstack([colour, alpha])).save(tmp_path / f"{t}.png")
    shot = find_shot(open_source(tmp_path), None, silent)
    pairs = list(_cut_squares(shot, Crop(0, 0, 96, 96), None, []))
    weight = alpha[..., None] / 255
    for t, (image, matte) in enumerate(pairs):
        np.testing.assert_array_equal(matte, alpha)
        np.testing.assert_allclose(image, weight * [150 + 5 * t, 90, 40] + (1 - weight) * 255, atol=0.51)


def test_a_mask_of_another_size_is_named(tmp_path):
    Image.fromarray(noise(1)[0]).save(tmp_path / "0.png")
    Image.new("L", (64, 64)).save(tmp_path / "m.png")
    source = video.ImageFiles(tmp_path, [tmp_path / "0.png"], [tmp_path / "m.png"])
    with pytest.raises(InputError, match=r"m\.png is 64 x 64 pixels, and its picture 128 x 96"):
        list(source.frames())


# ------------------------------------------------------------------------------------------------------------ shots


def test_one_shot_is_kept_whole(tmp_path):
    shot = find_shot(open_source(store(tmp_path / "clip.mkv", noise(40))), None, silent)
    np.testing.assert_array_equal(shot.indices, np.arange(40))
    assert (shot.width, shot.height) == (128, 96)
    assert shot.fps == pytest.approx(25)


def test_the_longest_shot_is_found_and_told(tmp_path, capfd):
    frames = noise(15, seed=1) + noise(40, seed=2) + noise(20, seed=3)
    shot = find_shot(open_source(store(tmp_path / "clip.mkv", frames)), None, silent)
    np.testing.assert_array_equal(shot.indices, np.arange(15, 55))
    said = " ".join(capfd.readouterr().err.split())
    assert "cut at 0.6 s, 2.2 s: only its longest shot is used, from 0.6 s to 2.2 s" in said


def test_someone_who_jumps_before_a_still_background_is_no_cut(tmp_path):
    generator = np.random.default_rng(0)
    frames = []
    for t in range(40):
        frame = np.full((96, 128, 3), 180, dtype=np.uint8)
        left = (30 if t < 20 else 60) + t % 3
        frame[30:, left : left + 40] = generator.integers(0, 90, 3)
        frames.append(frame)
    assert len(find_shot(open_source(store(tmp_path / "clip.mkv", frames)), None, silent)) == 40


def test_repeated_frames_are_left_out_but_small_movements_stay(tmp_path, capfd):
    frames = noise(30)
    repeated = [frame for t, frame in enumerate(frames) for _ in range(2 if t % 5 == 4 else 1)]
    shot = find_shot(open_source(store(tmp_path / "clip.mkv", repeated)), None, silent)
    assert len(shot) == 30
    assert shot.indices[:7].tolist() == [0, 1, 2, 3, 4, 6, 7], "the second of each pair is dropped"
    assert "6 of 36 frames repeat" in " ".join(capfd.readouterr().err.split())

    still = [np.full((96, 128, 3), 120, dtype=np.uint8) for _ in range(30)]
    for t, frame in enumerate(still):
        frame[40:48, 60:68] = 100 if t % 2 else 125  # only a mouth moves: half a percent of the picture
    assert len(find_shot(open_source(store(tmp_path / "still.mkv", still)), None, silent)) == 30


@pytest.mark.parametrize(("most", "step"), [(40, 1), (39, 2), (20, 2), (19, 3), (10, 4)])
def test_thinning_keeps_every_kth_frame(tmp_path, most, step):
    shot = find_shot(open_source(store(tmp_path / "clip.mkv", noise(40))), most, silent)
    np.testing.assert_array_equal(shot.indices, np.arange(0, 40, step))
    assert len(shot) <= most
    assert shot.fps == pytest.approx(25 / step)
    assert [frame.index for frame in shot.frames()] == shot.indices.tolist()


def test_too_few_frames_asked_for_is_an_error(tmp_path):
    with pytest.raises(InputError, match="max_frames is 5"):
        find_shot(open_source(store(tmp_path / "clip.mkv", noise(20))), 5, silent)


def test_times_that_run_backwards_are_replaced():
    np.testing.assert_allclose(video._increasing(np.array([0.0, 0.4, 0.2])), [0, 0.04, 0.08])
    np.testing.assert_allclose(video._increasing(np.array([0.0, 0.2, 0.4])), [0, 0.2, 0.4])


# ---------------------------------------------------------------------------------------------------------- writing


@pytest.mark.parametrize(("height", "width"), [(96, 128), (97, 131)])
def test_a_written_video_shows_what_was_given(tmp_path, height, width):
    frames = noise(12, height, width)
    write_video(tmp_path / "out.mp4", iter(frames), fps=12.5)
    seen = decoded(tmp_path / "out.mp4")
    assert len(seen) == 12
    assert seen[0].rgb.shape == (height + height % 2, width + width % 2, 3)
    np.testing.assert_allclose([frame.seconds for frame in seen], np.arange(12) / 12.5, atol=1e-3)
    for frame, original in zip(seen, frames, strict=True):
        assert np.abs(frame.rgb[:height, :width].astype(float) - original).mean() < 6  # 4:2:0 colour and H.264


def test_colours_survive_writing(tmp_path):
    colours = [(255, 255, 255), (0, 0, 0), (200, 40, 40), (40, 200, 40), (40, 40, 200), (220, 170, 140)]
    for colour in colours:
        write_video(tmp_path / "out.mp4", [np.full((96, 128, 3), colour, dtype=np.uint8)] * 3, fps=25)
        np.testing.assert_allclose(decoded(tmp_path / "out.mp4")[1].rgb[48, 64], colour, atol=4)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    write_video(tmp_path / "out.mp4", noise(3), fps=25)
    before = (tmp_path / "out.mp4").read_bytes()

    def breaking():
        yield noise(1)[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_video(tmp_path / "out.mp4", breaking(), fps=25)
    with pytest.raises(InputError, match=r"no frames to write to .*out\.mp4"):
        write_video(tmp_path / "out.mp4", [], fps=25)
    with pytest.raises(InputError, match="differ in size: 64 x 64"):
        write_video(tmp_path / "out.mp4", [*noise(2), noise(1, 64, 64)[0]], fps=25)
    assert (tmp_path / "out.mp4").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["out.mp4"]


def test_capture_refuses_before_it_loads_models(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        capture(tmp_path / "nothing.mp4", size=128, progress=silent)


def test_times_that_no_camera_takes_give_no_rate(tmp_path):
    """A file may say that a frame lasts a nanosecond, or a year: a video could not be written at that rate."""
    source = open_source(store(tmp_path / "clip.mkv", noise(12)))
    indices = np.arange(12)
    for step in (1e-9, 3e7):
        assert video.Shot(source, indices, indices * step, 128, 96).fps == video.FOLDER_FPS
    assert video.Shot(source, indices, indices / 240, 128, 96).fps == pytest.approx(240)
