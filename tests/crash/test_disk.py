"""A disk that is full, or may not be written to: one sentence with the path and what to do, and nothing old is lost."""

import dataclasses
import os
import resource
import subprocess
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from victims import content

from stavatar import pipeline
from stavatar.avatar.storage import load_avatar, save_avatar
from stavatar.containers import write_video
from stavatar.errors import InputError
from stavatar.export.web.site import export_site
from stavatar.files import write_bytes
from stavatar.rendering.output import save_image, write_pictures
from stavatar.run import Run, claimed
from stavatar.sequence import write_sequence
from stavatar.training import checkpoint
from stavatar.training.trainer import Trainer

CPU = torch.device("cpu")


@contextmanager
def mounted(folder, options):
    """A file system of its own at `folder`, where this process may make one."""
    folder.mkdir(exist_ok=True)
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True)
    if made.returncode:
        pytest.skip("mounting a small file system needs root and Linux")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def files_up_to(size):
    """Let the system refuse files that grow beyond `size` bytes, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def writers(small_sequence, small_avatar, small_motion, small_config, head, true_avatar):
    """Everything that writes more than a few bytes: name -> function of the path to write."""
    noise = np.random.default_rng(0).integers(0, 255, (8, 96, 96, 3), dtype=np.uint8)
    trainer = Trainer(small_sequence, head, small_config)
    return {
        "checkpoint": lambda path: checkpoint.save(trainer, path),
        "sequence": lambda path: write_sequence(small_sequence, path, overwrite=True),
        "avatar": lambda path: save_avatar(small_avatar, small_motion, path),
        "site": lambda path: export_site(path, true_avatar, small_motion, frames=1),
        "video.mp4": lambda path: write_video(path, noise, 25.0),
        "picture.png": lambda path: save_image(noise[0], path),
        "pictures": lambda path: write_pictures(path, noise, 25.0),
    }


NAMES = ("checkpoint", "sequence", "avatar", "site", "video.mp4", "picture.png", "pictures")


def assert_refused(write, path, reason, keeps):
    """One sentence that names the path and says what to do; nothing else in the folder has changed."""
    before = content(keeps)
    with pytest.raises(InputError, match=rf"^cannot write \S*{path.name}\S*: {reason}; \S+ .*") as refused:
        write(path)
    assert str(path.parent) in str(refused.value) and "\n" not in str(refused.value)
    assert content(keeps) == before


@pytest.mark.parametrize("name", NAMES)
def test_a_full_disk_is_met_with_one_sentence(writers, name, tmp_path):
    """A small file system, filled up by what it keeps from before."""
    with mounted(tmp_path / "disk", "size=64k") as disk:
        (disk / "letter").write_bytes(bytes(60 << 10))
        assert_refused(writers[name], disk / name, "No space left on device", disk)


@pytest.mark.parametrize("name", NAMES)
def test_a_limit_on_files_is_met_alike(writers, name, tmp_path):
    """Where no file system can be made for the test; the sentence differs in its reason only."""
    with files_up_to(2 << 10):
        assert_refused(writers[name], tmp_path / name, "File too large", tmp_path)


@pytest.mark.parametrize("name", ["checkpoint", "sequence", "avatar", "site"])
def test_what_was_there_stays_when_the_disk_fills_up(writers, name, tmp_path):
    writers[name](tmp_path / name)
    with files_up_to(2 << 10):
        assert_refused(writers[name], tmp_path / name, "File too large", tmp_path)


def test_a_training_stopped_by_a_full_disk_goes_on_from_its_last_checkpoint(
    small_sequence, small_config, head, tmp_path
):
    config = dataclasses.replace(
        small_config,
        training=dataclasses.replace(small_config.training, steps=6, checkpoint_seconds=0.0),
        density=dataclasses.replace(small_config.density, control="none"),
        pose=dataclasses.replace(small_config.pose, passes=()),
    )
    straight = Trainer(small_sequence, head, config)
    straight.run()
    trainer = Trainer(small_sequence, head, config)
    with mounted(tmp_path / "disk", "size=64m") as disk:
        checkpoint.save(trainer, disk)
        space = os.statvfs(disk)
        room = space.f_bavail * space.f_frsize - (disk / checkpoint.NAME).stat().st_size // 2
        (disk / "letter").write_bytes(bytes(room))  # half of what the second one needs is left
        with pytest.raises(InputError, match=r"checkpoint\.safetensors: No space left on device; make room"):
            trainer.run(disk)
        (disk / "letter").unlink()
        resumed = Trainer(small_sequence, head, config)
        assert checkpoint.restore(resumed, disk) and resumed.step == 0
        resumed.run(disk)
    for name, value in resumed.avatar.state_dict().items():
        assert torch.equal(value, straight.avatar.state_dict()[name]), name


def test_a_folder_that_may_only_be_read_is_named(small_sequence, small_config, small_avatar_folder, tmp_path):
    with mounted(tmp_path / "disk", "size=8m") as disk:
        with claimed(disk / "run"):
            run = Run.start(disk / "run", small_config, {}, resume=False)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        for folder in (run.folder, disk / "new"):
            message = f"cannot write {folder}: Read-only file system; choose a folder"
            with pytest.raises(InputError, match=message), claimed(folder):
                pass
        with pytest.raises(InputError, match="Read-only file system; choose a folder"):
            export_site(disk / "site", *load_avatar(small_avatar_folder), frames=1)
        with pytest.raises(InputError, match="Read-only file system; choose a folder"):
            write_bytes(disk / "file", b"")


def test_a_run_on_a_full_disk_leaves_no_folder(small_sequence, small_config, tmp_path):
    write_sequence(small_sequence, tmp_path / "source")
    with mounted(tmp_path / "disk", "size=16k") as disk:
        (disk / "letter").write_bytes(bytes(8 << 10))
        with pytest.raises(InputError, match="No space left on device; make room"):
            pipeline.train_sequence(tmp_path / "source", disk / "run", small_config, device=CPU)
        assert content(disk).keys() <= {"letter", "run/config.yaml", "run/inputs.json"}
