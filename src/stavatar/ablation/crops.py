"""Mouths and eyes of all rows side by side, in the held-out frames that show most of them."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from stavatar.avatar.avatar import Avatar, render
from stavatar.avatar.storage import Motion
from stavatar.evaluation.drawing.canvas import save_png
from stavatar.evaluation.drawing.crops import Box, draw_crops
from stavatar.evaluation.openness import boxes_around, choose_extreme, measure_openness
from stavatar.sequence import Sequence

MOUTHS = 4
EYES = 2  # closed, and as many wide open

Look = tuple[Avatar, Motion]


def draw_mouths_and_eyes(looks: dict[str, Look], sequence: Sequence, mouths: Path, eyes: Path) -> None:
    """Two pictures: of the held-out frames in which the mouth is open widest, and of those in which the eyes are most
    closed and open widest.

    Args:
        looks: a finished avatar for each row.
        sequence: what they were trained on.
        mouths, eyes: the files.
    """
    avatar = next(iter(looks.values()))[0]
    held_out = sequence.parameters[sequence.test].to(avatar.shape.device)
    openness = measure_openness(avatar.head, avatar.shape, held_out)
    shown = [(place, "open") for place in choose_extreme(openness.mouth, MOUTHS)]
    _draw(looks, sequence, shown, "lips", "held-out frames with the mouth open widest", mouths)
    shown = [(place, "closed") for place in choose_extreme(-openness.eyes, EYES)]
    shown += [(place, "wide") for place in choose_extreme(openness.eyes, EYES)]
    _draw(looks, sequence, shown, "eyes", "held-out frames with the eyes most closed and open widest", eyes)


@torch.no_grad()
def _draw(
    looks: dict[str, Look],
    sequence: Sequence,
    shown: list[tuple[int, str]],
    region: str,
    title: str,
    path: Path,
) -> None:
    """Crops of `region` in the held-out frames at the places `shown`, each with a word on it."""
    frames = sequence.test[[place for place, _ in shown]]
    labels = [f"{frame}, {word}" for frame, (_, word) in zip(frames.tolist(), shown, strict=True)]
    camera = sequence.camera[frames]
    renders: dict[str, list[Tensor]] = {}
    boxes: list[Box] = []
    for name, (avatar, motion) in looks.items():
        device = avatar.shape.device
        posed = avatar(motion.parameters[frames].to(device))
        if not boxes:  # one place in the picture for all rows: that of the first
            boxes = boxes_around(avatar.head, posed.mesh, camera.to(device), region)
        renders[name] = list(render(posed, camera.to(device)).image.cpu())
    save_png(draw_crops(list(sequence.image(frames)), renders, boxes, labels, title=f"{sequence.name}: {title}"), path)
