"""A tracked sequence in numbers and curves, for the page that shows them: plain lists that a JSON file can hold."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from stavatar.head.landmarks import LandmarkEmbedding
from stavatar.head.model import HeadModel
from stavatar.rotations import axis_angle_to_matrix
from stavatar.sequence.sequence import Sequence
from stavatar.tracking.gaps import LOST, STATES, TRACKED, frame_states
from stavatar.tracking.landmark_groups import INNER, LIPS, OUTER_EYE_CORNERS, SKIN
from stavatar.tracking.openings import measure_openings
from stavatar.tracking.steadiness import spectrum, step_size, turning_path

_CHUNK = 64


@torch.no_grad()
def describe_tracking(
    sequence: Sequence, head: HeadModel, embedding: LandmarkEmbedding, advice: list[dict[str, Any]]
) -> dict[str, Any]:
    """What a track looks like, whatever stages it went through.

    Args:
        sequence: tracked, with landmarks and confidence.
        head, embedding: that it was tracked with.
        advice: on the clip (`Advice.described`).

    Returns:
        ``frames`` (the video's frame numbers) and per frame ``confidence``, ``state`` (an index into ``states``),
        ``landmark_error`` (% of the outer-eye distance, None without a face); ``curves`` by heading, each a unit and
        named lists; ``spectra`` and ``steadiness`` of the head, long gaps left out; ``figures`` of the whole clip;
        ``advice``.
    """
    assert sequence.confidence is not None and sequence.landmarks is not None  # as all our trackers leave it
    state = frame_states(sequence.confidence, sequence.fps)
    errors, openings, place = _per_frame(sequence, head, embedding)
    turn = axis_angle_to_matrix(sequence.parameters.rotation) @ axis_angle_to_matrix(sequence.parameters.neck)
    place = 1000 * (place - place.mean(0))
    known = state != LOST
    steady = {"rotation": turning_path(turn)[known], "place": place[known]}
    together = torch.nonzero(known)[:, 0].diff() == 1
    seen = torch.nonzero(sequence.confidence > 0)[:, 0]
    return {
        "name": sequence.name,
        "fps": sequence.fps,
        "history": sequence.history,
        "frames": sequence.frame_ids.tolist(),
        "confidence": _rounded(sequence.confidence),
        "states": list(STATES),
        "state": state.tolist(),
        "landmark_error": _rounded(errors[:, list(SKIN)].mean(1)),
        "curves": {
            "Rotation of the head": ["°", _angles(turn)],
            "Place of the head": ["mm", dict(zip(("to its left", "up", "forwards"), _columns(place), strict=True))],
            "Mouth, open": ["eye distances", {"lips apart": _rounded(openings.mouth)}],
            "Lids, open": [
                "eye distances",
                {"left": _rounded(openings.left_lids), "right": _rounded(openings.right_lids)},
            ],
            "Gaze in the head": ["°", _gaze(sequence.parameters.eyes)],
        },
        "spectra": {name: vars(spectrum(path, sequence.fps)) for name, path in steady.items()},
        "steadiness": {name: step_size(path, together) for name, path in steady.items()},
        "figures": {
            "frames": len(sequence),
            "tracked": int((state == TRACKED).sum()),
            "eye_distance": float(_eye_distance(sequence.landmarks[seen]).median()),
            "landmark_error": {
                name: float(errors[seen][:, list(part)].mean())
                for name, part in (("all", SKIN), ("inner face", INNER), ("lips", LIPS))
            },
            "focal": float(sequence.camera.focal[0, 0]),
        },
        "advice": advice,
    }


def _per_frame(sequence: Sequence, head: HeadModel, embedding: LandmarkEmbedding) -> tuple[Tensor, Any, Tensor]:
    """Landmark errors [T, 478] in %, openings, and the middle of the face [T, 3] in the world."""
    assert sequence.landmarks is not None
    errors, points = [], []
    for frames in torch.arange(len(sequence)).split(_CHUNK):
        own = embedding.points(head, head(sequence.shape, sequence.parameters[frames]).vertices)
        detected = sequence.landmarks[frames]
        away = (sequence.camera[frames].project(own) - detected).norm(dim=-1)
        errors.append(100 * away / _eye_distance(detected)[:, None])
        points.append(own)
    landmarks = torch.cat(points)
    return torch.cat(errors), measure_openings(landmarks), landmarks[:, list(OUTER_EYE_CORNERS)].mean(1)


def _eye_distance(landmarks: Tensor) -> Tensor:
    right, left = OUTER_EYE_CORNERS
    return (landmarks[:, right] - landmarks[:, left]).norm(dim=1)


def _angles(turn: Tensor) -> dict[str, list[float | None]]:
    """Degrees: how far the head [T, 3, 3] looks to its left and down, and how far it is tilted to its right."""
    forward, side = turn[:, :, 2], turn[:, :, 0]
    return {
        "to its left": _rounded(torch.atan2(forward[:, 0], forward[:, 2]).rad2deg()),
        "down": _rounded(-forward[:, 1].clamp(-1, 1).asin().rad2deg()),
        "tilted": _rounded(side[:, 1].clamp(-1, 1).asin().rad2deg()),
    }


def _gaze(eyes: Tensor) -> dict[str, list[float | None]]:
    """Degrees that both eyes [T, 6] look to the head's left and down, on average."""
    forward = axis_angle_to_matrix(eyes.unflatten(1, (2, 3)))[..., 2].mean(1)
    return {
        "to its left": _rounded(torch.atan2(forward[:, 0], forward[:, 2]).rad2deg()),
        "down": _rounded(-forward[:, 1].clamp(-1, 1).asin().rad2deg()),
    }


def _columns(values: Tensor) -> list[list[float | None]]:
    return [_rounded(column) for column in values.unbind(1)]


def _rounded(values: Tensor) -> list[float | None]:
    """As JSON has them: four digits, None for NaN."""
    return [None if value != value else round(value, 4) for value in values.tolist()]
