"""From a video to observations: the whole of capture, stage by stage."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from stavatar import assets
from stavatar.capture.conditions import conditions_of, outside_of, thumbnail
from stavatar.capture.crop import Crop, choose_crop
from stavatar.capture.landmarks import track_face
from stavatar.capture.matte import cut_out, over_white
from stavatar.capture.observations import Observations
from stavatar.capture.video import Frame, Shot, Source, find_shot, open_source
from stavatar.errors import InputError
from stavatar.parallel import in_order, threads
from stavatar.progress import Stage, stage

MOST_BYTES = 8 << 30
"""Observations larger than this are refused before they are made: they are held in memory."""


def capture(source: Path | Source, size: int, max_frames: int | None = None, progress: Stage = stage) -> Observations:
    """Watch one person in a video.

    The source is decoded three times (for cuts, for faces, for pictures), so that only the result is ever held in
    memory: 4 bytes per pixel of each kept frame.

    Args:
        source: a video file, a folder of PNG or JPEG images in the order of their names, or one of these opened. Where
            it brings mattes (masks or alpha channels) those are kept, otherwise the person is found.
        size: side of the square pictures wanted, in pixels.
        max_frames: keep every k-th frame so that no more than this remain; None keeps all.
        progress: shows the stages.

    Raises:
        InputError: the source is not a video of a face that can be used; see :mod:`stavatar.capture.video` for what is
            looked at.
        AssetError: the landmarker's or the segmenter's model is missing.
    """
    opened = open_source(source) if isinstance(source, Path) else source
    landmarker = assets.path("face_landmarker")
    segmenter = None if opened.matted else assets.path("selfie_segmenter")
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
    thumbnails: list[np.ndarray] = []
    with progress("cutting out the person", len(shot)) as report:
        for t, (image, matte) in enumerate(_cut_squares(shot, crop, segmenter, thumbnails)):
            images[t], mattes[t] = image, matte
            report()
    inside = crop.inside(shot.width, shot.height)
    images[:, ~inside], mattes[:, ~inside] = 255, 0
    landmarks = crop.points(face.points)
    return Observations(
        images=torch.from_numpy(images),
        mattes=torch.from_numpy(mattes),
        landmarks=torch.from_numpy(landmarks),
        blendshapes=torch.from_numpy(face.blendshapes),
        blendshape_names=face.names,
        detected=torch.from_numpy(face.detected),
        frame_ids=torch.from_numpy(shot.indices),
        seconds=torch.from_numpy(shot.seconds),
        fps=shot.fps,
        conditions=conditions_of(
            images=images,
            mattes=mattes,
            thumbnails=thumbnails,
            inside=inside,
            landmarks=landmarks,
            outside=outside_of(face.points, shot.width, shot.height),
            other_faces=face.others,
        ),
    )


def _cut_squares(
    shot: Shot, crop: Crop, segmenter: Path | None, thumbnails: list[np.ndarray]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(picture over white, matte) of each frame, cropped; found by the segmenter, or with the source's own mattes.

    Fills `thumbnails` with those of the crops with their background.
    """

    def cropped(frame: Frame) -> tuple[Frame, np.ndarray, np.ndarray]:
        picture = crop.apply(frame.rgb)
        return frame, picture, thumbnail(picture)

    with ThreadPoolExecutor(max_workers=threads()) as pool:

        def squares() -> Iterator[tuple[Frame, np.ndarray]]:
            for frame, picture, small in in_order(pool, cropped, shot.frames(), ahead=threads()):
                thumbnails.append(small)
                yield frame, picture

        if segmenter is not None:
            yield from cut_out((picture for _, picture in squares()), segmenter)
            return
        for frame, image in squares():
            assert frame.alpha is not None  # the source is matted
            matte = crop.apply(frame.alpha)
            yield (image, matte) if shot.source.cut else over_white(image, matte)
