"""The stages from a video to a measured avatar, each writing its product into a run's folder.

Every stage can be left out when its product is already there, which is all that resuming needs.
"""

from __future__ import annotations

from pathlib import Path

import torch

from stavatar.avatar.storage import Motion, save_avatar
from stavatar.capture import capture
from stavatar.config import Config
from stavatar.errors import BackendError, InputError
from stavatar.head import load_embedded_head, load_embedded_landmarks, load_head
from stavatar.progress import remark
from stavatar.run import Run
from stavatar.sequence import Sequence, read_sequence, split_holdout, write_sequence
from stavatar.tracking import track_landmarks, write_overlay
from stavatar.training import checkpoint
from stavatar.training.trainer import Trainer


def choose_device(name: str) -> torch.device:
    """The device called `name`; ``auto`` is the GPU where torch sees one.

    Raises:
        BackendError: a GPU was asked for and there is none.
    """
    available = torch.cuda.is_available()
    if name == "auto":
        return torch.device("cuda" if available else "cpu")
    if name == "cuda" and not available:
        raise BackendError("--device cuda: torch sees no CUDA GPU here; use --device cpu or run `stavatar doctor`")
    if name not in ("cpu", "cuda"):
        raise InputError(f"--device {name}: expected auto, cpu or cuda")
    return torch.device(name)


def reconstruct(
    video: Path,
    folder: Path,
    config: Config,
    *,
    holdout: int | None = None,
    device: torch.device,
    resume: bool = False,
) -> Run:
    """The whole way: video -> sequence -> avatar -> results.

    Raises:
        StavatarError: with one sentence that says what is wrong.
    """
    if not Path(video).exists():
        raise InputError(f"{video} does not exist")
    run = Run.start(folder, config, resume=resume)
    track(video, run, config, holdout=holdout)
    train(run, config, device=device)
    evaluate(run, device=device)
    return run


def track(video: Path, run: Run, config: Config, *, holdout: int | None) -> None:
    """Video -> ``sequence/`` and ``tracking.mp4``."""
    if run.done("tracking"):
        return
    with run.timed("capture"):
        observations = capture(video, size=config.capture.size, max_frames=config.capture.max_frames)
    head = load_embedded_head()
    with run.timed("landmark_tracking"):
        tracked = track_landmarks(observations, head, load_embedded_landmarks(), name=Path(video).stem)
        sequence = split_holdout(tracked, holdout)
    with run.timed("tracking"):
        write_sequence(sequence, run.sequence, overwrite=True)
        write_overlay(sequence, head, run.tracking_video)


def train(run: Run, config: Config, *, device: torch.device) -> None:
    """``sequence/`` -> ``avatar/``, and the sequence's parameters replaced by the photometric ones."""
    if run.done("held_out_tracking"):
        return
    sequence = read_sequence(run.sequence)
    head = load_head(sequence.head_model)
    trainer = Trainer(sequence, head, config, device=device)
    if checkpoint.restore(trainer, run.folder):
        remark(f"continuing at step {trainer.step} of {trainer.steps}")
    with run.timed("training"):
        trainer.run(run.folder)
    with run.timed("held_out_tracking"):
        save_avatar(trainer.avatar, _motion(trainer, sequence), run.avatar)


def _motion(trainer: Trainer, sequence: Sequence) -> Motion:
    return Motion(trainer.track_held_out().to("cpu"), sequence.camera, sequence.fps, sequence.train, sequence.test)
