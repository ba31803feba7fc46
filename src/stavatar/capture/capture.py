"""From a video to observations: the whole of capture, stage by stage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from stavatar import assets
from stavatar.capture.crop import choose_crop
from stavatar.capture.landmarks import track_face
from stavatar.capture.matte import cut_out
from stavatar.capture.observations import Observations
from stavatar.capture.video import Stage, find_shot, open_source
from stavatar.errors import InputError
from stavatar.progress import stage

MOST_BYTES = 8 << 30
"""Observations larger than this are refused before they are made: they are held in memory."""


def capture(source: Path, size: int, max_frames: int | None = None, progress: Stage = stage) -> Observations:
    """Watch one person in a video.

    The source is decoded three times (for cuts, for faces, for pictures), so that only the result is ever held in
    memory: 4 bytes per pixel of each kept frame.

    Args:
        source: a video file, or a folder of PNG or JPEG images in the order of their names.
        size: side of the square pictures wanted, in pixels.
        max_frames: keep every k-th frame so that no more than this remain; None keeps all.
        progress: shows the stages.

    Raises:
        InputError: the source is not a video of a face that can be used; see :mod:`stavatar.capture.video` for what is
            looked at.
        AssetError: the landmarker's or the segmenter's model is missing.
    """
    opened = open_source(source)
    landmarker, segmenter = assets.path("face_landmarker"), assets.path("selfie_segmenter")
    shot = find_shot(opened, max_frames, progress)
    if len(shot) * size * size * 4 > MOST_BYTES:
        most = MOST_BYTES // (size * size * 4)
        raise InputError(
            f"{len(shot)} frames at {size} pixels need more than {MOST_BYTES >> 30} GiB of memory: "
            f"allow at most {most} frames (max_frames) or choose a smaller size"
        )
    with progress("finding the face", len(shot)) as report:
        face = track_face(shot.frames(), landmarker, report)
    crop = choose_crop(face.points, shot.width, shot.height, size)

    images = np.empty((len(shot), size, size, 3), dtype=np.uint8)
    mattes = np.empty((len(shot), size, size), dtype=np.uint8)
    with progress("cutting out the person", len(shot)) as report:
        squares = (crop.apply(frame.rgb) for frame in shot.frames())
        for t, (image, matte) in enumerate(cut_out(squares, segmenter)):
            images[t], mattes[t] = image, matte
            report()
    beyond = ~crop.inside(shot.width, shot.height)
    images[:, beyond], mattes[:, beyond] = 255, 0
    return Observations(
        images=torch.from_numpy(images),
        mattes=torch.from_numpy(mattes),
        landmarks=torch.from_numpy(crop.points(face.points)),
        blendshapes=torch.from_numpy(face.blendshapes),
        blendshape_names=face.names,
        detected=torch.from_numpy(face.detected),
        frame_ids=torch.from_numpy(shot.indices),
        seconds=torch.from_numpy(shot.seconds),
        fps=shot.fps,
    )
