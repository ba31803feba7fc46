"""Where in a picture the head is, for measuring it apart from the torso."""

from __future__ import annotations

import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from stavatar.camera import Camera
from stavatar.head import HeadModel
from stavatar.mesh import rasterize_mesh

_NOT_HEAD = ("neck", "torso")


def head_mask(head: HeadModel, vertices: Tensor, camera: Camera, matte: Tensor) -> Tensor:
    """The head's part of a person's matte, hair included: [H, W] bool.

    Pixels that the posed mesh covers belong to the head where it shows a face of the head; pixels of the matte beside
    the mesh (hair, wide clothes) go with the nearest covered one. Nothing of it depends on a render.

    Args:
        head: the head model.
        vertices: [V, 3] its posed vertices.
        camera: one camera.
        matte: [H, W] in [0, 1], above 0.5 where the person is.
    """
    face = rasterize_mesh(vertices, head.faces, camera, cull_back_faces=False).face.long()
    if not bool((face >= 0).any()):
        return torch.zeros_like(matte, dtype=torch.bool)
    rows, columns = distance_transform_edt((face < 0).numpy(), return_distances=False, return_indices=True)
    nearest = face[torch.from_numpy(rows).long(), torch.from_numpy(columns).long()]
    of_head = ~head.faces_in(*_NOT_HEAD).cpu()
    return of_head[nearest] & (matte.cpu() > 0.5)
