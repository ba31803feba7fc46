"""Measuring an avatar on the frames that were held out from it: figures, speed, and how faithfully it re-enacts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from stavatar import assets
from stavatar.avatar.avatar import Avatar, render
from stavatar.errors import AssetError, InputError
from stavatar.evaluation.drawing.canvas import to_uint8
from stavatar.evaluation.evaluate import Pair, evaluate_images
from stavatar.evaluation.reenactment import IDENTITY_MISSING, REENACTMENT_METRICS, consistency
from stavatar.evaluation.region_masks import region_masks
from stavatar.evaluation.results import Measured
from stavatar.evaluation.speed import measure_speed
from stavatar.head import HeadParameters, PosedHead
from stavatar.progress import stage, warn
from stavatar.sequence import Sequence

READ_FRAMES = 60
"""At most so many frames, evenly spaced, are given to the face landmarker."""

_COMPARED_LPIPS_FRAMES = 20  # on a CPU, where LPIPS is most of the time, of the set that is there for comparison only


def measure_avatar(
    avatar: Avatar, parameters: HeadParameters, sequence: Sequence, driver: Sequence | None = None
) -> tuple[Measured, Tensor]:
    """Measure on the sequence's held-out frames, each of which is rendered once for everything that shows it.

    Args:
        avatar: on the device to measure on.
        parameters: of all frames of the sequence, held-out ones aligned to the avatar.
        sequence: what the avatar was made from, with at least one held-out frame.
        driver: another performance to re-enact, tracked with the same head model.

    Returns:
        What was measured, and the renders of the N held-out frames that it was measured on: [N, H, W, 3] uint8.

    Raises:
        InputError: no frame is held out, or the driver is of another head model.
    """
    frames = sequence.test
    if len(frames) == 0:
        raise InputError(f"{sequence.name} holds out no frames, so there is nothing to measure on")
    if driver is not None and driver.head_model != sequence.head_model:
        raise InputError(
            f"the driver {driver.name} is tracked with the head {driver.head_model}, and the avatar has "
            f"{sequence.head_model}: track it with that one"
        )
    device = avatar.shape.device
    renders = torch.empty(len(frames), sequence.height, sequence.width, 3, dtype=torch.uint8)

    def with_masks() -> Iterator[Pair]:
        for position, (pair, mesh) in enumerate(_rendered(avatar, parameters, sequence, frames)):
            renders[position] = to_uint8(pair.render)
            camera, matte = sequence.camera[[pair.frame]], sequence.mask([pair.frame])[0]
            yield replace(pair, masks=region_masks(avatar.head, mesh.vertices[0], camera, matte))

    metrics = evaluate_images(with_masks(), len(frames), device=device)
    as_tracked = None
    if avatar.config.pose.refine:
        as_tracked = evaluate_images(
            (pair for pair, _ in _rendered(avatar, sequence.parameters, sequence, frames)),
            len(frames),
            device=device,
            lpips_frames=None if device.type == "cuda" else _COMPARED_LPIPS_FRAMES,
            title="as tracked",
        )
    reenactment, missing = measure_reenactment(avatar, sequence, renders, driver)
    speed = measure_speed(avatar, parameters[frames], sequence.camera)
    return Measured(metrics, as_tracked, speed, reenactment, missing), renders


def measure_reenactment(
    avatar: Avatar, sequence: Sequence, renders: Tensor, driver: Sequence | None
) -> tuple[dict[str, Any], dict[str, str]]:
    """How well renders show what drives them, as the face landmarker sees it (`REENACTMENT_METRICS`).

    Args:
        avatar: the avatar.
        sequence: its subject's.
        renders: [N, H, W, 3] uint8 of the held-out frames.
        driver: another performance; all of its frames count.

    Returns:
        Figures of the held-out frames under ``self``, and of the driver under ``cross``; and why figures are missing.
    """
    try:
        model = assets.path("face_landmarker")
        from stavatar.capture.faces import read_faces  # needs MediaPipe, which is there where videos are tracked
    except (AssetError, ImportError) as error:
        warn(f"how faithfully the avatar re-enacts is left out of the results: {error}")
        return {"self": None, "cross": None}, _because(str(error))

    chosen = _evenly_spaced(len(renders))
    pictures = {"own": sequence.images[sequence.test[chosen]], "own render": renders[chosen]}
    if driver is not None:
        frames = _evenly_spaced(len(driver))
        driven = [to_uint8(pair.render) for pair, _ in _rendered(avatar, driver.parameters, driver, frames)]
        pictures |= {"driver": driver.images[frames], "driven render": torch.stack(driven)}
    with stage("reading faces", sum(map(len, pictures.values()))) as report:
        read = {name: read_faces(shown.numpy(), model, report) for name, shown in pictures.items()}

    figures: dict[str, Any] = {"self": consistency(read["own"], read["own render"], read["own"]), "cross": None}
    if driver is not None:
        across = consistency(read["driver"], read["driven render"], read["own"])
        figures["cross"] = {"driver": driver.name, **across}
    seen = figures["self"]["frames"] > 0
    return figures, {"identity": IDENTITY_MISSING} if seen else _because("the landmarker finds no face in the renders")


def _because(reason: str) -> dict[str, str]:
    """A reason for each figure of a re-enactment that could not be measured; identity has its own."""
    return {**dict.fromkeys(REENACTMENT_METRICS, reason), "identity": IDENTITY_MISSING}


@torch.no_grad()
def _rendered(
    avatar: Avatar, parameters: HeadParameters, sequence: Sequence, frames: Tensor
) -> Iterator[tuple[Pair, PosedHead]]:
    """Some frames of a sequence with the avatar's render in place of what they show, and the posed mesh."""
    device = avatar.shape.device
    static = avatar.network.static_features() if avatar.network is not None else None
    for frame in frames.tolist():
        posed = avatar(parameters[[frame]].to(device), static=static)
        image = render(posed, sequence.camera[[frame]].to(device)).image[0].cpu()
        yield Pair(frame, sequence.image([frame])[0], image, masks={}), posed.mesh


def _evenly_spaced(count: int) -> Tensor:
    """At most `READ_FRAMES` of the indices 0 to count - 1."""
    return torch.linspace(0, count - 1, min(count, READ_FRAMES)).round().long()
