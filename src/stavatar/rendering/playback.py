"""A motion of an avatar from start to end, seen by moving cameras, into a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from stavatar.avatar.runtime import Runtime
from stavatar.camera import Camera
from stavatar.head import HeadParameters
from stavatar.progress import stage
from stavatar.rendering.output import check_target, to_uint8, write_pictures
from stavatar.rendering.views import CameraMove


def play(
    runtime: Runtime,
    parameters: HeadParameters,
    camera: Camera,
    fps: float,
    out: Path,
    *,
    move: CameraMove | None = None,
    size: int | None = None,
    soft: bool = True,
    beside: Callable[[int, int], np.ndarray] | None = None,
) -> None:
    """Draw every frame of a motion and write an mp4 over white, or PNGs with alpha.

    Args:
        runtime: the avatar.
        parameters: T frames.
        camera: one camera, or T.
        fps: frames per second.
        out: an .mp4, or a new folder for PNGs.
        move: where the camera goes; it stays where None. Several views stand side by side.
        size: edge of each square view in pixels; the camera's where None.
        soft: use the offset network.
        beside: gives a uint8 picture [height, W, 3] to put on the left for (frame, height).

    Raises:
        InputError: `out` cannot be written.
    """
    move = move or CameraMove()
    transparent = check_target(out)
    background = torch.zeros(3) if transparent else None

    def pictures() -> Iterator[np.ndarray]:
        with stage("rendering", len(parameters)) as report:
            for frame in range(len(parameters)):
                posed = runtime.pose(parameters[[frame]], soft=soft)
                views = []
                for view in move.cameras(camera[[frame]], runtime.pivot, frame / fps):
                    drawn = runtime.draw(
                        posed, view if size is None else view.resized(size, size), background=background
                    )
                    views.append(to_uint8(drawn.image[0], drawn.alpha[0] if transparent else None))
                if beside is not None:
                    left = beside(frame, len(views[0]))
                    opaque = np.full((*left.shape[:2], 1), 255, np.uint8)
                    views.insert(0, np.concatenate([left, opaque], 2) if transparent else left)
                yield np.concatenate(views, 1)
                report()

    write_pictures(out, pictures(), fps)
