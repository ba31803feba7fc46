"""The training loop: a tracked sequence in, an avatar out."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from stavatar.alignment import Unknowns, align
from stavatar.avatar.avatar import Avatar, render
from stavatar.avatar.gaussians import BoundGaussians
from stavatar.avatar.seeding import seed_beyond_mesh
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
from stavatar.errors import InputError
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
from stavatar.training.graphs import capture_network, capture_perceptual_loss
from stavatar.training.guard import Guard
from stavatar.training.losses import (
    offset_regularisation,
    photometric_loss,
    position_penalty,
    scale_penalty,
    ssim_map,
)
from stavatar.training.plan import make_plan
from stavatar.training.poses import TrackedParameters
from stavatar.training.reference import best_reference
from stavatar.training.schedule import common_factor, exponential
from stavatar.training.unproject import unproject

_CHECK_INTERVAL = 50  # steps between looks at the loss on a GPU, where every look waits for the device
_NEIGHBOUR_EPOCHS = 3  # over which the sharing of pose steps among neighbouring frames fades out


@dataclass(frozen=True)
class StepReport:
    """Losses of one step, by part."""

    parts: dict[str, Tensor]

    @property
    def total(self) -> Tensor:
        return torch.stack(list(self.parts.values())).sum()


class Trainer:
    """Trains one avatar; its whole state can be written and read back between any two steps.

    Args:
        sequence: tracked frames; `sequence.train` are learned from, the others are never looked at.
        head: the head model that the sequence was tracked with.
        config: of the run.
        device: where to train.
        density: adds and removes Gaussians; None takes the one that the configuration names.
        backend: rasteriser backend.

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
    ) -> None:
        if sequence.head_model != head.name:
            raise InputError(f"the sequence was tracked with head {sequence.head_model!r}, not {head.name!r}")
        if len(sequence.train) == 0:
            raise InputError(f"sequence {sequence.name!r} has no training frames")
        self.sequence = sequence
        self.config = config
        self.device = torch.device(device)
        self.backend = backend
        self.avatar = start_avatar(sequence, head, config).to(self.device)
        if self.avatar.network is not None and self.device.type == "cuda":
            self.avatar.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # fast there

        movable = torch.zeros(len(sequence), dtype=torch.bool)
        movable[sequence.train] = True
        self.poses = TrackedParameters(sequence.parameters.to(self.device), config.pose, movable.to(self.device))
        self.guard = Guard(self.device)
        self.gaussian_optimiser, self.network_optimiser = self._optimisers()
        self.lpips = LPIPS("vgg16").to(self.device) if config.training.lpips > 0 else None

        self.step = 0
        self.passes_done = 0
        self._recorded_network = self._recorded_lpips = False
        self.seconds = 0.0  # spent in :meth:`run`, interruptions not counted
        self.clusters = self._clusters()
        self.plan = make_plan(config, sequence.train, self.clusters.assignment)
        self.steps = len(self.plan)
        self.density = density or self._density()
        self.events: list[DensityEvent] = []
        self.curve = LearningCurve(self.steps, self.device)

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
        optimisers = (
            torch.optim.Adam(groups, eps=1e-15, fused=True),
            None if network is None else torch.optim.Adam(network.parameters(), lr=config.lr_network, fused=True),
        )
        for optimiser in optimisers:
            if optimiser is not None:
                optimiser.found_inf = self.guard.tripped  # type: ignore[attr-defined]  # what a GradScaler would set
        return optimisers

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
        return min(self.config.gaussians.sh_degree, self.step // self.config.training.sh_interval)

    def run(self, folder: Path | None = None) -> None:
        """Train to the end, writing a checkpoint into `folder` from time to time.

        An interruption waits for the end of a step and then writes a checkpoint as well.

        Raises:
            TrainingError: the loss is no longer a number; the last checkpoint stays as it is.
        """
        try:
            self._run(folder)
        except KeyboardInterrupt:
            if folder is not None:
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
                if folder is not None and due:
                    checkpoint.save(self, folder)
                    saved = now
        self.guard.check(self.plan)

    def train_step(self, frames: Tensor, groups: Tensor) -> StepReport:
        """One step: render the frames, compare, and move everything that is learned.

        Args:
            frames: [B] distinct indices into the sequence.
            groups: [B] their statistics groups; negative where density control does not look on.
        """
        config = self.config.training
        self._set_learning_rates()
        self._record_graphs(len(frames) == config.batch)
        rows = self.poses.rows(frames)
        posed = self.avatar(rows, soft=self.soft)
        camera = self.sequence.camera[frames].to(self.device)
        watched = self.density.needs_statistics and int(groups[0]) >= 0
        # A channel that is zero everywhere shows nothing, but the gradient that reaches it is the sum over pixels of
        # blending weight times whatever comes down from above: the error.
        probe = None
        if watched and self.density.needs_weighted_error:
            probe = torch.zeros_like(posed.opacities)[..., None].requires_grad_()
        view = render(posed, camera, sh_degree=self.sh_degree, extra=probe, statistics=watched, backend=self.backend)
        rendered = view.image.permute(0, 3, 1, 2)
        truth = self.sequence.image(frames, self.device).permute(0, 3, 1, 2)

        similarity = ssim_map(rendered, truth)
        parts = {"photometric": photometric_loss(rendered, truth, config.ssim, similarity)}
        if self.lpips is not None and self._perceptual:
            parts["lpips"] = config.lpips * self.lpips(rendered, truth).mean()
        gaussians = self.avatar.gaussians
        counted = (view.radii > 0).any(0) & ~gaussians.free
        parts["position"] = config.position * position_penalty(gaussians.position, counted)
        parts["scale"] = config.scale * scale_penalty(gaussians.log_scale, counted)
        if posed.offsets is not None:
            parts["offset"] = offset_regularisation(
                posed.offsets.scale, posed.offsets.color, config.offset_scale, config.offset_color
            )
        losses = StepReport(parts)
        if self.avatar.network is not None:
            self.avatar.network.eval()  # everything but this step goes the ordinary way

        error = torch.empty(0)
        total = losses.total
        if watched:
            view.means2d.retain_grad()
            error = fused_error(rendered, truth, similarity, self.config.density.error_ssim).detach()
            if view.extra is not None:
                total = total + (view.extra[..., 0] * error).sum()
        self.gaussian_optimiser.zero_grad()
        if self.network_optimiser is not None:
            self.network_optimiser.zero_grad()
        total.backward()
        self._keep_out_what_is_no_number(losses, rows)
        self.gaussian_optimiser.step()
        if self.network_optimiser is not None and posed.offsets is not None:
            self.network_optimiser.step()
        self.poses.step(frames.to(self.device), rows, self._pose_factor(), self._neighbour_share())
        if watched:
            weighted = None if probe is None or probe.grad is None else probe.grad[..., 0]
            self.density.observe(Observation(view, error, groups.to(self.device), weighted))
        self.step += 1
        squared_error = (rendered.detach() - truth).square().mean()
        self.curve.add(self.step, len(frames), total, squared_error, self.seconds, len(gaussians))
        return losses

    def _record_graphs(self, full: bool) -> None:
        """On a GPU, record what every step with a full batch repeats, before the first that can replay it.

        Recordings are replayed in training mode only; a batch that is not `full` goes the ordinary way.
        """
        network, lpips = self.avatar.network, self.lpips
        if network is not None:
            network.train(full)
        if lpips is not None:
            lpips.train(full)
        if self.device.type != "cuda" or not full or not self.config.training.graphs:
            return
        batch, reduced = self.config.training.batch, self.config.training.precision == "bf16"
        if network is not None and self.soft and not self._recorded_network:
            capture_network(network, batch, self.avatar.head.expression_count, reduced=reduced)
            self._recorded_network = True
        if lpips is not None and self._perceptual and not self._recorded_lpips:
            capture_perceptual_loss(lpips, batch, self.sequence.height, self.sequence.width, reduced=reduced)
            self._recorded_lpips = True

    def _densify_where_due(self) -> None:
        """Density control at the moments that the plan names."""
        for event in self.plan.events:
            if event.step == self.step:
                self.guard.check(self.plan)  # its statistics decide
                done = self.density.densify(
                    self.avatar,
                    self.gaussian_optimiser,
                    group=event.group,
                    cluster=event.cluster,
                    step=self.step,
                )
                if done is not None:
                    self.events.append(done)

    def _set_learning_rates(self) -> None:
        config = self.config.training
        factor = common_factor(config, self.progress)
        for group in self.gaussian_optimiser.param_groups:
            group.setdefault("start", group["lr"])
            group["lr"] = group["start"] * factor
            if group["name"] == "position":
                group["lr"] = exponential(config.lr_position, config.lr_position_final, self.progress)
        if self.network_optimiser is not None:
            for group in self.network_optimiser.param_groups:
                group["lr"] = config.lr_network * factor

    def _pose_factor(self) -> float:
        return exponential(1.0, self.config.pose.decay, self.progress)

    def _neighbour_share(self) -> float:
        epochs = self.step * self.config.training.batch / len(self.sequence.train)
        return self.config.pose.neighbours * max(0.0, 1 - epochs / _NEIGHBOUR_EPOCHS)

    def _keep_out_what_is_no_number(self, losses: StepReport, rows: HeadParameters) -> None:
        """Let the guard look at this step before anything moves."""
        learned = [*self.avatar.gaussians.named_parameters(), *rows.items()]
        if self.avatar.network is not None:
            learned += [(f"network.{name}", value) for name, value in self.avatar.network.named_parameters()]
        gradients = {name: value.grad for name, value in learned if value.grad is not None}
        self.guard.look(self.step, losses.parts, gradients)
        for _, row in rows.items():
            if row.grad is not None:
                row.grad.masked_fill_(self.guard.tripped > 0, 0)
        if self.device.type == "cpu" or self.step % _CHECK_INTERVAL == 0:
            self.guard.check(self.plan)

    def _align_where_due(self) -> None:
        """Gauss-Newton over all training frames at the moments the configuration names."""
        passes = self.config.pose.passes if self.config.pose.refine else ()
        while self.passes_done < len(passes) and self.progress >= passes[self.passes_done]:
            aligned = self.align(self.poses.all(), self.sequence.train)
            with held_back():
                self.poses.replace(self.sequence.train.to(self.device), aligned)
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
