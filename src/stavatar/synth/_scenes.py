"""The expressive performance: scenes that are told apart by head parameters, some of them rare and short.

Talking with lips that hardly part, smiles, laughs that bare the teeth, raised and knitted brows, a mouth wide open, the
head turned to either side. They are laid out over the frames that are trained on and once more over the fifth that is
held out, so that both show everything: unlike talking alone, an expressive performance is made for its length.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from stavatar.sequence.split import DEFAULT_SHARE
from stavatar.synth._noise import smoothstep

_ROUND_SECONDS = 11.0  # in which each scene comes once, about
_RAMP = 0.28  # seconds from one scene to the next, less where scenes are short
_MIDDLE = ("jawOpen", "browInnerUp")  # coefficients without sides
_UNEVEN = 0.12  # how much weaker one side of the face may be


@dataclass(frozen=True)
class _Scene:
    """What stays the same through a scene.

    Attributes:
        share: of the time, relative to the other scenes.
        face: coefficients; names without a side stand for both.
        turn: pitch, yaw and roll of the head in radians.
        loudness: of speech meanwhile, 1 for speech as clear as in a talking performance.
    """

    share: float
    face: dict[str, float] = field(default_factory=dict)
    turn: tuple[float, float, float] = (0.0, 0.0, 0.0)
    loudness: float = 0.0


_SCENES: dict[str, _Scene] = {
    "talk": _Scene(2.0, loudness=0.4),
    "smile": _Scene(1.2, {"mouthSmile": 0.62, "cheekSquint": 0.6, "eyeSquint": 0.3, "mouthDimple": 0.3}),
    "laugh": _Scene(
        0.55,
        {"mouthSmile": 0.85, "mouthUpperUp": 1.0, "mouthLowerDown": 0.6, "jawOpen": 0.2, "cheekSquint": 0.8},
        (-0.06, 0.0, 0.03),
    ),
    "surprise": _Scene(1.1, {"browInnerUp": 0.95, "browOuterUp": 0.9, "eyeWide": 0.4}, (-0.04, 0.0, 0.0), 0.2),
    "frown": _Scene(
        1.1, {"browDown": 0.95, "noseSneer": 0.35, "eyeSquint": 0.3, "mouthFrown": 0.35}, (0.07, 0.0, -0.03)
    ),
    "gape": _Scene(0.5, {"jawOpen": 1.0, "mouthUpperUp": 0.7, "mouthLowerDown": 0.6, "mouthStretch": 0.3}),
    "left": _Scene(1.2, {"mouthSmile": 0.1}, (0.0, 0.42, 0.02), 0.3),
    "right": _Scene(1.2, {"mouthSmile": 0.1}, (0.0, -0.42, -0.02), 0.3),
}


@dataclass(frozen=True)
class Scenes:
    """Scenes over T frames: coefficients by name, head angles [T, 3] (pitch, yaw, roll) and loudness of speech [T]."""

    face: dict[str, np.ndarray]
    turn: np.ndarray
    loudness: np.ndarray


def play_scenes(rng: np.random.Generator, seconds: np.ndarray) -> Scenes:
    """Lay scenes out over the instants `seconds` [T], which are evenly spaced from 0."""
    face: dict[str, np.ndarray] = {}
    turn, loudness = np.zeros((len(seconds), 3)), np.zeros(len(seconds))
    for begin, end in _parts(seconds):
        rounds = max(1, round((end - begin) / _ROUND_SECONDS))
        names = [str(name) for _ in range(rounds) for name in rng.permutation(list(_SCENES))]
        lengths = np.array([_SCENES[name].share for name in names]) * rng.uniform(0.85, 1.15, len(names))
        borders = begin + (end - begin) * np.concatenate([[0], lengths.cumsum()]) / lengths.sum()
        for name, start, stop in zip(names, borders, borders[1:], strict=False):
            scene, strength = _SCENES[name], rng.uniform(0.88, 1.0)
            weaker = 1 - _UNEVEN * rng.random(2)
            presence = _presence(seconds, start, stop)
            for muscle, value in scene.face.items():
                sides = ("",) if muscle in _MIDDLE else ("Left", "Right")
                for side, factor in zip(sides, weaker, strict=False):
                    track = face.setdefault(muscle + side, np.zeros(len(seconds)))
                    track += strength * (factor if side else 1.0) * value * presence
            turn += strength * np.array(scene.turn) * presence[:, None]
            loudness += scene.loudness * presence
    return Scenes(face, turn, loudness)


def blink_and_wink(rng: np.random.Generator, seconds: np.ndarray) -> dict[str, np.ndarray]:
    """Closure of the left and the right lid [T] each: full blinks, slow ones, and some that shut one eye only."""
    closure = np.zeros((2, len(seconds)))
    for begin, end in _parts(seconds):
        now = begin + rng.uniform(0.4, 0.9)
        while now < end:
            kind = rng.random()
            down, shut, up = rng.uniform(0.06, 0.10), rng.uniform(0.03, 0.06), rng.uniform(0.09, 0.15)
            depth = np.ones(2)
            if kind < 0.18:  # tired
                down, shut, up = rng.uniform(0.22, 0.35), rng.uniform(0.12, 0.30), rng.uniform(0.28, 0.45)
            elif kind < 0.36:  # winking
                shut = rng.uniform(0.10, 0.22)
                depth[rng.integers(2)] = rng.uniform(0.15, 0.45)
            instants = now + np.cumsum([0, down, shut, up])
            closure = np.maximum(closure, depth[:, None] * np.interp(seconds, instants, [0, 1, 1, 0]))
            now = instants[-1] + rng.uniform(1.0, 3.0)
    return {"eyeBlinkLeft": closure[0], "eyeBlinkRight": closure[1]}


def _parts(seconds: np.ndarray) -> list[tuple[float, float]]:
    """Begin and end of what is trained on and of what is held out."""
    frame = seconds[1] - seconds[0] if len(seconds) > 1 else 1.0
    whole = len(seconds) * float(frame)
    return [(0.0, (1 - DEFAULT_SHARE) * whole), ((1 - DEFAULT_SHARE) * whole, whole)]


def _presence(seconds: np.ndarray, start: float, stop: float) -> np.ndarray:
    """1 in a scene and 0 in others; while one turns into the next, the two add up to 1."""
    half = min(_RAMP, 0.6 * (stop - start)) / 2
    return smoothstep(start - half, start + half, seconds) * smoothstep(stop + half, stop - half, seconds)
