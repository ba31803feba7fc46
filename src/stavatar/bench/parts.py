"""The parts of a training step, each alone: forward, and forward with backward."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stavatar.avatar.avatar import pose_condition, render
from stavatar.bench import floor
from stavatar.bench.floor import Floor
from stavatar.head import HeadParameters
from stavatar.training.losses import photometric_loss, ssim_map
from stavatar.training.trainer import Trainer

FORWARD, BOTH = "forward", "and back"
"""Variants: the forward pass, and forward and backward pass together."""


@dataclass(frozen=True)
class Part:
    """One thing to time.

    Attributes:
        name: what it is.
        variant: `FORWARD`, `BOTH`, or what sets it apart from others of the name.
        work: does it once.
        floor: what it has to move and to compute; None where nobody has counted.
        frames: how many `work` treats.
    """

    name: str
    variant: str
    work: Callable[[], object]
    floor: Floor | None
    frames: int = 1


def parts(trainer: Trainer, batch: int) -> Iterator[Part]:
    """All parts of a step over `batch` frames, in their order.

    Each is fed with what the parts before it produced, cut off from them, so that backward passes end at its inputs.
    They go the ordinary way, also where whole steps are replayed from a recording.
    """
    step = _Step(trainer, batch)
    yield from step.reading()
    yield from step.head()
    yield from step.uv_maps()
    if trainer.avatar.network is not None:
        yield from step.network()
    yield from step.binding()
    yield from step.rasteriser()
    yield from step.losses()
    yield from step.optimisers()


class _Step:
    """The tensors that the parts of one step hand on."""

    def __init__(self, trainer: Trainer, batch: int) -> None:
        self.trainer, self.avatar, self.batch = trainer, trainer.avatar, batch
        self.avatar.eval()
        self.frames = trainer.sequence.train[:batch]
        poses = trainer.poses
        self.rows = _leaves(poses.parameters_of(poses.rows(self.frames.to(trainer.device))))
        self.reduced = trainer.config.training.precision == "bf16"
        with torch.no_grad():
            self.mesh = self.avatar.head(self.avatar.shape, self.rows)
        self.vertices = _leaf(self.mesh.vertices)
        self.maps: Tensor | None = None

    def reading(self) -> Iterator[Part]:
        sequence, device = self.trainer.sequence, self.trainer.device
        self.truth = sequence.image(self.frames, device).permute(0, 3, 1, 2)
        moved = 5 * self.truth.numel()  # a byte read and a float written per value
        yield self._part("pictures", FORWARD, lambda: sequence.image(self.frames, device), Floor(moved, 0))

    def head(self) -> Iterator[Part]:
        head, shape = self.avatar.head, self.avatar.shape
        read = [*head.buffers(), *(value for _, value in self.rows.items())]
        yield from self._two("head", lambda: [head(shape, self.rows).vertices], read)

    def uv_maps(self) -> Iterator[Part]:
        atlas = self.avatar.atlas
        read = [self.vertices, atlas.corners, atlas.barycentric]
        yield from self._two("UV maps", lambda: [atlas.gather(self.vertices)], read)

    def network(self) -> Iterator[Part]:
        avatar, network, rows = self.avatar, self.avatar.network, self.rows
        assert network is not None
        with torch.no_grad():
            self.maps = _leaf(avatar.offset_maps(rows, self.mesh))
            displacement = _leaf(avatar.atlas.gather(self.vertices - self.vertices.mean(1, keepdim=True)))
        conditions = [
            _leaf(avatar.standardise_expression(rows.expression)),
            _leaf(avatar.standardise_pose(pose_condition(rows))),
            _leaf(avatar.standardise_translation(rows.translation)),
        ]

        def work() -> list[Tensor]:
            with network.reducing(self.reduced):
                return [network(displacement, *conditions)]

        read = [displacement, *conditions, *network.parameters(), network.positions]
        yield from self._two("offset network", work, read, products=True)

    def binding(self) -> Iterator[Part]:
        avatar, gaussians, maps = self.avatar, self.avatar.gaussians, self.maps
        mesh = replace(self.mesh, vertices=self.vertices)

        def place() -> list[Tensor]:
            posed = avatar.place(mesh, maps)
            return [posed.means, posed.quaternions, posed.scales, posed.opacities, posed.sh]

        read = [self.vertices, gaussians.face, gaussians.uv, *gaussians.parameters()]
        read += [] if maps is None else [maps]
        yield from self._two("offsets and binding", place, read, operations=floor.BINDING * len(gaussians) * self.batch)
        with torch.no_grad():
            posed = avatar.place(mesh, maps)
        self.posed = replace(
            posed,
            means=_leaf(posed.means),
            quaternions=_leaf(posed.quaternions),
            scales=_leaf(posed.scales),
            opacities=_leaf(posed.opacities),
            sh=_leaf(posed.sh),
        )

    def rasteriser(self) -> Iterator[Part]:
        trainer, posed = self.trainer, self.posed
        camera = trainer.sequence.camera[self.frames].to(trainer.device)
        drawn = [posed.means, posed.quaternions, posed.scales, posed.opacities, posed.sh]
        with torch.no_grad():
            seen = render(posed, camera, statistics=True, backend=trainer.backend)
        assert seen.pixel_counts is not None
        self.image = _leaf(seen.image)
        pairs = float(seen.pixel_counts.sum())

        def draw() -> list[Tensor]:
            return [render(posed, camera, backend=trainer.backend).image]

        yield self._part(
            "rasteriser",
            FORWARD,
            floor.no_gradients(draw),
            Floor(floor.forward_bytes(drawn, [seen.image]), floor.SPLAT_FORWARD * pairs),
        )
        moved, operations = floor.both_bytes(drawn, [seen.image]), (floor.SPLAT_FORWARD + floor.SPLAT_BACKWARD) * pairs
        yield self._part("rasteriser", BOTH, _backward(draw), Floor(moved, operations))

    def losses(self) -> Iterator[Part]:
        trainer, image, truth = self.trainer, self.image, self.truth
        config = trainer.config.training

        def photometric() -> list[Tensor]:
            return [photometric_loss(image.permute(0, 3, 1, 2), truth, config.ssim)]

        def similarity() -> list[Tensor]:
            return [ssim_map(image.permute(0, 3, 1, 2), truth).mean()]

        work = Floor(floor.both_bytes([image, truth], []), floor.PHOTOMETRIC * image.numel())
        yield self._part("photometric loss", BOTH, _backward(photometric), work)
        yield self._part("SSIM alone", BOTH, _backward(similarity), work)
        lpips = trainer.lpips
        if lpips is None:
            return
        lpips.eval()

        def perceptual() -> list[Tensor]:
            return [lpips(image.permute(0, 3, 1, 2), truth).mean()]

        operations = floor.products(_backward(perceptual))
        moved = floor.both_bytes([image, truth, *lpips.buffers()], [])
        yield self._part(
            "LPIPS",
            BOTH,
            _backward(perceptual),
            Floor(moved, operations, self.reduced and trainer.device.type == "cuda"),
        )

    def optimisers(self) -> Iterator[Part]:
        trainer = self.trainer
        optimisers = {"Gaussians": trainer.gaussian_optimiser, "network": trainer.network_optimiser}
        for name, optimiser in optimisers.items():
            if optimiser is None:
                continue
            learned = [parameter for group in optimiser.param_groups for parameter in group["params"]]
            for parameter in learned:
                parameter.grad = torch.zeros_like(parameter)
            yield self._part("optimiser", name, optimiser.step, floor.adam(learned))

    def _two(
        self,
        name: str,
        work: Callable[[], list[Tensor]],
        read: list[Tensor],
        *,
        operations: float = 0.0,
        products: bool = False,
    ) -> Iterator[Part]:
        """A part forward, and forward with backward; a third of the `operations` of both are the forward pass's."""
        with torch.no_grad():
            written = work()
        forward, both = floor.no_gradients(work), _backward(work)
        counted = (floor.products(forward), floor.products(both)) if products else (operations / 3, operations)
        reduced = products and self.reduced
        yield self._part(name, FORWARD, forward, Floor(floor.forward_bytes(read, written), counted[0], reduced))
        yield self._part(name, BOTH, both, Floor(floor.both_bytes(read, written), counted[1], reduced))

    def _part(self, name: str, variant: str, work: Callable[[], object], least: Floor) -> Part:
        return Part(name, variant, work, least, self.batch)


def _backward(work: Callable[[], list[Tensor]]) -> Callable[[], object]:
    """`work` and its backward pass, from a gradient of ones."""

    def both() -> None:
        outputs = [tensor for tensor in work() if tensor.requires_grad]
        torch.autograd.backward(outputs, [torch.ones_like(tensor) for tensor in outputs])

    return both


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().clone().requires_grad_()


def _leaves(parameters: HeadParameters) -> HeadParameters:
    return parameters.map(_leaf)
