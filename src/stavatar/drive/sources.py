"""What an avatar can be driven by, told apart by what lies at a path."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from stavatar.avatar.storage import DESCRIPTION, avatar_folder, load_motion
from stavatar.capture import capture
from stavatar.data import open_recording, read_tracked
from stavatar.drive.coefficients import read_coefficients
from stavatar.drive.driver import Driver
from stavatar.errors import InputError
from stavatar.head import load_embedded_head, load_embedded_landmarks, load_head
from stavatar.progress import remark
from stavatar.sequence import Sequence, read_sequence
from stavatar.sequence.formats import open_dataset
from stavatar.tracking import track_landmarks

TRACKED_SIZE = 256
"""Edge of the pictures in which a driving video is tracked, pixels."""

Accept = Callable[[str, str | None, tuple[str, ...]], None]
"""Called with a driver's name, head model and expression names before anything that takes long; may refuse."""


def load_driver(
    path: Path, *, fps: float | None = None, pictures: bool = False, accept: Accept | None = None
) -> Driver:
    """Read a performance.

    Args:
        path: a run or an avatar (its recorded motion), a tracked sequence in any format, or a CSV of ARKit
            coefficients; a video or pictures are tracked.
        fps: frames per second of a CSV that does not tell.
        pictures: of a run, read its sequence's pictures as well; sequences and videos always bring theirs.
        accept: refuses what cannot be used, before a video is tracked: :meth:`Retargeter.require`.

    Raises:
        InputError: it is none of these, or cannot be used.
        AssetError: a video is to be tracked and a model for that is missing.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist: give a sequence, a run, an avatar, a video or a CSV")
    if (avatar_folder(path) / DESCRIPTION).exists():
        head_model, motion = load_motion(avatar_folder(path))
        names = tuple(load_head(head_model).expression_names)
        beside = path / "sequence"
        images = read_sequence(beside).images if pictures and (beside / "transforms.json").exists() else None
        return Driver.from_parameters(path.name, head_model, names, motion.parameters, motion.fps, images)
    if path.is_dir():
        folder = path / "sequence" if (path / "sequence" / "transforms.json").exists() else path
        if open_dataset(folder).head_model is not None:
            return _of_sequence(read_tracked(folder))
    if path.suffix.lower() == ".csv":
        return read_coefficients(path, tuple(load_embedded_head().expression_names), fps)
    head = load_embedded_head()
    if accept is not None:
        accept(path.name, head.name, tuple(head.expression_names))
    remark(f"tracking {path}: to use it more than once, keep it with `stavatar track`")
    observations = capture(open_recording(path), size=TRACKED_SIZE)
    return _of_sequence(track_landmarks(observations, head, load_embedded_landmarks(), name=path.stem))


def _of_sequence(sequence: Sequence) -> Driver:
    names = tuple(load_head(sequence.head_model).expression_names)
    return Driver.from_parameters(
        sequence.name, sequence.head_model, names, sequence.parameters, sequence.fps, sequence.images
    )
