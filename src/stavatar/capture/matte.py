"""Who is in the picture: mattes of the person, and the person composited over white.

MediaPipe's selfie segmenter gives a soft mask of 256 x 256 that flickers and knows nothing of hair. Three steps make a
matte of it: smoothing over time where the picture stands still, refinement along the picture's own edges (He et al.,
"Guided Image Filtering", 2013), and an estimate of the person's own colour in the mixed pixels of the edge (after
Germer et al., "Fast Multi-Level Foreground Estimation", and Forte, "Approximate Fast Foreground Colour Estimation",
2021), without which a fringe of the old background would glow around the composited person.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import cv2
import mediapipe as mp
import numpy as np
from mediapipe.tasks.python import BaseOptions, vision

from stavatar.capture._quiet import loading
from stavatar.parallel import borrowed, in_order, threads

SEGMENTER_SIDE = 256
"""The segmenter's own resolution."""

# Smoothing over time: frames before and after, and the change of colour (in [0, 1]) that means movement.
_NEIGHBOURS = 2
_MOVEMENT = 0.04
# Guided filter: radius in pixels of the segmenter's resolution, and regularisation (squared colour difference).
_GUIDE_RADIUS, _GUIDE_EPSILON = 5, 3e-4
# What the filter leaves between these values is stretched to 0 and 1: it dims the inside and lights up the outside.
_LOW, _HIGH = 0.12, 0.85
# Radii of the two passes of foreground estimation, in pixels of the segmenter's resolution.
_FAR, _NEAR = 24, 3


@dataclass(frozen=True)
class _Seen:
    """One frame: the picture [S, S, 3] uint8, the same small and blurred in [0, 1], and the segmenter's mask."""

    picture: np.ndarray
    small: np.ndarray
    confidence: np.ndarray


def cut_out(pictures: Iterable[np.ndarray], model: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each square picture [S, S, 3] (uint8 RGB) of a shot: the person over white, and the matte [S, S] uint8.

    Pictures come out in order, a few behind those that go in: smoothing looks as far ahead as back, so it does not lag.
    """
    with ThreadPoolExecutor(max_workers=threads()) as pool:
        seen = _segmented(pictures, model, pool)
        yield from in_order(pool, lambda framed: _finish(*framed), _windows(seen), ahead=2 * threads())


def _segmented(pictures: Iterable[np.ndarray], model: Path, pool: Executor) -> Iterator[_Seen]:
    options = vision.ImageSegmenterOptions(
        base_options=BaseOptions(model_asset_buffer=model.read_bytes()),
        output_confidence_masks=True,
        output_category_mask=False,
    )
    blank = np.zeros((SEGMENTER_SIDE, SEGMENTER_SIDE, 3), dtype=np.uint8)
    idle: SimpleQueue[vision.ImageSegmenter] = SimpleQueue()
    with ExitStack() as stack:
        with loading(model):
            for _ in range(threads()):
                segmenter = stack.enter_context(vision.ImageSegmenter.create_from_options(options))
                segmenter.segment(mp.Image(image_format=mp.ImageFormat.SRGB, data=blank))
                idle.put(segmenter)

        def segment(picture: np.ndarray) -> _Seen:
            small = cv2.resize(picture, (SEGMENTER_SIDE, SEGMENTER_SIDE), interpolation=cv2.INTER_AREA)
            with borrowed(idle) as segmenter:
                result = segmenter.segment(mp.Image(image_format=mp.ImageFormat.SRGB, data=small))
                # a copy: the result's own memory goes with the result
                confidence = np.array(result.confidence_masks[-1].numpy_view(), dtype=np.float32)
            blurred = _box_mean(small.astype(np.float32) / 255, 2)  # compares pictures, not their noise
            return _Seen(picture, blurred, confidence.reshape(SEGMENTER_SIDE, SEGMENTER_SIDE))

        yield from in_order(pool, segment, pictures, ahead=threads())


def _windows(frames: Iterable[_Seen]) -> Iterator[tuple[list[_Seen], int]]:
    """For each frame in order: it, up to :data:`_NEIGHBOURS` frames before and after, and its place in that list."""
    window: list[_Seen] = []
    centre = 0
    for frame in frames:
        window = [*window[-2 * _NEIGHBOURS :], frame]
        if len(window) > _NEIGHBOURS:
            centre = len(window) - 1 - _NEIGHBOURS
            yield window, centre
    first_left = centre + 1 if len(window) > _NEIGHBOURS else 0
    for late in range(first_left, len(window)):
        yield window[max(0, late - _NEIGHBOURS) :], min(late, _NEIGHBOURS)


def _finish(window: list[_Seen], centre: int) -> tuple[np.ndarray, np.ndarray]:
    frame = window[centre]
    confidence = steady(frame.small, [(other.small, other.confidence) for other in window])
    colour = frame.picture.astype(np.float32) / 255
    return _composite(colour, refine(colour, confidence))


def over_white(picture: np.ndarray, matte: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A picture [S, S, 3] over white and its matte [S, S], from a picture over whatever background; all uint8."""
    return _composite(picture.astype(np.float32) / 255, matte.astype(np.float32) / 255)


def _composite(colour: np.ndarray, matte: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    person = foreground(colour, matte)
    composite = 1 + _three(matte) * (person - 1)
    return cv2.convertScaleAbs(composite, alpha=255), cv2.convertScaleAbs(matte, alpha=255)


def steady(picture: np.ndarray, neighbours: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Mean of neighbouring frames' masks, each weighted by how little its picture differs at that pixel.

    Args:
        picture: [S, S, 3] in [0, 1], the frame whose mask is wanted.
        neighbours: (picture, mask [S, S]) of frames around it, itself included: where everything else has moved, its
            own mask remains.
    """
    total = np.zeros(picture.shape[:2], dtype=np.float32)
    weights = np.zeros_like(total)
    falloff = np.full((1, 3), -0.5 / _MOVEMENT**2, dtype=np.float32)
    for other, mask in neighbours:
        weight = cv2.exp(cv2.transform(np.square(other - picture), falloff))
        total += weight * mask
        weights += weight
    return total / weights


def refine(colour: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """A matte [S, S] in [0, 1] that follows the edges of the picture [S, S, 3], hairs included, from a coarse mask.

    The guided filter with a colour guide: around each pixel the mask is explained as a linear function of the colour,
    ``mask = gradient . colour + offset``. These functions vary smoothly, so they are found at the coarse mask's
    resolution and then applied to the full picture.
    """
    side, coarse = colour.shape[0], confidence.shape[0]
    guide = _resized(colour, coarse)
    inner = cv2.erode(confidence, np.ones((3, 3), dtype=np.uint8))  # the segmenter reaches a pixel into the background
    gradient, offset = _explain(guide, inner)
    gradient, offset = _resized(gradient, side), _resized(offset, side)
    filtered = cv2.transform(gradient * colour, np.ones((1, 3), dtype=np.float32)) + offset
    return np.clip((filtered - _LOW) / (_HIGH - _LOW), 0, 1)


def _explain(guide: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ridge regression of the mask on the colour in the window around each pixel, averaged over windows.

    Returns:
        gradient [S, S, 3] and offset [S, S].
    """
    r, g, b = cv2.split(guide)
    mean = _box_mean(guide, _GUIDE_RADIUS)
    mr, mg, mb = cv2.split(mean)
    mean_mask = _box_mean(mask, _GUIDE_RADIUS)
    covariance = _box_mean(guide * _three(mask), _GUIDE_RADIUS) - mean * _three(mean_mask)
    # the covariance matrix of the colour, six entries of a symmetric 3 x 3, regularised on its diagonal
    rr = _box_mean(r * r, _GUIDE_RADIUS) - mr * mr + _GUIDE_EPSILON
    rg = _box_mean(r * g, _GUIDE_RADIUS) - mr * mg
    rb = _box_mean(r * b, _GUIDE_RADIUS) - mr * mb
    gg = _box_mean(g * g, _GUIDE_RADIUS) - mg * mg + _GUIDE_EPSILON
    gb = _box_mean(g * b, _GUIDE_RADIUS) - mg * mb
    bb = _box_mean(b * b, _GUIDE_RADIUS) - mb * mb + _GUIDE_EPSILON
    # solved by its adjugate
    arr, arg, arb = gg * bb - gb * gb, rb * gb - rg * bb, rg * gb - rb * gg
    agg, agb, abb = rr * bb - rb * rb, rg * rb - rr * gb, rr * gg - rg * rg
    determinant = rr * arr + rg * arg + rb * arb
    cr, cg, cb = cv2.split(covariance)
    gradient = cv2.merge(
        [arr * cr + arg * cg + arb * cb, arg * cr + agg * cg + agb * cb, arb * cr + agb * cg + abb * cb]
    )
    gradient /= _three(determinant)
    offset = mean_mask - (gradient * mean).sum(2)
    return _box_mean(gradient, _GUIDE_RADIUS), _box_mean(offset, _GUIDE_RADIUS)


def foreground(colour: np.ndarray, matte: np.ndarray) -> np.ndarray:
    """The person's own colour [S, S, 3] in [0, 1], solving ``colour = matte * person + (1 - matte) * background``.

    Both colours are first taken to be locally constant: weighted means of the surroundings, wide ones (at the
    segmenter's resolution) where there is nothing nearer. The person then gets what the equation leaves over. Where the
    matte is 1 the result is the picture.
    """
    full = colour.shape[0]
    person = background = colour
    for side, radius in ((min(SEGMENTER_SIDE, full), _FAR), (full, _NEAR)):
        seen, alpha, person, background = (_resized(image, side) for image in (colour, matte, person, background))
        alpha = _three(alpha)
        radius = round(radius * side / SEGMENTER_SIDE)
        person = _weighted_mean(person, alpha, radius)
        background = _weighted_mean(background, 1 - alpha, radius)
        person += alpha * (seen - background - alpha * (person - background))
        np.clip(person, 0, 1, out=person)
    return person


def _resized(image: np.ndarray, side: int) -> np.ndarray:
    if image.shape[0] == side:
        return image
    way = cv2.INTER_AREA if side < image.shape[0] else cv2.INTER_LINEAR
    return cv2.resize(image, (side, side), interpolation=way)


def _weighted_mean(values: np.ndarray, weights: np.ndarray, radius: int) -> np.ndarray:
    """Means of values [S, S, 3] around each pixel, weighted by [S, S, 3]; plain means where no weight is near."""
    weights = weights + np.float32(1e-5)
    return _box_mean(values * weights, radius) / _box_mean(weights, radius)


def _three(channel: np.ndarray) -> np.ndarray:
    """[S, S] as three equal channels: numpy multiplies those several times faster than it broadcasts over three."""
    return cv2.merge([channel, channel, channel])


def _box_mean(values: np.ndarray, radius: int) -> np.ndarray:
    return cv2.blur(values, (2 * radius + 1, 2 * radius + 1), borderType=cv2.BORDER_REFLECT)
