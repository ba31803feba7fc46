"""A run's output folder: what lies where, and which stages are done."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stavatar import config as configuration
from stavatar.config import Config
from stavatar.errors import InputError
from stavatar.files import cannot_write, is_leftover, read_json_object, sweep, write_json
from stavatar.locks import locked

_SHARED = "shared_sequence"
_LOCK = ".lock"


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Keep other processes out of a run's folder, and sweep what killed ones left unfinished in it.

    The folder is made where it is missing, and goes again where nothing came of it.

    Raises:
        InputError: another process works in it (the sentence says which), or it cannot be written.
    """
    folder = Path(folder)
    try:
        made = not folder.exists()
        if not made and not folder.is_dir():
            raise InputError(f"{folder} exists and is not a stavatar run; choose another output folder")
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error
    try:
        with locked(folder / _LOCK, folder):
            run = Run(folder)
            if run.config_path.is_file():
                for place in (run.folder, run.pictures):
                    if place.is_dir():
                        sweep(place)
            yield
    finally:
        if made and not any(folder.iterdir()):
            folder.rmdir()


class Run:
    """Paths and stage times of one run.

    ============================  ====================================================
    ``config.yaml``               every setting
    ``inputs.json``               what was processed
    ``sequence/``                 the tracked frames, unless the run shares those of another one
    ``refinement.safetensors``    state of an unfinished photometric refinement
    ``tracking.mp4``              overlay of the tracked mesh on the frames
    ``tracking.json``             curves, figures and advice of the track
    ``track_report.html``         all of that on one page
    ``checkpoint.safetensors``    state of an unfinished training
    ``curve.json``                loss and PSNR over training
    ``clusters.json``             temporal clusters of the training frames
    ``density.json``              what density control did
    ``avatar/``                   the result
    ``results.json``              what was measured on held-out frames
    ``contact_sheet.png``         input, render and error of some held-out frames
    ``side_by_side.mp4``          the same for all of them
    ``report.html``               all of it on one page
    ``pictures/``                 learning curves, clusters, where Gaussians lie, offset maps
    ``stages.json``               seconds per finished stage
    ============================  ====================================================
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.config_path = self.folder / "config.yaml"
        self.inputs_path = self.folder / "inputs.json"
        self.tracking_video = self.folder / "tracking.mp4"
        self.tracking_figures = self.folder / "tracking.json"
        self.track_report = self.folder / "track_report.html"
        self.curve = self.folder / "curve.json"
        self.clusters = self.folder / "clusters.json"
        self.density = self.folder / "density.json"
        self.avatar = self.folder / "avatar"
        self.results = self.folder / "results.json"
        self.contact_sheet = self.folder / "contact_sheet.png"
        self.side_by_side = self.folder / "side_by_side.mp4"
        self.pictures = self.folder / "pictures"
        self.report = self.folder / "report.html"
        self._stages = self.folder / "stages.json"
        self._claimed = False  # by this very process, rather than taken up
        self._made_folder = False

    @staticmethod
    def start(
        folder: Path,
        config: Config,
        inputs: dict[str, str | int | None],
        *,
        resume: bool,
        shared: Run | None = None,
    ) -> Run:
        """Claim a folder for a new run, or take up the one in it.

        Args:
            folder: where the results go.
            config: every setting.
            inputs: what is processed, as far as the result depends on it; a resumed run must have the same.
            resume: take up the run that is there.
            shared: a run whose sequence serves this one too, so that many runs need not each have a copy. The way to it
                is noted relative to `folder`: the two can be moved, but only together.

        Raises:
            InputError: the folder holds a run and `resume` is off, holds something else, cannot be written, or holds a
                run with other settings or inputs.
        """
        run = Run(folder)
        if shared is not None:
            inputs = inputs | {_SHARED: os.path.relpath(shared.sequence, run.folder)}
        try:
            occupied = run.folder.exists() and (not run.folder.is_dir() or any(run._entries()))
        except OSError as error:
            raise InputError(f"cannot look into {folder}: {error.strerror}") from error
        if occupied and not run.config_path.is_file():
            raise InputError(f"{folder} exists and is not a stavatar run; choose another output folder")
        if occupied and not resume:
            raise InputError(f"{folder} already holds a run; add --resume to continue it, or choose another folder")
        if occupied:
            if configuration.load(run.config_path) != config:
                raise InputError(f"{folder} holds a run with other settings than these; resume it with the same ones")
            if not run.inputs_path.exists() and not run.seconds:  # killed before it could note them
                write_json(run.inputs_path, inputs)
            before = read_json_object(run.inputs_path)
            for name in sorted(set(inputs) | set(before)):
                if before.get(name) != inputs.get(name):
                    raise InputError(
                        f"{folder} holds a run with {name} {before.get(name)}, not {inputs.get(name)}; "
                        "choose another output folder"
                    )
        else:
            run._claimed, run._made_folder = True, not run.folder.exists()
            configuration.save(config, run.config_path)  # first, as it is what makes a folder a run
            write_json(run.inputs_path, inputs)
        return run

    def _entries(self) -> Iterator[Path]:
        """What is in the folder, but for the lock and for files that were never finished."""
        return (entry for entry in self.folder.iterdir() if entry.name != _LOCK and not is_leftover(entry))

    @property
    def sequence(self) -> Path:
        """Folder of the tracked frames: the run's own, or the one that it shares."""
        inputs = read_json_object(self.inputs_path) if self.inputs_path.exists() else {}
        name = inputs.get(_SHARED, "sequence")
        if not isinstance(name, str) or "\0" in name:
            raise InputError(f"{self.inputs_path}: {_SHARED} must be the path of a folder")
        return self.folder / name

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds that each finished stage took."""
        seconds = read_json_object(self._stages) if self._stages.exists() else {}
        for stage, value in seconds.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
                raise InputError(f"{self._stages}: {stage} must be a number of seconds")
        return seconds

    def done(self, stage: str) -> bool:
        """Whether a stage was finished."""
        return stage in self.seconds

    @staticmethod
    def open(folder: Path) -> Run:
        """A run that is there already.

        Raises:
            InputError: the folder holds none.
        """
        run = Run(folder)
        if not run.config_path.is_file():
            raise InputError(f"{folder} is not a stavatar run: it has no config.yaml")
        return run

    def record(self, stage: str, seconds: float) -> None:
        """Note that a stage is done and what it took."""
        write_json(self._stages, self.seconds | {stage: round(seconds, 2)})

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Time a stage; it counts as done when the block ends well. After an interruption only the rest is timed."""
        begin = time.monotonic()
        yield
        self.record(stage, time.monotonic() - begin)

    @contextmanager
    def cleared_if_unused(self) -> Iterator[None]:
        """Leave no run behind where the input could not be used: one with no product but its own notes.

        Only what :meth:`start` has made goes: a folder that was there before stays, and so does a run taken up.
        """
        try:
            yield
        except Exception:
            notes = {self.config_path, self.inputs_path, self._stages}
            if self._claimed and notes.issuperset(self._entries()):
                for note in notes:
                    note.unlink(missing_ok=True)
                if self._made_folder and not any(self.folder.iterdir()):  # while it is claimed, the lock is still there
                    self.folder.rmdir()
            raise
