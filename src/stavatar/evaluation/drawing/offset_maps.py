"""What the offset network adds at each texel of the UV square, one picture for each group of channels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image
from torch import Tensor

from stavatar.evaluation.drawing.canvas import DIVERGING, GREYS, HEAT, Scale, labelled_grid, to_uint8

_EDGE, _GAP = 200, 14
_EMPTY = 236
_SHOWN_SHARE = 0.995  # of the texels lie within the colours' range


@dataclass(frozen=True)
class OffsetMaps:
    """Offsets after their activations (eq. 7), as maps of R x R texels whose row grows with v.

    Attributes:
        name: of the avatar, written beside its pictures.
        position: [R, R] length in millimetres.
        scale: [R, R] mean over the three axes of the logarithm of the factor.
        rotation: [R, R] angle in degrees.
        color: [R, R, 3] added to the colour, in [-1, 1].
        opacity: [R, R] added to the opacity.
    """

    name: str
    position: np.ndarray
    scale: np.ndarray
    rotation: np.ndarray
    color: np.ndarray
    opacity: np.ndarray


def draw_offset_maps(
    maps: list[OffsetMaps], surface: list[np.ndarray], picture: Tensor, *, title: str = ""
) -> Image.Image:
    """A row for each avatar, with the same colours in all of them.

    Args:
        maps: at least one.
        surface: for each avatar [R, R] bool, texels that show a face; others are grey.
        picture: [H, W, 3] in [0, 1], what the frame shows.
        title: above everything.
    """
    limits = {
        name: _limit([getattr(each, name)[on] for each, on in zip(maps, surface, strict=True)])
        for name in ("position", "scale", "rotation", "color", "opacity")
    }
    shown = np.asarray(Image.fromarray(to_uint8(picture).numpy()).resize((_EDGE, _EDGE), Image.Resampling.LANCZOS))
    cells = [
        [
            _square(HEAT(each.position / limits["position"]), on),
            _square(DIVERGING(0.5 + each.scale / limits["scale"] / 2), on),
            _square(HEAT(each.rotation / limits["rotation"]), on),
            _square(_levels(0.5 + each.color / limits["color"] / 2), on),
            _square(DIVERGING(0.5 + each.opacity / limits["opacity"] / 2), on),
        ]
        for each, on in zip(maps, surface, strict=True)
    ]
    cells[0].append(shown)
    factor = float(np.exp(limits["scale"]))
    scales: list[Scale | None] = [
        Scale(HEAT, "0", f"{limits['position']:.2g} mm"),
        Scale(DIVERGING, f"x {1 / factor:.2f}", f"x {factor:.2f}"),
        Scale(HEAT, "0", f"{limits['rotation']:.2g} deg"),
        Scale(GREYS, f"-{limits['color']:.2g}", f"+{limits['color']:.2g}"),
        Scale(DIVERGING, f"-{limits['opacity']:.2g}", f"+{limits['opacity']:.2g}"),
    ]
    columns = [
        "position, length",
        "scale, mean factor",
        "rotation, angle",
        "colour, grey: none",
        "opacity",
        "recorded",
    ]
    return labelled_grid(cells, columns, [each.name for each in maps], title=title, scales=scales, gap=_GAP)


def _limit(values: list[np.ndarray]) -> float:
    """Where the colours end."""
    return max(1e-6, max(float(np.quantile(np.abs(each), _SHOWN_SHARE)) for each in values))


def _levels(values: np.ndarray) -> np.ndarray:
    return np.round(values.clip(0, 1) * 255).astype(np.uint8)


def _square(colours: np.ndarray, surface: np.ndarray) -> np.ndarray:
    """Colours [R, R, 3] of the surface as a picture with v upwards."""
    shown = np.where(surface[..., None], colours, np.uint8(_EMPTY))[::-1]
    return np.asarray(Image.fromarray(np.ascontiguousarray(shown)).resize((_EDGE, _EDGE), Image.Resampling.NEAREST))
