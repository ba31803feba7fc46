"""The avatar at work: head parameters in, pictures out.

Rendering, driving and the viewer all draw through this one object. It keeps what never changes from frame to frame (the
network's static features, the point to turn about) and records no gradients. On a GPU it replays CUDA graphs: one
launch from head parameters to a picture, where hundreds of small kernels would each wait to be asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stavatar.avatar.avatar import Avatar, PosedGaussians, render
from stavatar.avatar.offsets import Offsets
from stavatar.avatar.replay import Replay
from stavatar.avatar.storage import Motion, avatar_folder, load_avatar
from stavatar.camera import Camera
from stavatar.errors import InputError
from stavatar.gpu import has_kernels
from stavatar.head import HeadModel, HeadParameters, PosedHead
from stavatar.head.posing import JOINTS
from stavatar.splat import Rasterization

if TYPE_CHECKING:
    from stavatar.avatar.inference import Inference

_MARGIN, _FEWEST_ENTRIES = 1.3, 4096  # room for entries of the rasteriser: times what was needed once, and more
_PIVOT_FRAMES = 32  # of the motion, from which the point to turn about is taken


class Runtime:
    """An avatar and its recorded motion, ready to draw.

    Attributes:
        avatar: takes no more training from here on.
        motion: the recorded performance, on the CPU.
        pivot: [3] metres, on the CPU; where the neck joint is on average: cameras turn about it.
    """

    def __init__(self, avatar: Avatar, motion: Motion) -> None:
        self.avatar = avatar.eval().requires_grad_(False)
        self.motion = motion
        self._replays: dict[tuple[object, ...], Replay] = {}
        self._rooms: dict[tuple[int, int, int], int] = {}  # of the rasteriser, by frames and size
        self._inference = self._on_gpu()
        network = None if self._inference is not None else avatar.network
        with torch.no_grad(), nullcontext() if network is None else network.reducing():
            self._static = None if network is None else network.static_features()
            some = torch.linspace(0, len(motion.parameters) - 1, min(len(motion.parameters), _PIVOT_FRAMES))
            joints = self.head(avatar.shape, motion.parameters[some.round().long()].to(self.device)).joints
        self.pivot = joints[:, JOINTS.index("neck")].mean(0).cpu()

    @staticmethod
    def load(path: Path | str, device: torch.device | str = "cpu") -> Runtime:
        """The avatar at `path`: its folder, or the run that holds it.

        Raises:
            InputError: there is none, or a file of it is damaged.
        """
        return Runtime(*load_avatar(avatar_folder(Path(path)), device))

    @property
    def device(self) -> torch.device:
        return self.avatar.shape.device

    @property
    def head(self) -> HeadModel:
        return self.avatar.head

    @property
    def expression_names(self) -> list[str]:
        return self.avatar.head.expression_names

    def frame(self, index: int) -> HeadParameters:
        """The recorded parameters of one frame; negative indices count from the end.

        Raises:
            InputError: the motion has no such frame.
        """
        count = len(self.motion.parameters)
        if not -count <= index < count:
            raise InputError(f"there is no frame {index}: the recorded motion has {count}")
        return self.motion.parameters[[index]]

    def express(self, parameters: HeadParameters, **coefficients: float) -> HeadParameters:
        """A copy of `parameters` with some expressions set, by name: ``express(pose, jawOpen=0.5)``.

        Raises:
            InputError: the head has no expression of that name.
        """
        expression = parameters.expression.clone()
        for name, value in coefficients.items():
            if name not in self.expression_names:
                raise InputError(f"head model {self.head.name} has no expression {name!r}")
            expression[:, self.expression_names.index(name)] = value
        return parameters.replaced(expression=expression)

    @torch.no_grad()
    def pose(self, parameters: HeadParameters, *, soft: bool = True) -> PosedGaussians:
        """The Gaussians of B frames; `soft` adds the network's offsets."""
        if self._inference is None:
            network = self.avatar.network
            with nullcontext() if network is None else network.reducing():
                return self.avatar(parameters.to(self.device), soft=soft, static=self._static)
        inference, with_offsets = self._inference, soft and self.avatar.network is not None

        def posed(tensors: list[Tensor]) -> list[Tensor]:
            return _flat(inference.pose(HeadParameters(*tensors), soft=soft))

        replay = self._replay(("pose", soft), posed)
        return _posed(replay([value for _, value in parameters.items()]), with_offsets)

    def _on_gpu(self) -> Inference | None:
        """The GPU's own way from parameters to pictures, where there is one."""
        if not has_kernels(self.device) or len(self.avatar.gaussians) == 0:
            return None
        from stavatar.avatar.inference import Inference

        return Inference(self.avatar)

    def _replay(self, name: tuple[object, ...], function: Callable[[list[Tensor]], list[Tensor]]) -> Replay:
        """The recordings of a function, known by its name."""
        return self._replays.setdefault(name, Replay(function, self.device))

    @torch.no_grad()
    def draw(
        self, posed: PosedGaussians, camera: Camera | None = None, *, background: Tensor | None = None
    ) -> Rasterization:
        """Pictures of posed Gaussians, through the recorded camera of the first frame where none is given.

        Args:
            posed: B frames.
            camera: one, or B.
            background: [3] RGB in [0, 1]; white where None.
        """
        camera = self.motion.camera[[0]] if camera is None else camera
        background = None if background is None else background.to(self.device)
        return render(posed, camera.to(self.device), background=background)

    def render(
        self,
        parameters: HeadParameters,
        camera: Camera | None = None,
        *,
        size: int | None = None,
        soft: bool = True,
        background: Tensor | None = None,
    ) -> Rasterization:
        """Pictures of B frames: :meth:`pose`, then :meth:`draw`.

        Args:
            parameters: B frames.
            camera: one, or B; the recorded one where None.
            size: edge in pixels of square pictures; the camera's own size where None.
            soft: use the offset network.
            background: [3] RGB in [0, 1]; white where None.
        """
        camera = self.motion.camera[[0]] if camera is None else camera
        camera = camera if size is None else camera.resized(size, size)
        if self._inference is None:
            return self.draw(self.pose(parameters, soft=soft), camera, background=background)
        behind = torch.ones(3) if background is None else background
        return self._replayed(self._inference, parameters, camera, soft, behind)

    @torch.no_grad()
    def _replayed(
        self, inference: Inference, parameters: HeadParameters, camera: Camera, soft: bool, background: Tensor
    ) -> Rasterization:
        """:meth:`render` in one launch."""
        kind = len(parameters), camera.width, camera.height
        if kind not in self._rooms:
            on_device = parameters.to(self.device), camera.to(self.device), background.to(self.device)
            view = inference.picture(*on_device, soft=soft, room=None)
            needed = int(view.entries or 0)
            self._rooms[kind] = int(_MARGIN * needed) + _FEWEST_ENTRIES
            return replace(view, entries=needed)
        room = self._rooms[kind]

        def picture(tensors: list[Tensor]) -> list[Tensor]:
            *told, pose, focal, center, behind = tensors
            seen = Camera(pose, focal, center, camera.width, camera.height)
            view = inference.picture(HeadParameters(*told), seen, behind, soft=soft, room=room)
            assert isinstance(view.entries, Tensor)
            return [view.image, view.alpha, view.means2d, view.depths, view.radii, view.entries]

        told = [value for _, value in parameters.items()]
        replay = self._replay(("picture", soft, room, *kind), picture)
        *drawn, entries = replay([*told, camera.world_to_camera, camera.focal, camera.center, background])
        needed = int(entries)
        if needed > room:  # the camera came near: nothing may be left out
            del self._rooms[kind]
            return self._replayed(inference, parameters, camera, soft, background)
        image, alpha, means2d, depths, radii = drawn
        return Rasterization(image, alpha, None, means2d, depths, radii, entries=needed)


def _flat(posed: PosedGaussians) -> list[Tensor]:
    """The tensors of posed Gaussians; :func:`_posed` puts them together again."""
    tensors = [posed.means, posed.quaternions, posed.scales, posed.opacities, posed.sh]
    tensors += [posed.mesh.vertices, posed.mesh.joints]
    return tensors + ([] if posed.offsets is None else [getattr(posed.offsets, item.name) for item in fields(Offsets)])


def _posed(tensors: list[Tensor], with_offsets: bool) -> PosedGaussians:
    means, quaternions, scales, opacities, sh, vertices, joints, *others = tensors
    offsets = Offsets(*others) if with_offsets else None
    return PosedGaussians(means, quaternions, scales, opacities, sh, PosedHead(vertices, joints), offsets)
