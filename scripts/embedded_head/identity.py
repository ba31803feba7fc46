"""The identity basis: principal components of the heads that MakeHuman's phenotypes and local changes span."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from embedded_head.source import MPFB, Source

AGES = ("child", "young", "old")
AGE_AT = (1 / 3, 2 / 3, 1.0)
MUSCLES = ("minmuscle", "averagemuscle", "maxmuscle")
WEIGHTS = ("minweight", "averageweight", "maxweight")
HEIGHTS = ("minheight", "maxheight")
PROPORTIONS = ("idealproportions", "uncommonproportions")
SEXES = ("male", "female")
ORIGINS = ("african", "asian", "caucasian")

LOCAL_FOLDERS = ("cheek", "chin", "ears", "eyebrows", "eyes", "forehead", "head", "mouth", "neck", "nose")
HEAD_SHAPES = ("invertedtriangular", "diamond", "oval", "rectangular", "round", "triangular", "square")
# These tilt and shift the whole head; pose says that better.
POSE_LIKE = ("head-trans-forward", "head-trans-up", "head-trans-out", "head-angle-out")


@dataclass(frozen=True)
class Targets:
    """Morph targets and what drives them.

    Attributes:
        paths: every target's path.
        phenotypes: for the first targets, the values of which the target is the product (age, muscle, ...).
        local: (folder, name, side, index): the target at `index` is the positive end, the next one the negative.
        asymmetric: indices of the left-hand targets; the right-hand one follows each.
        shapes: indices of the outlines of the whole head.
    """

    paths: list[str]
    phenotypes: list[tuple[str, ...]]
    local: list[tuple[str, str, str, int]]
    asymmetric: list[int]
    shapes: list[int]


def list_targets(source: Source) -> Targets:
    paths: list[str] = []
    phenotypes: list[tuple[str, ...]] = []

    def add(path: str, *values: str) -> None:
        paths.append(path)
        phenotypes.append(values)

    for sex in SEXES:
        for age in AGES:
            for muscle in MUSCLES:
                for weight in WEIGHTS:
                    body = (sex, age, muscle, weight)
                    name = "-".join(body)
                    add(f"macrodetails/universal-{name}", *body)
                    for height in HEIGHTS:
                        add(f"macrodetails/height/{name}-{height}", *body, height)
                    for proportion in PROPORTIONS:
                        add(f"macrodetails/proportions/{name}-{proportion}", *body, proportion)
            for origin in ORIGINS:
                add(f"macrodetails/{origin}-{sex}-{age}", origin, sex, age)
    local: list[tuple[str, str, str, int]] = []
    for folder in LOCAL_FOLDERS:
        for category in source.json("targets/target.json")[folder]["categories"]:
            opposites = category.get("opposites", {})
            for side in ("left", "right", "unsided"):
                negative, positive = opposites.get(f"negative-{side}"), opposites.get(f"positive-{side}")
                if negative and positive and "measure" not in positive:
                    local.append((folder, positive, side, len(paths)))
                    paths += [f"{folder}/{positive}", f"{folder}/{negative}"]
    asymmetric = []
    for name in source.names(f"{MPFB}targets/asym/", "-l.target.gz"):
        asymmetric.append(len(paths))
        paths += [f"asym/{name}-l", f"asym/{name}-r"]
    shapes = list(range(len(paths), len(paths) + len(HEAD_SHAPES)))
    paths += [f"head/head-{shape}" for shape in HEAD_SHAPES]
    return Targets(paths, phenotypes, local, asymmetric, shapes)


def sample(targets: Targets, count: int, rng: np.random.Generator) -> np.ndarray:
    """Coefficients [count, targets] of random people: adults mostly, one in seven a child."""
    child = rng.random(count) < 0.15
    value = {
        **_between(rng.uniform(0, 1, count), SEXES, (0, 1)),
        **_between(np.where(child, rng.uniform(0.4, 0.6, count), rng.uniform(0.6, 1, count)), AGES, AGE_AT),
        **_between(rng.uniform(0.3, 0.8, count), MUSCLES, (0, 0.5, 1)),
        **_between(rng.uniform(0.2, 0.8, count), WEIGHTS, (0, 0.5, 1)),
        **_between(rng.uniform(0.4, 0.6, count), HEIGHTS, (0, 1)),
        **_between(rng.uniform(0, 1, count), PROPORTIONS, (0, 1)),
        **dict(zip(ORIGINS, rng.dirichlet([0.7] * 3, count).T, strict=True)),
    }
    result = np.zeros((count, len(targets.paths)))
    for index, names in enumerate(targets.phenotypes):
        result[:, index] = np.prod([value[name] for name in names], axis=0)

    def push(index: int, amount: np.ndarray) -> None:
        """Between two opposite targets."""
        result[:, index], result[:, index + 1] = np.maximum(amount, 0), np.maximum(-amount, 0)

    drawn: dict[str, np.ndarray] = {}
    for folder, name, side, index in targets.local:
        both = name if side == "unsided" else name[2:]
        if side == "right" and both in drawn:  # the two halves of a face are much alike
            amount = np.clip(drawn[both] + rng.normal(0, 0.05, count), -1, 1)
        else:
            amount = np.clip(rng.normal(0, 0.22, count), -1, 1) * (rng.random(count) < 0.5)
        if folder == "neck" or name in POSE_LIKE:
            amount = amount * 0.3
        drawn[both] = amount
        push(index, amount)
    for index in targets.asymmetric:
        push(index, np.clip(rng.normal(0, 0.12, count), -1, 1) * (rng.random(count) < 0.3))
    for index in targets.shapes:
        result[:, index] = np.maximum(0, rng.normal(-0.3, 0.25, count))
    return result


def _between(value: np.ndarray, names: tuple[str, ...], at: tuple[float, ...]) -> dict[str, np.ndarray]:
    """Piecewise linear weights: each name has weight 1 at its own place and 0 at its neighbours'."""
    return {name: np.interp(value, at, np.eye(len(at))[k]) for k, name in enumerate(names)}


def population(targets: Targets, people: int = 6000) -> np.ndarray:
    """Coefficients of the people whose mean and principal components make the identity model."""
    return sample(targets, people, np.random.default_rng(0))


def principal_components(
    coefficients: np.ndarray, offsets: np.ndarray, importance: np.ndarray, components: int
) -> np.ndarray:
    """Components [S, P, 3] of one standard deviation each, the strongest first.

    The PCA is done in the space of target coefficients [people, targets], much smaller than that of vertices.

    Args:
        offsets: [targets, P, 3].
        importance: [P] how much a vertex counts in the metric.
    """
    weighted = (offsets * importance[:, None]).reshape(len(offsets), -1)
    covariance = np.cov(coefficients.T)
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0))
    variance, directions = np.linalg.eigh(root.T @ (weighted @ weighted.T) @ root)
    chosen = root @ directions[:, np.argsort(-variance)[:components]]
    basis = np.tensordot(chosen.T, offsets, 1)
    # An eigenvector's sign is arbitrary: fix it, so that every machine builds the same head.
    strongest = np.abs(basis.reshape(components, -1)).argmax(1)
    sign = np.sign(basis.reshape(components, -1)[np.arange(components), strongest])
    return basis * sign[:, None, None]


def held_out_error(
    targets: Targets, average: np.ndarray, offsets: np.ndarray, basis: np.ndarray, people: int = 500
) -> tuple[float, float]:
    """RMS over the vertices of people who are not in `population`: distance to the average, and to the best fit.

    Args:
        average: mean coefficients [targets] of the population.
        offsets: [targets, P, 3].
        basis: [S, P, 3].
    """
    coefficients = sample(targets, people, np.random.default_rng(1)) - average
    true = np.tensordot(coefficients, offsets, 1).reshape(people, -1)
    flat = basis.reshape(len(basis), -1)
    fit = np.linalg.lstsq(flat.T, true.T, rcond=None)[0].T @ flat

    def rms(difference: np.ndarray) -> float:
        return float(np.sqrt((difference.reshape(people, -1, 3) ** 2).sum(-1).mean()))

    return rms(true), rms(true - fit)
