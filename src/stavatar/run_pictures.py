"""The pictures that every run gets in ``pictures/``, drawn from what training noted and from the finished avatar."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from stavatar.avatar.avatar import Avatar
from stavatar.avatar.gaussians import SH_DC
from stavatar.avatar.offsets import read_offsets
from stavatar.avatar.storage import Motion
from stavatar.errors import InputError
from stavatar.evaluation.drawing.canvas import save_png
from stavatar.evaluation.drawing.clusters import Clusters, draw_clusters
from stavatar.evaluation.drawing.curves import Curve, draw_curves
from stavatar.evaluation.drawing.offset_maps import OffsetMaps, draw_offset_maps
from stavatar.evaluation.drawing.uv_density import Density, draw_uv_density
from stavatar.evaluation.openness import INSIDE_MOUTH, measure_openness
from stavatar.files import read_json
from stavatar.head.uv import texel_centers
from stavatar.run import Run
from stavatar.sequence import Sequence

CURVES, CLUSTERS, DENSITY, OFFSETS = "curves.png", "clusters.png", "gaussians_uv.png", "offsets.png"

_Record = TypeVar("_Record")


def draw_run(run: Run, sequence: Sequence, avatar: Avatar, motion: Motion) -> None:
    """Write those pictures of a finished run that there is something to draw for.

    Raises:
        InputError: a file that training wrote is damaged, or a picture cannot be written.
    """
    if run.curve.exists():
        save_png(draw_curves([read_curve(run, sequence.name)], title=sequence.name), run.pictures / CURVES)
    if run.clusters.exists():
        draw_run_clusters(run, sequence, run.pictures / CLUSTERS)
    draw_densities({sequence.name: avatar}, run.pictures / DENSITY)
    if avatar.network is not None:
        draw_offsets({sequence.name: (avatar, motion)}, sequence, run.pictures / OFFSETS)


def draw_run_clusters(run: Run, sequence: Sequence, path: Path) -> None:
    """The clusters of a run's training frames."""
    clusters = read_clusters(run, len(sequence))
    save_png(
        draw_clusters(
            clusters,
            lambda frame: sequence.images[frame].numpy(),
            title=f"{sequence.name}: clusters of training frames",
        ),
        path,
    )


def draw_densities(avatars: dict[str, Avatar], path: Path) -> None:
    """Where the Gaussians of each avatar lie over the UV square; all avatars are of one head."""
    first = next(iter(avatars.values()))
    atlas = first.atlas.to("cpu")
    inside_mouth = atlas.gather_faces(first.head.faces_in(*INSIDE_MOUTH).cpu())
    densities = [Density(name, avatar.gaussians.uv.cpu().numpy()) for name, avatar in avatars.items()]
    picture = draw_uv_density(
        densities,
        atlas.valid.numpy(),
        inside_mouth.numpy(),
        outlined_name="mouth interior and teeth",
        title="Gaussians over UV",
    )
    save_png(picture, path)


def draw_offsets(avatars: dict[str, tuple[Avatar, Motion]], sequence: Sequence, path: Path) -> None:
    """What each avatar's network adds in the held-out frame whose mouth is open widest."""
    first = next(iter(avatars.values()))[0]
    head = first.head
    openness = measure_openness(head, first.shape, sequence.parameters[sequence.test].to(first.shape.device))
    frame = int(sequence.test[openness.mouth.argmax()])
    maps = [offset_maps(avatar, motion, frame, name) for name, (avatar, motion) in avatars.items()]
    surface = [avatar.atlas.valid.cpu().numpy() for avatar, _ in avatars.values()]
    title = f"offsets over UV in held-out frame {frame}, the one whose mouth is open widest"
    save_png(draw_offset_maps(maps, surface, sequence.image([frame])[0], title=title), path)


@torch.no_grad()
def offset_maps(avatar: Avatar, motion: Motion, frame: int, name: str) -> OffsetMaps:
    """The offsets of one frame at every texel. The avatar has a network."""
    device = avatar.shape.device
    parameters = motion.parameters[[frame]].to(device)
    size = avatar.config.network.uv_size
    raw = avatar.offset_maps(parameters, avatar.head(avatar.shape, parameters))
    offsets = read_offsets(raw, texel_centers(size, device=device).flatten(0, 1), avatar.config.network)

    def square(values: Tensor) -> np.ndarray:
        """[1, R * R, ...] -> [R, R, ...]"""
        return values[0].unflatten(0, (size, size)).cpu().numpy()

    return OffsetMaps(
        name,
        position=square(1000 * offsets.position.norm(dim=-1)),
        scale=square(offsets.scale.log().mean(-1)),
        rotation=square(offsets.rotation.norm(dim=-1).rad2deg()),
        color=square(SH_DC * offsets.color),
        opacity=square(offsets.opacity),
    )


def read_curve(run: Run, name: str) -> Curve:
    """The run's learning curve.

    Raises:
        InputError: ``curve.json`` is missing or damaged.
    """

    def curve(record: dict[str, Any]) -> Curve:
        columns = [[_number(value) for value in record[key]] for key in ("frames", "seconds", "psnr", "gaussians")]
        if not columns[0] or len({len(column) for column in columns}) != 1:
            raise ValueError("its columns are not of one length")
        return Curve(name, *columns)

    return _read(run.curve, curve)


def read_clusters(run: Run, frames: int) -> Clusters:
    """The run's clusters of training frames, in a sequence of `frames` frames.

    Raises:
        InputError: ``clusters.json`` is missing or damaged.
    """

    def clusters(record: dict[str, Any]) -> Clusters:
        found = Clusters(
            frames=[int(frame) for frame in record["frames"]],
            cluster=[int(cluster) for cluster in record["cluster"]],
            scatter=[(_number(x), _number(y)) for x, y in record["scatter"]],
            silhouette={int(count): _number(value) for count, value in record["silhouette"].items()},
            chosen=int(record["chosen"]),
        )
        if not found.frames or not len(found.frames) == len(found.cluster) == len(found.scatter):
            raise ValueError("its columns are not of one length")
        if not all(0 <= frame < frames for frame in found.frames):
            raise ValueError("it names frames that the sequence does not have")
        return found

    return _read(run.clusters, clusters)


def _read(path: Path, parse: Callable[[dict[str, Any]], _Record]) -> _Record:
    record = read_json(path)
    try:
        return parse(record)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} is damaged ({error}); delete it, and the picture is left out") from error


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value} is not a number")
    return number
