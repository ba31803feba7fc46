"""The 52 expressions, with what the source leaves to its rig put right: eyes, lids, lower teeth and tongue."""

from __future__ import annotations

import numpy as np

from embedded_head.source import Source
from embedded_head.surface import Surface

LID_CLEARANCE = 0.0003  # lids stay this far off the eyeball, metres
LID_REACH = 0.004  # skin this close to the eyeball counts as its lid
TONGUE_HEIGHT = 0.6  # the tongue's thickness in the open mouth, as a share of that with which it fills the closed one
TONGUE_DROP = 0.007  # how far the tip sinks against the lower teeth, metres


def expression_basis(source: Source, surface: Surface, template: np.ndarray) -> np.ndarray:
    """Offsets [52, V, 3] in the order of `Source.expression_names`, metres.

    - Eyeballs do not move: gaze is the eye joints' alone, and the eyeLook expressions move the lids.
    - Lids that an expression would pull through the eyeball glide over it.
    - The lower teeth move as one rigid piece, and the open mouth's tongue lies down behind them.
    """
    basis = np.stack([surface.rows @ source.expression(name) for name in source.expression_names])
    basis[:, surface.vertices_of("left_eye", "right_eye")] = 0
    teeth = surface.vertices_of("lower_teeth")
    for offsets in basis:
        rotation, shift = _rigid_motion(template[teeth], offsets[teeth])
        offsets[teeth] = template[teeth] @ rotation.T + shift - template[teeth]
    basis[:, surface.vertices_of("upper_teeth")] = 0
    _lay_tongue_down(surface, template, basis[source.expression_names.index("jawOpen")])
    for side in ("left_eye", "right_eye"):
        _keep_lids_out(surface, template, basis, side)
    return basis


def _rigid_motion(points: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotation [3, 3] and shift [3] that carry `points` closest to `points + offsets` (Kabsch 1976)."""
    moved = points + offsets
    center, moved_center = points.mean(0), moved.mean(0)
    u, _, vt = np.linalg.svd((points - center).T @ (moved - moved_center))
    rotation = (u @ np.diag([1, 1, np.sign(np.linalg.det(u @ vt))]) @ vt).T
    return rotation, moved_center - rotation @ center


def _lay_tongue_down(surface: Surface, template: np.ndarray, jaw_open: np.ndarray) -> None:
    """Change the tongue's offsets in `jaw_open` [V, 3]: it follows the lower teeth and flattens towards its tip.

    In the closed mouth the tongue fills the space between the teeth; kept at that height it would hide the lower teeth
    of an open mouth.
    """
    tongue, teeth = surface.vertices_of("tongue"), surface.vertices_of("lower_teeth")
    rotation, shift = _rigid_motion(template[teeth], jaw_open[teeth])
    points = template[tongue]
    back, front = points[:, 2].min(), points[:, 2].max()
    along = ((points[:, 2] - back) / (front - back)).clip(0, 1)[:, None]
    nearby = np.abs(points[:, 2] - points[:, 2, None]) < 0.006
    floor = np.where(nearby, points[:, 1], np.inf).min(1)
    flat = points.copy()
    flat[:, 1] = floor + (points[:, 1] - floor) * TONGUE_HEIGHT - TONGUE_DROP * along[:, 0]
    with_jaw = flat @ rotation.T + shift - points
    weight = np.sin(np.pi / 2 * (along / 0.5).clip(0, 1)) ** 2  # the root stays where the throat is
    jaw_open[tongue] = weight * with_jaw + (1 - weight) * jaw_open[tongue]


def _keep_lids_out(surface: Surface, template: np.ndarray, basis: np.ndarray, side: str) -> None:
    """Push the lids of each expression off the sphere of the eyeball."""
    ball = template[surface.vertices_of(side)]
    system = np.column_stack([2 * ball, np.ones(len(ball))])
    solution = np.linalg.lstsq(system, (ball**2).sum(1), rcond=None)[0]  # |p|^2 = 2 p.c + (r^2 - |c|^2)
    center = solution[:3]
    radius = np.sqrt(solution[3] + center @ center)
    skin = surface.vertices_of("skin")
    distance = np.linalg.norm(template[skin] - center, axis=1)
    lids = skin[(distance > radius) & (distance < radius + LID_REACH) & (template[skin, 2] > center[2])]
    for offsets in basis:
        ray = template[lids] + offsets[lids] - center
        length = np.linalg.norm(ray, axis=1, keepdims=True)
        inside = (length[:, 0] < radius + LID_CLEARANCE) & (np.abs(offsets[lids]).max(1) > 0)
        offsets[lids[inside]] += (ray * ((radius + LID_CLEARANCE) / length - 1))[inside]
