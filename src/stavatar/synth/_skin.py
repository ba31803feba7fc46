"""Painting a subject: one texture over the head's UV square with skin, brows, lips, teeth, hair roots and shirt."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt

from stavatar.camera import Camera
from stavatar.head import HeadModel
from stavatar.head.model import JOINTS
from stavatar.mesh import interpolate, rasterize_mesh
from stavatar.synth._anatomy import Ruler, in_region, lashes, tongue, vertex_share
from stavatar.synth._noise import fractal_noise, smoothstep, value_noise
from stavatar.synth.subject import Subject

TEXTURE_SIZE = 1536


def linear(srgb: tuple[float, float, float] | np.ndarray) -> np.ndarray:
    """sRGB in [0, 1] -> linear light, with the plain 2.2 power that rendering undoes."""
    return np.asarray(srgb, np.float64) ** 2.2


def paint_head(head: HeadModel, subject: Subject, size: int = TEXTURE_SIZE) -> np.ndarray:
    """Texture [size, size, 4] float32 over the UV square, first row at v = 1: linear RGB albedo and gloss in [0, 1].

    Texels outside every island repeat their nearest neighbour inside, so that bilinear reads never meet emptiness.
    """
    corners = torch.cat([head.uv, torch.ones(len(head.uv), 1)], 1)
    corners[:, 1] = 1 - corners[:, 1]
    # The UV layout, drawn as a flat mesh one metre in front of a camera whose image is the unit square.
    camera = Camera(torch.eye(4)[None], torch.full((1, 2), float(size)), torch.zeros(1, 2), size, size)
    layout = rasterize_mesh(corners, head.uv_faces, camera, cull_back_faces=False)
    covered = layout.face >= 0

    shares = [vertex_share(head, in_region(head, name)) for name in ("lips", "ears", "nose")]
    attributes = torch.cat([head.template, torch.from_numpy(np.stack(shares, 1)).float()], 1)
    texels = interpolate(layout, attributes[head.faces])[covered].double().numpy()
    painted = _paint(head, subject, layout.face[covered].long().numpy(), texels[:, :3], *texels[:, 3:].T)

    texture = np.zeros((size, size, 4), np.float32)
    texture[covered.numpy()] = painted
    rows, columns = distance_transform_edt(~covered.numpy(), return_distances=False, return_indices=True)
    return np.ascontiguousarray(texture[rows, columns])


def _paint(
    head: HeadModel,
    subject: Subject,
    face: np.ndarray,
    points: np.ndarray,
    lips: np.ndarray,
    ears: np.ndarray,
    nose: np.ndarray,
) -> np.ndarray:
    """Albedo and gloss [N, 4] of texels on faces [N] at template positions [N, 3]; soft masks of three regions [N]."""
    ruler = Ruler.of(head)
    at = ruler.measure(points)
    x, y, z = np.abs(at[:, 0]), at[:, 1], at[:, 2]
    seed = subject.seed * 97

    blotches = fractal_noise(points, 0.03, 4, seed)
    pores = value_noise(points, 0.0016, seed + 11) + 0.6 * value_noise(points, 0.0008, seed + 12)
    colour = linear(subject.skin) * (1 + 0.07 * blotches + 0.05 * pores)[:, None]

    # Blood shows on cheeks, nose and ears, and around the eyes the skin is darker.
    blush = 0.8 * _spot(at, (0.72, -0.75), (0.42, 0.35)) * smoothstep(0.0, 0.3, z - ruler.axis_z)
    blush += 0.7 * nose * smoothstep(-0.3, -0.75, y) + 0.6 * ears + 0.25 * _spot(at, (0.0, -2.1), (0.5, 0.3))
    colour *= 1 - blush[:, None] * np.array([0.04, 0.24, 0.20])
    eye_ring = _spot(at, (0.5, -0.08), (0.42, 0.24)) * (z > 0)
    colour *= 1 - eye_ring[:, None] * np.array([0.14, 0.22, 0.20])

    colour = _freckles(colour, subject, points, x, y, z, seed)
    beard = subject.beard * smoothstep(-0.85, -1.2, y) * smoothstep(-3.2, -2.2, y) * smoothstep(-1.2, -0.3, z)
    beard *= (1 - lips) * smoothstep(1.25, 0.9, x) * (in_region(head, "face", "lips", "neck")[face])
    stubble = np.clip(0.55 + 0.9 * value_noise(points, 0.0011, seed + 31), 0, 1)
    colour = _mix(colour, 0.6 * linear(subject.hair) + 0.1 * linear(subject.skin), 0.75 * beard * stubble)

    lip = smoothstep(0.15, 0.75, lips)
    lip_colour = linear(subject.skin) * np.array([0.82, 0.44, 0.44]) + np.array([0.03, 0.0, 0.005])
    crease = 1 + 0.12 * value_noise(points * np.array([1, 0.25, 0.25]), 0.0011, seed + 41)
    colour = _mix(colour, lip_colour * crease[:, None], 0.85 * lip)
    gloss = 0.28 + 0.3 * lip + 0.12 * nose

    colour = _mix(
        colour,
        0.5 * linear(subject.hair),
        _brows(subject, points, at, seed) * in_region(head, "face", "forehead", "eyes", "nose")[face],
    )
    margin = _lid_margin(head, points)
    on_lid = in_region(head, "eyes")[face] & ~lashes(head)[face]
    colour = _mix(colour, linear((0.16, 0.09, 0.08)), 0.85 * margin * on_lid)

    # Roots of the hair thin out over the hairline in strands.
    strands = value_noise(points * np.array([1, 0.12, 1]), 0.0011, seed + 51)
    depth = ruler.above_hairline(at) + 0.10 * strands + 0.06 * value_noise(points, 0.012, seed + 52)
    roots = smoothstep(-0.06, 0.16, depth) * in_region(head, "scalp", "forehead", "face", "neck")[face]
    scalp_cover = 1.0 if subject.hair_volume > 0 else 0.0
    colour = _mix(colour, linear(subject.hair) * (0.7 + 0.3 * strands)[:, None], scalp_cover * roots)
    gloss = gloss * (1 - 0.7 * scalp_cover * roots)

    colour, gloss = _mouth(head, face, at, points, colour, gloss, seed)
    colour[lashes(head)[face]] = linear((0.10, 0.07, 0.06))
    # Under the chin little light arrives.
    colour *= (
        1 - 0.45 * (in_region(head, "neck")[face] * smoothstep(-3.4, -2.1, y) * smoothstep(-1.6, -0.2, z))[:, None]
    )
    colour, gloss = _shirt(head, subject, face, at, points, colour, gloss, seed)
    return np.concatenate([np.clip(colour, 0, 1), np.clip(gloss, 0, 1)[:, None]], 1).astype(np.float32)


def _mix(colour: np.ndarray, other: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return colour + (other - colour) * weight[:, None]


def _spot(at: np.ndarray, centre: tuple[float, float], radius: tuple[float, float]) -> np.ndarray:
    """A soft ellipse on both sides of the face, in ruler units."""
    return np.exp(-(((np.abs(at[:, 0]) - centre[0]) / radius[0]) ** 2) - ((at[:, 1] - centre[1]) / radius[1]) ** 2)


def _freckles(
    colour: np.ndarray, subject: Subject, points: np.ndarray, x: np.ndarray, y: np.ndarray, z: np.ndarray, seed: int
) -> np.ndarray:
    """Dots of 1-2 mm on nose and cheeks, and a few moles anywhere."""
    where = np.exp(-(((y + 0.5) / 0.55) ** 2) - (x / 1.1) ** 2) * (z > -0.5)
    dots = smoothstep(0.50, 0.75, value_noise(points, 0.0024, seed + 21)) * where * subject.freckles
    moles = smoothstep(0.86, 0.90, value_noise(points, 0.006, seed + 22)) * (0.6 + 0.4 * (z > 0))
    colour = colour * (1 - 0.6 * dots[:, None] * np.array([0.55, 0.8, 0.9]))
    return colour * (1 - 0.55 * moles[:, None] * np.array([0.7, 0.9, 1.0]))


def _brows(subject: Subject, points: np.ndarray, at: np.ndarray, seed: int) -> np.ndarray:
    """Coverage [N] of the brows: an arch over each eye, thinning outwards, broken up into hairs."""
    x, y = np.abs(at[:, 0]), at[:, 1]
    along = np.clip((x - 0.17) / (0.90 - 0.17), 0, 1)
    middle = 0.325 + 0.15 * np.sin(np.pi * np.clip(along * 0.80, 0, 1)) - 0.06 * along**2
    half = 0.072 * (1 - 0.62 * along**1.5)
    hairs = value_noise(points * np.array([1.0, 0.55, 0.55]), 0.0011, seed + 61)
    edge = 1 - np.abs(y - middle) / half + 0.35 * hairs
    ends = smoothstep(0.12, 0.24, x + 0.03 * hairs) * smoothstep(0.97, 0.85, x + 0.03 * hairs)
    return 0.88 * smoothstep(0.0, 0.55, edge) * ends * (at[:, 2] > -0.6)


def _lid_margin(head: HeadModel, points: np.ndarray) -> np.ndarray:
    """1 where a lid touches the eyeball, falling to 0 within a millimetre: lashes seen from afar are a dark line."""
    vertices = head.template.double().numpy()
    balls = vertices[np.unique(head.faces.numpy()[in_region(head, "eyeballs")])]
    nearest = np.zeros(len(points))
    for joint in (JOINTS.index("left_eye"), JOINTS.index("right_eye")):
        centre = head.joint_template[joint].double().numpy()
        own = balls[(balls[:, 0] > 0) == (centre[0] > 0)]
        if len(own):
            radius = np.percentile(np.linalg.norm(own - centre, axis=1), 50)
            gap = np.linalg.norm(points - centre, axis=1) - radius
            nearest = np.maximum(nearest, smoothstep(0.0021, 0.0009, gap) * (points[:, 2] > centre[2]))
    return nearest


def _mouth(
    head: HeadModel,
    face: np.ndarray,
    at: np.ndarray,
    points: np.ndarray,
    colour: np.ndarray,
    gloss: np.ndarray,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Teeth, tongue and the dark behind them. The deeper behind the lips, the less light (a painted occlusion)."""
    lips = head.template[head.faces[head.faces_in("lips")].unique()]
    front = (float(lips[:, 2].max()) - float(Ruler.of(head).origin[2])) / Ruler.of(head).unit
    depth = front - at[:, 2]
    dim = np.exp(-1.9 * np.clip(depth - 0.18, 0, None))[:, None]
    wet = 1 + 0.12 * value_noise(points, 0.004, seed + 71)[:, None]
    inside, teeth, licks = (
        in_region(head, "mouth_interior")[face], in_region(head, "teeth")[face], tongue(head)[face]
    )  # fmt: skip
    colour = np.where(inside[:, None], linear((0.62, 0.28, 0.27)) * dim**1.6 * wet, colour)
    colour = np.where(licks[:, None], linear((0.80, 0.44, 0.43)) * dim * wet, colour)
    gaps = 1 - 0.35 * smoothstep(0.80, 0.97, np.cos(2 * np.pi * points[:, 0] / 0.0078 + np.pi))[:, None]
    colour = np.where(teeth[:, None], linear((0.93, 0.90, 0.83)) * dim * gaps, colour)
    return colour, np.where(inside | licks, 0.25, np.where(teeth, 0.5, gloss))


def _shirt(
    head: HeadModel,
    subject: Subject,
    face: np.ndarray,
    at: np.ndarray,
    points: np.ndarray,
    colour: np.ndarray,
    gloss: np.ndarray,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """A knitted crew-neck with stripes: everything below a slanted plane through the base of the neck."""
    below = -at[:, 1] - 2.85 - 0.28 * (at[:, 2] - Ruler.of(head).axis_z)
    worn = smoothstep(-0.01, 0.01, below) * in_region(head, "torso", "neck")[face]
    knit = 1 + 0.10 * value_noise(points, 0.0022, seed + 81) + 0.05 * fractal_noise(points, 0.02, 2, seed + 82)
    stripe = smoothstep(0.25, 0.35, np.sin(2 * np.pi * at[:, 1] / 0.62)) * (below > 0.28)
    ribs = np.where(below < 0.22, 0.72 + 0.1 * np.sin(90 * np.arctan2(at[:, 0], at[:, 2])), 1.0)
    cloth = _mix(np.broadcast_to(linear(subject.shirt), colour.shape), linear(subject.stripe), stripe)
    seam = 1 - 0.35 * np.exp(-(((below - 0.23) / 0.025) ** 2))
    cloth = cloth * (knit * ribs * seam)[:, None]
    return _mix(colour, cloth, worn), gloss * (1 - worn) + 0.03 * worn
