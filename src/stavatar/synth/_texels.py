"""The texels of a head's UV square and where on the head each lies: what all painting works on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt

from stavatar.camera import Camera
from stavatar.head import HeadModel
from stavatar.mesh import interpolate, rasterize_mesh
from stavatar.synth._anatomy import Ruler, in_region, vertex_share
from stavatar.synth._noise import value_noise

_SOFT = ("lips", "ears", "nose", "neck")  # regions whose borders blend


def linear(srgb: tuple[float, float, float] | np.ndarray) -> np.ndarray:
    """sRGB in [0, 1] -> linear light, with the plain 2.2 power that rendering undoes."""
    return np.asarray(srgb, np.float64) ** 2.2


def mix(colour: np.ndarray, other: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """From colours [N, 3] towards `other` by `weight` [N]."""
    return colour + (other - colour) * weight[:, None]


@dataclass(frozen=True)
class Texels:
    """The N texels that lie on the head.

    Attributes:
        covered: [size, size] bool, where they are in the texture, whose first row is at v = 1.
        head: the model.
        ruler: its face-sized coordinates.
        face: [N] face of each texel.
        points: [N, 3] template positions, metres.
        at: [N, 3] template positions in ruler units.
        soft: region name -> [N] share in [0, 1], blending over the region's border.
        seed: of all noises.
    """

    covered: np.ndarray
    head: HeadModel
    ruler: Ruler
    face: np.ndarray
    points: np.ndarray
    at: np.ndarray
    soft: dict[str, np.ndarray]
    seed: int

    @staticmethod
    def of(head: HeadModel, size: int, seed: int) -> Texels:
        """The texels of a texture of `size` x `size`."""
        corners = torch.cat([head.uv, torch.ones(len(head.uv), 1)], 1)
        corners[:, 1] = 1 - corners[:, 1]
        # The UV layout, drawn as a flat mesh one metre in front of a camera whose image is the unit square.
        camera = Camera(torch.eye(4)[None], torch.full((1, 2), float(size)), torch.zeros(1, 2), size, size)
        layout = rasterize_mesh(corners, head.uv_faces, camera, cull_back_faces=False)
        covered = layout.face >= 0

        shares = np.stack([vertex_share(head, in_region(head, name)) for name in _SOFT], 1)
        attributes = torch.cat([head.template, torch.from_numpy(shares).float()], 1)
        values = interpolate(layout, attributes[head.faces])[covered].double().numpy()
        ruler = Ruler.of(head)
        return Texels(
            covered.numpy(),
            head,
            ruler,
            layout.face[covered].long().numpy(),
            values[:, :3],
            ruler.measure(values[:, :3]),
            dict(zip(_SOFT, values[:, 3:].T, strict=True)),
            seed * 97,
        )

    def only(self, mask: np.ndarray) -> Texels:
        """Those of the texels that `mask` [N] picks."""
        covered = self.covered.copy()
        covered[self.covered] = mask
        return replace(
            self,
            covered=covered,
            face=self.face[mask],
            points=self.points[mask],
            at=self.at[mask],
            soft={name: share[mask] for name, share in self.soft.items()},
        )

    def within(self, *regions: str) -> np.ndarray:
        """[N] bool: on a face of these regions."""
        return in_region(self.head, *regions)[self.face]

    def noise(self, wavelength: float, layer: int, stretch: tuple[float, float, float] = (1, 1, 1)) -> np.ndarray:
        """Value noise [N] in [-1, 1]; a stretch below 1 draws it out along that axis."""
        return value_noise(self.points * np.array(stretch), wavelength, self.seed + layer)

    def spot(self, centre: tuple[float, float], radius: tuple[float, float]) -> np.ndarray:
        """A soft ellipse on both sides of the face, in ruler units [N]."""
        x, y = np.abs(self.at[:, 0]), self.at[:, 1]
        return np.exp(-(((x - centre[0]) / radius[0]) ** 2) - ((y - centre[1]) / radius[1]) ** 2)

    def texture(self, values: np.ndarray) -> np.ndarray:
        """Values [N, C] -> texture [size, size, C] float32.

        Texels outside every island repeat their nearest neighbour inside, so that bilinear reads never meet emptiness.
        """
        texture = np.zeros((*self.covered.shape, values.shape[1]), np.float32)
        texture[self.covered] = values
        rows, columns = distance_transform_edt(~self.covered, return_distances=False, return_indices=True)
        return np.ascontiguousarray(texture[rows, columns])
