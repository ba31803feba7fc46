"""Wrinkles that come and go with the expression: slopes and darkening of the skin, painted over the UV square.

The mesh has none of them. What a renderer shows of a wrinkle depends on the coefficients of the frame alone, as in a
real face, so that an avatar can learn it, but only by more than moving Gaussians along with the mesh.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from stavatar.head import HeadModel
from stavatar.synth._noise import smoothstep
from stavatar.synth._texels import Texels
from stavatar.synth.subject import Subject

TEXTURE_SIZE = 1024
_STEP = 1e-3  # ruler units (about 0.06 mm) between the points whose heights give a slope
_STEEPNESS = 0.75  # of a wrinkle's sides, about
_FINE, _LINE, _DEEP = 0.016, 0.022, 0.038  # widths, ruler units (about 62 mm)
_ONSET, _FULL = 0.15, 0.85  # of the summed coefficients: where a wrinkle begins to show, and where it is deepest


@dataclass(frozen=True)
class _Fold:
    """One kind of wrinkle.

    Attributes:
        depth: (x, y, wander) -> depth, 1 at the bottom of a groove and negative where skin bulges; x and y are in ruler
            units, x positive on the fold's own side, and `wander` is noise that makes lines less straight.
        width: of its grooves, ruler units; 0 for a flush of blood, which is no groove.
        drivers: weights of the coefficients that draw it. "Side" in a name stands for Left or Right: such a fold is
            there on both sides of the face, each driven by its own.
    """

    depth: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
    width: float
    drivers: dict[str, float]

    @property
    def sides(self) -> tuple[tuple[str, int], ...]:
        """What "Side" stands for, and the direction of that side along x; the subject's left is +x."""
        return (("Left", 1), ("Right", -1)) if any("Side" in name for name in self.drivers) else (("", 1),)


@dataclass(frozen=True)
class Wrinkles:
    """K layers over the M texels where any of them shows.

    Attributes:
        rows, columns: [M] of those texels, in a texture of `TEXTURE_SIZE`.
        layers: [K, M, 4] slope along x and y in the head's axes, darkening, flush (see :meth:`texture`).
        drive: [K, E] of each coefficient on each layer.
    """

    rows: np.ndarray
    columns: np.ndarray
    layers: np.ndarray
    drive: np.ndarray

    def weights(self, expression: np.ndarray) -> np.ndarray:
        """How deep each layer is [K] in [0, 1], for the coefficients [E] of a frame."""
        return smoothstep(_ONSET, _FULL, self.drive @ expression)

    def texture(self, weights: np.ndarray, out: np.ndarray) -> None:
        """Blend the layers by `weights` [K] into `out` [TEXTURE_SIZE, TEXTURE_SIZE, 4], which is zero elsewhere.

        Channels: rise of the skin towards +x and +y of the head (metres per metre), share of light that a fold keeps
        off, and share of extra blood.
        """
        out[self.rows, self.columns] = np.tensordot(weights.astype(np.float32), self.layers, 1)


def draw_wrinkles(head: HeadModel, subject: Subject) -> Wrinkles:
    """The wrinkles of a subject."""
    texels = Texels.of(head, TEXTURE_SIZE, subject.seed)
    texels = texels.only(texels.within("face", "forehead", "nose", "eyes") & (texels.at[:, 2] > -0.75))
    strength = subject.wrinkles * smoothstep(-0.75, -0.45, texels.at[:, 2])[:, None]
    layers, drive = [], []
    for fold in _FOLDS:
        for side, sign in fold.sides:
            layers.append((strength * _layer(texels, fold, sign)).astype(np.float32))
            drivers = {driver.replace("Side", side): weight for driver, weight in fold.drivers.items()}
            drive.append([drivers.get(expression, 0.0) for expression in head.expression_names])
    stack = np.stack(layers)
    shown = (np.abs(stack) > 1e-3).any((0, 2))
    rows, columns = (index[shown] for index in np.nonzero(texels.covered))
    return Wrinkles(rows, columns, np.ascontiguousarray(stack[:, shown]), np.array(drive))


def _layer(texels: Texels, fold: _Fold, sign: int) -> np.ndarray:
    """One fold [N, 4] on the side `sign` of the face, in the channels of :meth:`Wrinkles.texture`."""
    x, y = sign * texels.at[:, 0], texels.at[:, 1]
    wander = texels.noise(0.016, 90 + sign)

    def height(dx: float, dy: float) -> np.ndarray:
        return -_STEEPNESS * fold.width * fold.depth(x + dx, y + dy, wander)

    layer = np.zeros((len(x), 4))
    if fold.width > 0:
        layer[:, 0] = sign * (height(_STEP, 0) - height(-_STEP, 0)) / (2 * _STEP)
        layer[:, 1] = (height(0, _STEP) - height(0, -_STEP)) / (2 * _STEP)
        layer[:, 2] = np.clip(fold.depth(x, y, wander), 0, 1)
    else:
        layer[:, 3] = fold.depth(x, y, wander)
    return layer


def _groove(offset: np.ndarray, width: float) -> np.ndarray:
    """Depth across a wrinkle: a valley of `width` between two soft swellings."""
    return np.exp(-((offset / width) ** 2)) - 0.45 * np.exp(-((offset / (2.8 * width)) ** 2))


def _forehead(x: np.ndarray, y: np.ndarray, wander: np.ndarray) -> np.ndarray:
    """Lines from side to side, dipping in the middle."""
    depth = np.zeros_like(x)
    for level, reach, strength in ((0.52, 0.62, 0.7), (0.68, 0.80, 1.0), (0.85, 0.84, 0.95), (1.01, 0.62, 0.6)):
        line = level + 0.030 * np.cos(2 * np.pi * (np.abs(x) / 0.95 + 0.5)) - 0.06 * x**2 + 0.030 * wander
        depth += strength * smoothstep(reach, reach - 0.35, np.abs(x)) * _groove(y - line, _LINE)
    return depth


def _forehead_middle(x: np.ndarray, y: np.ndarray, wander: np.ndarray) -> np.ndarray:
    return _forehead(x, y, wander) * np.exp(-((x / 0.36) ** 2))


def _forehead_side(x: np.ndarray, y: np.ndarray, wander: np.ndarray) -> np.ndarray:
    return _forehead(x, y, wander) * (1 - np.exp(-((x / 0.36) ** 2))) * (x > 0)


def _frown(x: np.ndarray, y: np.ndarray, wander: np.ndarray) -> np.ndarray:
    """An upright line beside the middle, a weaker one outside it, and one across the root of the nose."""
    depth = np.zeros_like(x)
    for start, low, high, strength in ((0.085, 0.04, 0.50, 1.0), (0.175, 0.16, 0.42, 0.5)):
        line = start + 0.10 * (y - low) + 0.015 * wander
        depth += strength * smoothstep(low, low + 0.12, y) * smoothstep(high, high - 0.18, y) * _groove(x - line, _LINE)
    across = smoothstep(0.15, 0.05, np.abs(x)) * smoothstep(0.0, 0.02, x)
    return (depth + 0.6 * across * _groove(y - 0.01 * wander, _LINE)) * (x > 0)


def _bunny(x: np.ndarray, y: np.ndarray, wander: np.ndarray) -> np.ndarray:
    """Slanting lines on the side of the nose."""
    along = smoothstep(0.04, 0.09, x) * smoothstep(0.24, 0.16, x)
    lines = sum(_groove(0.74 * (y - level - 0.9 * (x - 0.14)) + 0.008 * wander, _FINE) for level in (-0.20, -0.09))
    return 0.7 * along * lines


def _nasolabial(x: np.ndarray, y: np.ndarray, wander: np.ndarray) -> np.ndarray:
    """From the wing of the nose around the corner of the mouth; the cheek bulges over it."""
    along = np.clip((-0.58 - y) / 0.74, 0, 1.2)
    line = 0.36 + 0.27 * along**0.85 + 0.012 * wander
    ends = smoothstep(-0.52, -0.68, y) * smoothstep(-1.42, -1.02, y)
    bulge = 0.4 * np.exp(-(((x - line - 0.11) / 0.09) ** 2))
    return ends * (_groove(0.92 * (x - line), _DEEP) - bulge)


def _crows_feet(x: np.ndarray, y: np.ndarray, wander: np.ndarray) -> np.ndarray:
    """A fan from the outer corner of the eye."""
    dx, dy = x - 0.72, y + 0.02
    reach, angle = np.hypot(dx, dy), np.arctan2(dy, dx) + 0.10 * wander
    near = smoothstep(0.07, 0.13, reach) * smoothstep(0.40, 0.22, reach)
    rays = (
        np.where(np.abs(angle - ray) < 0.6, _groove(reach * np.sin(angle - ray), _FINE), 0)
        for ray in np.radians((-44, -20, 3, 27))
    )
    return near * sum(rays)


def _flushed_cheek(x: np.ndarray, y: np.ndarray, wander: np.ndarray) -> np.ndarray:
    return np.exp(-(((x - 0.62) / 0.30) ** 2) - ((y + 0.62) / 0.26) ** 2) * (1 + 0.2 * wander)


_FOLDS = (
    _Fold(_forehead_middle, _LINE, {"browInnerUp": 1.0, "browOuterUpLeft": 0.15, "browOuterUpRight": 0.15}),
    _Fold(_forehead_side, _LINE, {"browOuterUpSide": 0.85, "browInnerUp": 0.25}),
    _Fold(_frown, _LINE, {"browDownSide": 1.0, "noseSneerSide": 0.2}),
    _Fold(_bunny, _FINE, {"noseSneerSide": 0.9, "mouthUpperUpSide": 0.3}),
    _Fold(
        _nasolabial,
        _DEEP,
        {"mouthSmileSide": 0.9, "cheekSquintSide": 0.35, "mouthUpperUpSide": 0.3, "noseSneerSide": 0.4},
    ),
    _Fold(_crows_feet, _FINE, {"cheekSquintSide": 0.8, "mouthSmileSide": 0.4, "eyeSquintSide": 0.4}),
    _Fold(_flushed_cheek, 0.0, {"mouthSmileSide": 0.8, "cheekSquintSide": 0.4}),
)
