"""Who is rendered: an identity of the head model and the colours of an invented person."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stavatar.head import HeadModel

IDENTITY_SPREAD = 0.7
"""Standard deviation of identity coefficients; below the model's own, which reaches caricatures."""

# sRGB colours, chosen by eye.
_SKINS = ((0.93, 0.76, 0.66), (0.86, 0.66, 0.54), (0.76, 0.55, 0.42), (0.58, 0.40, 0.29), (0.44, 0.29, 0.21))
_HAIRS = (
    (0.13, 0.09, 0.07),
    (0.17, 0.12, 0.09),
    (0.30, 0.20, 0.13),
    (0.42, 0.29, 0.17),
    (0.66, 0.51, 0.33),
)  # dark first
_IRISES = ((0.30, 0.46, 0.62), (0.36, 0.24, 0.14), (0.33, 0.45, 0.30), (0.46, 0.36, 0.20))
_SHIRTS = ((0.20, 0.34, 0.52), (0.55, 0.22, 0.22), (0.22, 0.42, 0.34), (0.42, 0.40, 0.44), (0.72, 0.62, 0.40))


@dataclass(frozen=True)
class Subject:
    """An invented person. Colours are sRGB triples in [0, 1].

    Attributes:
        seed: of everything that is random about the textures (blotches, freckles, strands).
        shape: [S] identity coefficients.
        skin, hair, iris, shirt, stripe: colours.
        freckles: strength in [0, 1].
        beard: strength of the beard's shadow in [0, 1].
        hair_volume: thickness of the hair over the scalp in metres; 0 for a shaved head, which shows the whole face.
        fine_mouth: every tooth and the tongue are painted finely, for faces that show them.
        wrinkles: strength of the wrinkles that come and go with the expression, in [0, 1]; the mesh has none of them.
    """

    seed: int
    shape: Tensor
    skin: tuple[float, float, float]
    hair: tuple[float, float, float]
    iris: tuple[float, float, float]
    shirt: tuple[float, float, float]
    stripe: tuple[float, float, float]
    freckles: float
    beard: float
    hair_volume: float
    fine_mouth: bool = False
    wrinkles: float = 0.0

    @staticmethod
    def random(head: HeadModel, seed: int) -> Subject:
        """The person number `seed`: always the same one for the same head model."""
        rng = np.random.default_rng([seed, 1])

        def pick(colours: tuple[tuple[float, float, float], ...]) -> tuple[float, float, float]:
            red, green, blue = np.clip(np.array(colours[rng.integers(len(colours))]) + rng.normal(0, 0.015, 3), 0, 1)
            return float(red), float(green), float(blue)

        darkness = int(rng.integers(len(_SKINS)))
        skin = pick(_SKINS[darkness : darkness + 1])
        hair = pick(_HAIRS[: max(len(_HAIRS) - darkness, 2)])  # light hair goes with light skin
        return Subject(
            seed=seed,
            shape=torch.from_numpy(rng.normal(0, IDENTITY_SPREAD, head.shape_count).astype(np.float32)),
            skin=skin,
            hair=hair,
            iris=pick(_IRISES),
            shirt=pick(_SHIRTS),
            stripe=pick(((0.80, 0.78, 0.74), (0.12, 0.12, 0.16))),
            freckles=float(rng.uniform(0, 0.8)),
            beard=float(max(rng.uniform(-0.6, 0.7), 0)),
            hair_volume=float(rng.uniform(0.014, 0.024)),
        )

    @staticmethod
    def neutral(head: HeadModel) -> Subject:
        """The mean identity with a shaved head: every landmark is in plain view."""
        return Subject(
            seed=0,
            shape=torch.zeros(head.shape_count),
            skin=_SKINS[1],
            hair=_HAIRS[1],
            iris=_IRISES[0],
            shirt=_SHIRTS[0],
            stripe=(0.80, 0.78, 0.74),
            freckles=0.0,
            beard=0.0,
            hair_volume=0.0,
        )
