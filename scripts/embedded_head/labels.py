"""Region labels of the faces, by rules on the base mesh and MakeHuman's own masks."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from embedded_head.skinning import bones_above_trunk
from embedded_head.source import Source
from embedded_head.surface import Surface
from stavatar.head.labels import remove_specks
from stavatar.head.model import REGIONS

# Places on the base mesh, metres.
BROW_TOP = 0.7535
SOCKET_RADII = np.array([0.0265, 0.0165])
FOREHEAD_HALF_WIDTH = 0.058
NOSE_SUPPORT = 0.22
SUBNASALE = 0.6835


def label_regions(source: Source, surface: Surface) -> np.ndarray:
    """Label [F] of each face, an index into `REGIONS`."""
    vertices = surface.rows @ source.mesh.vertices
    # Rules look at the middle of each base quad (or what the cut left of it): both its triangles get one label.
    center = _mean_per_quad(surface, vertices[surface.faces].mean(1))
    skin = surface.of_chart("skin")
    label = np.full(len(surface.faces), REGIONS.index("scalp"))

    def paint(region: str, where: np.ndarray) -> None:
        label[where] = REGIONS.index(region)

    above_trunk = _mean_per_quad(surface, (surface.rows @ bones_above_trunk(source))[surface.faces].mean(1))
    nape = 0.683 - 0.25 * (center[:, 2] - 0.03)
    paint("neck", skin & (center[:, 1] < nape))
    paint("torso", skin & (above_trunk < 0.5))
    mask = {name: source.mask(name)[surface.quad] > 0.5 for name in ("face", "ears", "lips")}
    face = skin & (mask["face"] | _hairline_gap(center))
    paint("face", face)
    paint(
        "forehead",
        face & (center[:, 1] > BROW_TOP - 3 * center[:, 0] ** 2) & (np.abs(center[:, 0]) < FOREHEAD_HALF_WIDTH),
    )
    moved = [np.linalg.norm(source.target(f"nose/nose-{name}-incr"), axis=1) for name in ("volume", "scale-depth")]
    support = _mean_per_quad(surface, (surface.rows @ np.maximum(*moved))[surface.faces].mean(1))
    paint("nose", skin & (support > NOSE_SUPPORT * support.max()) & (center[:, 1] > SUBNASALE))
    for side in "lr":
        eye = source.mesh.vertices[np.unique(source.mesh.quads[source.mesh.in_group(f"helper-{side}-eye")])].mean(0)
        inside = (((center - eye)[:, :2] / SOCKET_RADII) ** 2).sum(1) < 1
        paint("eyes", skin & inside & (center[:, 2] > eye[2] - 0.01) & (label != REGIONS.index("nose")))
    paint("ears", skin & mask["ears"])
    paint("lips", skin & mask["lips"])
    remove_specks(label, surface.faces, skin)
    paint("mouth_interior", surface.of_chart("mouth", "tongue"))
    paint("teeth", surface.of_chart("upper_teeth", "lower_teeth"))
    paint("eyeballs", surface.of_chart("left_eye", "right_eye"))
    return label


def _hairline_gap(center: np.ndarray) -> np.ndarray:
    """The notch that MakeHuman's face mask has in the middle of the hairline."""
    return (np.abs(center[:, 0]) < 0.012) & (center[:, 1] > BROW_TOP) & (center[:, 1] < 0.818) & (center[:, 2] > 0.05)


def _mean_per_quad(surface: Surface, values: np.ndarray) -> np.ndarray:
    """Replace the values [F, ...] of the triangles of each base quad by their mean."""
    _, quad = np.unique(surface.quad, return_inverse=True)
    average = sp.csr_matrix((np.ones(len(quad)), (quad, np.arange(len(quad)))))
    average = sp.diags(1 / np.asarray(average.sum(1)).ravel()) @ average
    return (average @ values)[quad]
