"""The training loop: a tracked sequence in, an avatar out."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from stavatar.alignment import Unknowns, align
from stavatar.avatar.avatar import Avatar, render
from stavatar.avatar.gaussians import BoundGaussians
from stavatar.avatar.seeding import seed_beyond_mesh
from stavatar.avatar.storage import tensors_of_avatar
from stavatar.config import Config
from stavatar.density import (
    AdaptiveDensity,
    Clusters,
    DensityControl,
    DensityEvent,
    FixedDensity,
    Observation,
    cluster_frames,
    fused_error,
)
from stavatar.errors import InputError, TrainingError
from stavatar.evaluation.lpips import LPIPS
from stavatar.head import HeadModel, HeadParameters, face_frames
from stavatar.head.regions import RegionMasks
from stavatar.head.uv import UVAtlas
from stavatar.interruption import held_back
from stavatar.progress import stage
from stavatar.sequence import Sequence
from stavatar.splat.rasterize import Backend
from stavatar.training import checkpoint
from stavatar.training.curve import LearningCurve
from stavatar.training.graphs import Recorder, StepInputs, Trail
from stavatar.training.guard import Guard
from stavatar.training.losses import (
    offset_regularisation,
    photometric_loss,
    position_penalty,
    scale_penalty,
    ssim_map,
)
from stavatar.training.pictures import Pictures
from stavatar.training.plan import make_plan
from stavatar.training.poses import TrackedParameters
from stavatar.training.ranks import Ranks
from stavatar.training.reference import best_reference
from stavatar.training.schedule import batch_betas, batch_factor, common_factor, exponential
from stavatar.training.unproject import unproject

_RATES = 9  # six of the Gaussians, the network's, and two of the poses
_ASK_INTERVAL = 10  # steps between asking the first of several processes whether it is time for a checkpoint
_NEIGHBOUR_EPOCHS = 3  # over which the sharing of pose steps among neighbouring frames fades out


@dataclass(frozen=True)
class StepReport:
    """Losses of one step.

    Attributes:
        parts: means over the step's frames, by part.
        totals: [K] what the frames of each process contribute to the total.
    """

    parts: dict[str, Tensor]
    totals: Tensor

    @property
    def total(self) -> Tensor:
        return torch.stack(list(self.parts.values())).sum()


@dataclass(frozen=True)
class StepKind:
    """What decides which operations a step consists of.

    Attributes:
        frames: how many.
        soft: the offset network takes part.
        perceptual: the perceptual loss counts.
        watched: density control looks on.
        sharing: neighbouring frames share pose steps.
        sh_degree: highest SH degree in use.
    """

    frames: int
    soft: bool
    perceptual: bool
    watched: bool
    sharing: bool
    sh_degree: int

    @property
    def parts(self) -> list[str]:
        """Names of the loss's parts."""
        return [
            "photometric",
            *(["lpips"] if self.perceptual else []),
            "position",
            "scale",
            *(["offset"] if self.soft else []),
        ]


class Trainer:
    """Trains one avatar; its whole state can be written and read back between any two steps.

    Args:
        sequence: tracked frames; `sequence.train` are learned from, the others are never looked at.
        head: the head model that the sequence was tracked with.
        config: of the run.
        device: where to train.
        density: adds and removes Gaussians; None takes the one that the configuration names.
        backend: rasteriser backend.
        ranks: the processes that train together, all with the same arguments; None: this one alone.

    Attributes:
        avatar: what is trained.
        poses: tracked parameters, refined as training goes on.
        clusters: of the training frames.
        plan: which frames each step sees, and when density control acts.
        curve: loss and PSNR so far.
        events: what density control has done so far.
        step: number of steps done.
    """

    def __init__(
        self,
        sequence: Sequence,
        head: HeadModel,
        config: Config,
        *,
        device: torch.device | str = "cpu",
        density: DensityControl | None = None,
        backend: Backend = "auto",
        ranks: Ranks | None = None,
    ) -> None:
        if sequence.head_model != head.name:
            raise InputError(f"the sequence was tracked with head {sequence.head_model!r}, not {head.name!r}")
        if len(sequence.train) == 0:
            raise InputError(f"sequence {sequence.name!r} has no training frames")
        self.ranks = ranks or Ranks()
        self.ranks.require_work(config.training.batch)
        self.sequence = sequence
        self.config = config
        self.device = torch.device(device)
        self.backend = backend
        self.avatar = start_avatar(sequence, head, config)
        self.ranks.adopt(*tensors_of_avatar(self.avatar).values())
        self.avatar.to(self.device)
        if self.avatar.network is not None:
            self.avatar.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # as it runs

        movable = torch.zeros(len(sequence), dtype=torch.bool)
        movable[sequence.train] = True
        self.poses = TrackedParameters(sequence.parameters.to(self.device), config.pose, movable.to(self.device))
        # Learning rates change with every step: on a GPU they lie there, so that a recorded step reads the new ones.
        self._rates = torch.zeros(_RATES, device=self.device) if self.device.type == "cuda" else None
        self.guard = Guard(self.device)
        self._gradient_names: dict[StepKind, tuple[str, ...]] = {}
        self.gaussian_optimiser, self.network_optimiser = self._optimisers()
        self._reduced = config.training.precision == "bf16"
        self.lpips = LPIPS("vgg16", reduced=self._reduced).to(self.device) if config.training.lpips > 0 else None

        self.step = 0
        self.passes_done = 0
        self.seconds = 0.0  # spent in :meth:`run`, interruptions not counted
        self.clusters = self._clusters()
        self.ranks.adopt(self.clusters.assignment)
        self.plan = make_plan(config, sequence.train, self.clusters.assignment)
        self.steps = len(self.plan)
        self.density = density or self._density()
        self.events: list[DensityEvent] = []
        self.curve = LearningCurve(self.steps, self.device)

        self._pictures = Pictures(sequence, self.device, config.training.frames)
        self._camera = sequence.camera.to(self.device)
        self._trail: Trail[tuple[StepKind, int, Tensor]] = Trail()
        self.recorder: Recorder[StepKind] | None = None
        if self.device.type == "cuda" and config.training.graphs:
            self.recorder = Recorder(self._compute, self._all_optimisers)

    def _clusters(self) -> Clusters:
        """Clusters of the training frames; without clusters in the schedule they still time density control."""
        train = self.sequence.train
        return cluster_frames(self.sequence.parameters[train], self.config.schedule, self.config.training.seed)

    def _density(self) -> DensityControl:
        config = self.config
        if config.density.control == "none":
            return FixedDensity()
        groups = self.plan.group_count
        return AdaptiveDensity(config.density, self.avatar, groups=groups, seed=config.training.seed)

    def _optimisers(self) -> tuple[torch.optim.Adam, torch.optim.Adam | None]:
        config, gaussians = self.config.training, self.avatar.gaussians
        rates = {
            "position": config.lr_position,
            "log_scale": config.lr_scale,
            "quaternion": config.lr_rotation,
            "opacity_logit": config.lr_opacity,
            "sh_dc": config.lr_color,
            "sh_rest": config.lr_color / 20,
        }
        groups = [{"params": [getattr(gaussians, name)], "lr": rate, "name": name} for name, rate in rates.items()]
        network = self.avatar.network
        scale, betas = batch_factor(config), batch_betas(config)
        optimisers: tuple[torch.optim.Adam, torch.optim.Adam | None]
        optimisers = torch.optim.Adam(groups, betas=betas, eps=1e-15, fused=True), None
        if network is not None:
            own = {"params": list(network.parameters()), "lr": config.lr_network, "name": "network"}
            optimisers = optimisers[0], torch.optim.Adam([own], betas=betas, fused=True)
        for index, group in enumerate(_groups(optimisers)):
            group["start"] = scale * float(group["lr"])
            if self._rates is not None:
                group["lr"] = self._rates[index]
        for optimiser in filter(None, optimisers):
            optimiser.found_inf = self.guard.tripped  # type: ignore[attr-defined]  # what a GradScaler would set
        return optimisers

    def _all_optimisers(self) -> list[torch.optim.Optimizer]:
        return [item for item in (self.gaussian_optimiser, self.network_optimiser) if item is not None]

    @property
    def progress(self) -> float:
        """How much of training is done, in [0, 1]."""
        return self.step / self.steps

    @property
    def soft(self) -> bool:
        """Whether the offset network takes part by now."""
        return self.avatar.network is not None and self.progress >= self.config.training.network_start

    @property
    def _perceptual(self) -> bool:
        """Whether the perceptual loss counts by now."""
        return self.progress >= self.config.training.lpips_start

    @property
    def sh_degree(self) -> int:
        """Highest SH degree in use by now."""
        config = self.config.training
        return min(self.config.gaussians.sh_degree, self.step * config.batch // config.sh_interval)

    def run(self, folder: Path | None = None) -> None:
        """Train to the end, writing a checkpoint into `folder` from time to time.

        An interruption waits for the end of a step and then writes a checkpoint as well.

        Raises:
            TrainingError: the loss is no longer a number; the last checkpoint stays as it is.
        """
        if not self.ranks.agree(self.step):
            raise TrainingError(
                "the processes found different checkpoints: give the run a folder that all machines share"
            )
        try:
            self._run(folder)
        except KeyboardInterrupt:
            if folder is not None and self.ranks.count == 1:  # several stop at different steps
                with held_back():
                    checkpoint.save(self, folder)
            raise

    def _run(self, folder: Path | None) -> None:
        begin = saved = time.monotonic()
        before = self.seconds
        with stage("training", self.steps) as report:
            report(self.step)
            while self.step < self.steps:
                self._align_where_due()
                frames = self.plan.batches[self.step]
                with held_back():  # whatever comes in between: steps are done, or not
                    losses = self.train_step(frames, self.plan.groups[self.step])
                    self._densify_where_due()
                report(1, note=f"loss {losses.total.item():.4f}" if self.step % 20 == 0 else None)
                now = time.monotonic()
                self.seconds = before + now - begin
                due = now - saved > self.config.training.checkpoint_seconds or self.step == self.steps
                asked = self.ranks.count == 1 or self.step % _ASK_INTERVAL == 0 or self.step == self.steps
                if folder is not None and asked and self.ranks.first_says(due):
                    checkpoint.save(self, folder)
                    saved = now
        self.require_numbers()
        if self.recorder is not None:
            # NCCL ends no exchange that a recording holds, and waits for ever; alone, their memory is for evaluation.
            self.recorder.forget()

    def train_step(self, frames: Tensor, groups: Tensor) -> StepReport:
        """One step: render the frames, compare, and move everything that is learned.

        Several processes render a share each; what is learned moves in all of them alike.

        Args:
            frames: [B] distinct indices into the sequence.
            groups: [B] their statistics groups; negative where density control does not look on.
        """
        kind = StepKind(
            frames=len(frames),
            soft=self.soft,
            perceptual=self.lpips is not None and self._perceptual,
            watched=self.density.needs_statistics and int(groups[0]) >= 0,
            sharing=self._neighbour_share() > 0,
            sh_degree=self.sh_degree,
        )
        self._set_rates()
        inputs = StepInputs(
            frames.to(self.device, non_blocking=True),
            self.ranks.own(groups).to(self.device, non_blocking=True),
            self._pictures.read(self.ranks.own(frames)),
        )
        if self.recorder is not None and len(frames) == self.config.training.batch:
            numbers = self.recorder.run(kind, inputs).clone()
        else:  # a smaller batch at the end of an epoch is too rare to be recorded
            numbers = self._compute(kind, inputs, None)
        self.step += 1
        self.curve.close(self.step, len(frames), self.seconds, len(self.avatar.gaussians))
        if self.device.type == "cuda":
            self._follow(kind, numbers, frames)
        losses, totals = numbers[: len(kind.parts) + self.ranks.count].split([len(kind.parts), self.ranks.count])
        return StepReport(dict(zip(kind.parts, losses, strict=True)), totals)

    def _compute(self, kind: StepKind, inputs: StepInputs, room: int | None) -> Tensor:
        """All of a step that happens on the device. On a GPU it waits for nothing, so that it can be recorded.

        Args:
            kind: of the step.
            inputs: its frames; groups and pictures of those that this process draws.
            room: of the rasteriser.

        Returns:
            [n] the losses that `kind.parts` names and the total of each of the K processes; on a GPU, the rasteriser's
            number of entries after them.
        """
        config, avatar, gaussians = self.config.training, self.avatar, self.avatar.gaussians
        rows = self.poses.rows(inputs.frames)
        # Everything but training goes at full precision.
        with nullcontext() if avatar.network is None else avatar.network.reducing(self._reduced):
            posed = avatar(self.poses.parameters_of(self.ranks.own(rows)), soft=kind.soft)
        # A channel that is zero everywhere shows nothing, but the gradient that reaches it is the sum over pixels of
        # blending weight times whatever comes down from above: the error.
        probe = None
        if kind.watched and self.density.needs_weighted_error:
            probe = torch.zeros_like(posed.opacities)[..., None].requires_grad_()
        view = render(
            posed,
            self._camera[self.ranks.own(inputs.frames)],
            sh_degree=kind.sh_degree,
            extra=probe,
            statistics=kind.watched,
            backend=self.backend,
            room=room,
        )
        rendered = view.image.permute(0, 3, 1, 2)
        truth = (inputs.pictures.float() / 255).permute(0, 3, 1, 2)

        similarity = ssim_map(rendered, truth)
        parts = {"photometric": photometric_loss(rendered, truth, config.ssim, similarity)}
        if kind.perceptual:
            assert self.lpips is not None
            parts["lpips"] = config.lpips * self.lpips(rendered, truth).mean()
        counted = self.ranks.any((view.radii > 0).any(0)) & ~gaussians.free
        parts["position"] = config.position * position_penalty(gaussians.position, counted)
        parts["scale"] = config.scale * scale_penalty(gaussians.log_scale, counted)
        if posed.offsets is not None:
            parts["offset"] = offset_regularisation(
                posed.offsets.scale, posed.offsets.color, config.offset_scale, config.offset_color
            )
        numbers = torch.stack(list(parts.values()))

        error = torch.empty(0)
        total = numbers.sum()
        if kind.watched:
            view.means2d.retain_grad()
            error = fused_error(rendered, truth, similarity, self.config.density.error_ssim).detach()
            if view.extra is not None:
                total = total + (view.extra[..., 0] * error).sum()
        for optimiser in self._all_optimisers():
            optimiser.zero_grad()
        total.backward()
        squared_error = F.mse_loss(rendered.detach(), truth)
        numbers, squared_error, totals = self._averaged(numbers.detach(), squared_error, rows, kind.soft)
        fault = self._keep_out_what_is_no_number(kind, numbers, rows)
        if self.device.type == "cpu":
            self._check(kind, [*numbers.tolist(), *totals.tolist(), float(fault)], self.step, inputs.frames)
        self.gaussian_optimiser.step()
        if self.network_optimiser is not None and posed.offsets is not None:
            self.network_optimiser.step()
        factor, share = self._pose_rates()
        self.poses.step(inputs.frames, rows, factor, share if kind.sharing else None)
        if kind.watched and self.ranks.weight(kind.frames) > 0:
            weighted = None if probe is None or probe.grad is None else probe.grad[..., 0]
            self.density.observe(Observation(view, error, inputs.groups, weighted))
        self.curve.add(numbers.sum(), squared_error)
        numbers = torch.cat([numbers, totals, fault[None]])
        if isinstance(view.entries, Tensor):
            return torch.cat([numbers, view.entries[None]])
        return numbers if view.entries is None else F.pad(numbers, (0, 1), value=view.entries)

    def _averaged(
        self, numbers: Tensor, squared_error: Tensor, rows: Tensor, soft: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Losses and squared error over all frames of a step, `rows`, and the total of each process [K].

        What is learned gets gradients of all these frames as well.
        """
        leaves: list[Tensor] = [values for values in self.avatar.gaussians.parameters() if values.numel()]
        if self.avatar.network is not None and soft:
            leaves += self.avatar.network.parameters()
        if rows.requires_grad:
            leaves.append(rows)
        shares = self.ranks.average(leaves, len(rows), torch.cat([numbers, squared_error[None]]))
        means = shares.sum(0)
        return means[:-1], means[-1], shares[:, :-1].sum(1)

    def _follow(self, kind: StepKind, numbers: Tensor, frames: Tensor) -> None:
        """On a GPU, look at the numbers of earlier steps that have arrived by now."""
        self._trail.add((kind, self.step, frames), numbers)
        for (kind, step, frames), values in self._trail.arrived():
            self._check(kind, values, step, frames)
            if self.recorder is not None:
                self.recorder.keep_room(int(values[-1]))

    def _densify_where_due(self) -> None:
        """Density control at the moments that the plan names."""
        for event in self.plan.events:
            if event.step == self.step:
                self.require_numbers()  # its statistics decide
                self._pool_statistics(event.group)
                done = self.density.densify(
                    self.avatar,
                    self.gaussian_optimiser,
                    group=event.group,
                    cluster=event.cluster,
                    step=self.step,
                )
                if done is not None:
                    self.events.append(done)
                    self.forget_recordings()
                self._require_agreement()

    def _pool_statistics(self, group: int) -> None:
        """Let every process decide by what all of them have seen."""
        state = self.density.state()
        for name, how in self.density.reductions.items():
            state[name][group] = self.ranks.reduce(state[name][group], how)

    def _require_agreement(self) -> None:
        """Stop where processes have come to different Gaussians, which could not exchange gradients any more."""
        face = self.avatar.gaussians.face
        order = torch.arange(1, len(face) + 1, device=face.device)
        if not self.ranks.agree(len(face), int((face * order).sum())):
            raise TrainingError(
                f"density control did not decide the same in all processes at step {self.step}: whatever a strategy "
                "decides by must be among its reductions"
            )

    def forget_recordings(self) -> None:
        """To be called where tensors that steps work on were exchanged for others."""
        if self.recorder is not None:
            self.recorder.forget()

    def _set_rates(self) -> None:
        """Learning rates of the step to come; on a GPU in one copy."""
        config = self.config.training
        factor, scale = common_factor(config, self.progress), batch_factor(config)
        groups = _groups((self.gaussian_optimiser, self.network_optimiser))
        rates = [
            exponential(config.lr_position, config.lr_position_final, self.progress) * scale
            if group["name"] == "position"
            else group["start"] * factor
            for group in groups
        ]
        if self._rates is not None:
            values = torch.tensor(
                [*rates, *[0.0] * (_RATES - 2 - len(rates)), self._pose_factor(), self._neighbour_share()]
            )
            self._rates.copy_(values, non_blocking=True)
            return
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate

    def _pose_rates(self) -> tuple[float | Tensor, float | Tensor]:
        """Factor of the poses' learning rates, and the share of the step that neighbouring frames get."""
        if self._rates is not None:
            return self._rates[-2], self._rates[-1]
        return self._pose_factor(), self._neighbour_share()

    def _pose_factor(self) -> float:
        return exponential(1.0, self.config.pose.decay, self.progress)

    def _neighbour_share(self) -> float:
        epochs = self.step * self.config.training.batch / len(self.sequence.train)
        return self.config.pose.neighbours * max(0.0, 1 - epochs / _NEIGHBOUR_EPOCHS)

    def _keep_out_what_is_no_number(self, kind: StepKind, losses: Tensor, rows: Tensor) -> Tensor:
        """Let the guard look at this step before anything moves; returns what :meth:`Guard.look` does."""
        learned = [*self.avatar.gaussians.named_parameters(), ("poses", rows)]
        if self.avatar.network is not None:
            learned += [(f"network.{name}", value) for name, value in self.avatar.network.named_parameters()]
        gradients = {name: value.grad for name, value in learned if value.grad is not None and value.numel()}
        self._gradient_names[kind] = tuple(gradients)
        fault = self.guard.look(losses, list(gradients.values()))
        if rows.grad is not None:
            rows.grad.masked_fill_(self.guard.tripped > 0, 0)
        return fault

    def _check(self, kind: StepKind, numbers: list[float], step: int, frames: Tensor) -> None:
        """Stop where a loss or gradient is not a number; all processes stop together, and say whose frames it was.

        Args:
            kind: of the step.
            numbers: losses by part, one total per process, and what the guard has found.
            step, frames: of the step.
        """
        parts = dict(zip(kind.parts, numbers, strict=False))
        totals, fault = numbers[len(parts) : len(parts) + self.ranks.count], int(numbers[len(parts) + self.ranks.count])
        wrong = {f"the {name} loss": value for name, value in parts.items() if not math.isfinite(value)}
        if not wrong and fault:
            wrong = {f"the gradient of {self._gradient_names[kind][fault - 1]}": math.nan}
        if not wrong:
            return
        where = f"frames {frames.tolist()}"
        if self.ranks.count > 1:
            shares = enumerate(zip(self.ranks.shares(frames), totals, strict=True))
            blamed = [(rank, own) for rank, (own, total) in shares if own and not math.isfinite(total)]
            where = ", ".join(f"frames {own} of rank {rank}" for rank, own in blamed) or where
        name, value = next(iter(wrong.items()))
        raise TrainingError(
            f"{name} is {value} at step {step} ({where}); "
            "the last checkpoint is intact: lower the learning rates and resume"
        )

    def require_numbers(self) -> None:
        """Stop where any step so far has met what is no number; on a GPU this waits for all of them.

        Raises:
            TrainingError: which loss or gradient it was, at which step, and whose frames.
        """
        if self.device.type == "cuda":
            for (kind, step, frames), values in self._trail.arrived(behind=0):
                self._check(kind, values, step, frames)

    def _align_where_due(self) -> None:
        """Gauss-Newton over all training frames at the moments the configuration names."""
        passes = self.config.pose.passes if self.config.pose.refine else ()
        while self.passes_done < len(passes) and self.progress >= passes[self.passes_done]:
            train = self.sequence.train
            # Frames are tied to their neighbours and solved for together: every process does all of it.
            aligned = self.align(self.poses.all(), train).map(Tensor.contiguous)
            self.ranks.adopt(*(values for _, values in aligned.items()))
            with held_back():
                self.poses.replace(train.to(self.device), aligned)
                self.passes_done += 1

    def align(self, start: HeadParameters, frames: Tensor, *, title: str = "aligning poses") -> HeadParameters:
        """Photometric poses of some frames against the avatar as it is now, each from its own start."""
        return self._align(start, frames, title, self.config.pose.iterations, None)

    def track_held_out(self) -> HeadParameters:
        """Parameters of all frames, the held-out ones aligned photometrically to the finished avatar.

        Held-out frames never move the avatar. They start from the tracker's poses plus what training has found the
        nearest training frame to be off by. Without `pose.refine` nothing moves at all.
        """
        held_out = self.sequence.test.to(self.device)
        parameters = self.poses.all()
        if len(held_out) == 0 or not self.config.pose.refine:
            return parameters
        train = self.sequence.train.to(self.device)
        nearest = train[(train - held_out[0]).abs().argmin()][None]
        tracked = self.sequence.parameters.to(self.device)[nearest]
        expected = Unknowns.of(self.avatar.head, face=False).between(tracked, parameters[nearest])[0]
        aligned = self._align(parameters, held_out, "tracking held-out", 2 * self.config.pose.iterations, expected)
        return HeadParameters(
            **{name: value.index_copy(0, held_out, getattr(aligned, name)) for name, value in parameters.items()}
        )

    def _align(
        self, start: HeadParameters, frames: Tensor, title: str, iterations: int, expected: Tensor | None
    ) -> HeadParameters:
        with stage(title, len(frames) * (iterations + 1)) as report:
            return align(
                self.avatar,
                self.sequence,
                start,
                frames,
                unknowns=Unknowns.of(self.avatar.head, face=False),
                iterations=iterations,
                soft=self.soft,
                sh_degree=self.sh_degree,
                expected=expected,
                report=report,
                backend=self.backend,
            ).parameters


def _groups(optimisers: Iterable[torch.optim.Optimizer | None]) -> list[dict[str, Any]]:
    """Parameter groups of some optimisers, in order."""
    return [group for optimiser in optimisers if optimiser is not None for group in optimiser.param_groups]


def start_avatar(sequence: Sequence, head: HeadModel, config: Config) -> Avatar:
    """The avatar before its first step: one Gaussian per face, seeds beyond the mesh, an untrained network."""
    frame = best_reference(sequence) if config.gaussians.reference == "best" else int(sequence.train[0])
    reference = sequence.parameters[[frame]]
    image = sequence.image([frame])[0]
    camera = sequence.camera[[frame]]
    vertices = head(sequence.shape, reference).vertices
    atlas = UVAtlas.build(head, config.network.uv_size)
    generator = torch.Generator().manual_seed(config.training.seed)

    colors = torch.full((len(head.faces), 3), 0.5)
    if config.gaussians.color == "reference":
        colors = _colors_at(image, camera.project(face_frames(vertices, head.faces).origin)[0])
    seeds = None
    if config.gaussians.seeds > 0:
        matte = sequence.mask([frame])[0]
        seeds = seed_beyond_mesh(head, vertices[0], camera, image, matte, config.gaussians.seeds, generator)
    shown = image.permute(2, 0, 1)
    if config.network.reference != "image":
        frames = sequence.train if config.network.reference == "mean" else torch.tensor([frame])
        shown = unproject(sequence, head, atlas, frames)
    return Avatar(
        config,
        copy.deepcopy(head),  # moving the avatar to a GPU must not take the caller's head along
        sequence.shape,
        BoundGaussians.one_per_face(config.gaussians, colors, atlas, seeds),
        seen=sequence.parameters[sequence.train],
        reference=reference,
        image=shown,
        atlas=atlas,
        masks=RegionMasks.build(head, atlas).masks,
    )


def _colors_at(image: Tensor, pixels: Tensor) -> Tensor:
    """Bilinear colours [P, 3] of an image [H, W, 3] at pixels [P, 2]; outside, the border's."""
    height, width = image.shape[:2]
    grid = (2 * pixels / pixels.new_tensor([width, height]) - 1)[None, None]
    read = F.grid_sample(image.permute(2, 0, 1)[None], grid, padding_mode="border", align_corners=False)
    return read[0, :, 0].T.contiguous()
