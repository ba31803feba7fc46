"""Pictures of a head, carried back onto its UV square: a texture of what the camera saw (METHOD section 6)."""

from __future__ import annotations

import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor
from torch.nn import functional as F

from stavatar.head import HeadModel, UVAtlas, face_frames
from stavatar.mesh import rasterize_mesh
from stavatar.sequence import Sequence

_MOST_FRAMES = 32  # looked at, evenly spaced: more add nothing but time
_GRAZING = 0.2  # cosine up to which a view is too flat to tell: at outlines pixels mix with what lies behind
_HIDDEN = 0.002  # metres behind what the camera sees first, from which on a texel counts as hidden


def unproject(sequence: Sequence, head: HeadModel, atlas: UVAtlas, frames: Tensor) -> Tensor:
    """Mean colour of every texel over some frames, weighted by how squarely each frame shows it.

    A frame shows a texel by the cosine between its face's normal and the line of sight, less a margin, and not at all
    where another face lies in front. Texels that no frame shows, and those without a face, repeat the nearest one that
    is shown.

    Args:
        sequence: gives images, cameras and head parameters.
        head: on the CPU.
        atlas: of the head, on the CPU.
        frames: [K] which to look at; many are thinned out.

    Returns:
        [3, R, R] in [0, 1], rows as in every UV map; grey where nothing is shown at all.
    """
    chosen = frames[torch.linspace(0, len(frames) - 1, min(len(frames), _MOST_FRAMES)).round().long()]
    valid = atlas.valid
    color, total = torch.zeros(int(valid.sum()), 3), torch.zeros(int(valid.sum()), 1)
    for frame in chosen.tolist():
        vertices = head(sequence.shape, sequence.parameters[[frame]]).vertices
        camera = sequence.camera[[frame]]
        points = atlas.gather(vertices)[:, :, valid].transpose(1, 2)  # [1, P, 3]
        normals = face_frames(vertices, head.faces).rotation[0, :, :, 1][atlas.face[valid]]
        sight = F.normalize(camera.position - points[0], dim=-1)
        depth = rasterize_mesh(vertices[0], head.faces, camera).depth
        pixels = camera.project(points)
        open_sight = camera.to_camera(points)[0, :, 2] < _at(depth[..., None], pixels, "nearest")[:, 0] + _HIDDEN
        weight = (((normals * sight).sum(-1) - _GRAZING).clamp_min(0) * open_sight)[:, None]
        weight = weight * _at(sequence.mask([frame])[0][..., None], pixels, "bilinear")
        color += weight * _at(sequence.image([frame])[0], pixels, "bilinear")
        total += weight

    seen = torch.zeros_like(valid)
    seen[valid] = total[:, 0] > 1e-3
    texture = torch.full((*valid.shape, 3), 0.5)
    if not bool(seen.any()):
        return texture.permute(2, 0, 1)
    texture[valid] = color / total.clamp_min(1e-3)
    rows, columns = distance_transform_edt(~seen.numpy(), return_distances=False, return_indices=True)
    return texture[torch.from_numpy(rows).long(), torch.from_numpy(columns).long()].permute(2, 0, 1).contiguous()


def _at(image: Tensor, pixels: Tensor, mode: str) -> Tensor:
    """An image [H, W, C] read at pixels [1, P, 2] -> [P, C]; zero outside."""
    height, width = image.shape[:2]
    grid = (2 * pixels / pixels.new_tensor([width, height]) - 1)[None]
    # Infinite depths, where no face is, would turn to NaN in an interpolation with weight zero.
    image = image.nan_to_num(posinf=1e6)
    return F.grid_sample(image.permute(2, 0, 1)[None], grid, mode=mode, align_corners=False)[0, :, 0].T
