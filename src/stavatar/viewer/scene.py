"""What the viewer shows, without the viewer: avatars side by side, posed and drawn as the controls say."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stavatar.avatar.avatar import PosedGaussians
from stavatar.avatar.runtime import Runtime
from stavatar.camera import Camera
from stavatar.drive import Driver, Retargeter, Retargeting
from stavatar.drive.retarget import GAZE_LIMIT
from stavatar.head import HeadParameters
from stavatar.rendering import to_uint8
from stavatar.rotations import axis_angle_to_matrix, matrix_to_axis_angle, quaternion_to_matrix
from stavatar.viewer.clusters import read_clusters
from stavatar.viewer.layers import bodies, colour, mesh_picture, mottled, plain
from stavatar.viewer.look import Look, part_of

SPACING = 0.45
"""Metres between avatars side by side."""

_FARTHER = 0.8  # of the recorded distance, that the camera stands back for every avatar after the first


@dataclass(frozen=True)
class _Posed:
    """Gaussians of one avatar at its place, and its mesh [V, 3]."""

    gaussians: PosedGaussians
    vertices: Tensor


class Scene:
    """Avatars side by side under one motion, the first one's.

    Every avatar's neck lies on the x axis, around the origin, whatever its own world was.

    Args:
        paths: avatars, or runs that hold them.
        device: where to draw.

    Raises:
        InputError: one is missing or damaged, or cannot follow the first.
    """

    def __init__(self, paths: list[Path], device: torch.device | str = "cpu") -> None:
        self.names = [Path(path).resolve().name for path in paths]
        self.runtimes = [Runtime.load(path, device) for path in paths]
        self.clusters = read_clusters(Path(paths[0]))
        self.lead = self.runtimes[0]
        motion = self.lead.motion
        self.fps = motion.fps
        driver = Driver.from_parameters(
            self.names[0], self.lead.head.name, tuple(self.lead.expression_names), motion.parameters, motion.fps
        )
        retargeters = [Retargeter(each.motion, each.head, Retargeting(head_motion=True)) for each in self.runtimes]
        self.motions = [motion.parameters, *(retarget.follow(driver) for retarget in retargeters[1:])]
        self._still = [_still(retarget) for retarget in retargeters]
        middle = (len(paths) - 1) / 2
        self._shift = [
            torch.tensor([(index - middle) * SPACING, 0.0, 0.0]) - runtime.pivot
            for index, runtime in enumerate(self.runtimes)
        ]
        self._kept: tuple[Look, HeadParameters | None, list[_Posed]] | None = None

    def __len__(self) -> int:
        """Frames of the motion."""
        return len(self.motions[0])

    def home(self) -> tuple[np.ndarray, np.ndarray, float]:
        """Where to look from at first: position [3], the point looked at [3], and the vertical field of view, radians.

        With one avatar that is the recorded camera; with several, the same from farther away.
        """
        camera = self.lead.motion.camera[[0]]
        forward = camera.world_to_camera[0, 2, :3]
        position = camera.position[0] - self.lead.pivot
        target = position - (position @ forward) * forward
        position = target + (position - target) * (1 + _FARTHER * (len(self.runtimes) - 1))
        return position.numpy(), target.numpy(), 2 * math.atan(camera.height / 2 / float(camera.focal[0, 1]))

    def parameters(self, look: Look, live: HeadParameters | None = None) -> list[HeadParameters]:
        """What each avatar does: one frame each.

        Args:
            look: the controls.
            live: the newest frame of the camera, for the first avatar; where ``look.base`` asks for it.
        """
        if look.base == "recorded":
            bases = [motion[[look.frame]] for motion in self.motions]
        elif look.base == "camera" and live is not None:
            bases = [live, *self._still[1:]]
        else:
            bases = self._still
        return [_adjusted(base, look, runtime) for base, runtime in zip(bases, self.runtimes, strict=True)]

    @torch.no_grad()
    def pose(self, look: Look, live: HeadParameters | None = None) -> list[_Posed]:
        """Every avatar as the controls say; kept for as long as only the camera moves."""
        if self._kept is None or self._kept[0] != look or self._kept[1] is not live:
            poses = self.parameters(look, live)
            self._kept = look, live, [self._place(index, pose, look) for index, pose in enumerate(poses)]
        return self._kept[2]

    @torch.no_grad()
    def draw(self, look: Look, camera: Camera, live: HeadParameters | None = None) -> np.ndarray:
        """One picture [H, W, 3] uint8 through a camera around the origin."""
        posed = self.pose(look, live)
        joined = _join([each.gaussians for each in posed])
        image = self.lead.draw(joined, camera, background=torch.tensor(look.background)).image[0]
        if look.mesh != "none":
            image = self._over(image.cpu(), posed, look, camera)
        return to_uint8(image)

    def _place(self, index: int, pose: HeadParameters, look: Look) -> _Posed:
        """Pose one avatar, change its Gaussians' bodies and colours as asked for, and put it in its place."""
        runtime = self.runtimes[index]
        posed = runtime.pose(pose, soft=look.soft)
        colors = colour(posed, runtime, look.colours)
        sh = posed.sh if colors is None else plain(colors, posed.sh)
        scales, opacities = bodies(posed, look.splats)
        if look.splats == "ellipsoids":
            sh = mottled(sh)
        shift = self._shift[index].to(runtime.device)
        gaussians = replace(posed, means=posed.means + shift, sh=sh, scales=scales, opacities=opacities)
        return _Posed(gaussians, posed.mesh.vertices[0] + shift)

    def _over(self, image: Tensor, posed: list[_Posed], look: Look, camera: Camera) -> Tensor:
        """The avatars' meshes over a picture [H, W, 3], the nearest on top."""
        nearest = torch.full(image.shape[:2], math.inf)
        drawn = torch.zeros_like(image)
        for each, runtime in zip(posed, self.runtimes, strict=True):
            colours, depth = mesh_picture(runtime.head, each.vertices, camera, look.mesh)
            nearer = depth < nearest
            drawn[nearer], nearest[nearer] = colours[nearer], depth[nearer]
        covered = nearest.isfinite()[..., None] * look.mesh_opacity
        return image * (1 - covered) + drawn * covered


def camera_at(position: np.ndarray, wxyz: np.ndarray, fov: float, width: int, height: int) -> Camera:
    """A camera from its pose in the world.

    Args:
        position: [3] metres.
        wxyz: [4] rotation from camera axes (x right, y down, z forward) to world axes.
        fov: vertical, radians.
        width, height: pixels.
    """
    rotation = quaternion_to_matrix(torch.as_tensor(wxyz, dtype=torch.float32)).T
    pose = torch.eye(4)
    pose[:3, :3] = rotation
    pose[:3, 3] = -rotation @ torch.as_tensor(position, dtype=torch.float32)
    focal = height / 2 / math.tan(fov / 2)
    return Camera(pose[None], torch.full((1, 2), focal), torch.tensor([[width / 2, height / 2]]), width, height)


def _still(retarget: Retargeter) -> HeadParameters:
    """An avatar at rest, one frame."""
    rest = retarget.rest
    return retarget.posed(rest.expression[None], rest.jaw[None], rest.eyes[None], retarget.usual_neck)


def _adjusted(base: HeadParameters, look: Look, runtime: Runtime) -> HeadParameters:
    """A base pose with what the sliders add. Each avatar takes the expressions that its head has."""
    expression = base.expression.clone()
    for name, value in look.expression:
        if name in runtime.expression_names:
            index = runtime.expression_names.index(name)
            before = expression[:, index]
            # Named expressions go from 0 to 1; what was tracked beyond that stays.
            low, high = (before.clamp_max(0), before.clamp_min(1)) if part_of(name) else (-math.inf, math.inf)
            expression[:, index] = torch.clamp(before + value, torch.as_tensor(low), torch.as_tensor(high))
    right, down = (math.radians(angle) for angle in look.gaze)
    eyes = (base.eyes + torch.tensor([down, right, 0.0]).repeat(2)).clamp(-GAZE_LIMIT, GAZE_LIMIT)
    return base.replaced(
        expression=expression, jaw=_turned(base.jaw, look.jaw), eyes=eyes, neck=_turned(base.neck, look.neck)
    )


def _turned(rotation: Tensor, degrees: tuple[float, float, float]) -> Tensor:
    """Axis-angle rotations [1, 3], turned further."""
    turn = axis_angle_to_matrix(torch.deg2rad(torch.tensor([degrees])))
    return matrix_to_axis_angle(axis_angle_to_matrix(rotation) @ turn)


def _join(posed: list[PosedGaussians]) -> PosedGaussians:
    """All Gaussians as one set; colours of fewer coefficients are padded with zeros."""
    if len(posed) == 1:
        return posed[0]
    most = max(each.sh.shape[2] for each in posed)
    sh = [torch.nn.functional.pad(each.sh, (0, 0, 0, most - each.sh.shape[2])) for each in posed]
    return replace(
        posed[0],
        means=torch.cat([each.means for each in posed], 1),
        quaternions=torch.cat([each.quaternions for each in posed], 1),
        scales=torch.cat([each.scales for each in posed], 1),
        opacities=torch.cat([each.opacities for each in posed], 1),
        sh=torch.cat(sh, 1),
    )
