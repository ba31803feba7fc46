"""Gaussians for what the mesh does not cover: hair, and whatever of the shoulders lies outside.

The matte says where the person is, and the mesh where it would be; pixels of the one outside the other get a Gaussian,
carried by the nearest face that looks outwards, at that face's depth.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stavatar.avatar.gaussians import Seeds
from stavatar.camera import Camera
from stavatar.head import HeadModel, face_frames
from stavatar.mesh import rasterize_mesh

_OPAQUE = 0.8  # matte value above which a pixel surely shows the person
_OVERLAP = 0.7  # scale of a seed relative to the spacing of seeds
_CARRIERS = ("face", "forehead", "ears", "scalp", "neck", "torso")


def seed_beyond_mesh(
    head: HeadModel,
    vertices: Tensor,
    camera: Camera,
    image: Tensor,
    matte: Tensor,
    count: int,
    generator: torch.Generator,
) -> Seeds | None:
    """Choose seeds in one frame.

    Args:
        head: the head model.
        vertices: [V, 3] posed mesh of that frame.
        camera: of that frame.
        image: [H, W, 3] in [0, 1].
        matte: [H, W] in [0, 1].
        count: most seeds to return.
        generator: chooses among the pixels.

    Returns:
        Seeds, or None where the mesh covers the whole matte or lies behind the camera.
    """
    covered = rasterize_mesh(vertices, head.faces, camera, cull_back_faces=False).face >= 0
    bare = (matte > _OPAQUE) & ~covered
    rows, columns = bare.nonzero().unbind(1)
    frames = face_frames(vertices[None], head.faces)
    in_camera = camera.to_camera(frames.origin)[0]
    normals = frames.rotation[0, :, :, 1] @ camera.world_to_camera[0, :3, :3].T
    outward = head.faces_in(*_CARRIERS) & (normals[:, 2] < 0.2)  # towards the camera, or across the line of sight
    carriers = (outward & (in_camera[:, 2] > 0)).nonzero()[:, 0]
    if len(rows) == 0 or count == 0 or len(carriers) == 0:
        return None
    chosen = torch.randperm(len(rows), generator=generator)[:count]
    pixels = torch.stack([columns[chosen], rows[chosen]], 1) + 0.5
    projected = camera.project(frames.origin[:, carriers])[0]
    face = carriers[torch.cdist(pixels, projected).argmin(1)]

    depth = in_camera[face, 2:]
    seen = torch.cat([(pixels - camera.center[0]) / camera.focal[0] * depth, depth], 1)
    world = (seen - camera.world_to_camera[0, :3, 3]) @ camera.world_to_camera[0, :3, :3]
    size = frames.size[0, face, None]
    position = torch.einsum("nji,nj->ni", frames.rotation[0, face], world - frames.origin[0, face]) / size
    spacing = math.sqrt(len(rows) / len(chosen)) * depth / camera.focal.mean()
    color = image[rows[chosen], columns[chosen]]
    return Seeds(position, (_OVERLAP * spacing / size).expand(-1, 3).contiguous(), color, face)
