"""Look: everything a user can choose about what is to be seen, apart from the camera."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Base = Literal["recorded", "neutral", "camera"]
Splats = Literal["appearance", "points", "ellipsoids", "none"]
Colours = Literal["own", "offsets", "regions"]
Mesh = Literal["none", "shaded", "regions"]

PARTS: dict[str, tuple[str, ...]] = {
    "jaw": ("jaw",),
    "mouth": ("mouth", "tongue"),
    "eyes": ("eye",),
    "brows": ("brow",),
    "cheeks and nose": ("cheek", "nose"),
}
"""Parts of the face, and how ARKit's names of their expressions begin."""

MOST_UNNAMED = 20
"""Sliders for expressions whose names tell no part: their first components move most."""


@dataclass(frozen=True)
class Look:
    """One state of the controls; equal looks give equal pictures.

    Attributes:
        base: what the pose starts from: the recorded frame, rest, or the live camera.
        frame: of the recorded motion.
        expression: (name, value) pairs added to the base.
        jaw, neck: axis-angle in degrees, added to the base: (x, y, z).
        gaze: (right to left, up to down) in degrees, added to both eyes.
        soft: add the network's offsets.
        splats: how Gaussians are drawn.
        colours: what their colours show.
        mesh: how the mesh is drawn over them.
        mesh_opacity: in [0, 1].
        background: RGB in [0, 1].
    """

    base: Base = "recorded"
    frame: int = 0
    expression: tuple[tuple[str, float], ...] = ()
    jaw: tuple[float, float, float] = (0.0, 0.0, 0.0)
    gaze: tuple[float, float] = (0.0, 0.0)
    neck: tuple[float, float, float] = (0.0, 0.0, 0.0)
    soft: bool = True
    splats: Splats = "appearance"
    colours: Colours = "own"
    mesh: Mesh = "none"
    mesh_opacity: float = 0.6
    background: tuple[float, float, float] = (1.0, 1.0, 1.0)


def part_of(name: str) -> str | None:
    """The part of the face that an expression's name tells, or None."""
    return next((part for part, starts in PARTS.items() if name.startswith(starts)), None)


def by_part(names: list[str]) -> dict[str, list[str]]:
    """Expression names grouped by part of the face; those that tell none come last, the first few of them."""
    groups = {part: [name for name in names if part_of(name) == part] for part in PARTS}
    groups["expression"] = [name for name in names if part_of(name) is None][:MOST_UNNAMED]
    return {part: group for part, group in groups.items() if group}


def spoken(name: str) -> str:
    """What a slider is called within its part of the face: ``mouthDimpleLeft`` is ``dimple left`` in the mouth."""
    starts = next((start for part in PARTS.values() for start in part if name.startswith(start)), "")
    words = re.findall("[A-Z]?[^A-Z]+", name.removeprefix(starts) or name)
    return " ".join(words).lower()
