"""The head mesh and its recorded motion as an animated glTF file.

Expressions become morph targets under their names, the five joints a skin, and every frame a key of the animation
"recorded motion". glTF's axes (y up, the model looks along +z, metres) are the world's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stavatar import __version__
from stavatar.avatar.avatar import Avatar
from stavatar.avatar.gaussians import SH_DC
from stavatar.avatar.storage import Motion
from stavatar.export.gltf import ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER, GltfBuffer, write_glb
from stavatar.head import HeadModel, HeadParameters
from stavatar.head.posing import JOINTS, PARENTS
from stavatar.rotations import axis_angle_to_quaternion

_UNLIT = "KHR_materials_unlit"
_INFLUENCES = 4  # joints per set of skinning weights


def write_animated_mesh(path: Path, avatar: Avatar, motion: Motion) -> None:
    """Write the avatar's head mesh, coloured by its Gaussians, with the recorded motion.

    A vertex where texture coordinates part is written once for each of them; the custom attribute ``_VERTEX`` holds the
    head model's index of each.

    Raises:
        InputError: the file cannot be written.
    """
    head = avatar.head
    neutral, joints = _identity(head, avatar.shape)
    corners = torch.stack([head.faces.flatten(), head.uv_faces.flatten()], 1).cpu()
    split, indices = torch.unique(corners, dim=0, return_inverse=True)
    vertex, texture = split.unbind(1)
    buffer = GltfBuffer()

    def attribute(values: Tensor, **options: bool) -> int:
        return buffer.add(values.numpy(), target=ARRAY_BUFFER, **options)

    flipped = head.uv.cpu()[texture] * torch.tensor([1.0, -1.0]) + torch.tensor([0.0, 1.0])  # origin at the top
    attributes = {
        "POSITION": attribute(neutral[vertex]),
        "NORMAL": attribute(_vertex_normals(neutral, head.faces.cpu())[vertex]),
        "TEXCOORD_0": attribute(flipped),
        "COLOR_0": attribute(_linear(_vertex_colors(avatar))[vertex]),
        "_VERTEX": attribute(vertex.float()),
    }
    for number, (joint, weight) in enumerate(_skinning(head.weights.cpu()[vertex])):
        attributes |= {f"JOINTS_{number}": attribute(joint), f"WEIGHTS_{number}": attribute(weight)}
    targets = [{"POSITION": attribute(basis[vertex])} for basis in head.expression_basis.cpu()]
    faces = buffer.add(indices.numpy().astype(np.uint32), target=ELEMENT_ARRAY_BUFFER)
    inverse = torch.eye(4).repeat(len(JOINTS), 1, 1)
    inverse[:, 3, :3] = -joints  # glTF stores matrices column after column

    first = 1  # node 0 is the mesh; joint j is node first + j
    nodes: list[dict[str, Any]] = [{"name": head.name, "mesh": 0, "skin": 0}]
    for index, name in enumerate(JOINTS):
        bone = joints[index] - (joints[PARENTS[index]] if index else 0)
        node: dict[str, Any] = {"name": name, "translation": bone.tolist()}
        children = [first + child for child, parent in enumerate(PARENTS) if parent == index]
        nodes.append({**node, "children": children} if children else node)

    primitive = {"attributes": attributes, "indices": faces, "targets": targets, "material": 0, "mode": 4}
    document = {
        "asset": {"version": "2.0", "generator": f"stavatar {__version__}"},
        "scene": 0,
        "scenes": [{"nodes": [0, first]}],
        "nodes": nodes,
        "meshes": [
            {
                "name": head.name,
                "primitives": [primitive],
                "weights": [0.0] * head.expression_count,
                "extras": {"targetNames": head.expression_names},
            }
        ],
        "skins": [
            {
                "joints": [first + index for index in range(len(JOINTS))],
                "skeleton": first,
                "inverseBindMatrices": buffer.add(inverse.numpy()),
            }
        ],
        # The colours were recorded under light: it must not be added once more.
        "extensionsUsed": [_UNLIT],
        "materials": [{"name": "skin", "pbrMetallicRoughness": {"metallicFactor": 0.0}, "extensions": {_UNLIT: {}}}],
        "animations": [_animation(buffer, joints, motion, first)],
    }
    write_glb(path, document, buffer)


def _identity(head: HeadModel, shape: Tensor) -> tuple[Tensor, Tensor]:
    """Neutral vertices [V, 3] and joints [5, 3] of one person."""
    with torch.no_grad():
        posed = head(shape, head.neutral())
    return posed.vertices[0].cpu(), posed.joints[0].cpu()


def _animation(buffer: GltfBuffer, joints: Tensor, motion: Motion, first: int) -> dict[str, Any]:
    """Channels for the expression weights, every joint's rotation, and the translations of root and neck."""
    parameters = motion.parameters
    times = buffer.add((torch.arange(len(parameters)) / motion.fps).numpy().astype(np.float32))
    samplers: list[dict[str, Any]] = []
    channels: list[dict[str, Any]] = []

    def channel(node: int, what: str, values: Tensor) -> None:
        output = buffer.add(values.contiguous().numpy())
        samplers.append({"input": times, "output": output, "interpolation": "LINEAR"})
        channels.append({"sampler": len(samplers) - 1, "target": {"node": node, "path": what}})

    channel(0, "weights", parameters.expression.flatten())
    for index, rotation in enumerate(_local_rotations(parameters)):
        quaternion = axis_angle_to_quaternion(rotation)
        channel(first + index, "rotation", torch.nn.functional.normalize(quaternion.roll(-1, -1), dim=-1))  # xyzw
    root, neck = JOINTS.index("root"), JOINTS.index("neck")
    channel(first + root, "translation", joints[root] + parameters.translation)
    channel(first + neck, "translation", joints[neck] - joints[root] + parameters.neck_translation)
    return {"name": "recorded motion", "samplers": samplers, "channels": channels}


def _local_rotations(parameters: HeadParameters) -> list[Tensor]:
    """[T, 3] of each joint, in the order of `JOINTS`."""
    return [
        parameters.rotation,
        parameters.neck,
        parameters.jaw,
        parameters.eyes[:, :3],
        parameters.eyes[:, 3:],
    ]


def _skinning(weights: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Weights [V, J] as sets of four: joints [V, 4] uint8 and weights [V, 4], heaviest first; absent ones are zero."""
    heaviest = weights.sort(1, descending=True)
    needed = int((weights > 0).sum(1).max())
    sets = []
    for start in range(0, needed, _INFLUENCES):
        weight = heaviest.values[:, start : start + _INFLUENCES]
        joint = torch.where(weight > 0, heaviest.indices[:, start : start + _INFLUENCES], 0)
        missing = (0, _INFLUENCES - weight.shape[1])
        sets.append((torch.nn.functional.pad(joint, missing).to(torch.uint8), torch.nn.functional.pad(weight, missing)))
    return sets


def _vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """[V, 3] unit normals, each the mean of the faces around weighted by their areas."""
    v0, v1, v2 = vertices[faces].unbind(1)
    face_normals = torch.linalg.cross(v1 - v0, v2 - v0)
    normals = torch.zeros_like(vertices).index_add(0, faces.flatten(), face_normals.repeat_interleave(3, 0))
    length = normals.norm(dim=1, keepdim=True)
    return torch.where(length > 1e-12, normals / length.clamp_min(1e-12), torch.tensor([0.0, 0.0, 1.0]))


def _vertex_colors(avatar: Avatar) -> Tensor:
    """[V, 3] sRGB: the mean colour of the Gaussians on the faces around, weighted by their opacity."""
    gaussians, faces = avatar.gaussians, avatar.head.faces
    on_skin = ~gaussians.free
    weight = (gaussians.opacity * on_skin)[:, None]
    color = (0.5 + SH_DC * gaussians.sh_dc[:, 0]).clamp(0, 1)
    summed = torch.zeros(len(faces), 4, device=faces.device)
    summed.index_add_(0, gaussians.face, torch.cat([color * weight, weight], 1).detach())
    around = torch.zeros(len(avatar.head.template), 4, device=faces.device)
    around.index_add_(0, faces.flatten(), summed.repeat_interleave(3, 0))
    mean = around[:, :3] / around[:, 3:].clamp_min(1e-6)
    return torch.where(around[:, 3:] > 1e-6, mean, 0.5).cpu()


def _linear(color: Tensor) -> Tensor:
    """sRGB in [0, 1] -> linear light, in which glTF keeps vertex colours."""
    return torch.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)
