"""What a picture takes where an avatar is looked at and driven: posing, drawing, packing for a browser."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator

import torch
from PIL import Image

from stavatar.avatar.runtime import Runtime
from stavatar.bench.parts import Part
from stavatar.camera import Camera
from stavatar.evaluation.drawing.canvas import to_uint8
from stavatar.head import HeadParameters

ANIMATE = "animate + render"
"""The row whose frames a second count: from head parameters to a picture on the device."""
BATCH = 8


def inference(runtime: Runtime, size: int) -> Iterator[Part]:
    """The runtime's parts in pictures of `size` pixels, one frame at a time and in batches."""
    camera = runtime.motion.camera[[0]].resized(size, size)
    for batch in (1, BATCH):
        yield from _drawing(runtime, camera, batch)
    picture = to_uint8(runtime.render(runtime.motion.parameters[[0]], camera).image[0]).cpu().numpy()

    def pack() -> None:
        Image.fromarray(picture).save(io.BytesIO(), "JPEG", quality=80)

    yield Part("pack as JPEG", "single", pack, None)


def _drawing(runtime: Runtime, camera: Camera, batch: int) -> Iterator[Part]:
    """Posing and drawing the recorded motion, `batch` frames at a time."""
    count = len(runtime.motion.parameters)
    starts = itertools.count(step=batch)

    def following() -> HeadParameters:
        begin = next(starts)
        return runtime.motion.parameters[torch.arange(begin, begin + batch) % count]

    posed = runtime.pose(following())
    variant = "batched" if batch > 1 else "single"
    yield Part("animate", variant, lambda: runtime.pose(following()), None, batch)
    yield Part("render", variant, lambda: runtime.draw(posed, camera), None, batch)
    yield Part(ANIMATE, variant, lambda: runtime.render(following(), camera), None, batch)
