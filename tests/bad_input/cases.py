"""The table of bad and unusual input: what is given, with which command, how it ends, and what is said.

``docs/bad_input.md`` is made from it by ``scripts/write_bad_input.py``, and ``test_bad_input.py`` runs every row. In
what is said, … stands for words of a library, and for numbers that differ from machine to machine.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import made_files as made
import numpy as np
import torch
from made_files import Make, with_avatar, with_format, with_sequence

from stavatar.evaluation.results_file import FORMAT as RESULTS_FORMAT


@dataclass(frozen=True)
class Case:
    """One row.

    Attributes:
        given: what the user gives, in words.
        command: what follows ``stavatar``, with names in the folder where `make` has put files.
        says: the sentence of the error, or, where the command succeeds, a part of what it prints.
        make: puts the files there.
        exit: code.
        check: looks at the folder afterwards, where the command succeeds.
        slow: takes many seconds.
    """

    given: str
    command: str
    says: str
    make: Make = lambda folder, kit: None
    exit: int = 2
    check: Callable[[Path], None] = lambda folder: None
    slow: bool = False


TRACK = "track clip.mp4 -o out"
INSPECT = "data inspect clip.mkv"
TRAIN = "train sequence -o out"
RENDER = "render avatar -o out.mp4"
DATA = "data convert data -o out"
HEAD = "render avatar -o out.mp4 --head model.pkl"
RESUME = "train sequence -o out --preset cpu --resume"
DRIVE = "drive avatar -m motion.csv -o out.mp4"


def pixels(path: Path, frame: int = 1) -> np.ndarray:
    """A decoded frame [H, W, 3] of a file that was merely unusual."""
    from stavatar.capture.video import open_source

    return [one.rgb for one in open_source(path).frames()][frame].astype(int)


def decoded_rate(path: Path) -> float:
    from stavatar.capture.video import open_source

    times = [frame.seconds for frame in open_source(path).frames()]
    return (len(times) - 1) / (times[-1] - times[0])


def as_made(folder: Path, name: str = "clip.mkv", *, within: float = 0.0) -> None:
    """The second frame is that of the pattern, within so many levels."""
    seen = pixels(folder / name)
    assert np.abs(seen - made.noise(12, *seen.shape[:2])[1]).mean() <= within


def is_grey(folder: Path) -> None:
    seen = pixels(folder / "clip.mkv")
    grey = made.noise(12)[1] @ [0.299, 0.587, 0.114]
    assert (seen[..., 0] == seen[..., 1]).all() and np.abs(seen[..., 0] - grey).mean() < 2


def is_over_white(folder: Path) -> None:
    seen = pixels(folder / "clip.mkv")
    assert (seen[:, 64:] == 255).all() and (seen[:, :64] == made.noise(12)[1][:, :64]).all()


def is_turned(folder: Path) -> None:
    seen = pixels(folder / "clip.mp4")
    red, green, _ = seen[8, -8]  # a quarter turn clockwise takes the upper left corner to the upper right
    assert seen.shape == (128, 96, 3) and red > 200 and green < 60


def runs_at(rate: float) -> Callable[[Path], None]:
    def check(folder: Path) -> None:
        assert abs(decoded_rate(folder / "clip.mkv") - rate) < 0.01 * rate

    return check


VIDEOS = [
    Case("nothing at the path", TRACK, "clip.mp4 does not exist"),
    Case("an empty file", TRACK, "clip.mp4 is empty (0 bytes): copy the video again", made.text("clip.mp4", "")),
    Case(
        "a text called .mp4",
        TRACK,
        "clip.mp4 is not a video that can be read (…)",
        made.text("clip.mp4", "a letter, whatever its name says\n" * 50),
    ),
    Case(
        "random bytes called .mp4",
        TRACK,
        "clip.mp4 is not a video that can be read (…)",
        made.text("clip.mp4", np.random.default_rng(0).bytes(5000)),
    ),
    Case(
        "an mp4 without its end, where the index is",
        TRACK,
        "clip.mp4 is not a video that can be read (…)",
        made.cut("clip.mp4", 0.5),
    ),
    Case(
        "a video cut to a few frames",
        "track clip.mkv -o out",
        "clip.mkv has only 4 different frames: at least 10 are needed",
        made.cut("clip.mkv", 0.17),
    ),
    Case(
        "a video without frames",
        "track clip.mkv -o out",
        "clip.mkv is not a video that can be read (…)",
        made.no_frames,
    ),
    Case(
        "sound without pictures",
        "track clip.wav -o out",
        "clip.wav has no picture, only sound: give a video of a face",
        made.sound,
    ),
    Case(
        "a single picture as video",
        "track pictures/0.png -o out",
        "pictures/0.png is one still image: give a video of at least 10 frames",
        made.pictures(1),
    ),
    Case(
        "five frames",
        "track clip.mkv -o out",
        "clip.mkv has only 5 different frames: at least 10 are needed",
        made.clip("clip.mkv", 5),
    ),
    Case(
        "20 x 20 pixels",
        "track clip.mkv -o out",
        "clip.mkv is 20 x 20 pixels, and at least 64 a side are needed to see a face",
        made.clip("clip.mkv", height=20, width=20),
    ),
    Case(
        "more than 8192 pixels across",
        "track clip.mkv -o out",
        "clip.mkv is 8200 x 64 pixels, and no more than 8192 a side are read: make it smaller",
        lambda folder, kit: made.void(made.video(folder / "clip.mkv", [np.zeros((64, 8200, 3), np.uint8)])),
    ),
    Case(
        "a GIF that announces 65,535 x 65,535 pixels",
        "track clip.gif -o out",
        "clip.gif announces pictures of no size, or of one that cannot be: it is damaged",
        made.announced_size("gif", 65535),
    ),
    Case(
        "an AVI that announces 2 billion pixels a side",
        "track clip.avi -o out",
        "clip.avi announces pictures of no size, or of one that cannot be: it is damaged",
        made.announced_size("avi", 2**31 - 1),
    ),
    Case(
        "an AVI that announces 8,000 x 8,000 raw pixels",
        "track clip.avi -o out",
        "clip.avi holds no frame that can be decoded",
        made.announced_size("avi", 8000),
    ),
    Case(
        "a list of files to join, of this folder",
        TRACK,
        "clip.mp4 is not a video that can be read (…)",
        made.playlist("ffconcat version 1.0\nfile other.mp4\n"),
    ),
    Case(
        "a playlist of a file in this folder",
        TRACK,
        "clip.mp4 is not a video that can be read (…)",
        made.playlist("#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nother.mp4\n#EXT-X-ENDLIST\n"),
    ),
    Case(
        "a playlist of a host",
        TRACK,
        "clip.mp4 is not a video that can be read (…)",
        made.playlist("#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n"),
    ),
    Case(
        "a session description of a stream",
        TRACK,
        "clip.mp4 is not a video that can be read (…)",
        made.playlist("v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n"),
    ),
    Case(
        "a named pipe", TRACK, "clip.mp4 is no ordinary file", lambda folder, kit: made.os.mkfifo(folder / "clip.mp4")
    ),
    Case(
        "a name with brackets, as downloaders give",
        "track 'clip [red].mp4' -o out",
        "clip [red].mp4 is not a video that can be read (…)",
        made.text("clip [red].mp4", "x"),
    ),
    Case("a name with an escape sequence", "track 'clip\x1b[31m.mp4' -o out", "clip\\x1b[31m.mp4 does not exist"),
    Case(
        "a name of 300 letters",
        f"track {'x' * 300}.mp4 -o out",
        "x….mp4 cannot be read: …",
    ),
    Case(
        "an animated GIF of five frames",
        "track clip.gif -o out",
        "clip.gif has only 5 different frames: at least 10 are needed",
        made.gif(5),
    ),
    Case("an animated GIF", "data inspect clip.gif", "128 x 96 pixels", made.gif(12), 0),
    Case(
        "another suffix than its kind",
        "data inspect clip.txt",
        "128 x 96 pixels",
        lambda folder, kit: made.void(made.mp4(folder, "whole.mp4").rename(folder / "clip.txt")),
        0,
    ),
    Case("odd width and height", INSPECT, "131 x 97 pixels", made.clip("clip.mkv", height=97, width=131), 0, as_made),
    Case("one frame per second", INSPECT, "128 x 96 pixels", made.clip("clip.mkv", rate=1), 0, runs_at(1)),
    Case("240 frames per second", INSPECT, "128 x 96 pixels", made.clip("clip.mkv", rate=240), 0, runs_at(240)),
    Case("transparent pictures", INSPECT, "128 x 96 pixels", made.transparent, 0, is_over_white),
    Case("grey pictures", INSPECT, "128 x 96 pixels", made.clip("clip.mkv", pixels="gray"), 0, is_grey),
    Case(
        "10 bits a channel",
        INSPECT,
        "128 x 96 pixels",
        made.clip("clip.mkv", pixels="yuv444p10le"),
        0,
        lambda folder: as_made(folder, within=2),
    ),
    Case(
        "10 bits marked as HDR (BT.2020, PQ)",
        INSPECT,
        "clip.mkv is an HDR video, which is decoded like any other: its colours come out pale",
        made.clip("clip.mkv", pixels="yuv444p10le", color_trc=16, color_primaries=9, colorspace=9),
        0,
    ),
    Case(
        "a telephone's rotation flag",
        "data inspect clip.mp4",
        "96 x 128 pixels",
        made.turned((0, 1, -1, 0)),
        0,
        is_turned,
    ),
    Case(
        "pixels that are not square",
        "data inspect clip.mp4",
        "160 x 96 pixels",
        made.clip("clip.mp4", codec="mpeg4", pixels="yuv420p", sample_aspect_ratio=Fraction(5, 4)),
        0,
    ),
]

PICTURES = [
    Case(
        "a folder without pictures",
        "track pictures -o out",
        "pictures holds no data in a format that can be read (LAM, VHAP / GaussianAvatars / stavatar, IMavatar / "
        "PointAvatar / SplattingAvatar, metrical-tracker / FlashAvatar / RGBAvatar, INSTA, NerFace, plain pictures)",
        made.text("pictures/letter.txt", "no picture"),
    ),
    Case(
        "a folder of five pictures",
        "track pictures -o out",
        "pictures has only 5 different frames: at least 10 are needed",
        made.pictures(5),
    ),
    Case(
        "pictures of two sizes",
        "track pictures -o out",
        "pictures/12.png is 128 x 80 pixels where the images before it are 128 x 96: all must be of one size",
        made.both(
            made.pictures(), lambda folder, kit: made.Image.new("RGB", (128, 80)).save(folder / "pictures/12.png")
        ),
    ),
    Case(
        "a broken picture among them",
        "track pictures -o out",
        "pictures/5.png cannot be read as an image: …",
        made.both(made.pictures(), made.text("pictures/5.png", b"\x89PNG and no more")),
    ),
    Case(
        "a text called .png among them",
        "track pictures -o out",
        "pictures/5.png cannot be read as an image: …",
        made.both(made.pictures(), made.text("pictures/5.png", "letter")),
    ),
    Case(
        "a folder called .png among them",
        "track pictures -o out",
        "pictures/12.png is a folder, and a file is expected",
        made.both(made.pictures(), lambda folder, kit: (folder / "pictures/12.png").mkdir()),
    ),
    Case(
        "a named pipe among them",
        "track pictures -o out",
        "pictures/5.png is no ordinary file",
        made.both(made.pictures(), lambda folder, kit: made.piped("pictures/5.png")(folder)),
    ),
    Case(
        "a link to itself among them",
        "track pictures -o out",
        "pictures/5.png is a link that leads out of the data set: copy what it points to",
        made.both(made.pictures(), lambda folder, kit: made.linked("pictures/5.png", "5.png")(folder)),
    ),
    Case(
        "a link out of the folder among them",
        "track pictures -o out",
        "pictures/5.png is a link that leads out of the data set: copy what it points to",
        made.both(made.pictures(), lambda folder, kit: made.linked("pictures/5.png", "/etc/hostname")(folder)),
    ),
    Case(
        "16 bits a channel",
        "track pictures -o out",
        "pictures/0.png has more than 8 bits a channel: save it with 8",
        made.both(made.pictures(), lambda folder, kit: made.sixteen_bits(folder)),
    ),
    Case(
        "a PNG that announces 100,000 x 100,000 pixels",
        "track pictures -o out",
        "pictures/0.png has more pixels than can be read: make it smaller",
        made.text("pictures/0.png", made.png_header(100_000, 100_000)),
    ),
    Case("palette pictures", "data inspect pictures", "128 x 96 pixels", made.pictures(mode="P"), 2),
    Case("JPEG pictures", "data inspect pictures", "128 x 96 pixels", made.pictures(suffix="jpg"), 0),
]

SEQUENCES = [
    Case("a folder that is not there", TRAIN, "sequence is not a folder: give the folder of a data set"),
    Case(
        "a file in place of a folder",
        TRAIN,
        "sequence is not a folder: give the folder of a data set",
        made.text("sequence", "x"),
    ),
    Case(
        "an empty folder",
        TRAIN,
        "sequence holds no data in a format that can be read (LAM, VHAP / GaussianAvatars / stavatar, IMavatar / "
        "PointAvatar / SplattingAvatar, metrical-tracker / FlashAvatar / RGBAvatar, INSTA, NerFace, plain pictures)",
        lambda folder, kit: (folder / "sequence").mkdir(),
    ),
    Case(
        "transforms.json cut short",
        TRAIN,
        "sequence/transforms.json cannot be read as JSON: …",
        with_sequence(made.halved("transforms.json")),
    ),
    Case(
        "transforms.json that holds a list",
        TRAIN,
        "sequence/transforms.json must hold a JSON object",
        with_sequence(made.replaced("transforms.json", "[1, 2]")),
    ),
    Case(
        "100 MB of nesting",
        TRAIN,
        "sequence/transforms.json holds more than 5,000,000 values, which no file of this kind should",
        with_sequence(made.replaced("transforms.json", "[" * 100_000_000)),
        slow=True,
    ),
    Case(
        "60 MB of empty lists",
        TRAIN,
        "sequence/transforms.json holds more than 5,000,000 values, which no file of this kind should",
        with_sequence(made.replaced("transforms.json", "[" + "[]," * 20_000_000 + "[]]")),
    ),
    Case(
        "an integer of 5,000 digits",
        TRAIN,
        "sequence/transforms.json cannot be read as JSON: …",
        with_sequence(made.replaced("transforms.json", '{"frames": ' + "9" * 5000 + "}")),
    ),
    Case(
        "bytes that are not UTF-8",
        TRAIN,
        "sequence/transforms.json cannot be read as JSON: …",
        with_sequence(made.replaced("transforms.json", b'{"frames": "\xff"}')),
    ),
    Case(
        "a named pipe as transforms.json",
        TRAIN,
        "sequence/transforms.json is no ordinary file",
        with_sequence(made.piped("transforms.json")),
    ),
    Case(
        "NaN in a camera",
        TRAIN,
        "sequence/transforms.json: frames[1].cx must be a finite number",
        with_sequence(made.in_frame(1, cx=float("nan"))),
    ),
    Case(
        "infinity in a camera",
        TRAIN,
        "sequence/transforms.json: frames[1].fl_x must be a finite number",
        with_sequence(made.in_frame(1, fl_x=float("inf"))),
    ),
    Case(
        "a number beyond 32-bit floats",
        TRAIN,
        "sequence/transforms.json: frames[1].fl_x must be a finite number",
        with_sequence(made.in_frame(1, fl_x=1e39)),
    ),
    Case(
        "a focal length of zero",
        TRAIN,
        "sequence/transforms.json: frames[1].fl_x and fl_y must be positive",
        with_sequence(made.in_frame(1, fl_x=0)),
    ),
    Case(
        "a text for a number",
        TRAIN,
        "sequence/transforms.json: frames[1].cy must be a finite number",
        with_sequence(made.in_frame(1, cy="middle")),
    ),
    Case(
        "a matrix that is no rotation",
        TRAIN,
        "sequence/transforms.json: frames[1].transform_matrix must be a 4 x 4 rotation and translation",
        with_sequence(made.in_frame(1, transform_matrix=[[2, 0, 0, 0]] * 4)),
    ),
    Case(
        "a matrix of ragged rows",
        TRAIN,
        "sequence/transforms.json: frames[1].transform_matrix must be a 4 x 4 rotation and translation",
        with_sequence(made.in_frame(1, transform_matrix=[[1, 0], [0]])),
    ),
    Case(
        "a missing field",
        TRAIN,
        "sequence/transforms.json: frames[1].flame_param_path is missing",
        with_sequence(made.without(1, "flame_param_path")),
    ),
    Case(
        "no frames",
        TRAIN,
        "sequence/transforms.json: frames is empty",
        with_sequence(made.in_json("transforms.json", lambda content: content.update(frames=[]))),
    ),
    Case(
        "a frame twice",
        TRAIN,
        "sequence/transforms.json: camera 0 has timestep_index 0 more than once",
        with_sequence(made.in_json("transforms.json", lambda content: content["frames"].append(content["frames"][0]))),
    ),
    Case(
        "a timestep of 10^30",
        TRAIN,
        "sequence/transforms.json: frames[1].timestep_index must be an integer of at most 62 bits",
        with_sequence(made.in_frame(1, timestep_index=10**30)),
    ),
    Case(
        "a negative timestep",
        TRAIN,
        "sequence/transforms.json: timestep_index must count from 0 without gaps, but 1 is missing",
        with_sequence(made.in_frame(1, timestep_index=-1)),
    ),
    Case(
        "a camera of 2^61",
        TRAIN,
        "sequence/transforms_train.json: frames[1].timestep_index is 1 (camera 0), and the data set has 10 "
        "timesteps without that picture",
        with_sequence(made.in_frame(1, camera_index=2**61)),
    ),
    Case(
        "an absolute path",
        TRAIN,
        "sequence/transforms.json: frames[1].file_path must be a path inside the data set, not '/etc/passwd'",
        with_sequence(made.in_frame(1, file_path="/etc/passwd")),
    ),
    Case(
        "a path with ..",
        TRAIN,
        "sequence/transforms.json: frames[1].flame_param_path must be a path inside the data set, not "
        "'../../secret.npz'",
        with_sequence(made.in_frame(1, flame_param_path="../../secret.npz")),
    ),
    Case(
        "a path as Windows writes it",
        TRAIN,
        "sequence/transforms.json: frames[1].file_path must be a path inside the data set, not "
        "'..\\\\..\\\\secret.png'",
        with_sequence(made.in_frame(1, file_path="..\\..\\secret.png")),
    ),
    Case(
        "a path with a null byte",
        TRAIN,
        "sequence/transforms.json: frames[1].file_path must be a path inside the data set, not 'images/\\x00.png'",
        with_sequence(made.in_frame(1, file_path="images/\0.png")),
    ),
    Case(
        "a path of 5,000 letters",
        TRAIN,
        "sequence/transforms.json: frames[1].file_path must be a path inside the data set, not 'x…'...",
        with_sequence(made.in_frame(1, file_path="x" * 5000)),
    ),
    Case(
        "a path that is no text",
        TRAIN,
        "sequence/transforms.json: frames[1].file_path must be a path inside the data set, not '\\ud800.png'",
        with_sequence(made.in_frame(1, file_path="\ud800.png")),
    ),
    Case(
        "a picture that is a link out of the folder",
        TRAIN,
        "sequence/transforms.json: frames[1].file_path must be a path inside the data set, not 'images/00001_00.png'",
        with_sequence(made.linked("images/00001_00.png", "/etc/passwd")),
    ),
    Case(
        "two links to each other",
        TRAIN,
        "sequence/transforms.json: frames[1].file_path must be a path inside the data set, not "
        "'images/00001_00.png' (1 more faults: `stavatar data inspect` lists them)",
        with_sequence(
            lambda folder: [
                made.linked("images/00001_00.png", "00002_00.png")(folder),
                made.linked("images/00002_00.png", "00001_00.png")(folder),
            ]
        ),
    ),
    Case(
        "the images folder as a link out",
        TRAIN,
        "sequence/transforms.json: frames[0].file_path must be a path inside the data set, not "
        "'images/00000_00.png' (9 more faults: `stavatar data inspect` lists them)",
        with_sequence(
            lambda folder: [
                (folder / "images").rename(folder.parent / "elsewhere"),
                (folder / "images").symlink_to(folder.parent / "elsewhere"),
            ]
        ),
    ),
    Case(
        "a picture of another size",
        TRAIN,
        "sequence/images/00001_00.png is 32 x 32 pixels, and 64 x 64 are expected",
        with_sequence(lambda folder: made.Image.new("RGB", (32, 32)).save(folder / "images/00001_00.png")),
    ),
    Case(
        "a picture that is cut short",
        TRAIN,
        "sequence/images/00001_00.png cannot be read as a picture: …",
        with_sequence(made.halved("images/00001_00.png")),
    ),
    Case(
        "a coloured mask",
        TRAIN,
        "sequence/fg_masks/00001_00.png is coloured, and a mask must be grey",
        with_sequence(
            lambda folder: made.Image.new("RGB", (64, 64), (255, 0, 0)).save(folder / "fg_masks/00001_00.png")
        ),
    ),
    Case(
        "a mask that is missing",
        TRAIN,
        "sequence/fg_masks/00001_00.png does not exist",
        with_sequence(lambda folder: (folder / "fg_masks/00001_00.png").unlink()),
    ),
    Case(
        "an unknown head model",
        TRAIN,
        "there is no head model 'mine' here; this version has 'embedded-1' and FLAME",
        with_sequence(made.in_json("transforms.json", lambda content: content["stavatar"].update(head_model="mine"))),
    ),
    Case(
        "a version of tomorrow",
        TRAIN,
        "sequence/transforms.json: stavatar.format is 99, and this stavatar reads 1: use the one it is from",
        with_sequence(made.in_json("transforms.json", lambda content: content["stavatar"].update(format=99))),
    ),
    Case(
        "a frame rate of zero",
        TRAIN,
        "sequence/transforms.json: stavatar.fps must be positive, and at most 1000",
        with_sequence(made.in_json("transforms.json", lambda content: content["stavatar"].update(fps=0))),
    ),
    Case(
        "a split that names a frame that is not there",
        TRAIN,
        "sequence/transforms_test.json: frames[0].timestep_index is 77 (camera 0), and the data set has 10 "
        "timesteps without that picture",
        with_sequence(made.in_frame(0, "transforms_test.json", timestep_index=77)),
    ),
    Case(
        "a frame to train on and to test on",
        TRAIN,
        "sequence/transforms_test.json: timestep 0 is in the training split as well",
        with_sequence(made.in_frame(0, "transforms_test.json", timestep_index=0)),
    ),
    Case(
        "extra fields",
        "data inspect sequence",
        "64 x 64 pixels",
        with_sequence(made.in_frame(1, comment="hello", weight=[1, 2])),
        0,
    ),
    Case(
        "a recording whose faults are many",
        "data inspect sequence",
        "more like this",
        with_sequence(made.in_json("transforms.json", lambda content: [frame.pop("w") for frame in content["frames"]])),
    ),
]

ARRAYS = [
    Case(
        "a pickled object in place of an array",
        TRAIN,
        "sequence/flame_param/00001.npz: expr holds Python objects and not plain numbers: they are not unpickled",
        with_sequence(made.in_npz("flame_param/00001.npz", expr=np.array([{"a": 1}], dtype=object))),
    ),
    Case(
        "an array of another shape",
        TRAIN,
        "sequence/flame_param/00001.npz: jaw_pose has the shape (1, 4), and (1, 3) is expected",
        with_sequence(made.in_npz("flame_param/00001.npz", jaw_pose=np.zeros((1, 4), np.float32))),
    ),
    Case(
        "NaN in an array",
        TRAIN,
        "sequence/flame_param/00001.npz: rotation must hold finite floating-point numbers",
        with_sequence(made.in_npz("flame_param/00001.npz", rotation=np.full((1, 3), np.nan, np.float32))),
    ),
    Case(
        "1e300 in an array",
        TRAIN,
        "sequence/flame_param/00001.npz: rotation must hold finite floating-point numbers",
        with_sequence(made.in_npz("flame_param/00001.npz", rotation=np.full((1, 3), 1e300))),
    ),
    Case(
        "texts in an array",
        TRAIN,
        "sequence/flame_param/00001.npz: rotation must hold finite floating-point numbers",
        with_sequence(made.in_npz("flame_param/00001.npz", rotation=np.array([["a", "b", "c"]]))),
    ),
    Case(
        "a missing array",
        TRAIN,
        "sequence/flame_param/00001.npz: expr is missing",
        with_sequence(made.in_npz("flame_param/00001.npz", expr=None)),
    ),
    Case(
        "another identity in one frame",
        TRAIN,
        "sequence/flame_param/00001.npz: shape differs from 00000.npz's: a sequence shows one person",
        with_sequence(made.in_npz("flame_param/00001.npz", shape=np.ones(100, np.float32))),
    ),
    Case(
        "an npz that is cut short",
        TRAIN,
        "sequence/flame_param/00001.npz cannot be read as an npz file: …",
        with_sequence(made.halved("flame_param/00001.npz")),
    ),
    Case(
        "an npz that is no zip",
        TRAIN,
        "sequence/flame_param/00001.npz cannot be read as an npz file: …",
        with_sequence(made.replaced("flame_param/00001.npz", "letter")),
    ),
    Case(
        "an npz that unpacks to 320 MB",
        TRAIN,
        "sequence/flame_param/00001.npz unpacks to more than 256 MiB, which no file of this kind does",
        with_sequence(
            lambda folder: made.replaced("flame_param/00001.npz", made.zip_bomb("shape.npy", 320 << 20))(folder)
        ),
    ),
    Case(
        "an array that announces a trillion numbers",
        TRAIN,
        "sequence/flame_param/00001.npz cannot be read as an npz file: …",
        with_sequence(made.replaced("flame_param/00001.npz", made.npy_announcing("(1000000000000,)"))),
    ),
    Case(
        "an array that announces a billion numbers",
        TRAIN,
        "sequence/flame_param/00001.npz cannot be read as an npz file: …",
        with_sequence(made.replaced("flame_param/00001.npz", made.npy_announcing("(200000000,)"))),
    ),
    Case(
        "an array with a negative length",
        TRAIN,
        "sequence/flame_param/00001.npz cannot be read as an npz file: …",
        with_sequence(made.replaced("flame_param/00001.npz", made.npy_announcing("(-1, 3)"))),
    ),
]

FORMATS = [
    Case(
        "LAM: a row of expressions too many",
        DATA,
        "data/flame_params.json: expr has 6 rows, and 4 are expected, one per timestep",
        with_format(
            "lam", made.in_json("flame_params.json", lambda content: content["expr"].extend([content["expr"][0]] * 3))
        ),
    ),
    Case(
        "LAM: a text among the expressions",
        DATA,
        "data/flame_params.json: expr[1].expr0 must be a finite number",
        with_format("lam", made.in_json("flame_params.json", lambda content: content["expr"][1].update(expr0="smile"))),
    ),
    Case(
        "IMavatar: a file name without a number",
        DATA,
        "data/flame_params.json: frames[1].file_path must end in the number of the picture, not 'x'",
        with_format("imavatar", made.in_frame(1, "flame_params.json", file_path="./image/x")),
    ),
    Case(
        "IMavatar: intrinsics with the wrong sign",
        DATA,
        "data/flame_params.json: intrinsics must have fx < 0 < fy, and are [1.5, 1.5, 0.5, 0.5]",
        with_format(
            "imavatar",
            made.in_json("flame_params.json", lambda content: content.update(intrinsics=[1.5, 1.5, 0.5, 0.5])),
        ),
    ),
    Case(
        "INSTA: an expression file of 10 MB",
        "data inspect data",
        "data/flame/exp/00001.txt is larger than 1 MiB, which no file of this kind should be",
        with_format("insta", lambda folder: made.replaced("flame/exp/00001.txt", "0 " * 5_000_000)(folder)),
    ),
    Case(
        "INSTA: a word among the numbers",
        "data inspect data",
        "data/flame/exp/00001.txt cannot be read as numbers: …",
        with_format("insta", made.replaced("flame/exp/00001.txt", "zero\n" * 100)),
    ),
    Case(
        "NerFace: a camera that is no rotation",
        "data inspect data",
        "data/transforms_train.json: frames[0].transform_matrix must be a 4 x 4 rotation and translation",
        with_format("nerface", made.in_frame(0, "transforms_train.json", transform_matrix=[[0] * 4] * 4)),
    ),
    Case(
        "metrical: a jaw whose rotation is none",
        "data inspect data",
        "data/checkpoint/00001.frame: jaw must hold the first two rows of rotation matrices",
        with_format("metrical", made.in_checkpoint("jaw", np.zeros((1, 6), np.float32))),
    ),
    Case(
        "metrical: a checkpoint that calls os.system",
        "data inspect data",
        "data/checkpoint/00001.frame asks for the Python object eval, which no tracked frame needs: it is refused, "
        "and nothing in it was run",
        with_format("metrical", lambda folder: torch.save({"flame": made.Nested()}, folder / "checkpoint/00001.frame")),
    ),
    Case(
        "metrical: a checkpoint that is a plain pickle",
        "data inspect data",
        "data/checkpoint/00001.frame cannot be read as a torch file of arrays: …",
        with_format(
            "metrical", lambda folder: made.replaced("checkpoint/00001.frame", pickle.dumps({"flame": 1}))(folder)
        ),
    ),
    Case(
        "metrical: a checkpoint that unpacks to 64 MB",
        "data inspect data",
        "data/checkpoint/00001.frame unpacks to more than 32 MiB, which no checkpoint has",
        with_format(
            "metrical",
            lambda folder: made.replaced("checkpoint/00001.frame", made.zip_bomb("archive/data.pkl", 64 << 20))(folder),
        ),
    ),
]

AVATARS = [
    Case("a folder that is not there", RENDER, "avatar is not an avatar: it has no avatar.yaml"),
    Case(
        "avatar.yaml is missing",
        RENDER,
        "avatar is not an avatar: it has no avatar.yaml",
        with_avatar(lambda folder: (folder / "avatar.yaml").unlink()),
    ),
    Case(
        "avatar.safetensors is missing",
        RENDER,
        "avatar/avatar.safetensors does not exist",
        with_avatar(lambda folder: (folder / "avatar.safetensors").unlink()),
    ),
    Case(
        "avatar.safetensors is cut short",
        RENDER,
        "avatar/avatar.safetensors cannot be read as safetensors: …",
        with_avatar(made.halved("avatar.safetensors")),
    ),
    Case(
        "tensors that announce billions of numbers",
        RENDER,
        "avatar/avatar.safetensors cannot be read as safetensors: …",
        with_avatar(made.replaced("avatar.safetensors", made.announcing_tensors([4_000_000_000]))),
    ),
    Case(
        "a version of tomorrow",
        RENDER,
        "avatar/avatar.yaml has the format 99, and this version of stavatar reads 1",
        with_avatar(made.in_yaml(lambda content: content.update(format=99))),
    ),
    Case(
        "YAML whose aliases stand for a billion values",
        RENDER,
        "avatar/avatar.yaml is not YAML that can be read: it uses aliases (*name), which are not read",
        with_avatar(made.replaced("avatar.yaml", made.LAUGHS)),
    ),
    Case(
        "YAML that makes Python objects",
        RENDER,
        "avatar/avatar.yaml is not YAML that can be read: …",
        with_avatar(made.replaced("avatar.yaml", "format: !!python/object/apply:os.system ['touch escaped']\n")),
    ),
    Case(
        "YAML with a date that does not exist",
        RENDER,
        "avatar/avatar.yaml is not YAML that can be read: …",
        with_avatar(made.replaced("avatar.yaml", "format: 2001-99-99\n")),
    ),
    Case(
        "YAML nested 100,000 deep",
        RENDER,
        "avatar/avatar.yaml is not YAML: it is nested too deep",
        with_avatar(made.replaced("avatar.yaml", "[" * 100_000)),
    ),
    Case(
        "YAML of 10 MB",
        RENDER,
        "avatar/avatar.yaml is larger than 256 KiB, which no file of this kind should be",
        with_avatar(made.replaced("avatar.yaml", "format: 1\n" + "# x\n" * 2_500_000)),
    ),
    Case(
        "an unknown setting",
        RENDER,
        "avatar/avatar.yaml: network: 'depth' is not a setting; known are …",
        with_avatar(made.in_yaml(lambda content: content["config"]["network"].update(depth=3))),
    ),
    Case(
        "a network that would need gigabytes",
        RENDER,
        "avatar/avatar.yaml: network.width must be in (0, 4], not 1000",
        with_avatar(made.in_yaml(lambda content: content["config"]["network"].update(width=1000.0))),
    ),
    Case(
        "pictures of a billion pixels a side",
        RENDER,
        "avatar is not a complete avatar: image.width must be a whole number between 1 and 8192",
        with_avatar(made.in_yaml(lambda content: content["image"].update(width=10**9))),
    ),
    Case(
        "a frame rate that is no number",
        RENDER,
        "avatar is not a complete avatar: fps must be a number between 0 and 1000",
        with_avatar(made.in_yaml(lambda content: content.update(fps=float("nan")))),
    ),
    Case(
        "an unknown head model",
        RENDER,
        "there is no head model '../../mine' here; this version has 'embedded-1' and FLAME",
        with_avatar(made.in_yaml(lambda content: content.update(head_model="../../mine"))),
    ),
    Case(
        "NaN among the Gaussians",
        RENDER,
        "avatar is not a complete avatar: gaussians.position holds values that are not numbers",
        with_avatar(made.in_tensors(gaussians__position=lambda value: value * float("nan"))),
    ),
    Case(
        "infinity in the motion",
        RENDER,
        "avatar is not a complete avatar: motion.neck must hold finite 32-bit floating-point numbers",
        with_avatar(made.in_tensors(motion__neck=lambda value: value + float("inf"))),
    ),
    Case(
        "NaN in the network",
        RENDER,
        "avatar is not a complete avatar: network.fuse_last.weight holds values that are not numbers",
        with_avatar(made.in_tensors(network__fuse_last__weight=lambda value: value * float("nan"))),
    ),
    Case(
        "Gaussians on faces that do not exist",
        RENDER,
        "avatar is not a complete avatar: gaussians.face points beyond the head's faces",
        with_avatar(made.in_tensors(gaussians__face=lambda value: value + 10**6)),
    ),
    Case(
        "a tensor of another shape",
        RENDER,
        "avatar is not a complete avatar: motion.jaw has the shape [10, 2], and [10, 3] is expected",
        with_avatar(made.in_tensors(motion__jaw=lambda value: value[:, :2])),
    ),
    Case(
        "a tensor that is missing",
        RENDER,
        "avatar is not a complete avatar: 'shape' is missing",
        with_avatar(made.in_tensors(shape=lambda value: None)),
    ),
    Case(
        "frames to test on that are not there",
        RENDER,
        "avatar is not a complete avatar: motion.test must be indices of the 10 frames",
        with_avatar(made.in_tensors(motion__test=lambda value: value + 1000)),
    ),
    Case(
        "a camera with a negative focal length",
        RENDER,
        "avatar is not a complete avatar: camera.focal must be positive, of one camera or one for each frame",
        with_avatar(made.in_tensors(camera__focal=lambda value: -value)),
    ),
]

RUNS = [
    Case(
        "a folder that is no run",
        "report run",
        "run is not a stavatar run: it has no config.yaml",
        lambda folder, kit: (folder / "run").mkdir(),
    ),
    Case(
        "a run without results",
        "report run",
        "run has no results yet: measure it with `stavatar evaluate run`",
        made.text("run/config.yaml", "preset: cpu\n"),
    ),
    Case(
        "results that are a list",
        "report run",
        "run/results.json is not a result file of stavatar",
        made.both(made.text("run/config.yaml", "preset: cpu\n"), made.text("run/results.json", "[]")),
    ),
    Case(
        "results of another version",
        "compare run/results.json",
        "run/results.json has another format than …: write it anew with `stavatar evaluate`",
        made.text("run/results.json", json.dumps({"metrics": {}, "format": "old"})),
    ),
    Case(
        "results without most of their fields",
        "compare run/results.json",
        "run/results.json lacks name",
        made.text("run/results.json", json.dumps({"metrics": {}, "format": RESULTS_FORMAT})),
    ),
    Case(
        "settings with an unknown field",
        RESUME,
        "out/config.yaml: training: 'speed' is not a setting; known are …",
        made.with_run(made.replaced("config.yaml", "training: {speed: 9}\n")),
    ),
    Case(
        "settings that are a list",
        RESUME,
        "out/config.yaml: expected a mapping of settings, found list",
        made.with_run(made.replaced("config.yaml", "- a\n")),
    ),
    Case(
        "inputs.json that is a list",
        RESUME,
        "out/inputs.json must hold a JSON object",
        made.with_run(made.replaced("inputs.json", "[]")),
    ),
    Case(
        "stages.json with a text for seconds",
        RESUME,
        "out/stages.json: tracking must be a number of seconds",
        made.with_run(made.replaced("stages.json", '{"tracking": "long"}')),
    ),
    Case(
        "a checkpoint that is cut short",
        RESUME,
        "out/checkpoint.safetensors is not a readable checkpoint (…); delete it to start over",
        made.with_run(made.replaced("checkpoint.safetensors", made.announcing_tensors([4])[:20])),
    ),
    Case(
        "a checkpoint of another run",
        RESUME,
        "out/checkpoint.safetensors belongs to another run (other frames or settings); delete it to start over",
        made.with_run(made.replaced("checkpoint.safetensors", made.announcing_tensors([0]))),
    ),
]

HEADS = [
    Case(
        "os.system",
        HEAD,
        "model.pkl asks for os.system, which no head model needs: nothing in it was executed, and it is not read",
        made.text("model.pkl", made.evil("os", "system", "touch escaped")),
    ),
    Case(
        "posix.system",
        HEAD,
        "model.pkl asks for posix.system, which no head model needs: nothing in it was executed, and it is not read",
        made.text("model.pkl", made.evil("posix", "system", "touch escaped")),
    ),
    Case(
        "builtins.eval",
        HEAD,
        "model.pkl asks for builtins.eval, which no head model needs: nothing in it was executed, and it is not read",
        made.text("model.pkl", made.evil("builtins", "eval", "open('escaped', 'w')")),
    ),
    Case(
        "__builtin__.eval, as Python 2 calls it",
        HEAD,
        "model.pkl asks for __builtin__.eval, which no head model needs: nothing in it was executed, and it is not "
        "read",
        made.text("model.pkl", made.evil("__builtin__", "eval", "open('escaped', 'w')")),
    ),
    Case(
        "builtins.exec",
        HEAD,
        "model.pkl asks for builtins.exec, which no head model needs: nothing in it was executed, and it is not read",
        made.text("model.pkl", made.evil("builtins", "exec", "open('escaped', 'w')")),
    ),
    Case(
        "subprocess.Popen",
        HEAD,
        "model.pkl asks for subprocess.Popen, which no head model needs: nothing in it was executed, and it is not "
        "read",
        made.text("model.pkl", made.evil("subprocess", "Popen", "touch escaped")),
    ),
    Case(
        "a nested import, os.path.os.system",
        HEAD,
        "model.pkl asks for os.path.os.system, which no head model needs: nothing in it was executed, and it is "
        "not read",
        made.text("model.pkl", b"\x80\x04\x8c\x07os.path\x8c\x09os.system\x93\x8c\x0etouch escaped\x85R."),
    ),
    Case(
        "a call inside nested lists",
        HEAD,
        "model.pkl asks for builtins.eval, which no head model needs: nothing in it was executed, and it is not read",
        lambda folder, kit: made.text("model.pkl", made.chain())(folder, kit),
    ),
    Case(
        "numpy.load of another file",
        HEAD,
        "model.pkl asks for numpy.load, which no head model needs: nothing in it was executed, and it is not read",
        made.text("model.pkl", made.evil("numpy", "load", "other.npy")),
    ),
    Case(
        "a state that brings its own methods",
        HEAD,
        "model.pkl asks for os.system, which no head model needs: nothing in it was executed, and it is not read",
        made.text("model.pkl", made.set_state()),
    ),
    Case(
        "an old-style instance of a class",
        HEAD,
        "model.pkl uses the operation INST, which no head model needs: nothing in it was executed, and it is not read",
        made.text("model.pkl", b"(S'touch escaped'\nios\nsystem\n."),
    ),
    Case(
        "an extension code",
        HEAD,
        "model.pkl uses the operation EXT1, which no head model needs: nothing in it was executed, and it is not read",
        made.text("model.pkl", b"\x80\x02\x82\x01."),
    ),
    Case(
        "a persistent id",
        HEAD,
        "model.pkl uses the operation PERSID, which no head model needs: nothing in it was executed, and it is not "
        "read",
        made.text("model.pkl", b"Pescaped\n."),
    ),
    Case(
        "a memo with four billion places",
        HEAD,
        "model.pkl: v_template is missing, so this is no FLAME model",
        made.text("model.pkl", b"\x80\x02}r\xff\xff\xff\xff."),
    ),
    Case(
        "a text of four gigabytes, announced",
        HEAD,
        "model.pkl is not a whole pickle: it is cut short",
        made.text("model.pkl", b"\x80\x02X\xff\xff\xff\xffabc."),
    ),
    Case(
        "bytes of eight exabytes, announced",
        HEAD,
        "model.pkl is not a whole pickle: it is cut short",
        made.text("model.pkl", b"\x80\x05\x96" + b"\xff" * 7 + b"\x7fabc."),
    ),
    Case(
        "20,000 copies of a megabyte",
        HEAD,
        "model.pkl unfolds to more than 512 MiB: nothing in it was executed, and it is not read",
        lambda folder, kit: made.text("model.pkl", made.copies())(folder, kit),
    ),
    Case(
        "tuples nested 90,000 deep",
        HEAD,
        "model.pkl takes more than 100,000 operations: nothing in it was executed, and it is not read",
        made.text("model.pkl", made.deep_pickle()),
    ),
    Case(
        "an integer of 5,000 digits",
        HEAD,
        "model.pkl is not a whole pickle: …",
        made.text("model.pkl", b"I" + b"9" * 5000 + b"\n."),
    ),
    Case(
        "a pickle that is cut short",
        HEAD,
        "model.pkl is not a whole pickle: …",
        made.text("model.pkl", pickle.dumps({"v_template": [1.0] * 100})[:50]),
    ),
    Case(
        "a pickle of something else",
        HEAD,
        "model.pkl: v_template is missing, so this is no FLAME model",
        made.text("model.pkl", pickle.dumps({"weights": 3})),
    ),
    Case("a text called .pkl", HEAD, "model.pkl is not a whole pickle: …", made.text("model.pkl", "a letter")),
    Case(
        "nothing at the path", HEAD, "model.pkl does not exist: give the FLAME file that you downloaded (.pkl or .npz)"
    ),
    Case(
        "an npz with pickled objects",
        "render avatar -o out.mp4 --head model.npz",
        "model.npz: v_template holds Python objects and not plain numbers: they are not unpickled",
        lambda folder, kit: np.savez(folder / "model.npz", v_template=np.array([{"a": 1}], dtype=object)),
    ),
    Case(
        "an npz with fewer vertices",
        "render avatar -o out.mp4 --head model.npz",
        "model.npz: v_template has the shape (10, 3), and FLAME's is (5023, 3)",
        lambda folder, kit: np.savez(folder / "model.npz", v_template=np.zeros((10, 3))),
    ),
    Case(
        "an npz that announces 2 GB",
        "render avatar -o out.mp4 --head model.npz",
        "model.npz unpacks to more than 1024 MiB, which no file of this kind does",
        lambda folder, kit: made.text("model.npz", made.zip_announcing("v_template.npy", 2 << 30))(folder, kit),
    ),
]

TABLES = [
    Case(
        "an empty table",
        DRIVE,
        "motion.csv has 0 columns named as ARKit's coefficients (jawOpen, eyeBlinkLeft and so on): at least 10 are "
        "needed",
        made.both(with_avatar(), made.text("motion.csv", "")),
    ),
    Case(
        "names and no frames",
        DRIVE,
        "motion.csv holds no frames: a line of names and one line for each frame are needed",
        made.both(with_avatar(), made.table(0)),
    ),
    Case(
        "other columns than ARKit's",
        DRIVE,
        "motion.csv has 0 columns named as ARKit's coefficients (jawOpen, eyeBlinkLeft and so on): at least 10 are "
        "needed",
        made.both(with_avatar(), made.text("motion.csv", "a,b\n1,2\n")),
    ),
    Case(
        "a word for a number",
        DRIVE,
        "motion.csv, frame 3: EyeLookOutLeft is not a number",
        made.both(with_avatar(), made.table(change=lambda cells: cells[3].__setitem__(5, "wide"))),
    ),
    Case(
        "NaN in a cell",
        DRIVE,
        "motion.csv, frame 3: EyeLookOutLeft is not finite",
        made.both(with_avatar(), made.table(change=lambda cells: cells[3].__setitem__(5, "nan"))),
    ),
    Case(
        "a row that is cut short",
        DRIVE,
        "motion.csv, frame 3: BrowDownLeft is not a number",
        made.both(with_avatar(), made.table(change=lambda cells: cells[3].__delitem__(slice(9, None)))),
    ),
    Case(
        "a timecode of 5,000 digits",
        DRIVE,
        "motion.csv does not tell its frames per second: give them with --fps",
        made.both(
            with_avatar(),
            made.table(change=lambda cells: [row.__setitem__(0, "0:0:0:" + "9" * 5000) for row in cells[1:]]),
        ),
    ),
    Case(
        "bytes that are not UTF-8",
        DRIVE,
        "motion.csv cannot be read as CSV: …",
        made.both(with_avatar(), made.text("motion.csv", b"\xff\xfe\x00")),
    ),
    Case(
        "a cell of a megabyte",
        DRIVE,
        "motion.csv cannot be read as CSV: …",
        made.both(with_avatar(), made.text("motion.csv", "jawOpen," + "x" * (1 << 20))),
    ),
    Case(
        "40 MB of commas",
        DRIVE,
        "motion.csv has more than 15,000,000 cells, which no recording of a face should have",
        made.both(with_avatar(), lambda folder, kit: made.text("motion.csv", "," * 40_000_000)(folder, kit)),
    ),
]

SPLATS = [
    Case(
        "PLY: cut short",
        "read_ply x.ply",
        "x.ply holds 100 bytes of Gaussians, and its header announces 136",
        made.text("x.ply", made.ply(2, bytes(100))),
    ),
    Case(
        "PLY: four billion Gaussians announced",
        "read_ply x.ply",
        "x.ply holds 0 bytes of Gaussians, and its header announces 272000000000",
        made.text("x.ply", made.ply(4_000_000_000)),
    ),
    Case(
        "PLY: a count of 5,000 digits",
        "read_ply x.ply",
        "x.ply is not a binary PLY with the properties of 3D Gaussian splatting",
        made.text("x.ply", made.ply("9" * 5000)),
    ),
    Case(
        "PLY: other properties",
        "read_ply x.ply",
        "x.ply is not a binary PLY with the properties of 3D Gaussian splatting",
        made.text("x.ply", made.ply(1, bytes(12), "property float x")),
    ),
    Case(
        "PLY: a point that is no number",
        "read_ply x.ply",
        "x.ply: x is not a finite number",
        made.text("x.ply", made.ply(1, b"\0\0\xc0\x7f" + bytes(64))),
    ),
    Case("PLY: a text", "read_ply x.ply", "x.ply is not a PLY file", made.text("x.ply", "ply, says the letter")),
    Case("PLY: no Gaussians", "read_ply x.ply", "0", made.text("x.ply", made.ply(0)), 0),
    Case("SPZ: no gzip", "read_spz x.spz", "x.spz cannot be read as SPZ: …", made.text("x.spz", "letter")),
    Case(
        "SPZ: unpacks to 320 MB",
        "read_spz x.spz",
        "x.spz unpacks to more than 256 MiB, which no avatar does",
        lambda folder, kit: made.text("x.spz", made.gzip_bomb(320 << 20))(folder, kit),
    ),
    Case(
        "SPZ: four billion Gaussians announced",
        "read_spz x.spz",
        "x.spz cannot be read as SPZ: …",
        made.text("x.spz", made.spz(4_000_000_000)),
    ),
]

OPTIONS = [
    Case(
        "a size below the range",
        "render avatar -o out.mp4 --size 5",
        "Invalid value for '--size': … (see `stavatar render --help`)",
    ),
    Case(
        "a size above the range",
        "synth -o out.mp4 --size 100000",
        "Invalid value for '--size': … (see `stavatar synth --help`)",
    ),
    Case("no frames", "synth -o out.mp4 --frames 0", "Invalid value for '--frames': … (see `stavatar synth --help`)"),
    Case(
        "minus one frame to hold out",
        "track clip.mkv -o out --holdout -1",
        "Invalid value for '--holdout': … (see `stavatar track --help`)",
    ),
    Case(
        "a word for a number",
        "render avatar -o out.mp4 --size big",
        "Invalid value for '--size': … (see `stavatar render --help`)",
    ),
    Case(
        "NaN for a number",
        "render avatar -o out.mp4 --dolly nan",
        "Invalid value for '--dolly': … (see `stavatar render --help`)",
    ),
    Case(
        "infinity for an angle",
        "render avatar -o out.mp4 --yaw inf",
        "Invalid value for '--yaw': it must be a finite number (see `stavatar render --help`)",
    ),
    Case(
        "a negative seed", "synth -o out.mp4 --seed -1", "Invalid value for '--seed': … (see `stavatar synth --help`)"
    ),
    Case(
        "a seed of 30 digits",
        "synth -o out.mp4 --seed 999999999999999999999999999999",
        "Invalid value for '--seed': … (see `stavatar synth --help`)",
    ),
    Case(
        "a setting that does not exist",
        "track clip.mkv -o out --preset cpu --set nothing.such=1",
        "--set nothing.such=1: expected section.field=value with a field of the configuration",
    ),
    Case(
        "a setting of another type",
        "track clip.mkv -o out --preset cpu --set training.steps=many",
        "--set: training: steps must be of type int, not 'many'",
    ),
    Case(
        "a setting out of range",
        "track clip.mkv -o out --preset cpu --set training.steps=0",
        "--set: training.steps must be in [1, 1e+07], not 0",
    ),
    Case(
        "a setting that is not finite",
        "track clip.mkv -o out --preset cpu --set training.lr_network=.inf",
        "--set: training: lr_network must be a finite number, or a whole one of at most 63 bits, not inf",
    ),
    Case(
        "a setting of 400 digits",
        f"track clip.mkv -o out --preset cpu --set capture.size={'9' * 400}",
        "--set: capture: size must be a finite number, or a whole one of at most 63 bits, not 9…",
    ),
    Case(
        "a setting that is a date",
        "track clip.mkv -o out --preset cpu --set training.steps=2001-99-99",
        "--set training.steps=2001-99-99: the value is not YAML that can be read: …",
    ),
    Case(
        "a setting that is not YAML",
        "track clip.mkv -o out --preset cpu --set 'training.steps=[' ",
        "--set training.steps=[: the value is not YAML that can be read: …",
    ),
    Case(
        "a setting that refining does not look at",
        "refine sequence -o out --set training.steps=9",
        "--set training.steps=9: it means nothing here; what counts is tracking.size, tracking.face, tracking.torso, "
        "tracking.matte, tracking.smooth",
        with_sequence(),
    ),
    Case(
        "refining without refining",
        "refine sequence -o out --set tracking.refine=false",
        "--set tracking.refine=false: it means nothing here; what counts is …",
        with_sequence(),
    ),
    Case(
        "an unknown preset",
        "track clip.mkv -o out --preset best",
        "there is no preset 'best'; choose one of paper, cpu, gpu",
        made.clip("clip.mkv"),
    ),
    Case(
        "an unknown option",
        "render avatar -o out.mp4 --speed 3",
        "No such option: --speed… (see `stavatar render --help`)",
    ),
    Case("an unknown command", "paint", "No such command 'paint'… (see `stavatar --help`)"),
    Case(
        "a frame that the motion has not",
        "export ply avatar -o out.ply --frame 10000",
        "--frame 10000: the recorded motion has the frames 0 to 9",
        with_avatar(),
    ),
    Case(
        "another suffix than mp4",
        "render avatar -o out.avi",
        "out.avi: give a name that ends in .mp4, or a folder (a name without an ending) for PNGs",
        with_avatar(),
    ),
    Case(
        "an output folder that holds something",
        "track clip.mkv -o out",
        "out exists and is not a stavatar run; choose another output folder",
        made.both(made.clip("clip.mkv"), made.text("out/diary.txt", "mine")),
    ),
    Case(
        "an output folder that is a file",
        "track clip.mkv -o out",
        "out exists and is not a stavatar run; choose another output folder",
        made.both(made.clip("clip.mkv"), made.text("out", "mine")),
    ),
    Case(
        "an output folder below a file",
        "track clip.mkv -o note/out",
        "cannot write note/out: …",
        made.both(made.clip("clip.mkv"), made.text("note", "mine")),
    ),
    Case(
        "a name that no file system takes",
        f"track clip.mkv -o {'x' * 300}",
        "cannot write x…: …",
        made.clip("clip.mkv"),
    ),
    Case(
        "a folder that cannot be written",
        "track clip.mkv -o /proc/out",
        "cannot write /proc/out: …",
        made.clip("clip.mkv"),
    ),
    Case(
        "results inside of the pictures",
        "track pictures -o pictures/out",
        "pictures/out lies in pictures, which is read: choose an output folder outside of it",
        made.pictures(),
    ),
    Case(
        "results in place of the sequence",
        "train sequence -o sequence",
        "sequence lies in sequence, which is read: choose an output folder outside of it",
        with_sequence(),
    ),
    Case(
        "converting a sequence into itself",
        "data convert sequence -o sequence/again",
        "sequence/again lies in sequence, which is read: choose an output folder outside of it",
        with_sequence(),
    ),
    Case(
        "a video where a folder is expected",
        "train clip.mkv -o out",
        "clip.mkv is not a folder: give the folder of a data set",
        made.clip("clip.mkv"),
    ),
    Case(
        "a folder where a picture's name is expected",
        "render avatar -o out",
        "out exists already: choose a new or empty folder for the PNGs",
        made.both(with_avatar(), made.text("out/diary.txt", "mine")),
    ),
    Case(
        "more frames held out than there are",
        "train sequence -o out --holdout 500",
        "cannot hold out 500 of the 10 usable frames of small: none is left to train on",
        with_sequence(),
    ),
]

KNOWN = (
    "known are name, task, input, out, subject, method, preset, set, head, holdout, protocol, seed, rows, cpus, gpus"
)
NAMES = "use letters, digits, dots, dashes and underscores, up to a hundred"


def manifest(*lines: str) -> Make:
    """A manifest whose heading names the three columns that are needed."""
    return made.text("manifest.csv", "\n".join(["name,task,input", *lines]) + "\n")


def column(name: str, value: str, task: str = "train") -> Make:
    """A manifest of one row that has one more column."""
    return made.text("manifest.csv", f"name,task,input,{name}\nanna,{task},.,{value}\n")


BATCH = "batch manifest.csv -o out --check"
MANIFESTS = [
    Case("nothing at the path", BATCH, "manifest.csv does not exist"),
    Case("a folder", BATCH, "manifest.csv is a folder, and a file is expected", made.text("manifest.csv/x", "")),
    Case(
        "a named pipe",
        BATCH,
        "manifest.csv is no ordinary file",
        lambda folder, kit: made.os.mkfifo(folder / "manifest.csv"),
    ),
    Case("a device without end", "batch /dev/zero -o out --check", "/dev/zero is no ordinary file"),
    Case(
        "an empty file",
        BATCH,
        "manifest.csv holds no heading: its first line must name the columns, such as name,task,input",
        made.text("manifest.csv", ""),
    ),
    Case(
        "remarks alone",
        BATCH,
        "manifest.csv holds no heading: its first line must name the columns, such as name,task,input",
        made.text("manifest.csv", "# later\n\n,,\n"),
    ),
    Case("a heading alone", BATCH, "manifest.csv holds no rows below its heading", manifest()),
    Case(
        "UTF-16, as spreadsheets save it",
        BATCH,
        "manifest.csv cannot be read as a CSV table in UTF-8: …",
        made.text("manifest.csv", "name,task,input\nanna,train,.\n".encode("utf-16")),
    ),
    Case(
        "an umlaut in Latin-1",
        BATCH,
        "manifest.csv cannot be read as a CSV table in UTF-8: …",
        made.text("manifest.csv", "name,task,input\nanna,train,.\n# Jürgen".encode("latin-1")),
    ),
    Case(
        "a video called .csv",
        BATCH,
        "manifest.csv cannot be read as a CSV table in UTF-8: …",
        lambda folder, kit: made.void(made.mp4(folder, "whole.mp4").rename(folder / "manifest.csv")),
    ),
    Case(
        "a byte order mark and line ends of Windows",
        BATCH,
        "manifest.csv: 1 job, no faults",
        made.text("manifest.csv", "\ufeffname,task,input\r\nanna,train,.\r\n"),
        0,
    ),
    Case(
        "line ends of old Macs",
        BATCH,
        "manifest.csv: 1 job, no faults",
        made.text("manifest.csv", "name,task,input\ranna,train,.\r"),
        0,
    ),
    Case(
        "semicolons between columns",
        BATCH,
        "manifest.csv separates its columns by ';': save it with commas",
        made.text("manifest.csv", "name;task;input\nanna;train;.\n"),
    ),
    Case(
        "tabs between columns",
        BATCH,
        "manifest.csv separates its columns by '\\t': save it with commas",
        made.text("manifest.csv", "name\ttask\tinput\nanna\ttrain\t.\n"),
    ),
    Case(
        "a quotation mark that is never closed",
        BATCH,
        "manifest.csv cannot be read as a CSV table in UTF-8: …",
        manifest('anna,train,"here'),
    ),
    Case(
        "100 MB of one row",
        BATCH,
        "manifest.csv is larger than 32 MiB, which no file of this kind should be",
        made.text("manifest.csv", "x" * 100_000_000),
    ),
    Case(
        "a field of a megabyte",
        BATCH,
        "manifest.csv cannot be read as a CSV table in UTF-8: …",
        manifest(f"anna,train,{'x' * 1_000_000}"),
    ),
    Case(
        "a field of 100,000 letters",
        BATCH,
        "manifest.csv, line 2: input has more than 4,096 characters",
        manifest(f"anna,train,{'x' * 100_000}"),
    ),
    Case(
        "a million rows",
        BATCH,
        "manifest.csv has more than 100,000 rows: share them out among several manifests",
        manifest(*["anna,train,."] * 1_000_000),
    ),
    Case(
        "a million rows of another length",
        BATCH,
        "manifest.csv has more than 100,000 rows: share them out among several manifests",
        manifest(*["anna"] * 1_000_000),
    ),
    Case(
        "50,000 rows that are wrong",
        BATCH,
        "manifest.csv has 50,000 faults, the first 20 of them above; nothing was started",
        manifest(*["anna"] * 50_000),
    ),
    Case(
        "100,000 columns",
        BATCH,
        f"manifest.csv: columns unknown: …; {KNOWN}",
        made.text("manifest.csv", ",".join(f"c{k}" for k in range(100_000))),
    ),
    Case(
        "a column missing",
        BATCH,
        f"manifest.csv: columns missing: 'task'; {KNOWN}",
        made.text("manifest.csv", "name,input\nanna,.\n"),
    ),
    Case(
        "a column that nobody knows",
        BATCH,
        f"manifest.csv: columns unknown: 'colour'; {KNOWN}",
        column("colour", "red"),
    ),
    Case("a column twice", BATCH, f"manifest.csv: columns there twice: 'name'; {KNOWN}", column("name", "bob")),
    Case(
        "a row with a field too many",
        BATCH,
        "manifest.csv, line 2: 4 fields, but the heading has 3; put a field that holds a comma in double quotes",
        manifest("anna,train,a, b.mp4"),
    ),
    Case("a name that is empty", BATCH, "manifest.csv, line 2: name is empty", manifest(",train,.")),
    Case(
        "a name twice",
        BATCH,
        "manifest.csv, line 3: name anna is that of line 2",
        manifest("anna,train,.", "anna,train,."),
    ),
    Case(
        "a name that leads upwards",
        BATCH,
        f"manifest.csv, line 2: name '../anna': {NAMES}",
        manifest("../anna,train,."),
    ),
    Case(
        "a name that is an absolute path",
        BATCH,
        f"manifest.csv, line 2: name '/tmp/anna': {NAMES}",
        manifest("/tmp/anna,train,."),
    ),
    Case(
        "a formula as name",
        BATCH,
        f"""manifest.csv, line 2: name "=cmd|' /C calc'!A0": {NAMES}""",
        manifest("=cmd|' /C calc'!A0,train,."),
    ),
    Case(
        "a formula as subject, which is a text", BATCH, "manifest.csv: 1 job, no faults", column("subject", "=1+1"), 0
    ),
    Case(
        "a null byte in a name",
        BATCH,
        "manifest.csv, line 2: name 'an\\x00na': it holds a control character",
        manifest("an\0na,train,."),
    ),
    Case(
        "a null byte in a path",
        BATCH,
        "manifest.csv, line 2: input 'a\\x00.mp4': it holds a control character",
        manifest("anna,train,a\0.mp4"),
    ),
    Case(
        "an escape sequence as subject",
        BATCH,
        "manifest.csv, line 2: subject '\\x1b[31mred': it holds a control character",
        column("subject", "\x1b[31mred"),
    ),
    Case(
        "a line break as subject",
        BATCH,
        "manifest.csv, line 3: subject 'a\\n| b': it holds a control character",
        column("subject", '"a\n| b"'),
    ),
    Case(
        "a task that there is not",
        BATCH,
        "manifest.csv, line 2: task 'render': expected reconstruct, train, evaluate, ablate",
        manifest("anna,render,."),
    ),
    Case(
        "an input that is not there",
        BATCH,
        "manifest.csv, line 2: input no.mp4 does not exist in …",
        manifest("anna,reconstruct,no.mp4"),
    ),
    Case(
        "an input with a name of 300 letters",
        BATCH,
        "manifest.csv, line 2: input x… does not exist in …",
        manifest(f"anna,reconstruct,{'x' * 300}.mp4"),
    ),
    Case(
        "an input in the home of nobody",
        BATCH,
        "manifest.csv, line 2: input ~nobody-at-all/a.mp4: …",
        manifest("anna,reconstruct,~nobody-at-all/a.mp4"),
    ),
    Case(
        "an input of a kind of storage that there is not",
        BATCH,
        "manifest.csv, line 2: gopher://x/a.mp4: gopher:// is no kind of storage that fsspec knows",
        manifest("anna,reconstruct,gopher://x/a.mp4"),
    ),
    Case(
        "a result that leads upwards",
        BATCH,
        "manifest.csv, line 2: out ../anna leads out of --out: give an absolute path without .., or a URL, instead",
        column("out", "../anna"),
    ),
    Case(
        "a result that leads upwards from an absolute path",
        BATCH,
        "manifest.csv, line 2: out /tmp/../a leads out of --out: give an absolute path without .., or a URL, instead",
        column("out", "/tmp/../a"),
    ),
    Case(
        "a result in the home of nobody",
        BATCH,
        "manifest.csv, line 2: out ~nobody-at-all/a: …",
        column("out", "~nobody-at-all/a"),
    ),
    Case(
        "a result within that of another row",
        BATCH,
        "manifest.csv, line 3: out …/out/a/b lies within that of line 2",
        made.text("manifest.csv", "name,task,input,out\nanna,train,.,a\nbob,train,.,a/b\n"),
    ),
    Case(
        "a result in place of the input",
        BATCH,
        "manifest.csv, line 2: input and out are the same place",
        lambda folder, kit: made.text("manifest.csv", f"name,task,input,out\nanna,train,.,{folder}\n")(folder, kit),
    ),
    Case(
        "a preset that there is not",
        BATCH,
        "manifest.csv, line 2: there is no preset 'best'; choose one of paper, cpu, gpu",
        column("preset", "best"),
    ),
    Case(
        "a setting that there is not",
        BATCH,
        "manifest.csv, line 2: --set nothing.such=1: expected section.field=value with a field of the configuration",
        column("set", "nothing.such=1"),
    ),
    Case(
        "a setting that is not YAML",
        BATCH,
        "manifest.csv, line 2: --set training.steps=[: the value is not YAML that can be read: …",
        column("set", "training.steps=["),
    ),
    Case("a head that is not there", BATCH, "manifest.csv, line 2: head no.pkl is no file", column("head", "no.pkl")),
    Case(
        "a seed of 30 digits", BATCH, "manifest.csv, line 2: --set: training: seed must be …", column("seed", "9" * 30)
    ),
    Case(
        "a seed of 5,000 digits",
        BATCH,
        "manifest.csv, line 2: seed has more than 4,096 characters",
        column("seed", "9" * 5000),
    ),
    Case(
        "minus one frame to hold out",
        BATCH,
        "manifest.csv, line 2: holdout '-1': expected a whole number from 1 on",
        column("holdout", "-1"),
    ),
    Case("a protocol that there is not", BATCH, "manifest.csv, line 2: …", column("protocol", "best")),
    Case(
        "rows of an ablation that there are not",
        BATCH,
        "manifest.csv, line 2: --rows best: expected …",
        column("rows", "best", "ablate"),
    ),
    Case(
        "infinitely many GPUs",
        BATCH,
        "manifest.csv, line 2: gpus inf: expected a share such as 0.25, or a whole number from 1 on",
        column("gpus", "1e999"),
    ),
    Case(
        "CPUs that are no number",
        BATCH,
        "manifest.csv, line 2: cpus nan: expected a share such as 0.25, or a whole number from 1 on",
        column("cpus", "nan"),
    ),
    Case(
        "several faults",
        BATCH,
        "manifest.csv has 3 faults (see above); nothing was started",
        manifest("a b,render,no.mp4"),
    ),
    Case(
        "results in a name that no file system takes",
        f"batch manifest.csv -o {'x' * 300}",
        "cannot write …x: …",
        manifest("anna,train,."),
    ),
    Case(
        "results below a file",
        "batch manifest.csv -o note/out",
        "cannot write …note/out: …",
        made.both(manifest("anna,train,."), made.text("note", "mine")),
    ),
    Case(
        "results where nothing can be written",
        "batch manifest.csv -o /proc/out",
        "cannot write /proc/out: …",
        manifest("anna,train,."),
    ),
    Case(
        "results of an earlier batch",
        "batch manifest.csv -o out",
        "out holds results of these jobs; add --resume to go on with them, or choose another place",
        made.both(manifest("anna,train,."), made.text("out/anna.job.json", "{}")),
    ),
    Case(
        "the part of no parts",
        "batch manifest.csv -o out --part 0/0",
        "--part 0/0: expected K/N with K from 1 to N",
        manifest("anna,train,."),
    ),
]

GROUPS: dict[str, list[Case]] = {
    "Videos": VIDEOS,
    "Pictures": PICTURES,
    "Tracked sequences": SEQUENCES,
    "Arrays in npz files": ARRAYS,
    "Data sets of the field": FORMATS,
    "Avatars": AVATARS,
    "Runs": RUNS,
    "FLAME files that try to run something": HEADS,
    "Tables of ARKit coefficients": TABLES,
    "Splat files": SPLATS,
    "Batch manifests": MANIFESTS,
    "Options": OPTIONS,
}
