"""Writing the site: distil, pack, read back, measure what was lost, and put the player beside it."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stavatar.avatar.avatar import Avatar, render
from stavatar.avatar.storage import Motion
from stavatar.errors import InputError
from stavatar.evaluation.metrics import psnr
from stavatar.export.web.distil import distil
from stavatar.export.web.package import DESCRIPTION, TENSORS, PackedAvatar, describe, read_package, write_tensors
from stavatar.files import atomic_folder, write_bytes, write_json
from stavatar.locks import sole_writer
from stavatar.progress import stage

PLAYER = (
    *("index.html", "style.css"),
    *("main.js", "controls.js", "orbit.js", "renderer.js", "worker.js", "avatar.js", "pose.js", "splats.js"),
)
"""Files of the player: all static, none from elsewhere."""

_MEASURED = 40  # held-out frames, evenly spaced, that the loss is measured on

Truth = Callable[[int], Tensor]
"""The recorded picture [H, W, 3] in [0, 1] of a frame."""


def export_site(
    folder: Path,
    avatar: Avatar,
    motion: Motion,
    *,
    rank: int = 12,
    frames: int | None = None,
    truth: Truth | None = None,
) -> dict[str, Any]:
    """Write a site that plays the avatar, whole or not at all.

    Args:
        folder: where the site goes: new, empty, or a site written before, which is replaced.
        avatar: on the device where it shall be evaluated.
        motion: its recorded motion.
        rank: maps that stand in for the offset network.
        frames: of the recording that the site plays, from the start; all by default.
        truth: recorded pictures, to measure against them as well.

    Returns:
        The content of the site's ``meta.json``; ``measured`` in it says how large the site is and what was lost.

    Raises:
        InputError: the folder holds something else, or cannot be written, or another process is writing it.
    """
    with sole_writer(folder):
        _check_replaceable(folder)
        with atomic_folder(folder) as temporary:
            return write_site(temporary, avatar, motion, rank=rank, frames=frames, truth=truth)


def _check_replaceable(folder: Path) -> None:
    """Refuse a folder that holds anything but a site written before."""
    if not folder.exists():
        return
    present = {entry.name for entry in folder.iterdir()} if folder.is_dir() else None
    if present is None or (present and DESCRIPTION not in present):
        raise InputError(f"{folder} exists and is not a site of this kind; choose another output folder")
    strangers = present - {*PLAYER, TENSORS, DESCRIPTION}
    if strangers:
        raise InputError(
            f"{folder} holds {min(strangers)!r} besides a site, so it is not replaced by one: choose another folder"
        )


def write_site(
    folder: Path, avatar: Avatar, motion: Motion, *, rank: int, frames: int | None, truth: Truth | None
) -> dict[str, Any]:
    """Write the files of a site into an empty folder; arguments and result are those of :func:`export_site`."""
    count = len(motion.parameters) if frames is None else min(frames, len(motion.parameters))
    basis = None if avatar.network is None else distil(avatar, motion, rank)
    meta = describe(avatar, motion, count)
    write_tensors(folder / TENSORS, avatar, motion, basis, count)
    write_json(folder / DESCRIPTION, meta)
    player = resources.files("stavatar.export.web") / "player"
    for name in PLAYER:
        write_bytes(folder / name, (player / name).read_bytes())

    measured = measure_loss(avatar, read_package(folder).to(avatar.shape.device), motion, truth)
    size = sum((folder / name).stat().st_size for name in (*PLAYER, TENSORS))
    meta["measured"] = {"megabytes": round(size / 1e6, 3), "rank": 0 if basis is None else len(basis.maps), **measured}
    write_json(folder / DESCRIPTION, meta)
    return meta


@torch.no_grad()
def measure_loss(
    avatar: Avatar, packed: PackedAvatar, motion: Motion, truth: Truth | None
) -> dict[str, float | int | str]:
    """Compare renders of what was packed with those of the full model, on held-out frames (all, where there are none).

    Returns:
        ``psnr_to_full_model``, the mean over frames of the PSNR between the two renders, in dB; with `truth` also
        ``psnr_full_model`` and ``psnr_player``, both against the recorded pictures, and their difference
        ``psnr_lost``.
    """
    device = avatar.shape.device
    held_out = len(motion.test) > 0
    pool = motion.test if held_out else torch.arange(len(motion.parameters))
    chosen = pool[torch.linspace(0, len(pool) - 1, min(len(pool), _MEASURED)).round().long()]
    static = avatar.network.static_features() if avatar.network is not None else None
    rows = []
    with stage("measuring the loss", len(chosen)) as report:
        for frame in chosen.tolist():
            parameters, camera = motion.parameters[[frame]].to(device), motion.camera[[frame]].to(device)
            full = render(avatar(parameters, static=static), camera).image.clamp(0, 1)
            ours = render(packed(parameters), camera).image.clamp(0, 1)
            pairs = [(ours, full)]
            if truth is not None:
                picture = truth(frame)[None].to(device)
                pairs += [(full, picture), (ours, picture)]
            rows.append(torch.cat([psnr(*pair) for pair in pairs]))
            report()
    mean = torch.stack(rows).mean(0).tolist()
    names = ("psnr_to_full_model", "psnr_full_model", "psnr_player")
    result: dict[str, float | int | str] = {name: round(value, 3) for name, value in zip(names, mean, strict=False)}
    if truth is not None:
        result["psnr_lost"] = round(mean[1] - mean[2], 3)
    return {**result, "frames": len(rows), "measured_on": "held-out frames" if held_out else "recorded frames"}
