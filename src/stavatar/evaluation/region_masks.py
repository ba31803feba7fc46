"""Where in a picture the parts of a head are, for measuring each apart from the rest.

Everything is read off the posed mesh and the person's matte. Nothing depends on a render, so that avatars posed alike
are measured on the same pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import binary_closing, binary_fill_holes, binary_opening, distance_transform_edt
from torch import Tensor

from stavatar.camera import Camera
from stavatar.head import HeadModel
from stavatar.mesh import rasterize_mesh


@dataclass(frozen=True)
class MaskRegion:
    """A region that is measured: the face labels that it shows (`stavatar.head.model.REGIONS`), and its definition."""

    definition: str
    labels: tuple[str, ...] = ()


MASK_REGIONS: dict[str, MaskRegion] = {
    "head": MaskRegion(
        "the matte without torso and neck, hair included: pixels beside the posed mesh go with the nearest covered one"
    ),
    "mouth": MaskRegion(
        "the lips and all that shows between them, as far as the posed mesh is in front there",
        ("lips", "mouth_interior", "teeth"),
    ),
    "mouth_interior": MaskRegion(
        "what shows of the teeth and the inside of the mouth of the posed mesh, without slits one pixel wide",
        ("mouth_interior", "teeth"),
    ),
    "eyes": MaskRegion("lids, sockets and what shows of the eyeballs of the posed mesh", ("eyes", "eyeballs")),
    "hair": MaskRegion("the part of the head beside the posed mesh, and the scalp of the mesh", ("scalp",)),
}
"""What result files call the regions. Only pixels of the person's matte count; no region depends on a render."""

_NOT_HEAD = ("neck", "torso")


def region_masks(head: HeadModel, vertices: Tensor, camera: Camera, matte: Tensor) -> dict[str, Tensor]:
    """The pixels [H, W] bool of each of `MASK_REGIONS`.

    Args:
        head: the head model.
        vertices: [V, 3] its posed vertices.
        camera: one camera.
        matte: [H, W] in [0, 1], above 0.5 where the person is.
    """
    face = rasterize_mesh(vertices, head.faces, camera, cull_back_faces=False).face.long()
    covered, person = face >= 0, matte.cpu() > 0.5

    def showing(*labels: str) -> Tensor:
        """Pixels whose nearest face has one of these labels; -1, which is no face, reads a face that is masked out."""
        return head.faces_in(*labels).cpu()[face] & covered

    masks = {name: showing(*region.labels) & person for name, region in MASK_REGIONS.items()}
    # Heads without an inside of the mouth have a hole there, which belongs to the mouth all the same; the lips around
    # it are closed first, for at its corners they can be thinner than a pixel.
    ring = binary_closing(masks["mouth"].numpy(), np.ones((3, 3)))
    masks["mouth"] |= torch.from_numpy(binary_fill_holes(ring)) & person
    # Lips that touch leave slits, whose few pixels would make a frame count like one with an open mouth.
    masks["mouth_interior"] = torch.from_numpy(binary_opening(masks["mouth_interior"].numpy(), np.ones((2, 2))))
    masks["head"] = ~showing(*_NOT_HEAD)[_nearest_covered(covered)] & person & covered.any()
    masks["hair"] |= masks["head"] & ~covered
    return masks


def _nearest_covered(covered: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column of the covered pixel that is nearest to each pixel; anything where none is covered."""
    rows, columns = distance_transform_edt(~covered.numpy(), return_distances=False, return_indices=True)
    return torch.from_numpy(rows.astype(np.int64)), torch.from_numpy(columns.astype(np.int64))
