"""What a reader finds in a data set before any picture is decoded, and how that becomes a :class:`Sequence`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stavatar.camera import Camera
from stavatar.errors import InputError
from stavatar.head.parameters import HeadParameters
from stavatar.progress import remark, stage
from stavatar.sequence.sequence import Sequence, Views
from stavatar.sequence.untrusted import (
    COLOUR_MODES,
    MASK_MODES,
    Faults,
    check_picture,
    picture_head,
    read_colour,
    read_mask,
)

MOST_BYTES = 8 << 30
"""Pictures that need more memory than this are refused before any is decoded."""
THREADS = min(16, os.cpu_count() or 1)
DEFAULT_FPS = 25.0

CutOut = Callable[[Iterable[np.ndarray]], Iterator[tuple[np.ndarray, np.ndarray]]]
"""Square pictures [S, S, 3] in, (picture over white, matte [S, S]) out: finds the person where data have no mattes."""


@dataclass(frozen=True)
class Lens:
    """Camera of one picture: ``world_to_camera`` [4, 4], OpenCV axes; focal lengths and principal point in pixels."""

    world_to_camera: np.ndarray
    focal: tuple[float, float]
    center: tuple[float, float]


@dataclass(frozen=True)
class View:
    """One picture of a data set.

    Attributes:
        image: PNG or JPEG.
        mask: a separate matte; None: the picture's alpha channel, where it has one.
        lens: None where the data do not say, or not in a way that can be used.
        timestep: row of the head parameters.
        frame_id: index of the frame in the source video.
        camera: index of the camera, and `camera_id` its name.
    """

    image: Path
    mask: Path | None
    lens: Lens | None
    timestep: int
    frame_id: int
    camera: int = 0
    camera_id: str = "00"


@dataclass
class Dataset:
    """A data set as one of the readers found it: every file but the pictures is read and checked.

    Attributes:
        format: its key in :data:`stavatar.sequence.formats.FORMATS`.
        folder: where it is.
        name: of the subject or clip.
        views: the pictures, by timestep and then camera.
        width, height: of all pictures, in pixels.
        faults: what is wrong; nothing can be loaded while there are any.
        remarks: what was corrected, left out or ignored, one sentence each.
        fields: name and shape of what the files hold for each frame or subject.
        parameters: T timesteps in the axes and units of :class:`HeadParameters`; None where the data have none that a
            head model of stavatar understands.
        shape: [S] identity, None as with `parameters`.
        head_model: whose parameters those are: a ``HeadModel.name``, or ``flame-2020`` / ``flame-2023`` where only the
            version is known.
        composited: the pictures are over white already; otherwise they are laid over it with their mattes.
        split: indices into `views` for ``train``, ``val``, ``test``; empty where the data have no split.
        background: what is behind the person where pictures are not transparent, in words.
        why_not: why the data are no tracked sequence, where they are not.
        fps, landmarks, confidence, history: as in :class:`Sequence`.
    """

    format: str
    folder: Path
    name: str
    views: list[View]
    width: int
    height: int
    faults: Faults
    remarks: list[str] = field(default_factory=list)
    fields: dict[str, tuple[int, ...]] = field(default_factory=dict)
    parameters: HeadParameters | None = None
    shape: Tensor | None = None
    head_model: str | None = None
    composited: bool = False
    split: dict[str, list[int]] = field(default_factory=dict)
    background: str = "as recorded"
    why_not: str = ""
    fps: float = DEFAULT_FPS
    landmarks: Tensor | None = None
    confidence: list[float] | None = None
    history: dict[str, str] = field(default_factory=dict)

    @property
    def timesteps(self) -> int:
        return len({view.timestep for view in self.views})

    @property
    def cameras(self) -> dict[int, str]:
        """Index -> name of every camera."""
        return {view.camera: view.camera_id for view in sorted(self.views, key=lambda view: view.camera)}

    @property
    def mattes(self) -> str:
        """Where mattes come from: "mask files", "alpha channel", or "none"."""
        if not self.has_pictures:
            return "none"
        if self.views[0].mask is not None:
            return "mask files"
        return "alpha channel" if picture_head(self.views[0].image)[1] == "RGBA" else "none"

    @property
    def has_pictures(self) -> bool:
        """False where a data set carries motion only: not one of its pictures is there."""
        return any(view.image.exists() for view in self.views)

    def check_pictures(self) -> None:
        """Note pictures and masks that are missing or not what they should be; only their heads are read."""
        if not self.has_pictures:
            return
        size = (self.width, self.height)
        with stage("looking at pictures", len(self.views)) as report:
            for view in self.views:
                with self.faults.collected():
                    check_picture(view.image, size, COLOUR_MODES)
                if view.mask is not None:
                    with self.faults.collected():
                        check_picture(view.mask, size, MASK_MODES)
                report()

    def only_camera(self, wanted: str) -> Dataset:
        """The pictures of one camera, told by its name or index.

        Raises:
            InputError: there is no such camera.
        """
        chosen = [i for i, view in enumerate(self.views) if wanted in (view.camera_id, str(view.camera))]
        if not chosen or len({self.views[i].camera for i in chosen}) > 1:
            names = ", ".join(f"{index} ({name})" for index, name in self.cameras.items())
            raise InputError(f"{self.folder} has no camera {wanted!r}: its cameras are {names}")
        place = {old: new for new, old in enumerate(chosen)}
        return replace(
            self,
            views=[self.views[i] for i in chosen],
            split={name: [place[i] for i in some if i in place] for name, some in self.split.items()},
            landmarks=None if self.landmarks is None else self.landmarks[chosen],
            confidence=None if self.confidence is None else [self.confidence[i] for i in chosen],
        )

    def load(self, cut_out: CutOut | None = None) -> Sequence:
        """Decode the pictures.

        Args:
            cut_out: finds mattes where the data have none; only for square pictures.

        Raises:
            InputError: the data have faults, no head parameters, no pictures, or need too much memory.
        """
        self.faults.refuse()
        if self.parameters is None or self.shape is None:
            raise InputError(
                f"{self.folder} is no tracked sequence: {self.why_not}; `stavatar reconstruct` and `stavatar track` "
                "take its pictures"
            )
        if not self.has_pictures:
            raise InputError(f"{self.folder} holds motion but no pictures, so nothing can be trained on it")
        needed = len(self.views) * self.width * self.height * 4
        if needed > MOST_BYTES:
            advice = "" if len(self.cameras) == 1 else ": convert one camera (`stavatar data convert --camera`)"
            raise InputError(
                f"{self.folder}: {len(self.views)} pictures of {self.width} x {self.height} need {needed / 2**30:.0f} "
                f"GiB, and at most {MOST_BYTES >> 30} are loaded{advice}"
            )
        for sentence in self.remarks:
            remark(f"{self.folder}: {sentence}")
        images, masks = self._pictures(cut_out)
        timesteps = torch.tensor([view.timestep for view in self.views])
        several = len(self.cameras) > 1
        split = {name: torch.tensor(self.split.get(name, []), dtype=torch.int64) for name in ("train", "val", "test")}
        if not self.split:
            split["train"] = torch.arange(len(self.views))
        return Sequence(
            name=self.name,
            head_model=self.head_model or "",
            shape=self.shape,
            parameters=self.parameters[timesteps],
            camera=_camera([view.lens for view in self.views if view.lens], self.width, self.height),
            images=torch.from_numpy(images),
            masks=torch.from_numpy(masks),
            frame_ids=torch.tensor([view.frame_id for view in self.views], dtype=torch.int64),
            **split,
            fps=self.fps,
            landmarks=self.landmarks,
            confidence=None if self.confidence is None else torch.tensor(self.confidence),
            history=self.history,
            views=Views(timesteps, torch.tensor([view.camera for view in self.views]), self.cameras)
            if several
            else None,
        )

    def _pictures(self, cut_out: CutOut | None) -> tuple[np.ndarray, np.ndarray]:
        """Images [N, H, W, 3] over white and mattes [N, H, W], uint8."""
        images = np.empty((len(self.views), self.height, self.width, 3), np.uint8)
        masks = np.empty(images.shape[:3], np.uint8)
        matted = self.mattes != "none"

        def read(i: int) -> None:
            view = self.views[i]
            images[i], alpha = read_colour(view.image, (self.width, self.height))
            if not matted:
                return
            if view.mask is not None:
                masks[i] = read_mask(view.mask, (self.width, self.height))
            elif alpha is not None:
                masks[i] = alpha
            else:
                raise InputError(f"{view.image} has no alpha channel, and {self.views[0].image.name} has one")
            if alpha is not None:
                images[i] = over_white(images[i], alpha)
            elif not self.composited:
                images[i] = over_white(images[i], masks[i])

        in_parallel("reading pictures", read, range(len(self.views)))
        if not matted:
            self._cut_out(images, masks, cut_out)
        return images, masks

    def _cut_out(self, images: np.ndarray, masks: np.ndarray, cut_out: CutOut | None) -> None:
        """Fill `masks`, and lay `images` over white, in place."""
        if cut_out is None or self.width != self.height:
            raise InputError(
                f"{self.folder} has no mattes (mask files or alpha channels): add a folder `mask` with one grey "
                "picture for each image"
            )
        with stage("cutting out the person", len(images)) as report:
            # Copies: what comes in late may still be looked at when what came before is overwritten.
            for i, (image, matte) in enumerate(cut_out(image.copy() for image in images)):
                images[i], masks[i] = image, matte
                report()


def over_white(image: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """A uint8 picture [H, W, 3] laid over white with a uint8 matte [H, W]."""
    weight = alpha[..., None].astype(np.float32) / 255
    return np.round(image * weight + 255 * (1 - weight)).astype(np.uint8)


def in_parallel(title: str, work: Callable[[int], Any], items: Iterable[int]) -> None:
    """Do `work` for all items in a few threads; the first error ends it. Coding of pictures runs outside the GIL."""
    items = list(items)
    with stage(title, len(items)) as report, ThreadPoolExecutor(THREADS) as pool:
        futures = [pool.submit(work, item) for item in items]
        try:
            for future in futures:
                future.result()
                report()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _camera(lenses: list[Lens], width: int, height: int) -> Camera:
    """The camera of each frame, or a single one if they are all alike."""
    pose = torch.from_numpy(np.stack([lens.world_to_camera for lens in lenses])).float()
    focal, center = torch.tensor([lens.focal for lens in lenses]), torch.tensor([lens.center for lens in lenses])
    camera = Camera(pose, focal, center, width, height)
    still = all(bool((value == value[:1]).all()) for value in (pose, focal, center))
    return camera[[0]] if still else camera
