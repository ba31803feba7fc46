"""Gauss-Newton over a whole clip: every frame's own picture, tied to its neighbours in time.

Landmarks place a head to a degree or so and an expression to what a detector makes of it; this brings both to where
the pixels agree. All frames are linearised one after the other, and then solved for together, as corrections of the
start that change little from frame to frame: a still head is not shaken by noise, and since it is the *corrections*
that are smooth and not the motion, fast motion is not held back.

Pictures that several cameras took at one moment share their correction, whose normal equations they add up to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from stavatar.alignment.linearise import Frames, Linearised, Window, compare, linearise
from stavatar.alignment.motion import Carrier
from stavatar.alignment.unknowns import Unknowns
from stavatar.avatar.avatar import Avatar
from stavatar.avatar.network import Static
from stavatar.block_solver import solve_block_tridiagonal
from stavatar.camera import Camera
from stavatar.head import HeadParameters
from stavatar.progress import Report
from stavatar.sequence import Sequence
from stavatar.splat.rasterize import Backend

PRIOR = 1e-6
"""Cost of a correction by one unit, squared, per value of the picture."""

TOGETHER = 2e-6
"""Likewise of corrections of neighbouring frames that differ by one unit."""

LARGEST = 3.0
"""Units that an unknown moves at most per iteration."""

DAMPING = 1e-3
"""Of the mean of a normal matrix's diagonal, at the start; times four where a step led uphill."""

COMPARED = 128
"""Pictures are compared at half their size, or at this many pixels where that is more."""

LEAST_MOTION = 5e-4
"""Metres per unit of an expression from which on a vertex counts as the face's."""

GPU_PIXELS = 32 * 128 * 128
"""Compared pixels that a GPU looks at in one go, in whole frames: launching is what takes its time. A CPU looks at one
frame at a time, which its caches hold."""

MARGIN = 4
"""Compared pixels around the face that belong to it, as its neighbourhood shows where it ends."""


@dataclass(frozen=True)
class Alignment:
    """What was found for K frames.

    Attributes:
        parameters: of the K frames.
        start_error, error: [K] root of the mean squared difference of colours and matte, robust, in [0, 1]: at the
            start and at the end.
    """

    parameters: HeadParameters
    start_error: Tensor
    error: Tensor


@dataclass(frozen=True)
class Descent:
    """Where Gauss-Newton stands between two of its steps, for K frames of M moments: it can go on from there.

    Attributes:
        iterations: that are done.
        start_cost: [K] of the pictures at the start.
        damping: [M].
        best: what was found so far.
    """

    iterations: int
    start_cost: Tensor
    damping: Tensor
    best: _Tried

    def tensors(self) -> dict[str, Tensor]:
        """All of it, by name."""
        numbers = {"iterations": torch.tensor(self.iterations), "start_cost": self.start_cost, "damping": self.damping}
        return numbers | vars(self.best)

    @staticmethod
    def of_tensors(tensors: dict[str, Tensor], device: torch.device) -> Descent:
        """What :meth:`tensors` gave.

        Raises:
            KeyError, ValueError: a tensor is missing, or they do not fit each other.
        """
        best = _Tried(**{field.name: tensors[field.name].to(device) for field in fields(_Tried)})
        found = Descent(
            int(tensors["iterations"]), tensors["start_cost"].to(device), tensors["damping"].to(device), best
        )
        moments, unknowns = best.correction.shape
        shapes = {"damping": (moments,), "cost": (moments,), "start_cost": best.picture_cost.shape}
        if len(best.gradient):
            shapes |= {"gradient": (moments, unknowns), "normal": (moments, unknowns, unknowns)}
        for name, shape in shapes.items():
            if tensors[name].shape != shape:
                raise ValueError(f"{name} has shape {list(tensors[name].shape)}")
        return found


@torch.no_grad()
def align(
    avatar: Avatar,
    sequence: Sequence,
    parameters: HeadParameters,
    frames: Tensor,
    *,
    unknowns: Unknowns,
    iterations: int,
    soft: bool,
    sh_degree: int,
    expected: Tensor | None = None,
    matte: float = 0.5,
    smooth: float = 1.0,
    report: Report | None = None,
    backend: Backend = "auto",
    descent: Descent | None = None,
    keep: Callable[[Descent], None] | None = None,
) -> Alignment:
    """Align some frames of a sequence to an avatar; frames of one moment are corrected alike.

    Args:
        avatar: what the frames should look like.
        sequence: gives the pictures, mattes and the camera.
        parameters: of all T frames, the start.
        frames: [K] indices to align.
        unknowns: which numbers are adjusted.
        iterations: Gauss-Newton steps.
        soft: use the offset network; its offsets are those of the start, as steps are small.
        sh_degree: highest SH degree to use.
        expected: [P] what all frames are expected to be off by; zero where None.
        matte: weight of the silhouette against that of a colour.
        smooth: factor on how strongly corrections of neighbouring frames hang together.
        report: progress; told once per frame and iteration.
        backend: of the rasteriser.
        descent: go on from there; everything else must be as it was then.
        keep: told where it stands after each look at all frames.

    Raises:
        ValueError: `descent` is one of other frames or unknowns.
    """
    device = avatar.shape.device
    frames = frames.to(device)
    static = avatar.network.static_features() if soft and avatar.network is not None else None
    start = parameters.map(lambda value: value[frames])
    carrier = Carrier.of(avatar)
    height, width = _compared_size(sequence)
    window = _face_window(avatar, start, sequence.camera[frames.cpu()].to(device).resized(width, height))
    values = 4 * height * width
    together = 1 if device.type == "cpu" else max(1, GPU_PIXELS // (height * width))
    moments, moment = _moments(sequence, frames)
    expected = torch.zeros(len(unknowns), device=device) if expected is None else expected
    # Moments that follow each other are tied together.
    ties = TOGETHER * values * smooth * (moments.diff() == 1).double().cpu().numpy()

    def tried(correction: Tensor, *, with_slope: bool) -> _Tried:
        """All frames with corrections [M, P] of their moments, a few at a time."""
        of_frames = correction[moment]
        parts = []
        for chunk in torch.arange(len(frames), device=device).split(together):
            place = Window(window.corner[chunk], width=window.width, height=window.height)
            shown = _frames(avatar, sequence, parameters, frames[chunk], place, static, matte)
            if with_slope:
                part = linearise(avatar, carrier, shown, unknowns, of_frames[chunk], sh_degree, backend)
            else:
                part = compare(avatar, shown, unknowns, of_frames[chunk], sh_degree, backend)
            parts.append(part)
            if report is not None:
                report(len(chunk))
        prior = PRIOR * values * (correction - expected).square().sum(1)
        return _Tried.of(parts, moment, correction, prior)

    if descent is None:
        first = tried(expected.repeat(len(moments), 1), with_slope=iterations > 0)
        descent = Descent(0, first.picture_cost.clone(), torch.full_like(first.cost, DAMPING), first)
        if keep is not None:
            keep(descent)
    elif descent.best.correction.shape != (len(moments), len(expected)) or len(descent.start_cost) != len(frames):
        raise ValueError("the alignment is one of other frames or unknowns")
    for iteration in range(descent.iterations + 1, iterations + 1):
        best, damping = descent.best, descent.damping
        correction = best.correction + _step(best, expected, damping, PRIOR * values, ties)
        new = tried(correction, with_slope=iteration < iterations)
        better = new.cost < best.cost
        descent = Descent(
            iteration,
            descent.start_cost,
            torch.where(better, damping / 2, damping * 4),
            best.replaced_by(new, better, moment),
        )
        if keep is not None:
            keep(descent)
    return Alignment(
        unknowns.apply(start, descent.best.correction[moment]),
        start_error=(descent.start_cost / values).sqrt(),
        error=(descent.best.picture_cost / values).sqrt(),
    )


def _moments(sequence: Sequence, frames: Tensor) -> tuple[Tensor, Tensor]:
    """The M moments that some frames [K] show, rising, and which of them each shows: [M] and [K] long."""
    shown = frames if sequence.views is None else sequence.views.timesteps[frames.cpu()].to(frames.device)
    return shown.unique(return_inverse=True)


@dataclass(frozen=True)
class _Tried:
    """Corrections of M moments, what they cost, and the quadratic model around them.

    Attributes:
        correction: [M, P].
        cost: [M] of all pictures of a moment and the prior.
        picture_cost: [K] of each of K pictures.
        gradient, normal: [M, P] and [M, P, P]; empty where no step follows.
    """

    correction: Tensor
    cost: Tensor
    picture_cost: Tensor
    gradient: Tensor
    normal: Tensor

    @staticmethod
    def of(parts: list[Linearised], moment: Tensor, correction: Tensor, prior: Tensor) -> _Tried:
        """What parts of K frames add up to.

        Args:
            moment: [K] which of the M moments each frame shows.
            correction: [M, P].
            prior: [M] its cost.
        """

        def summed(values: Tensor) -> Tensor:
            """[K, ...] -> [M, ...]."""
            if len(values) == 0:
                return values
            return values.new_zeros(len(correction), *values.shape[1:]).index_add(0, moment, values)

        cost, gradient, normal = (
            torch.cat([getattr(part, name) for part in parts]) for name in ("cost", "gradient", "normal")
        )
        return _Tried(correction, summed(cost) + prior, cost, summed(gradient), summed(normal))

    def replaced_by(self, other: _Tried, better: Tensor, moment: Tensor) -> _Tried:
        """The moments of `other` where they are better [M]; `moment` [K] tells which one each picture shows."""

        def choose(new: Tensor, old: Tensor, better: Tensor = better) -> Tensor:
            return torch.where(better.reshape(-1, *[1] * (old.ndim - 1)), new, old) if len(new) else old

        return _Tried(
            choose(other.correction, self.correction),
            choose(other.cost, self.cost),
            choose(other.picture_cost, self.picture_cost, better[moment]),
            choose(other.gradient, self.gradient),
            choose(other.normal, self.normal),
        )


def _step(best: _Tried, expected: Tensor, damping: Tensor, prior: float, ties: np.ndarray) -> Tensor:
    """The step [M, P] that the model takes for best, prior and neighbours counted.

    Args:
        damping: [M].
        prior: cost of one squared unit of correction.
        ties: [M - 1] cost of one squared unit of difference between a moment's correction and the next one's.
    """
    strayed = (best.correction - expected).double().cpu().numpy()
    right = -best.gradient.double().cpu().numpy() - prior * strayed
    blocks = best.normal.double().cpu().numpy()
    diagonal = np.einsum("kpp->kp", blocks)  # a view into the blocks
    diagonal += damping.double().cpu().numpy()[:, None] * diagonal.mean(1, keepdims=True) + prior + 1e-12
    together = ties[:, None]
    gap = strayed[1:] - strayed[:-1]
    right[:-1] += together * gap
    right[1:] -= together * gap
    diagonal[:-1] += together
    diagonal[1:] += together
    step = solve_block_tridiagonal(blocks, np.repeat(together, blocks.shape[1], 1), right)
    return torch.from_numpy(step).to(best.correction).clamp(-LARGEST, LARGEST)


def _face_window(avatar: Avatar, parameters: HeadParameters, camera: Camera) -> Window:
    """A window around what is seen of the face in every one of K frames, with room for what it may still move.

    Args:
        camera: at the size at which pictures are compared.
    """
    head = avatar.head
    size = camera.focal.new_tensor([camera.width, camera.height])
    moved = head.expression_basis.abs().amax((0, 2)) > LEAST_MOTION
    boxes = []
    for part in torch.arange(len(parameters)).split(64):
        index = part.to(avatar.shape.device)
        vertices = head(avatar.shape, parameters.map(lambda value: value[index])).vertices[:, moved]  # noqa: B023
        # What lies beside the camera, where tracking went astray, is nowhere in the picture: anywhere will do.
        pixels = camera[part].project(vertices).nan_to_num().clamp_min(0).minimum(size)
        boxes.append(torch.stack(pixels.aminmax(dim=1), 1))
    low, high = torch.cat(boxes).unbind(1)
    # Large enough for all frames but a few, whose faces come very close.
    extent = torch.quantile(high - low, 0.95, dim=0).add(2 * MARGIN).minimum(size).ceil()
    corner = ((low + high - extent) / 2).round().maximum(torch.zeros_like(extent)).minimum(size - extent)
    width, height = (int(side) for side in extent.tolist())
    return Window(corner.long(), width, height)


def _frames(
    avatar: Avatar,
    sequence: Sequence,
    parameters: HeadParameters,
    frames: Tensor,
    window: Window,
    static: Static | None,
    matte: float,
) -> Frames:
    device = avatar.shape.device
    start = parameters.map(lambda value: value[frames])
    index = frames.cpu()
    full = torch.cat([sequence.image(index, device), sequence.mask(index, device)[..., None]], -1).permute(0, 3, 1, 2)
    picture = F.interpolate(full, size=_compared_size(sequence), mode="area").permute(0, 2, 3, 1)
    offsets = None
    if static is not None:
        offsets = avatar.offsets(start, avatar.head(avatar.shape, start), static)
    return Frames(start, picture, sequence.camera[index].to(device), window, offsets, matte)


def _compared_size(sequence: Sequence) -> tuple[int, int]:
    """Height and width at which pictures are compared."""
    height, width = (max(side // 2, min(side, COMPARED)) for side in (sequence.height, sequence.width))
    return height, width
