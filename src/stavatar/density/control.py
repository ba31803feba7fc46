"""Density strategies: what training asks of them, and the paper's adaptive one (METHOD section 3, eq. 9 to 11)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn.functional import normalize

from stavatar.avatar.avatar import Avatar
from stavatar.avatar.gaussians import BoundGaussians
from stavatar.config import DensityConfig
from stavatar.density.error import box_error
from stavatar.density.surgery import rebuild
from stavatar.head import TexelPool, face_frames, sample_uv
from stavatar.rotations import quaternion_to_matrix
from stavatar.splat import Rasterization

MOUTH = ("mouth_interior", "teeth")
"""Regions whose Gaussians events count: what clusters are there to help."""

Reduction = Literal["sum", "max"]
"""How the statistics of processes that have seen different frames become those of all frames."""

_CLONE_SHIFT = 0.05  # of the clone's scale
_CLONE_COLOR = 0.05  # on the SH coefficient of degree 0
_SPLIT_SHRINK = 1.6


@dataclass(frozen=True)
class Observation:
    """One training step as density control sees it, after the backward pass.

    Attributes:
        view: B rendered frames with statistics; ``means2d.grad`` is that of the mean loss over the B frames.
        error: [B, H, W] fused perceptual error.
        groups: [B] statistics group (cluster) of each frame.
        weighted_error: [B, N] sum over pixels of blending weight times error, where the strategy needs it.
    """

    view: Rasterization
    error: Tensor
    groups: Tensor
    weighted_error: Tensor | None = None


@dataclass(frozen=True)
class DensityEvent:
    """What one densification did.

    Attributes:
        step: number of steps done when it happened.
        cluster: whose statistics decided; None without clusters.
        cloned, split, pruned: how many Gaussians.
        gaussians: how many there are now.
        mouth: how many of them lie in the mouth (`MOUTH`).
    """

    step: int
    cluster: int | None
    cloned: int
    split: int
    pruned: int
    gaussians: int
    mouth: int


class DensityControl(Protocol):
    """What training asks of a density strategy."""

    needs_statistics: bool
    """Whether :meth:`observe` is to be called, with pixel counts, blending weights and screen-space gradients."""
    needs_weighted_error: bool
    """Whether it also reads the blending-weighted error."""
    reductions: Mapping[str, Reduction]
    """What :meth:`observe` gathers, by its name in :meth:`state`: tensors [groups, ...] that start from zero. Where
    several processes train together, each observes frames of its own; in :meth:`densify`, which is to clear them, a
    group's are those of all."""

    def observe(self, seen: Observation) -> None:
        """Take note of one step; must not wait for the device."""

    def densify(
        self, avatar: Avatar, optimiser: torch.optim.Optimizer, *, group: int, cluster: int | None, step: int
    ) -> DensityEvent | None:
        """Change the avatar's Gaussians and the optimiser's state by a group's statistics; None: nothing changes."""

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint has to hold: the tensors themselves, not copies."""

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from such a state."""


class FixedDensity:
    """Keeps the Gaussians that training started with."""

    needs_statistics = False
    needs_weighted_error = False
    reductions: Mapping[str, Reduction] = {}

    def observe(self, seen: Observation) -> None:
        """Nothing to gather."""

    def densify(
        self, avatar: Avatar, optimiser: torch.optim.Optimizer, *, group: int, cluster: int | None, step: int
    ) -> DensityEvent | None:
        """Nothing to change."""
        return None

    def state(self) -> dict[str, Tensor]:
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Nothing to take up."""


class AdaptiveDensity:
    """Clone, split and prune by the fused perceptual error or by positional gradients.

    Statistics are kept per group of frames: of each Gaussian, how often it was seen, the sum and the maximum of the
    error under it, and the sum of its positional gradient. An event acts on one group's and clears them.

    Args:
        config: thresholds and variants.
        avatar: whose Gaussians are controlled; the sizes of its head's faces at rest measure the Gaussians.
        groups: number of statistics groups.
        seed: of jitter and of redrawn texture coordinates; with the step it decides them, on every device alike.
    """

    def __init__(self, config: DensityConfig, avatar: Avatar, *, groups: int, seed: int = 0) -> None:
        self.config = config
        self.needs_statistics = True
        self.needs_weighted_error = config.control == "fpe" and config.estimator == "exact"
        self.reductions: Mapping[str, Reduction] = {"views": "sum", "errors": "sum", "peaks": "max", "gradients": "sum"}
        self._groups = groups
        self._seed = seed
        head = avatar.head
        neutral = head(avatar.shape, head.neutral().to(avatar.shape.device))
        self._face_size = face_frames(neutral.vertices, head.faces).size[0]  # [F] metres
        self._mouth = head.faces_in(*MOUTH)
        self._pool = TexelPool.build(avatar.atlas)
        self._clear(len(avatar.gaussians))

    def _clear(self, count: int) -> None:
        """Empty statistics [groups, count] of `count` Gaussians."""
        empty = self._face_size.new_zeros(self._groups, count)
        self.views, self.errors, self.peaks, self.gradients = (empty.clone() for _ in self.reductions)

    @torch.no_grad()
    def observe(self, seen: Observation) -> None:
        """Add a step's frames to their groups' statistics."""
        view, groups = seen.view, seen.groups
        assert view.pixel_counts is not None and view.blending_weights is not None and view.means2d.grad is not None
        if seen.weighted_error is None:
            error = box_error(seen.error, view.means2d, view.pixel_counts, view.blending_weights)
        else:
            error = seen.weighted_error / view.pixel_counts.clamp_min(1)
        height, width = seen.error.shape[1:]
        # As 3DGS measures it: of one frame's loss, in units of half the picture.
        across, down = view.means2d.grad.unbind(-1)
        gradient = torch.stack([across * (width / 2 * len(groups)), down * (height / 2 * len(groups))], -1).norm(dim=-1)
        visible = (view.pixel_counts > 0).to(error.dtype)
        self.views.index_add_(0, groups, visible)
        self.errors.index_add_(0, groups, error * visible)
        self.gradients.index_add_(0, groups, gradient * visible)
        self.peaks.scatter_reduce_(0, groups[:, None].expand_as(error), error * visible, "amax")

    @torch.no_grad()
    def densify(
        self, avatar: Avatar, optimiser: torch.optim.Optimizer, *, group: int, cluster: int | None, step: int
    ) -> DensityEvent | None:
        """Clone, split and prune by the statistics of one group."""
        gaussians = avatar.gaussians
        doomed = self._to_prune(gaussians)
        split = self._to_split(gaussians, group) & ~doomed
        clone = self._to_clone(gaussians, group) & ~doomed & ~split
        room = max(0, self.config.most - len(gaussians) + int(doomed.sum()))
        clone = _largest(clone, self.peaks[group], room)
        split = _largest(split, self.gradients[group], max(0, room - int(clone.sum())))

        generator = torch.Generator().manual_seed(1_000_003 * self._seed + step)
        source, born = _apply(gaussians, optimiser, clone, split, doomed, generator)
        if self.config.uv == "redraw":
            _, gaussians.uv = sample_uv(avatar.atlas, self._pool, gaussians.face, generator)
        for name in self.reductions:
            statistics = getattr(self, name)[:, source] * ~born
            statistics[group] = 0
            setattr(self, name, statistics)
        cloned, divided, pruned = torch.stack([clone.sum(), split.sum(), doomed.sum()]).tolist()
        mouth = int(self._mouth[gaussians.face].sum())
        return DensityEvent(step, cluster, cloned, divided, pruned, len(gaussians), mouth)

    def _to_clone(self, gaussians: BoundGaussians, group: int) -> Tensor:
        """[N] bool: eq. 11, or small Gaussians with a large gradient; at most so many as the configuration allows."""
        config = self.config
        seen = self.views[group] > 0
        peaks = math.ceil(config.clone_peaks * int(seen.sum()))
        if config.control == "gradient":
            gradient = self._mean(self.gradients, group)
            small = seen & ~self._large(gaussians)
            return _largest(small & (gradient > config.gradient), gradient, config.clone_most + peaks)
        by_peak = _largest(seen, self.peaks[group], peaks)
        mean = self._mean(self.errors, group)
        return by_peak | _largest(seen & (mean > config.clone_mean) & ~by_peak, mean, config.clone_most)

    def _to_split(self, gaussians: BoundGaussians, group: int) -> Tensor:
        """[N] bool: large Gaussians with a large positional gradient."""
        return (self._mean(self.gradients, group) > self.config.gradient) & self._large(gaussians)

    def _to_prune(self, gaussians: BoundGaussians) -> Tensor:
        """[N] bool: nearly transparent, but not the last one that a face has on its surface."""
        opacity = gaussians.opacity
        doomed = opacity < self.config.prune_opacity
        return doomed & ~_last_of_their_face(gaussians.face, gaussians.free, opacity, doomed, len(self._face_size))

    def _mean(self, sums: Tensor, group: int) -> Tensor:
        return sums[group] / self.views[group].clamp_min(1)

    def _large(self, gaussians: BoundGaussians) -> Tensor:
        scale = self._face_size[gaussians.face] * gaussians.log_scale.amax(1).exp()
        return scale > self.config.split_size * self.config.extent

    def state(self) -> dict[str, Tensor]:
        return {name: getattr(self, name) for name in self.reductions}

    def restore(self, state: dict[str, Tensor]) -> None:
        for name in self.reductions:
            if state[name].dim() != 2 or len(state[name]) != self._groups:
                raise ValueError(f"density.{name} has shape {list(state[name].shape)}")
            setattr(self, name, state[name].to(self._face_size.device))


def _largest(mask: Tensor, score: Tensor, limit: int) -> Tensor:
    """[N] bool: of the entries in `mask`, at most `limit`, those with the largest score."""
    candidates = mask.nonzero()[:, 0]
    if len(candidates) <= limit:
        return mask
    kept = candidates[score[candidates].topk(limit).indices]
    return torch.zeros_like(mask).index_fill_(0, kept, True)


def _last_of_their_face(face: Tensor, free: Tensor, opacity: Tensor, doomed: Tensor, faces: int) -> Tensor:
    """[N] bool: of each face whose surface Gaussians are all doomed, the most opaque one.

    Gaussians that were seeded beyond the mesh do not count as a face's own.
    """
    own = ~free
    survives = torch.zeros(faces, dtype=torch.bool, device=face.device)
    survives[face[own & ~doomed]] = True
    candidates = own & doomed & ~survives[face]
    best = opacity.new_full((faces,), -1).scatter_reduce_(0, face[candidates], opacity[candidates], "amax")
    candidates &= opacity == best[face]
    index = torch.arange(len(face), device=face.device)
    first = index.new_full((faces,), len(face)).scatter_reduce_(0, face[candidates], index[candidates], "amin")
    return candidates & (index == first[face])


def _apply(
    gaussians: BoundGaussians,
    optimiser: torch.optim.Optimizer,
    clone: Tensor,
    split: Tensor,
    doomed: Tensor,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Carry out a decision; returns what :func:`rebuild` calls source and born.

    A clone lies next to its parent, and both take the opacity 1 - sqrt(1 - alpha), with which the two together cover
    what the parent covered alone. A split Gaussian is replaced by two smaller ones inside it.
    """
    kept = (~split & ~doomed).nonzero()[:, 0]
    parents, divided = clone.nonzero()[:, 0], split.nonzero()[:, 0]
    source = torch.cat([kept, parents, divided, divided])
    is_clone = torch.zeros_like(source, dtype=torch.bool)
    is_clone[len(kept) : len(kept) + len(parents)] = True
    is_child = torch.zeros_like(is_clone)
    is_child[len(kept) + len(parents) :] = True

    noise = torch.randn(len(source), 6, generator=generator).to(gaussians.position)
    reach = is_clone * _CLONE_SHIFT + is_child.to(noise.dtype)
    scale = gaussians.log_scale[source].exp()
    axes = quaternion_to_matrix(normalize(gaussians.quaternion[source], dim=-1))
    shift = (axes @ (reach[:, None] * scale * noise[:, :3])[..., None])[..., 0]

    opacity = gaussians.opacity[source]
    halved = 1 - (1 - opacity).sqrt()
    shares_cover = clone[source] & ~is_child
    changed = {
        "position": gaussians.position[source] + shift,
        "log_scale": gaussians.log_scale[source] - is_child[:, None] * math.log(_SPLIT_SHRINK),
        "opacity_logit": torch.where(
            shares_cover, torch.logit(halved.clamp(1e-6, 1 - 1e-6)), gaussians.opacity_logit[source]
        ),
        "sh_dc": gaussians.sh_dc[source] + (is_clone * _CLONE_COLOR)[:, None, None] * noise[:, None, 3:],
    }
    born = is_clone | is_child
    rebuild(gaussians, optimiser, source, born, changed)
    return source, born
