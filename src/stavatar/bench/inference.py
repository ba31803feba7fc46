"""What a picture takes where an avatar is looked at and driven: posing, drawing, packing for a browser."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import torch
from PIL import Image

from stavatar.avatar.runtime import Runtime
from stavatar.bench.parts import Part
from stavatar.evaluation.drawing.canvas import to_uint8

ANIMATE = "animate + render"
"""The row whose frames a second count: from head parameters to a picture on the device."""
BATCH = 8


def inference(runtime: Runtime, size: int) -> Iterator[Part]:
    """The runtime's parts in pictures of `size` pixels, one frame at a time and in batches."""
    camera = runtime.motion.camera[[0]].resized(size, size)
    count = len(runtime.motion.parameters)

    def frames(batch: int) -> Callable[[], torch.Tensor]:
        """A function that picks the next frames of the recorded motion."""
        done = 0

        def following() -> torch.Tensor:
            nonlocal done
            done += batch
            return torch.arange(done - batch, done) % count

        return following

    for batch in (1, BATCH):
        following = frames(batch)

        def pose(following=following):  # type: ignore[no-untyped-def]
            return runtime.pose(runtime.motion.parameters[following()])

        def animate(following=following):  # type: ignore[no-untyped-def]
            return runtime.render(runtime.motion.parameters[following()], camera)

        posed = pose()

        def draw(posed=posed):  # type: ignore[no-untyped-def]
            return runtime.draw(posed, camera)

        variant = "batched" if batch > 1 else "single"
        yield Part("animate", variant, pose, None, batch)
        yield Part("render", variant, draw, None, batch)
        yield Part(ANIMATE, variant, animate, None, batch)
    picture = to_uint8(runtime.render(runtime.motion.parameters[[0]], camera).image[0]).cpu().numpy()

    def pack() -> None:
        Image.fromarray(picture).save(io.BytesIO(), "JPEG", quality=80)

    yield Part("pack as JPEG", "single", pack, None)
