"""The inside of a mouth worth looking at: single teeth in their gums, a furrowed tongue, a ridged palate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stavatar.synth._anatomy import face_parts, in_region, tongue
from stavatar.synth._noise import smoothstep
from stavatar.synth._texels import Texels, linear, mix

# Teeth from the middle to the back, in millimetres of an average jaw: widths; heights free of gum, less than usual, so
# that a smile shows gums; and how far their edges stay behind the longest.
_WIDTHS = {"upper": (8.5, 6.6, 7.6, 7.1, 6.8, 10.2, 9.6), "lower": (5.4, 6.0, 7.0, 7.1, 7.2, 11.0, 10.4)}
_HEIGHTS = {"upper": (7.9, 6.9, 7.8, 6.6, 6.2, 5.8, 5.6), "lower": (7.0, 7.1, 7.8, 6.8, 6.3, 5.8, 5.6)}
_SHORTER = {"upper": (0.0, 0.9, 0.1, 0.6, 0.9, 1.2, 1.4), "lower": (0.0, 0.1, 0.0, 0.4, 0.6, 0.8, 0.8)}

_ENAMEL, _NECK, _EDGE = linear((0.95, 0.93, 0.87)), linear((0.90, 0.82, 0.66)), linear((0.83, 0.86, 0.88))
_GUM, _DARK = linear((0.83, 0.45, 0.46)), linear((0.20, 0.09, 0.08))


@dataclass(frozen=True)
class _Row:
    """Where texels [N] lie on one row of teeth.

    Attributes:
        tooth: index of the tooth, counted from the middle to the back.
        left: on the subject's left.
        across: -1 to 1 from one side of the tooth to the other.
        height: millimetres from the biting edge towards the root.
        scale: this jaw's size over that of an average one.
    """

    tooth: np.ndarray
    left: np.ndarray
    across: np.ndarray
    height: np.ndarray
    scale: float


def paint_fine_mouth(texels: Texels, colour: np.ndarray, gloss: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Paint over `colour` [N, 3] and `gloss` [N] where they lie inside the mouth."""
    colour, gloss = colour.copy(), gloss.copy()
    inside, on_tongue = texels.within("mouth_interior"), tongue(texels.head)[texels.face]
    colour[inside & ~on_tongue] = _walls(texels.only(inside & ~on_tongue))
    colour[on_tongue] = _tongue(texels.only(on_tongue))
    gloss[inside] = 0.45
    for jaw, part in rows_of_teeth(texels).items():
        colour[part], gloss[part] = _teeth(texels.only(part), jaw)
    return colour, gloss


def _dim(texels: Texels, strength: float, start: float) -> np.ndarray:
    """How much light is left [N, 1]: the deeper behind the lips, the less, from a depth in ruler units on."""
    head = texels.head
    lips = head.template[head.faces[head.faces_in("lips")].unique()]
    depth = texels.ruler.measure(lips.double().numpy())[:, 2].max() - texels.at[:, 2]
    return np.exp(-strength * np.clip(depth - start, 0, None))[:, None]


def rows_of_teeth(texels: Texels) -> dict[str, np.ndarray]:
    """Masks [N] of the upper and of the lower row: parts of the teeth above and below their middle."""
    head, parts = texels.head, face_parts(texels.head)
    teeth = in_region(head, "teeth")
    heights = head.template[head.faces].mean(1)[:, 1].double().numpy()
    middle = heights[teeth].mean() if teeth.any() else 0.0
    above = [part for part in np.unique(parts[teeth]) if heights[teeth & (parts == part)].mean() > middle]
    upper = np.isin(parts, above)
    rows = {"upper": (teeth & upper)[texels.face], "lower": (teeth & ~upper)[texels.face]}
    return {jaw: part for jaw, part in rows.items() if part.any()}


def measure_row(texels: Texels, jaw: str) -> _Row:
    """Measure a row of teeth along its arch, seen from above, and down to its biting edge."""
    points = texels.points * 1000
    back = points[:, 2].min()
    angle = np.arctan2(np.abs(points[:, 0]), points[:, 2] - back)
    # The arch in polar steps around the middle of its back: its outline, and where it bites.
    steps = np.linspace(0, np.pi / 2, 33)
    step = np.clip((angle / steps[1]).astype(int), 0, len(steps) - 2)
    radius, edge = np.zeros(len(steps) - 1), np.zeros(len(steps) - 1)
    towards_root = 1 if jaw == "upper" else -1
    for i in range(len(radius)):  # a few dozen steps of the arch, not texels
        own = points[step == i] if (step == i).any() else points
        radius[i] = np.hypot(own[:, 0], own[:, 2] - back).max()
        edge[i] = (towards_root * own[:, 1]).min()
    centres = (steps[:-1] + steps[1:]) / 2
    x, z = radius * np.sin(centres), radius * np.cos(centres)
    arch = np.concatenate([[0], np.hypot(np.diff(x), np.diff(z)).cumsum()]) + x[0]
    along = np.interp(angle, np.concatenate([[0], centres]), np.concatenate([[0], arch]))

    widths = np.array(_WIDTHS[jaw])
    scale = float(arch[-1] / widths.sum())
    borders = np.concatenate([[0], widths.cumsum()]) * scale
    tooth = np.clip(np.searchsorted(borders, along, side="right") - 1, 0, len(widths) - 1)
    across = 2 * (along - borders[tooth]) / (borders[tooth + 1] - borders[tooth]) - 1
    height = towards_root * points[:, 1] - np.interp(angle, centres, edge)
    return _Row(tooth, points[:, 0] > 0, np.clip(across, -1, 1), height, scale)


def _teeth(texels: Texels, jaw: str) -> tuple[np.ndarray, np.ndarray]:
    """Enamel, gaps and gums: colour [N, 3] and gloss [N] of the texels of one row."""
    row = measure_row(texels, jaw)
    aside, height = np.abs(row.across), row.height / row.scale
    fine = texels.noise(0.0016, 72)
    gum_noise = texels.noise(0.003, 73)
    # Teeth differ a little from each other; canines are the yellowest.
    own = np.random.default_rng([texels.seed, 5, jaw == "upper"]).normal(0, 1, (2, len(_WIDTHS[jaw])))
    own = own[row.left.astype(int), row.tooth]
    yellow = np.clip(smoothstep(2.5, 9.0, height) * 0.9 + 0.18 * (row.tooth == 2) + 0.06 * own, 0, 1)
    colour = mix(np.broadcast_to(_ENAMEL, (len(height), 3)), _NECK, yellow)
    colour = mix(colour, _EDGE, 0.75 * smoothstep(2.6, 0.6, height) * (row.tooth < 3))
    # Ridges run down an incisor; its sides turn away from the light.
    ridges = 0.05 * np.cos(1.5 * np.pi * row.across) * smoothstep(7, 2, height)
    colour = colour * (1 + ridges + 0.04 * own + 0.05 * fine - 0.30 * aside**4)[:, None]

    gap = smoothstep(0.84, 0.98, aside)
    corner = smoothstep(-0.3, 0.5, 1.7 * aside**6 + np.array(_SHORTER[jaw])[row.tooth] - height)
    colour = mix(colour, _DARK * np.array([1.6, 1.3, 1.2]), 0.75 * gap)
    colour = mix(colour, _DARK, 0.92 * corner)

    crown = np.array(_HEIGHTS[jaw])[row.tooth]
    rim = crown * (1 - 0.30 * aside**2.2) + 0.25 * gum_noise
    gum = smoothstep(-0.35, 0.35, height - rim)
    stipple = 1 + 0.10 * fine + 0.12 * gum_noise - 0.22 * smoothstep(1.6, 0.2, height - rim)
    paler = smoothstep(1.0, 5.0, height - rim)[:, None] * np.array([-0.10, -0.22, -0.20])
    colour = mix(colour, _GUM * stipple[:, None] * (1 + paler), gum)
    colour = colour * _dim(texels, 2.0, 0.22)
    return colour, np.where(gum > 0.5, 0.5, 0.85) * (1 - 0.8 * np.maximum(corner, gap * (1 - gum)))


def _tongue(texels: Texels) -> np.ndarray:
    """A tongue [N, 3]: a furrow in the middle, a coat of papillae that thins out to the sides, red ones among them."""
    x, z = texels.at[:, 0], texels.at[:, 2]
    aside = np.abs(x) / max(np.abs(x).max(initial=0), 1e-6)
    wander = 0.012 * texels.noise(0.012, 74)
    furrow = np.exp(-(((x + wander) / 0.020) ** 2)) * smoothstep(0.26, 0.10, z)
    coat = smoothstep(0.95, 0.35, aside) * (0.45 + 0.55 * smoothstep(0.25, -0.10, z))
    papillae = texels.noise(0.0015, 75) + 0.7 * texels.noise(0.0026, 76)
    red = smoothstep(0.42, 0.62, texels.noise(0.0025, 77)) * smoothstep(1.0, 0.5, aside)
    colour = np.broadcast_to(linear((0.74, 0.39, 0.38)), (len(x), 3)) * (1 + 0.18 * papillae)[:, None]
    colour = mix(colour, linear((0.80, 0.57, 0.54)), 0.75 * coat * np.clip(0.6 + 0.7 * papillae, 0, 1))
    colour = mix(colour, linear((0.72, 0.25, 0.26)), 0.7 * red)
    return colour * (1 - 0.42 * furrow)[:, None] * _dim(texels, 1.5, 0.35)


def _walls(texels: Texels) -> np.ndarray:
    """Cheeks and palate from inside [N, 3]: wet, blotchy, with ridges across the palate behind the teeth."""
    x, z = texels.at[:, 0], texels.at[:, 2]
    blotches = 0.14 * texels.noise(0.006, 78) + 0.08 * texels.noise(0.002, 79)
    ridges = np.sin(2 * np.pi * (z / 0.085 + 0.25 * np.abs(x)) + 1.5 * texels.noise(0.02, 80))
    palate = smoothstep(-1.08, -0.95, texels.at[:, 1]) * smoothstep(0.4, 0.1, np.abs(x))
    return linear((0.70, 0.32, 0.31)) * (1 + blotches + 0.28 * ridges * palate)[:, None] * _dim(texels, 3.2, 0.10)
