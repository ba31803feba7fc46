"""Pictures of a tracking result for the eye: the head's wireframe and the landmarks drawn on the frames."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import torch
from torch import Tensor

from stavatar.camera import Camera
from stavatar.head.landmarks import LandmarkEmbedding
from stavatar.head.model import HeadModel
from stavatar.parallel import in_order, threads
from stavatar.sequence.sequence import Sequence
from stavatar.tracking.gaps import BRIDGED, DOUBTED, LOST, STATES, TRACKED, frame_states

DRAWN = ("face", "nose", "lips", "eyes", "eyeballs", "ears", "torso", "neck")
"""Regions whose edges are drawn."""

SHIFT = 4
"""OpenCV draws at 1/16 of a pixel with coordinates given as integers times 2**SHIFT."""

WIRE, DETECTED, FITTED = (90, 200, 255), (255, 60, 60), (40, 220, 60)
INK, PAPER, CURVE = (20, 20, 20), (255, 255, 255), (36, 87, 197)
MARKS = {DOUBTED: (245, 190, 80), BRIDGED: (250, 140, 90), LOST: (225, 90, 90)}
"""Colours of the frames that nothing is learned from, by their state."""

_POSED = 64
"""Frames whose heads are posed in one go."""

WORDS, STRIP = 24, 44
"""Heights of the line of words and of the confidence curve below the picture, pixels."""


def overlay_frames(
    sequence: Sequence,
    head: HeadModel,
    embedding: LandmarkEmbedding,
    frames: Tensor | None = None,
    *,
    least_size: int = 512,
) -> Iterator[np.ndarray]:
    """Draw tracked frames, one after the other.

    The wireframe is drawn where its faces look at the camera; detected landmarks are red, the head's own green. Below
    stand the frame's index in the video, the mean distance of the two in percent of the outer-eye distance, and the
    tracker's confidence. At the bottom runs the curve of the confidence over the whole clip, with a cursor at this
    frame; frames that nothing is learned from have a coloured ground there, and a frame of that colour around the
    picture. In gaps too long to be bridged there is no wireframe, because nobody knows where the head is.

    Args:
        sequence: of the head given.
        head: the head model.
        embedding: of the landmarks on `head`.
        frames: [N] indices of the frames to draw; all where None.
        least_size: smaller images are enlarged to this many pixels, or lines would hide the face.

    Yields:
        uint8 RGB images [H + WORDS + STRIP, W, 3] with even sides, as video encoders want them; H + WORDS without a
        strip where a sequence has no confidence.
    """
    factor = max(1.0, least_size / min(sequence.width, sequence.height))
    width, height = (2 * round(side * factor / 2) for side in (sequence.width, sequence.height))
    camera = sequence.camera.resized(width, height)
    scale = torch.tensor([width / sequence.width, height / sequence.height])
    faces = head.faces[head.faces_in(*DRAWN)]
    chosen = torch.arange(len(sequence)) if frames is None else frames
    state = torch.full((len(sequence),), TRACKED)
    strip = None
    if sequence.confidence is not None:
        state = frame_states(sequence.confidence, sequence.fps)
        strip = _confidence_strip(sequence.confidence.numpy(), state.numpy(), width)

    def draw(placed: tuple[int, Tensor, Tensor]) -> np.ndarray:
        t, pixels, fitted = placed
        image = cv2.resize(sequence.images[t].numpy(), (width, height), interpolation=cv2.INTER_CUBIC)
        if state[t] != LOST:
            _draw_wireframe(image, pixels, faces)
        words = f"frame {int(sequence.frame_ids[t])}"
        if sequence.landmarks is not None and sequence.landmarks[t].isfinite().all():
            detected = sequence.landmarks[t] * scale
            _draw_points(image, detected, DETECTED)
            _draw_points(image, fitted, FITTED)
            error = (detected - fitted).norm(dim=1).mean() / (detected[33] - detected[263]).norm()
            words += f"  error {100 * float(error):.1f} %"
        if sequence.confidence is not None:
            words += f"  confidence {float(sequence.confidence[t]):.2f}"
        if state[t] != TRACKED:
            words += f"  {STATES[state[t]]}"
            cv2.rectangle(image, (2, 2), (width - 3, height - 3), MARKS[int(state[t])], 4)
        line = np.full((WORDS, width, 3), PAPER, np.uint8)
        cv2.putText(line, words, (8, WORDS - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.44, INK, 1, cv2.LINE_AA)
        parts = [image, line] if strip is None else [image, line, _with_cursor(strip, t, len(sequence))]
        return np.concatenate(parts)

    placed = _placed(sequence, head, embedding, camera, chosen)
    with ThreadPoolExecutor(max_workers=threads()) as pool:
        yield from in_order(pool, draw, placed, ahead=2 * threads())


def _placed(
    sequence: Sequence, head: HeadModel, embedding: LandmarkEmbedding, camera: Camera, frames: Tensor
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Each frame's index, and where its vertices [V, 2] and its head's own landmarks [478, 2] are seen, in pixels."""
    for some in frames.split(_POSED):
        vertices = head(sequence.shape, sequence.parameters[some]).vertices
        view = camera[some]
        pixels, landmarks = view.project(vertices), view.project(embedding.points(head, vertices))
        yield from zip(some.tolist(), pixels, landmarks, strict=True)


def _confidence_strip(confidence: np.ndarray, state: np.ndarray, width: int) -> np.ndarray:
    """The curve of `confidence` [T] from 0 at the bottom to 1 at the top, over grounds that show the `state` [T]."""
    strip = np.full((STRIP, width, 3), PAPER, np.uint8)
    columns = np.arange(width) * len(state) // width
    for mark, colour in MARKS.items():
        strip[:, state[columns] == mark] = colour
    for t in np.flatnonzero(state != TRACKED).tolist():  # a single frame of a long clip is less than a column
        strip[:, _column(t, len(state), width)] = MARKS[int(state[t])]
    across = np.array([_column(t, len(state), width) for t in range(len(state))])
    up = 3 + (1 - confidence.clip(0, 1)) * (STRIP - 7)
    points = (np.stack([across, up], 1) * (1 << SHIFT)).round().astype(np.int32)
    cv2.polylines(strip, [points], False, CURVE, 1, cv2.LINE_AA, SHIFT)
    cv2.line(strip, (0, 0), (width, 0), (200, 200, 200), 1)
    return strip


def _with_cursor(strip: np.ndarray, frame: int, frames: int) -> np.ndarray:
    marked = strip.copy()
    column = _column(frame, frames, strip.shape[1])
    cv2.line(marked, (column, 0), (column, STRIP), INK, 2)
    return marked


def _column(frame: int, frames: int, width: int) -> int:
    """Where a frame is on a strip as wide as the clip is long: the middle of its share."""
    return min(width - 1, int((frame + 0.5) * width / frames))


def _draw_wireframe(image: np.ndarray, pixels: Tensor, faces: Tensor) -> None:
    """Blend the outlines of the faces that look at the camera into `image`."""
    corners = pixels[faces]
    first, second = (corners[:, 1] - corners[:, 0]), (corners[:, 2] - corners[:, 0])
    # Counter-clockwise seen from outside is clockwise where y grows downwards.
    visible = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0] < 0
    wires = image.copy()
    cv2.polylines(wires, list(_fixed_point(corners[visible])), True, WIRE, 1, cv2.LINE_AA, SHIFT)
    cv2.addWeighted(wires, 0.45, image, 0.55, 0, dst=image)


def _draw_points(image: np.ndarray, points: Tensor, colour: tuple[int, int, int]) -> None:
    """Dots. All in one call: as lines of no length, whose round ends remain."""
    dots = _fixed_point(points)[:, None].repeat(2, 1)
    cv2.polylines(image, list(dots), False, colour, 2, cv2.LINE_AA, SHIFT)


def _fixed_point(pixels: Tensor) -> np.ndarray:
    """Our pixel centres are at .5, OpenCV's at whole numbers."""
    return ((pixels - 0.5) * (1 << SHIFT)).round().int().numpy()
