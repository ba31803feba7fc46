"""The command line: whatever cannot be used ends in one sentence, an exit code, and nothing changed on disk."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from stavatar import assets, cli, config, doctor, pipeline
from stavatar.cli.app import output
from stavatar.cli.options import configure
from stavatar.errors import AssetError
from stavatar.interruption import Interrupted
from stavatar.run import Run, claimed
from stavatar.sequence import write_sequence


@pytest.fixture
def stavatar(monkeypatch, capsys):
    """Call the program in this process: (exit code, standard output, standard error)."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["stavatar", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        written = capsys.readouterr()
        return int(stop.value.code or 0), written.out, written.err

    return call


def listing(folder: Path) -> dict[str, bytes | None]:
    """Everything under a folder: path -> content (None for folders)."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def assert_one_sentence(errors: str) -> None:
    """The last line is the error, alone, and there is no traceback; progress bars and warnings may come before."""
    assert "Traceback" not in errors
    assert len(re.findall("^error: ", errors, re.MULTILINE)) == 1, errors
    assert errors.strip().splitlines()[-1].startswith("error: "), errors


# --------------------------------------------------------------------------------------------------------- bad videos


def pictures(count: int, height: int = 96, width: int = 128) -> list[np.ndarray]:
    """A coarse pattern that drifts, one pixel a frame."""
    coarse = np.random.default_rng(0).integers(40, 216, (height // 8, (width + count) // 8 + 1, 3), dtype=np.uint8)
    whole = coarse.repeat(8, 0).repeat(8, 1)
    return [np.ascontiguousarray(whole[:height, t : t + width]) for t in range(count)]


def video(path: Path, frames: list[np.ndarray], codec: str = "ffv1", pixels: str = "bgr0") -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], pixels
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def missing(folder: Path) -> Path:
    return folder / "clip.mp4"


def no_video(folder: Path) -> Path:
    path = folder / "clip.mp4"
    path.write_text("a letter, whatever its name says\n" * 50)
    return path


def empty(folder: Path) -> Path:
    path = folder / "clip.mp4"
    path.touch()
    return path


def still(folder: Path) -> Path:
    path = folder / "clip.png"
    Image.fromarray(pictures(1)[0]).save(path)
    return path


def five_frames(folder: Path) -> Path:
    return video(folder / "clip.mkv", pictures(5))


def twenty_pixels(folder: Path) -> Path:
    return video(folder / "clip.mkv", [frame[:20, :20] for frame in pictures(20)])


def truncated(folder: Path) -> Path:
    """An mp4 without its end, where the index is."""
    path = video(folder / "clip.mp4", pictures(30), "libx264", "yuv420p")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def truncated_to_a_few_frames(folder: Path) -> Path:
    path = video(folder / "clip.mkv", pictures(30))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 6])
    return path


def folder_without_pictures(folder: Path) -> Path:
    (folder / "clip").mkdir()
    (folder / "clip" / "letter.txt").write_text("no picture")
    return folder / "clip"


def brackets(folder: Path) -> Path:
    """What downloaders name files; rich would read the brackets as markup and swallow them."""
    path = folder / "clip [red].mp4"
    path.write_text("no video either")
    return path


BAD_VIDEOS = [
    (missing, r"clip\.mp4 does not exist"),
    (no_video, r"clip\.mp4 is not a video that can be read"),
    (empty, r"clip\.mp4 is empty"),
    (still, r"clip\.png is one still image"),
    (five_frames, r"clip\.mkv has only 5 different frames"),
    (twenty_pixels, r"clip\.mkv is 20 x 20 pixels"),
    (truncated, r"clip\.mp4 is not a video that can be read"),
    (truncated_to_a_few_frames, r"clip\.mkv has only \d different frames"),
    (folder_without_pictures, "clip holds no data in a format that can be read"),
    (brackets, r"clip \[red\]\.mp4 is not a video"),
]


@pytest.fixture
def models():
    """The models that capture asks for; without them it says so before it looks for faces."""
    try:
        assets.path("face_landmarker")
        assets.path("selfie_segmenter")
    except AssetError as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize("command", ["reconstruct", "track"])
@pytest.mark.parametrize(("make", "message"), BAD_VIDEOS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_video_that_cannot_be_used(stavatar, models, tmp_path, command, make, message):
    source = make(tmp_path)
    before = listing(tmp_path)
    code, _, errors = stavatar(command, source, "-o", tmp_path / "out")
    assert code == 2
    assert re.search(message, errors.splitlines()[-1])
    assert_one_sentence(errors)
    assert listing(tmp_path) == before


def test_a_video_without_a_face(stavatar, models, tmp_path):
    source = video(tmp_path / "wall.mkv", pictures(12))
    before = listing(tmp_path)
    code, _, errors = stavatar("reconstruct", source, "-o", tmp_path / "out")
    assert code == 2
    assert "no face was found" in errors
    assert_one_sentence(errors)
    assert listing(tmp_path) == before


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read and write everything")
def test_paths_without_permission(stavatar, tmp_path):
    source = five_frames(tmp_path)
    source.chmod(0)
    code, _, errors = stavatar("reconstruct", source, "-o", tmp_path / "out")
    assert code == 2
    assert "cannot be read: Permission denied" in errors
    assert_one_sentence(errors)
    assert not (tmp_path / "out").exists()

    source.chmod(0o600)
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    code, _, errors = stavatar("reconstruct", source, "-o", locked / "out")
    assert code == 2
    assert "cannot write" in errors
    assert_one_sentence(errors)
    assert not any(locked.iterdir())


def test_an_empty_folder_of_the_user_stays(stavatar, tmp_path):
    """The run is cleared away, but not a folder that was there before it."""
    (tmp_path / "out").mkdir()
    code, _, _ = stavatar("reconstruct", five_frames(tmp_path), "-o", tmp_path / "out")
    assert code == 2
    assert (tmp_path / "out").is_dir()
    assert not any((tmp_path / "out").iterdir())


# ----------------------------------------------------------------------------------------------------- output folders


@pytest.mark.parametrize("command", ["reconstruct", "track"])
def test_a_folder_that_holds_a_run_needs_resume(stavatar, tmp_path, command):
    Run.start(tmp_path / "out", config.preset("cpu"), {}, resume=False)
    (tmp_path / "out" / "results.json").write_text("{}")
    source = five_frames(tmp_path)
    before = listing(tmp_path)
    code, _, errors = stavatar(command, source, "-o", tmp_path / "out")
    assert code == 2
    assert "already holds a run; add --resume" in errors
    assert_one_sentence(errors)
    assert listing(tmp_path) == before


def test_a_run_with_other_settings_is_not_resumed(stavatar, tmp_path):
    Run.start(tmp_path / "out", config.preset("cpu"), {}, resume=False)
    source = five_frames(tmp_path)
    before = listing(tmp_path)
    code, _, errors = stavatar("reconstruct", source, "-o", tmp_path / "out", "--resume", "--set", "capture.size=128")
    assert code == 2
    assert "other settings" in errors
    assert_one_sentence(errors)
    assert listing(tmp_path) == before


@pytest.mark.parametrize("flag", [[], ["--resume"]], ids=["afresh", "resumed"])
@pytest.mark.parametrize("command", ["reconstruct", "demo"])
def test_other_files_are_never_written_among(stavatar, tmp_path, command, flag):
    folder = tmp_path / "out"
    (folder / "sequence").mkdir(parents=True)
    (folder / "thesis.txt").write_text("three years of work")
    (folder / "avatar").write_text("a file in the avatar's place")
    source = [five_frames(tmp_path)] if command == "reconstruct" else []
    before = listing(tmp_path)
    code, _, errors = stavatar(command, *source, "-o", folder, *flag)
    assert code == 2
    assert "is not a stavatar run" in errors
    assert_one_sentence(errors)
    assert listing(tmp_path) == before


def test_a_file_in_the_folders_place(stavatar, tmp_path):
    (tmp_path / "out").write_text("a letter")
    code, _, errors = stavatar("reconstruct", five_frames(tmp_path), "-o", tmp_path / "out")
    assert code == 2
    assert_one_sentence(errors)
    assert (tmp_path / "out").read_text() == "a letter"


# ------------------------------------------------------------------------------------------------------- other options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--preset", "best"], "there is no preset 'best'; choose one of"),
        (["--set", "nonsense"], "--set nonsense: expected section.field=value"),
        (["--set", "training.steps"], "expected section.field=value"),
        (["--set", "training.nonsense=1"], "expected section.field=value"),
        (["--set", "training.steps=many"], "steps must be of type int, not 'many'"),
        (["--set", "training.steps=["], r"--set training.steps=\[: the value is not YAML"),
        (["--set", "capture.size=12.5"], "size must be of type int"),
        (["--device", "tpu"], "--device tpu: expected auto, cpu or cuda"),
        (["--protocol", "mine"], "there is no protocol 'mine'; choose one of"),
        (["--protocol", "stavatar"], "add --set capture.max_frames=null"),
        (["--protocol", "stavatar", "--holdout", "7"], "--holdout goes with --protocol custom"),
        (["--head", "nowhere.pkl"], r"nowhere\.pkl does not exist: give the FLAME file that you downloaded"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_options(stavatar, tmp_path, options, message):
    source = five_frames(tmp_path)
    before = listing(tmp_path)
    code, _, errors = stavatar("reconstruct", source, "-o", tmp_path / "out", *options)
    assert code == 2
    assert re.search(message, errors)
    assert_one_sentence(errors)
    assert listing(tmp_path) == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
@pytest.mark.parametrize("command", ["reconstruct", "demo", "train", "evaluate", "render", "drive", "view"])
def test_a_gpu_that_is_not_there(stavatar, tmp_path, command):
    Run.start(tmp_path / "run", config.preset("cpu"), {}, resume=False)
    arguments = {
        "reconstruct": [five_frames(tmp_path), "-o", tmp_path / "out"],
        "demo": ["-o", tmp_path / "out"],
        "train": [tmp_path / "sequence", "-o", tmp_path / "out"],
        "evaluate": [tmp_path / "run"],
        "render": [tmp_path / "run", "-o", tmp_path / "out.mp4"],
        "drive": [tmp_path / "run", "-m", tmp_path / "run", "-o", tmp_path / "out.mp4"],
        "view": [tmp_path / "run"],
    }[command]
    before = listing(tmp_path)
    code, _, errors = stavatar(command, *arguments, "--device", "cuda")
    assert code == 4
    assert "torch sees no CUDA GPU here" in errors
    assert_one_sentence(errors)
    assert listing(tmp_path) == before


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["render", "FOLDER", "-o", "FOLDER/out.mp4"], 2, "is not an avatar"),
        (["render", "FOLDER/nothing", "-o", "FOLDER/out.mp4"], 2, "is not an avatar"),
        (["render", "FOLDER", "-o", "FOLDER/out.gif"], 2, r"ends in \.mp4"),
        (["render", "FOLDER", "-o", "FOLDER"], 2, "choose a new or empty folder"),
        (["drive", "FOLDER", "-m", "FOLDER/run"], 2, "name what to write with --out"),
        (["drive", "FOLDER", "-m", "FOLDER/run", "-o", "FOLDER/out.mp4"], 2, "is not an avatar"),
        (["drive", "FOLDER", "-m", "webcam", "-o", "FOLDER/out.mp4"], 2, "leave out --out"),
        (["drive", "FOLDER", "-m", "webcam"], 2, "is not an avatar"),
        (["view", "FOLDER"], 2, "is not an avatar"),
        (["evaluate", "FOLDER"], 2, "is not a stavatar run"),
        (["evaluate", "FOLDER/run"], 2, "sequence is not a folder"),
        (["report", "FOLDER"], 2, "is not a stavatar run"),
        (["report", "FOLDER/run"], 2, "has no results yet: measure it with `stavatar evaluate"),
        (["compare", "FOLDER/run"], 2, r"results\.json does not exist"),
        (["compare", "FOLDER/letter.txt"], 2, "cannot be read as JSON"),
        (["train", "FOLDER/run", "-o", "FOLDER/out"], 2, "holds no data in a format that can be read"),
        (["train", "FOLDER", "-o", "FOLDER/out"], 2, "out lies in .*, which is read: choose an output folder outside"),
        (["train", "FOLDER/nothing", "-o", "FOLDER/out"], 2, "nothing is not a folder"),
        (["synth", "-o", "FOLDER/out.avi"], 2, r"must end in \.mp4"),
        (["synth"], 2, "nothing to write"),
        (["synth", "--sequence", "FOLDER"], 2, "not replaced by a sequence"),
        (["synth", "--sequence", "FOLDER/new", "--style", "opera"], 2, "no style 'opera'"),
        (["render", "FOLDER/run", "-o", "FOLDER/out.mp4", "--head", "FOLDER/letter.txt"], 2, "no head model needs"),
        (["assets", "moon"], 3, "there is no asset called 'moon'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_folders_and_names_that_are_something_else(stavatar, tmp_path, arguments, code, message):
    (tmp_path / "letter.txt").write_text("of the user")
    Run.start(tmp_path / "run", config.preset("cpu"), {}, resume=False)
    before = listing(tmp_path)
    found, _, errors = stavatar(*(text.replace("FOLDER", str(tmp_path)) for text in arguments))
    assert found == code
    assert re.search(message, errors)
    assert_one_sentence(errors)
    assert listing(tmp_path) == before


def test_an_interruption_says_how_to_go_on(stavatar, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "reconstruct", interrupted)
    clip, out = five_frames(tmp_path), tmp_path / "[out]"
    code, _, errors = stavatar("reconstruct", clip, "-o", out)
    assert code == 130
    assert f"interrupted; what is done is kept, go on with: stavatar reconstruct {clip} -o '{out}' --resume" in errors
    assert "Traceback" not in errors
    assert stavatar("reconstruct", clip, "-o", out, "--resume")[2].count("--resume") == 1


def test_an_interruption_of_what_cannot_be_resumed_promises_nothing(stavatar, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise Interrupted(signal.SIGTERM)

    monkeypatch.setattr("stavatar.export.export_ply", interrupted)
    code, _, errors = stavatar("export", "ply", tmp_path, "-o", tmp_path / "a.ply")
    assert code == 128 + signal.SIGTERM
    assert errors == "interrupted; nothing half-written is left\n"


def test_a_full_disk_wherever_it_is_met_is_one_sentence(stavatar, tmp_path, monkeypatch):
    """Also where it is not one of our own files that cannot be written, such as a library's cache."""

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / "cache"))

    monkeypatch.setattr(pipeline, "reconstruct", full)
    code, _, errors = stavatar("reconstruct", five_frames(tmp_path), "-o", tmp_path / "out")
    assert code == 2
    assert_one_sentence(errors)
    assert f"cannot write {tmp_path / 'cache'}: No space left on device; make room on that disk" in errors


def test_two_commands_do_not_work_in_one_folder(stavatar, small_sequence, tmp_path):
    write_sequence(small_sequence, tmp_path / "sequence")
    with claimed(tmp_path / "out"):
        for words in (["train"], ["ablate", "--rows", ""]):
            command, *more = words
            code, _, errors = stavatar(command, tmp_path / "sequence", "-o", tmp_path / "out", *more)
            assert code == 2
            assert_one_sentence(errors)
            assert f"out is in use by process {os.getpid()} on " in errors


# ---------------------------------------------------------------------------------------------------------------- help

OPTIONS = {
    "reconstruct": ["--out", "--preset", "--set", "--head", "--protocol", "--holdout", "--device", "--resume"],
    "demo": ["--out", "--set", "--frames", "--device", "--resume"],
    "track": ["--out", "--preset", "--set", "--head", "--protocol", "--holdout", "--resume"],
    "train": ["--out", "--preset", "--set", "--head", "--protocol", "--holdout", "--device", "--resume"],
    "evaluate": ["--protocol", "--driver", "--head", "--device"],
    "ablate": ["--out", "--rows", "--row", "--seeds", "--preset", "--set", "--device", "--jobs", "--resume"],
    "render": ["--out", "--size", "--orbit", "--dolly", "--yaw", "--pitch", "--frames", "--hard", "--head", "--device"],
    "drive": [
        *("--motion", "--out", "--strength", "--smooth", "--limit", "--head-motion", "--neutral-frame", "--fps"),
        *("--beside", "--size", "--orbit", "--dolly", "--yaw", "--pitch", "--frames", "--hard", "--camera", "--port"),
        *("--browser", "--head", "--device"),
    ],
    "view": ["--port", "--host", "--browser", "--out", "--head", "--device"],
    "export": ["ply", "spz", "glb", "motion", "web"],
    "synth": ["--out", "--sequence", "--style", "--frames", "--size", "--seed", "--noise"],
    "assets": ["--list"],
    "doctor": [],
    "report": ["--out"],
    "compare": ["--out"],
}


def test_help_names_every_command():
    """In a process of its own, as users start it."""
    answer = subprocess.run(
        [sys.executable, "-m", "stavatar", "--help"], capture_output=True, text=True, timeout=60, check=True
    )
    for command in OPTIONS:
        assert re.search(rf"^\W*{command}\s", answer.stdout, re.MULTILINE), command


@pytest.mark.parametrize("command", OPTIONS)
def test_help_names_every_option(stavatar, command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    code, help_text, _ = stavatar(command, "--help")
    assert code == 0
    for option in OPTIONS[command]:
        assert option in help_text


@pytest.mark.parametrize("module", ["stavatar.cli", "stavatar.report.tables"])
def test_help_and_tables_do_not_wait_for_heavy_imports(module):
    heavy = ("torch", "numpy", "numba", "mediapipe", "cv2", "scipy", "av")
    script = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize("width", [80, 200])
def test_doctor_and_the_list_of_assets_answer(stavatar, monkeypatch, width):
    monkeypatch.setattr(output, "width", width)
    code, found, _ = stavatar("doctor")
    assert code == 0
    assert "CPU cores" in found
    code, found, _ = stavatar("assets", "--list")
    assert code == 0
    assert all(name in found for name in assets.ASSETS)


# -------------------------------------------------------------------------------------------------------------- presets


def test_the_preset_suits_the_device_unless_it_is_named(monkeypatch):
    monkeypatch.setattr(doctor, "presets", lambda: ["gpu", "paper", "cpu"])
    assert configure("auto", None).preset == "gpu"
    assert configure("auto", None, "cpu").preset == "cpu"
    assert configure("paper", None).preset == "paper"
    monkeypatch.setattr(doctor, "presets", lambda: ["cpu"])
    assert configure("auto", ["training.steps=7"]).training.steps == 7
    assert configure("auto", None).preset == "cpu"
