"""The one entrance to the rasterisers: checks, broadcasting, spherical harmonics, choice of the backend."""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from stavatar.camera import Camera
from stavatar.errors import BackendError
from stavatar.splat import spherical_harmonics
from stavatar.splat.conventions import Rasterization

Backend = Literal["auto", "reference", "cpu", "cuda"]


def rasterize(
    means: Tensor,
    quaternions: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colors: Tensor,
    camera: Camera,
    *,
    sh_degree: int | None = None,
    background: Tensor | None = None,
    extra: Tensor | None = None,
    backend: Backend = "auto",
    statistics: bool = False,
    room: int | None = None,
) -> Rasterization:
    """Draw B scenes of N Gaussians, scene b with camera b.

    The leading dimension of every tensor, and the number of cameras, is B or 1; whatever has 1 is used for all scenes
    (and receives the summed gradient). Gradients flow to all Gaussian tensors, not to the camera and not to the
    background. The exact drawing rule is in :mod:`stavatar.splat.conventions`.

    Args:
        means: [B, N, 3] world positions, metres.
        quaternions: [B, N, 4] rotations wxyz, of any length but zero.
        scales: [B, N, 3] standard deviations along the Gaussian's axes, metres.
        opacities: [B, N] in [0, 1].
        colors: [B, N, 3] RGB, or with `sh_degree` [B, N, K, 3] spherical-harmonic coefficients, K >= (sh_degree + 1)²;
            the colour is then max(0, 0.5 + sum), seen from the camera centre.
        camera: one or B cameras.
        sh_degree: 0 to 3, or None for plain colours.
        background: [3] colour behind the Gaussians; None means black.
        extra: [B, N, D] more channels to blend along, without background.
        backend: "reference" (plain torch, tiny scenes), "cpu" (Numba, float32), "cuda" (gsplat, float32), or "auto":
            cuda for tensors on a CUDA device, else cpu.
        statistics: also count pixels and blending weights.
        room: "cuda" only: how many pairs of a Gaussian and a tile that it touches there are at most. With it nothing
            waits for the GPU, and drawing can be recorded as a CUDA graph; ``entries`` of the result tells how many
            there are. Of more than that the last Gaussians are not drawn everywhere. None counts them first.

    Raises:
        ValueError: shapes, dtypes or devices do not fit together.
        BackendError: the backend's package is not installed, or its device is not there.
    """
    tensors = {"means": means, "quaternions": quaternions, "scales": scales, "opacities": opacities, "colors": colors}
    if extra is not None:
        tensors["extra"] = extra
    count = means.shape[1] if means.ndim == 3 else None
    shapes: dict[str, tuple[int | None, ...]] = {
        "means": (count, 3),
        "quaternions": (count, 4),
        "scales": (count, 3),
        "opacities": (count,),
        "colors": (count, 3) if sh_degree is None else (count, None, 3),
        "extra": (count, None),
    }
    for name, tensor in tensors.items():
        _check(name, tensor, shapes[name], means)
    if sh_degree is not None and not 0 <= sh_degree <= spherical_harmonics.MOST_DEGREE:
        raise ValueError(f"sh_degree is {sh_degree}; 0 to {spherical_harmonics.MOST_DEGREE} or None are possible")
    if sh_degree is not None and colors.shape[2] < (sh_degree + 1) ** 2:
        raise ValueError(f"colors has {colors.shape[2]} coefficients; degree {sh_degree} needs {(sh_degree + 1) ** 2}")
    if background is not None and (background.shape != (3,) or background.device != means.device):
        raise ValueError(
            f"background must be [3] on {means.device}, not {list(background.shape)} on {background.device}"
        )
    camera_tensors = camera.world_to_camera, camera.focal, camera.center
    if any(tensor.device != means.device for tensor in camera_tensors):
        raise ValueError(f"the camera is on {camera.focal.device}, the Gaussians are on {means.device}")
    if any(tensor.requires_grad for tensor in camera_tensors) or (background is not None and background.requires_grad):
        raise ValueError("cameras and backgrounds receive no gradient: detach them")

    sizes = {len(camera), *(len(tensor) for tensor in tensors.values())} - {1}
    if len(sizes) > 1:
        raise ValueError(f"batch sizes {sorted(sizes)} do not fit together: each must be 1 or the same B")
    batch = sizes.pop() if sizes else 1
    name = _choose(backend, means)
    drawer = importlib.import_module(f"stavatar.splat.{name}")
    camera = _cast(camera.expand(batch), means.dtype)
    tensors = {key: tensor.expand(batch, *tensor.shape[1:]) for key, tensor in tensors.items()}
    if sh_degree is not None:
        directions = tensors["means"] - camera.position[:, None]
        color = drawer.color if name == "cuda" else spherical_harmonics.color
        tensors["colors"] = color(tensors["colors"], directions, sh_degree)

    bounded = {"room": room} if name == "cuda" else {}
    result: Rasterization = drawer.rasterize(
        tensors["means"],
        tensors["quaternions"],
        tensors["scales"],
        tensors["opacities"],
        tensors["colors"],
        camera,
        None if background is None else background.to(means.dtype),
        tensors.get("extra"),
        statistics,
        **bounded,
    )
    return result


def _check(name: str, tensor: Tensor, shape: tuple[int | None, ...], means: Tensor) -> None:
    fits = tensor.ndim == len(shape) + 1 and all(
        want is None or want == have for want, have in zip(shape, tensor.shape[1:], strict=False)
    )
    if not fits:
        wanted = ", ".join(
            "B" if i == 0 else ("*" if want is None else str(want)) for i, want in enumerate((0, *shape))
        )
        raise ValueError(f"{name} must be [{wanted}], not {list(tensor.shape)}")
    if tensor.dtype != means.dtype or tensor.device != means.device:
        raise ValueError(f"{name} is {tensor.dtype} on {tensor.device}, but means is {means.dtype} on {means.device}")


def _choose(backend: str, means: Tensor) -> str:
    """The backend's name, checked against where the tensors are and what they hold."""
    if backend == "auto":
        backend = "cuda" if means.is_cuda else "cpu"
    if backend not in ("reference", "cpu", "cuda"):
        raise ValueError(f'backend is {backend!r}; "auto", "reference", "cpu" and "cuda" are possible')
    if backend == "cuda" and not torch.cuda.is_available():
        raise BackendError("the cuda rasteriser needs a CUDA GPU, and torch finds none: use the cpu backend")
    if backend != "reference":
        if means.device.type != backend:
            raise ValueError(f"the {backend} backend cannot draw tensors on {means.device}: move them first")
        if means.dtype != torch.float32:
            raise ValueError(f"the {backend} backend draws float32 only, not {means.dtype}; reference draws both")
    elif means.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"the reference backend draws float32 and float64, not {means.dtype}")
    return backend


def _cast(camera: Camera, dtype: torch.dtype) -> Camera:
    return replace(
        camera,
        world_to_camera=camera.world_to_camera.to(dtype),
        focal=camera.focal.to(dtype),
        center=camera.center.to(dtype),
    )
