"""Pictures into files: an mp4, or a folder of PNGs with alpha."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from stavatar.containers import write_video
from stavatar.errors import InputError
from stavatar.files import atomic_folder, atomic_path
from stavatar.locks import sole_writer


def to_uint8(image: Tensor, alpha: Tensor | None = None) -> np.ndarray:
    """Pictures [..., H, W, 3] in [0, 1] as uint8; with coverage `alpha` [..., H, W] as RGBA with straight alpha.

    With `alpha`, `image` must have been drawn over black, so that it holds colours times coverage.
    """
    if alpha is not None:
        straight = image / alpha.clamp_min(1 / 255)[..., None]
        image = torch.cat([straight, alpha[..., None]], -1)
    return (image.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()


def save_image(image: Tensor | np.ndarray, path: Path | str) -> None:
    """Write a picture [H, W, 3 or 4] as a PNG: floats in [0, 1], or uint8.

    Raises:
        InputError: the name does not end in .png, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise InputError(f"{path}: the picture's name must end in .png")
    with atomic_path(path) as temporary:
        Image.fromarray(to_uint8(image) if isinstance(image, Tensor) else image).save(temporary, format="PNG")


def check_target(out: Path) -> bool:
    """Whether `out` is to be a folder of PNGs (True) or an mp4 (False).

    Raises:
        InputError: it has another suffix, or is a folder that holds something.
    """
    out = Path(out)
    if out.suffix.lower() == ".mp4":
        return False
    if out.suffix:
        raise InputError(f"{out}: give a name that ends in .mp4, or a folder (a name without an ending) for PNGs")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists already: choose a new or empty folder for the PNGs")
    return True


def write_pictures(out: Path, pictures: Iterable[np.ndarray], fps: float) -> None:
    """Write uint8 pictures, all of one size, to what :func:`check_target` takes `out` for: all of them, or nothing.

    Args:
        out: an mp4, which wants [H, W, 3]; or a folder that gets ``00000.png`` and so on, [H, W, 3 or 4].
        pictures: one after the other.
        fps: of the mp4.
    """
    as_folder = check_target(out)
    with sole_writer(out):
        if not as_folder:
            write_video(out, pictures, fps)
            return
        with atomic_folder(out) as temporary:
            for index, picture in enumerate(pictures):
                save_image(picture, temporary / f"{index:05d}.png")
