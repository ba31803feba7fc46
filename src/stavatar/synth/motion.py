"""How the rendered person moves: speech, smiles, blinks, glances, a turning head and a torso that hardly moves.

Talking is a function of time and a seed, so that a longer performance begins with the shorter one. The expressive style
adds scenes, which are laid out over the whole length.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d

from stavatar.errors import InputError
from stavatar.head import HeadModel, HeadParameters
from stavatar.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from stavatar.synth._scenes import blink_and_wink, play_scenes

Style = Literal["talking", "expressive", "still"]
"""Talking to the camera; scenes with rare sights, such as teeth, tongue and deep wrinkles; or a face that talks on a
head that does not move at all, which shows how much a tracker trembles."""

HEAD_ANGLES = (0.20, 0.35, 0.10)
"""Largest pitch, yaw and roll of the head on the torso, radians."""
GAZE_ANGLES = (0.14, 0.28)
"""Largest pitch and yaw of a glance in the head's frame, radians."""
FULL_LOOK = 0.5
"""Eye rotation in radians that goes with an eyeLook coefficient of 1."""

# Mouth shapes of a syllable. Names without a side stand for both sides.
_VISEMES: tuple[dict[str, float], ...] = (
    {"jawOpen": 0.60, "mouthLowerDown": 0.25, "mouthUpperUp": 0.15},  # a
    {"jawOpen": 0.42, "mouthFunnel": 0.45},  # o
    {"jawOpen": 0.12, "mouthPucker": 0.65, "mouthFunnel": 0.20},  # u
    {"jawOpen": 0.18, "mouthStretch": 0.35, "mouthSmile": 0.25},  # i
    {"jawOpen": 0.30, "mouthUpperUp": 0.30, "mouthStretch": 0.20},  # e
    {"mouthPress": 0.45, "mouthRollLower": 0.25, "mouthRollUpper": 0.15},  # m, p, b
    {"jawOpen": 0.08, "mouthRollLower": 0.45, "mouthUpperUp": 0.15},  # f, v
    {"jawOpen": 0.14, "mouthLowerDown": 0.25, "mouthShrugUpper": 0.15},  # s, t
)
_EPISODES: tuple[dict[str, float], ...] = (
    {"mouthSmile": 0.75, "cheekSquint": 0.45, "eyeSquint": 0.15, "mouthDimple": 0.2},
    {"browInnerUp": 0.65, "browOuterUp": 0.55, "eyeWide": 0.2},
    {"browDown": 0.6, "eyeSquint": 0.25, "noseSneer": 0.2},
    {"mouthSmile": 0.45, "browOuterUp": 0.35},
    {"mouthFrown": 0.4, "mouthShrugLower": 0.35, "browInnerUp": 0.3},
)
_AT_REST = {"mouthSmile": 0.16}  # a friendly face
_STILLER = 0.35  # how much of its wandering the head keeps where scenes turn it
_SMOOTHEST = 0.035  # seconds: muscles do not jump


def perform(
    head: HeadModel, frames: int, fps: float = 25.0, seed: int = 0, style: Style = "talking", shift: float = 0.0
) -> HeadParameters:
    """`frames` frames of one person talking to the camera, each `shift` seconds later than a frame's own instant.

    Raises:
        InputError: the head's expressions are not named as ARKit's, `frames` or `fps` are not positive, or there is no
            such style.
    """
    if frames < 1 or fps <= 0:
        raise InputError(f"a performance needs at least one frame and a positive rate, got {frames} at {fps} fps")
    if style not in get_args(Style):
        raise InputError(f"there is no style {style!r} of performing; choose one of {', '.join(get_args(Style))}")
    seconds = np.arange(frames) / fps + shift
    speech, episodes, blinks, glances, turning, swaying, scenery = (
        np.random.default_rng([seed, 2, process]) for process in range(7)
    )
    neck, words = _head_turns(turning, seconds), _syllables(speech, seconds)
    if style == "expressive":
        scenes, lids = play_scenes(scenery, seconds), blink_and_wink(blinks, seconds)
        neck = _STILLER * neck + scenes.turn
        words = {name: scenes.loudness * track for name, track in words.items()}
        face = scenes.face
    else:
        neck = np.zeros_like(neck) if style == "still" else neck
        face, lids = _moods(episodes, seconds), {"eyeBlink": _blinks(blinks, seconds)}
    eyes = _glances(glances, seconds) - 0.3 * neck[:, :2]  # while the head turns, the eyes stay on the listener
    tracks: dict[str, np.ndarray] = {}
    _add(tracks, words)
    _add(tracks, face)
    _add(tracks, {name: np.full(frames, value) for name, value in _AT_REST.items()})
    _add(tracks, lids)
    tracks.update(_lids_that_follow(eyes))
    rotation, translation = _sway(swaying, seconds)
    if style == "still":
        rotation, translation = np.zeros_like(rotation), np.zeros_like(translation)

    def tensor(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))

    gaze = np.concatenate([eyes, np.zeros((frames, 1))], 1)
    both_eyes = _axis_angle(tensor(gaze))
    return HeadParameters.zeros(frames, head.expression_count).replaced(
        expression=tensor(_coefficients(head, tracks, frames)),
        rotation=tensor(rotation),
        neck=_axis_angle(tensor(neck)),
        eyes=torch.cat([both_eyes, both_eyes], 1),
        translation=tensor(translation),
    )


def _axis_angle(angles: torch.Tensor) -> torch.Tensor:
    """Pitch, yaw and roll [T, 3] (about x, y, z; roll is applied first, yaw last) -> rotation vectors [T, 3]."""
    pitch, yaw, roll = (axis_angle_to_matrix(torch.diag_embed(angles)[:, axis]) for axis in range(3))
    return matrix_to_axis_angle(yaw @ pitch @ roll)


def _coefficients(head: HeadModel, tracks: dict[str, np.ndarray], frames: int) -> np.ndarray:
    """Tracks by name -> coefficients [T, E]; names without a side drive both."""
    expression = np.zeros((frames, head.expression_count))
    for name, track in tracks.items():
        targets = [full for full in (name, f"{name}Left", f"{name}Right") if full in head.expression_names]
        if not targets:
            raise InputError(
                f"the head model {head.name} has no expression {name}: performances need ARKit's expression names"
            )
        for target in targets:
            column = head.expression_names.index(target)
            expression[:, column] = np.clip(expression[:, column] + track, 0, 1)
    return expression


def _add(tracks: dict[str, np.ndarray], more: dict[str, np.ndarray]) -> None:
    for name, track in more.items():
        tracks[name] = tracks[name] + track if name in tracks else track


def _fine_clock(seconds: np.ndarray) -> np.ndarray:
    """Instants 5 ms apart that cover the performance and its surroundings, for events shorter than a frame."""
    return np.arange(-0.5, seconds[-1] + 0.5, 0.005)


def _resample(clock: np.ndarray, track: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    return np.interp(seconds, clock, gaussian_filter1d(track, _SMOOTHEST / 0.005))


def _syllables(rng: np.random.Generator, seconds: np.ndarray) -> dict[str, np.ndarray]:
    """Phrases of a few seconds with pauses between them; in a phrase four to seven mouth shapes a second."""
    clock = _fine_clock(seconds)
    names = sorted({name for viseme in _VISEMES for name in viseme})
    targets = np.zeros((len(clock), len(names)))
    now = 0.4
    while now < clock[-1]:
        phrase_end = now + rng.uniform(1.6, 4.0)
        while now < phrase_end:
            length, loudness = rng.uniform(0.14, 0.26), rng.uniform(0.6, 1.1)
            viseme = _VISEMES[rng.integers(len(_VISEMES))]
            during = (clock >= now) & (clock < now + length)
            for name, value in viseme.items():
                targets[during, names.index(name)] = value * loudness
            now += length
        now += rng.uniform(0.3, 0.9)
    return {name: _resample(clock, targets[:, i], seconds) for i, name in enumerate(names)}


def _moods(rng: np.random.Generator, seconds: np.ndarray) -> dict[str, np.ndarray]:
    """Now and then a smile, raised or knitted brows: a second or two, rising and falling smoothly."""
    tracks = {name: np.zeros(len(seconds)) for mood in _EPISODES for name in mood}
    now, order = rng.uniform(0.3, 1.0), list(rng.permutation(len(_EPISODES)))
    while now < seconds[-1]:
        length, strength = rng.uniform(1.0, 2.4), rng.uniform(0.6, 1.0)
        window = np.where(
            np.abs(seconds - now - length / 2) < length / 2, np.sin(np.pi * (seconds - now) / length) ** 2, 0
        )
        if not order:
            order = list(rng.permutation(len(_EPISODES)))
        for name, value in _EPISODES[order.pop()].items():
            tracks[name] += strength * value * window
        now += length * rng.uniform(0.8, 1.5)
    return tracks


def _blinks(rng: np.random.Generator, seconds: np.ndarray) -> np.ndarray:
    """Lid closure [T]: down in about 80 ms, shut for an instant, up in about 130 ms, every few seconds."""
    closure = np.zeros(len(seconds))
    now = rng.uniform(0.6, 1.6)
    while now < seconds[-1]:
        down, shut, up = rng.uniform(0.06, 0.10), rng.uniform(0.02, 0.05), rng.uniform(0.09, 0.15)
        closure = np.maximum(
            closure, np.interp(seconds, [now, now + down, now + down + shut, now + down + shut + up], [0, 1, 1, 0])
        )
        now += rng.uniform(1.4, 4.2)
    return closure


def _glances(rng: np.random.Generator, seconds: np.ndarray) -> np.ndarray:
    """Pitch and yaw of both eyes [T, 2]: fixations of a few tenths of a second with 40 ms jumps between them."""
    clock = _fine_clock(seconds)
    track = np.zeros((len(clock), 2))
    now = 0.3
    while now < clock[-1]:
        away = rng.random() < 0.6  # otherwise back to the camera
        track[clock >= now] = rng.uniform(-1, 1, 2) * GAZE_ANGLES if away else rng.normal(0, 0.015, 2)
        now += rng.uniform(0.35, 1.6)
    smooth = gaussian_filter1d(track, 0.012 / 0.005, axis=0)
    return np.stack([np.interp(seconds, clock, smooth[:, i]) for i in range(2)], 1)


def _lids_that_follow(eyes: np.ndarray) -> dict[str, np.ndarray]:
    """The eyeLook coefficients that go with a gaze [T, 2]; the left eye is the one at +x."""
    pitch, yaw = eyes[:, 0] / FULL_LOOK, eyes[:, 1] / FULL_LOOK
    look = {"Down": pitch, "Up": -pitch}  # a positive turn about x lowers what faces +z
    tracks = {f"eyeLook{way}": np.clip(value, 0, 1) for way, value in look.items()}
    tracks |= {f"eyeLook{way}": np.clip(yaw, 0, 1) for way in ("OutLeft", "InRight")}
    tracks |= {f"eyeLook{way}": np.clip(-yaw, 0, 1) for way in ("InLeft", "OutRight")}
    return tracks


def _waves(rng: np.random.Generator, seconds: np.ndarray, columns: int, slowest: float, fastest: float) -> np.ndarray:
    """Smooth wandering within [-1, 1] [T, columns]: three sines each, between `slowest` and `fastest` Hz."""
    frequency = rng.uniform(slowest, fastest, (3, columns))
    phase = rng.uniform(0, 2 * np.pi, (3, columns))
    weight = np.array([0.5, 0.3, 0.2])[:, None]
    return (weight * np.sin(2 * np.pi * frequency * seconds[:, None, None] + phase)).sum(1)


def _head_turns(rng: np.random.Generator, seconds: np.ndarray) -> np.ndarray:
    """Pitch, yaw and roll of the head [T, 3]: slow turns with nods on top."""
    turns = _waves(rng, seconds, 3, 0.08, 0.35) * np.array(HEAD_ANGLES)
    nods = 0.05 * _waves(rng, seconds, 1, 0.8, 1.6)[:, 0] * np.clip(_waves(rng, seconds, 1, 0.1, 0.2)[:, 0], 0, 1)
    turns[:, 0] = np.clip(0.8 * turns[:, 0] + nods, -HEAD_ANGLES[0], HEAD_ANGLES[0])
    return turns


def _sway(rng: np.random.Generator, seconds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotation vectors and translations of the torso [T, 3] each: a degree, a few millimetres, and breathing."""
    rotation = 0.02 * _waves(rng, seconds, 3, 0.05, 0.25)
    translation = np.array([0.005, 0.001, 0.004]) * _waves(rng, seconds, 3, 0.05, 0.25)
    translation[:, 1] += 0.0015 * np.sin(2 * np.pi * 0.25 * seconds)
    return rotation, translation
