"""The one binary file of a site: everything that poses the avatar, quantised, as safetensors.

Quantised arrays come in threes, ``name``, ``name.low`` and ``name.step`` (see :mod:`stavatar.export.web.quantise`):

    template [V, 3], joints [5, 3], weights * [V, 5], faces [F, 3]     the person's neutral head
    expression_start [E + 1], expression_vertex [S], expression_delta * [S, 3]
                                                                       vertices that each expression moves
    position * [N, 3], log_scale * [N, 3], quaternion * [N, 4], opacity_logit * [N, 1], sh_dc * [N, 3],
    sh_rest * [N, 3 (K - 1)] (absent for K = 1), uv * [N, 2], face [N] the Gaussians
    texels [M], mean * [M, 13], maps * [K, M, 13], coefficients [P + 1, K], low [P], high [P]
                                                                       the offset basis (absent without a network)
    motion [T, P], world_to_camera [C, 4, 4], focal [C, 2], center [C, 2]
                                                                       the recording, C = 1 or T

Those with a star are quantised: the maps and sh_rest to 8 bits, the others to 16.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file
from safetensors.numpy import save as to_safetensors
from torch import Tensor

from stavatar import __version__
from stavatar.avatar.avatar import Avatar, PosedGaussians
from stavatar.avatar.gaussians import BoundGaussians
from stavatar.avatar.offsets import read_offsets
from stavatar.avatar.storage import Motion
from stavatar.config import Config, NetworkConfig
from stavatar.errors import InputError
from stavatar.export.web.distil import OffsetBasis, flatten
from stavatar.export.web.quantise import Quantised, quantise
from stavatar.files import read_json, write_bytes
from stavatar.head import HeadModel, HeadParameters
from stavatar.head.posing import JOINTS, PARENTS
from stavatar.head.uv import UVAtlas
from stavatar.splat import conventions

FORMAT = 1
TENSORS, DESCRIPTION = "avatar.safetensors", "meta.json"
_STILL = 1e-6  # metres; vertices that an expression moves by less are left out of it


# ------------------------------------------------------------------------------------------------------------- writing


def write_tensors(path: Path, avatar: Avatar, motion: Motion, basis: OffsetBasis | None, frames: int) -> None:
    """Write the binary file, with the first `frames` frames of the recording.

    Raises:
        InputError: the file cannot be written.
    """
    arrays: dict[str, np.ndarray] = {}

    def keep(name: str, values: Tensor, kind: type[np.uint8] | type[np.uint16] | None = None) -> None:
        array = values.detach().cpu().numpy()
        if kind is None:
            arrays[name] = np.ascontiguousarray(array, np.float32)
        else:
            packed = quantise(array, kind)
            arrays.update({name: packed.integers, f"{name}.low": packed.low, f"{name}.step": packed.step})

    _keep_head(keep, arrays, avatar)
    gaussians = avatar.gaussians
    for name in ("position", "log_scale", "uv"):
        keep(name, getattr(gaussians, name), np.uint16)
    keep("quaternion", torch.nn.functional.normalize(gaussians.quaternion, dim=-1), np.uint16)
    keep("opacity_logit", gaussians.opacity_logit[:, None], np.uint16)
    keep("sh_dc", gaussians.sh_dc[:, 0], np.uint16)
    if gaussians.sh_rest.shape[1]:
        keep("sh_rest", gaussians.sh_rest.flatten(1), np.uint8)
    arrays["face"] = _indices(gaussians.face)
    if basis is not None:
        arrays["texels"] = _indices(basis.texels)
        keep("mean", basis.mean, np.uint16)
        keep("maps", basis.maps, np.uint8)
        for name in ("coefficients", "low", "high"):
            keep(name, getattr(basis, name))
    camera = motion.camera if len(motion.camera) == 1 else motion.camera[list(range(frames))]
    keep("motion", flatten(motion.parameters)[:frames])
    for name in ("world_to_camera", "focal", "center"):
        keep(name, getattr(camera, name))
    write_bytes(path, to_safetensors(arrays))


def _keep_head(keep: Callable[..., None], arrays: dict[str, np.ndarray], avatar: Avatar) -> None:
    """The head with this person's identity worked in."""
    head = avatar.head
    neutral = head(avatar.shape, head.neutral())
    keep("template", neutral.vertices[0])
    keep("joints", neutral.joints[0])
    keep("weights", head.weights, np.uint16)
    arrays["faces"] = _indices(head.faces)
    moved = head.expression_basis.abs().amax(2) > _STILL  # [E, V]
    arrays["expression_start"] = np.concatenate([[0], moved.sum(1).cumsum(0).cpu().numpy()]).astype(np.uint32)
    arrays["expression_vertex"] = _indices(moved.nonzero()[:, 1])
    keep("expression_delta", head.expression_basis[moved], np.uint16)


def _indices(values: Tensor) -> np.ndarray:
    """Indices in 16 bits where they fit, in 32 otherwise."""
    array = values.cpu().numpy()
    return array.astype(np.uint16 if array.max(initial=0) < 1 << 16 else np.uint32)


def describe(avatar: Avatar, motion: Motion, frames: int) -> dict[str, Any]:
    """What the tensors do not say: the content of ``meta.json`` but for what is measured."""
    network = avatar.config.network
    return {
        "format": FORMAT,
        "stavatar": __version__,
        "head_model": avatar.head.name,
        "expression_names": avatar.head.expression_names,
        "joints": list(JOINTS),
        "parents": list(PARENTS),
        "parameters": {name: value.shape[1] for name, value in motion.parameters.items()},
        "sh_degree": round((1 + avatar.gaussians.sh_rest.shape[1]) ** 0.5) - 1,
        "offsets": None
        if avatar.network is None
        else {
            "resolution": network.uv_size,
            "frame": network.offset_frame,
            "position_range": network.position_range,
            "scale_range": network.scale_range,
        },
        "drawing": {name.lower(): getattr(conventions, name) for name in ("NEAR", "BLUR", "ALPHA_LEAST", "ALPHA_MOST")},
        "image": {"width": motion.camera.width, "height": motion.camera.height},
        "fps": motion.fps,
        "frames": frames,
        "held_out": [frame for frame in motion.test.tolist() if frame < frames],
    }


# ------------------------------------------------------------------------------------------------------------- reading


@dataclass(frozen=True)
class PackedAvatar:
    """An avatar read back from a site: what the player draws, in torch."""

    avatar: Avatar
    basis: OffsetBasis | None

    @torch.no_grad()
    def __call__(self, parameters: HeadParameters) -> PosedGaussians:
        """Pose B frames as the player does."""
        mesh = self.avatar.head(self.avatar.shape, parameters)
        if self.basis is None:
            return self.avatar.bind(mesh, None)
        offsets = read_offsets(self.basis(parameters), self.avatar.gaussians.uv, self.avatar.config.network)
        return self.avatar.bind(mesh, offsets)

    def to(self, device: torch.device | str) -> PackedAvatar:
        return PackedAvatar(self.avatar.to(device), None if self.basis is None else self.basis.to(device))


def read_package(folder: Path) -> PackedAvatar:
    """Read the files of a site back.

    Raises:
        InputError: a file is missing, damaged, or of another format.
    """
    meta = read_json(folder / DESCRIPTION)
    path = folder / TENSORS
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise InputError(f"{folder / DESCRIPTION} does not describe a site of format {FORMAT}")
    try:
        arrays = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as safetensors: {error}") from error

    def values(name: str) -> Tensor:
        array = arrays[name]
        if f"{name}.low" in arrays:
            array = Quantised(array, arrays[f"{name}.low"], arrays[f"{name}.step"]).values()
        elif array.dtype != np.float32:
            array = array.astype(np.int64)
        return torch.from_numpy(np.ascontiguousarray(array))

    try:
        return PackedAvatar(_avatar(values, "sh_rest" in arrays, meta), _basis(values, meta))
    except (KeyError, TypeError, RuntimeError, ValueError) as error:
        raise InputError(f"{folder} is not a complete site: {str(error).splitlines()[0]}") from error


def _avatar(values: Callable[[str], Tensor], harmonics: bool, meta: dict[str, Any]) -> Avatar:
    """The Gaussians on a head of this one person, without a network."""
    sh_dc = values("sh_dc")[:, None]
    gaussians = BoundGaussians(
        {
            "position": values("position"),
            "log_scale": values("log_scale"),
            "quaternion": values("quaternion"),
            "opacity_logit": values("opacity_logit")[:, 0],
            "sh_dc": sh_dc,
            "sh_rest": values("sh_rest").unflatten(1, (-1, 3)) if harmonics else sh_dc[:, :0],
        },
        values("face"),
        values("uv"),
        torch.zeros(len(sh_dc), dtype=torch.bool),
    )
    template = values("template").numpy()
    names = [str(name) for name in meta["expression_names"]]
    basis = np.zeros((len(names), *template.shape), np.float32)
    expression = np.repeat(np.arange(len(names)), np.diff(values("expression_start").numpy()))
    basis[expression, values("expression_vertex").numpy()] = values("expression_delta").numpy()
    faces = values("faces").numpy()
    head = HeadModel(
        name=str(meta["head_model"]),
        template=template,
        shape_basis=np.zeros((0, *template.shape), np.float32),
        expression_basis=basis,
        expression_names=names,
        joints=values("joints").numpy(),
        joint_basis=np.zeros((0, len(JOINTS), 3), np.float32),
        weights=values("weights").numpy(),
        faces=faces,
        uv=np.zeros((3, 2), np.float32),  # the Gaussians have their own
        uv_faces=np.zeros_like(faces),
        regions=np.zeros(len(faces), np.int64),
        jaw_by_expression=False,
    )
    offsets = meta["offsets"] or {"frame": "world", "position_range": 0.0, "scale_range": 0.0}
    network = NetworkConfig(
        enabled=False,
        offset_frame=offsets["frame"],
        position_range=offsets["position_range"],
        scale_range=offsets["scale_range"],
    )
    return Avatar(
        Config(network=network),
        head,
        torch.zeros(0),
        gaussians,
        seen=head.neutral(),
        reference=head.neutral(),
        image=torch.zeros(3, 1, 1),
        atlas=UVAtlas.build(head, 1),
        masks=torch.zeros(0, 1, 1),
    ).eval()


def _basis(values: Callable[[str], Tensor], meta: dict[str, Any]) -> OffsetBasis | None:
    if meta["offsets"] is None:
        return None
    names = ("texels", "mean", "maps", "coefficients", "low", "high")
    return OffsetBasis(int(meta["offsets"]["resolution"]), **{name: values(name) for name in names})
