"""Painting a subject: one texture over the head's UV square with skin, brows, lips, teeth, hair roots and shirt."""

from __future__ import annotations

import numpy as np

from stavatar.head import HeadModel
from stavatar.head.posing import JOINTS
from stavatar.synth._anatomy import lashes, tongue
from stavatar.synth._mouth import paint_fine_mouth
from stavatar.synth._noise import fractal_noise, smoothstep
from stavatar.synth._texels import Texels, linear, mix
from stavatar.synth.subject import Subject

TEXTURE_SIZE = 1536


def paint_head(head: HeadModel, subject: Subject, size: int = TEXTURE_SIZE) -> np.ndarray:
    """Texture [size, size, 4] float32 over the UV square, first row at v = 1: linear RGB albedo and gloss in [0, 1]."""
    texels = Texels.of(head, size, subject.seed)
    colour, gloss = _skin(texels, subject)
    colour, gloss = _lips(texels, subject, colour, gloss)
    colour = _eye_rims(texels, subject, colour)
    colour, gloss = _hair_roots(texels, subject, colour, gloss)
    colour, gloss = (paint_fine_mouth if subject.fine_mouth else _mouth)(texels, colour, gloss)
    colour, gloss = _shirt(texels, subject, colour, gloss)
    return texels.texture(np.clip(np.concatenate([colour, gloss[:, None]], 1), 0, 1))


def _skin(texels: Texels, subject: Subject) -> tuple[np.ndarray, np.ndarray]:
    """Bare skin: blotches and pores, blood, freckles, moles, the beard's shadow, and the dark under the chin."""
    x, y, z = np.abs(texels.at[:, 0]), texels.at[:, 1], texels.at[:, 2]
    pores = texels.noise(0.0016, 11) + 0.6 * texels.noise(0.0008, 12)
    tone = 1 + 0.07 * fractal_noise(texels.points, 0.03, 4, texels.seed) + 0.05 * pores
    colour = linear(subject.skin) * tone[:, None]

    # Blood shows on cheeks, nose, ears and chin, and around the eyes the skin is darker.
    blush = 0.8 * texels.spot((0.72, -0.75), (0.42, 0.35)) * smoothstep(0.0, 0.3, z - texels.ruler.axis_z)
    blush += 0.7 * texels.soft["nose"] * smoothstep(-0.3, -0.75, y) + 0.6 * texels.soft["ears"]
    blush += 0.25 * texels.spot((0.0, -2.1), (0.5, 0.3))
    colour *= 1 - blush[:, None] * np.array([0.04, 0.24, 0.20])
    ring = texels.spot((0.5, -0.08), (0.42, 0.24)) * (z > -0.6)
    colour *= 1 - ring[:, None] * np.array([0.14, 0.22, 0.20])

    where = np.exp(-(((y + 0.5) / 0.55) ** 2) - (x / 1.1) ** 2) * (z > -0.5)
    freckles = smoothstep(0.50, 0.75, texels.noise(0.0024, 21)) * where * subject.freckles
    colour *= 1 - 0.45 * freckles[:, None] * np.array([0.55, 0.8, 0.9])
    moles = smoothstep(0.90, 0.94, texels.noise(0.006, 22))
    colour *= 1 - 0.35 * moles[:, None] * np.array([0.7, 0.9, 1.0])

    beard = subject.beard * smoothstep(-0.85, -1.2, y) * smoothstep(-3.2, -2.2, y) * smoothstep(-1.2, -0.3, z)
    beard *= (1 - texels.soft["lips"]) * smoothstep(1.25, 0.9, x)
    stubble = np.clip(0.55 + 0.9 * texels.noise(0.0011, 31), 0, 1)
    colour = mix(colour, 0.6 * linear(subject.hair) + 0.1 * linear(subject.skin), 0.75 * beard * stubble)

    shadow = texels.soft["neck"] * smoothstep(-3.4, -2.3, y) * smoothstep(-1.6, -0.2, z)
    return colour * (1 - 0.45 * shadow)[:, None], 0.28 + 0.12 * texels.soft["nose"]


def _lips(texels: Texels, subject: Subject, colour: np.ndarray, gloss: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    cover = smoothstep(0.15, 0.75, texels.soft["lips"])
    lip = linear(subject.skin) * np.array([0.82, 0.44, 0.44]) + np.array([0.03, 0.0, 0.005])
    creases = 1 + 0.12 * texels.noise(0.0011, 41, (1, 0.25, 0.25))
    return mix(colour, lip * creases[:, None], 0.85 * cover), gloss + 0.3 * cover


def _eye_rims(texels: Texels, subject: Subject, colour: np.ndarray) -> np.ndarray:
    """Brows: an arch over each eye, thinning outwards, broken up into hairs. Lashes: a dark line where lids end."""
    x, y = np.abs(texels.at[:, 0]), texels.at[:, 1]
    along = np.clip((x - 0.17) / (0.90 - 0.17), 0, 1)
    middle = 0.225 + 0.15 * np.sin(np.pi * 0.8 * along) - 0.06 * along**2
    half = 0.072 * (1 - 0.62 * along**1.5)
    hairs = texels.noise(0.0011, 61, (1, 0.55, 0.55))
    edge = 1 - np.abs(y - middle) / half + 0.35 * hairs
    ends = smoothstep(0.12, 0.24, x + 0.03 * hairs) * smoothstep(0.97, 0.85, x + 0.03 * hairs)
    brows = 0.88 * smoothstep(0.0, 0.55, edge) * ends * (texels.at[:, 2] > -0.6) * ~texels.within("scalp", "neck")
    colour = mix(colour, 0.5 * linear(subject.hair), brows)

    on_lids = texels.within("eyes")
    colour = mix(colour, linear((0.16, 0.09, 0.08)), 0.85 * on_lids * _touches_eyeball(texels))
    colour[lashes(texels.head)[texels.face]] = linear((0.10, 0.07, 0.06))
    return colour


def _touches_eyeball(texels: Texels) -> np.ndarray:
    """1 where the surface touches the front of an eyeball, falling to 0 within a few millimetres [N]."""
    head = texels.head
    balls = head.template[head.faces[head.faces_in("eyeballs")].unique()].double().numpy()
    touching = np.zeros(len(texels.face))
    for joint in (JOINTS.index("left_eye"), JOINTS.index("right_eye")):
        centre = head.joint_template[joint].double().numpy()
        own = balls[(balls[:, 0] > 0) == (centre[0] > 0)]
        if len(own):
            gap = np.linalg.norm(texels.points - centre, axis=1) - np.median(np.linalg.norm(own - centre, axis=1))
            # Upper lids are thicker and their lashes longer.
            upper = texels.points[:, 1] > centre[1] - 0.002
            line = np.where(upper, smoothstep(0.0034, 0.0016, gap), 0.6 * smoothstep(0.0018, 0.0010, gap))
            touching = np.maximum(touching, line * (texels.points[:, 2] > centre[2]))
    return touching


def _hair_roots(
    texels: Texels, subject: Subject, colour: np.ndarray, gloss: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Hair on the skin itself, which thins out over the hairline in strands; the shell stands on it."""
    if subject.hair_volume <= 0:
        return colour, gloss
    strands = texels.noise(0.0011, 51, (1, 0.12, 1))
    inside = texels.ruler.above_hairline(texels.at) + 0.10 * strands + 0.06 * texels.noise(0.012, 52)
    roots = smoothstep(-0.06, 0.16, inside) * texels.within("scalp", "forehead", "face", "neck")
    return mix(colour, linear(subject.hair) * (0.7 + 0.3 * strands)[:, None], roots), gloss * (1 - 0.7 * roots)


def _mouth(texels: Texels, colour: np.ndarray, gloss: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Teeth, tongue and the dark behind them. The deeper behind the lips, the less light (a painted occlusion)."""
    head = texels.head
    lips = head.template[head.faces[head.faces_in("lips")].unique()]
    depth = texels.ruler.measure(lips.double().numpy())[:, 2].max() - texels.at[:, 2]
    dim = np.exp(-2.4 * np.clip(depth - 0.06, 0, None))[:, None]
    wet = 1 + 0.12 * texels.noise(0.004, 71)[:, None]
    inside, teeth = texels.within("mouth_interior"), texels.within("teeth")
    on_tongue = tongue(head)[texels.face]
    gaps = 1 - 0.35 * smoothstep(0.80, 0.97, np.cos(2 * np.pi * texels.points[:, 0] / 0.0078 + np.pi))[:, None]
    colour = np.where(inside[:, None], linear((0.62, 0.28, 0.27)) * dim**1.6 * wet, colour)
    colour = np.where(on_tongue[:, None], linear((0.80, 0.44, 0.43)) * dim * wet, colour)
    colour = np.where(teeth[:, None], linear((0.93, 0.90, 0.83)) * dim * gaps, colour)
    return colour, np.where(inside, 0.25, np.where(teeth, 0.5, gloss))


def _shirt(texels: Texels, subject: Subject, colour: np.ndarray, gloss: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A knitted crew-neck with stripes: everything below a slanted plane through the base of the neck."""
    y = texels.at[:, 1]
    below = -y - 2.85 - 0.28 * (texels.at[:, 2] - texels.ruler.axis_z)
    worn = smoothstep(-0.01, 0.01, below) * texels.within("torso", "neck")
    knit = 1 + 0.10 * texels.noise(0.0022, 81) + 0.06 * fractal_noise(texels.points, 0.02, 2, texels.seed + 82)
    stripe = 0.8 * smoothstep(-0.3, 0.8, np.sin(2 * np.pi * y / 0.62)) * smoothstep(0.26, 0.32, below)
    collar = 1 - 0.3 * smoothstep(0.24, 0.20, below)
    seam = 1 - 0.35 * np.exp(-(((below - 0.23) / 0.025) ** 2))
    cloth = mix(np.broadcast_to(linear(subject.shirt), colour.shape), linear(subject.stripe), stripe)
    return mix(colour, cloth * (knit * collar * seam)[:, None], worn), gloss * (1 - worn) + 0.03 * worn
