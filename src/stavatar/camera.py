"""Pinhole cameras.

Convention: camera space is OpenCV's (x right, y down, z forward, metres); ``world_to_camera`` is a 4x4 matrix acting on
column vectors; pixel (0, 0) is the top-left pixel and its *centre* has image coordinates (0.5, 0.5). World space is the
head's (y up, the neutral face looks along +z), so a camera in front of the face has the rotation diag(1, -1, -1).
Example: with focal 500, centre 128 and a camera 1 m in front of the origin, the origin lands at (128, 128) and a point
0.1 m above it at (128, 78).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Camera:
    """B pinhole cameras that share one image size.

    Attributes:
        world_to_camera: [B, 4, 4].
        focal: [B, 2] focal lengths (fx, fy) in pixels.
        center: [B, 2] principal points (cx, cy) in pixels.
        width, height: image size in pixels.
    """

    world_to_camera: Tensor
    focal: Tensor
    center: Tensor
    width: int
    height: int

    def __len__(self) -> int:
        return len(self.world_to_camera)

    def __getitem__(self, index: Tensor | list[int]) -> Camera:
        """The cameras of some frames; the batch dimension stays. A single camera serves every frame."""
        if len(self) == 1:
            return self.expand(len(index))
        return replace(
            self, world_to_camera=self.world_to_camera[index], focal=self.focal[index], center=self.center[index]
        )

    def expand(self, count: int) -> Camera:
        """Repeat a single camera `count` times without copying."""
        if len(self) == count:
            return self
        return replace(
            self,
            world_to_camera=self.world_to_camera.expand(count, 4, 4),
            focal=self.focal.expand(count, 2),
            center=self.center.expand(count, 2),
        )

    def to(self, device: torch.device | str) -> Camera:
        return replace(
            self,
            world_to_camera=self.world_to_camera.to(device),
            focal=self.focal.to(device),
            center=self.center.to(device),
        )

    def resized(self, width: int, height: int) -> Camera:
        """The same view at another image size."""
        factor = self.focal.new_tensor([width / self.width, height / self.height])
        return replace(self, focal=self.focal * factor, center=self.center * factor, width=width, height=height)

    def around(self, target: Tensor, yaw: float, pitch: float, distance: float = 1.0) -> Camera:
        """The cameras moved around the world's vertical and horizontal axes through `target` [3].

        The target keeps its place in the picture unless the distance changes: `distance` multiplies how far the cameras
        are from it. Angles are radians; positive yaw goes to +x, positive pitch up.
        """
        sin_yaw, cos_yaw, sin_pitch, cos_pitch = math.sin(yaw), math.cos(yaw), math.sin(pitch), math.cos(pitch)
        turn_left = torch.tensor([[cos_yaw, 0.0, sin_yaw], [0.0, 1.0, 0.0], [-sin_yaw, 0.0, cos_yaw]])
        turn_up = torch.tensor([[1.0, 0.0, 0.0], [0.0, cos_pitch, sin_pitch], [0.0, -sin_pitch, cos_pitch]])
        turn = torch.eye(4)
        turn[:3, :3] = (turn_left @ turn_up).T  # the world turns the other way
        target = target.to("cpu", torch.float32)
        turn[:3, 3] = target - turn[:3, :3] @ target
        pose = self.world_to_camera @ turn.to(self.world_to_camera)
        pose[:, :3, 3] += (distance - 1) * (pose[:, :3, :3] @ target.to(pose) + pose[:, :3, 3])
        return replace(self, world_to_camera=pose)

    @property
    def intrinsics(self) -> Tensor:
        """Calibration matrices [B, 3, 3]."""
        matrix = torch.zeros(len(self), 3, 3, dtype=self.focal.dtype, device=self.focal.device)
        matrix[:, 0, 0], matrix[:, 1, 1] = self.focal.unbind(-1)
        matrix[:, 0, 2], matrix[:, 1, 2] = self.center.unbind(-1)
        matrix[:, 2, 2] = 1
        return matrix

    @property
    def position(self) -> Tensor:
        """Camera centres in world space [B, 3]."""
        rotation, translation = self.world_to_camera[:, :3, :3], self.world_to_camera[:, :3, 3]
        return -(rotation.transpose(1, 2) @ translation[..., None])[..., 0]

    def to_camera(self, points: Tensor) -> Tensor:
        """World points [B, P, 3] -> camera space [B, P, 3]."""
        return points @ self.world_to_camera[:, :3, :3].transpose(1, 2) + self.world_to_camera[:, None, :3, 3]

    def project(self, points: Tensor) -> Tensor:
        """World points [B, P, 3] in front of the cameras -> pixels [B, P, 2]."""
        points = self.to_camera(points)
        return self.focal[:, None] * points[..., :2] / points[..., 2:] + self.center[:, None]

    @staticmethod
    def frontal(distance: float, focal: float, width: int, height: int) -> Camera:
        """One camera on the +z axis, `distance` metres in front of the origin, looking at it."""
        pose = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
        pose[2, 3] = distance
        return Camera(
            pose[None], torch.full((1, 2), float(focal)), torch.tensor([[width / 2, height / 2]]), width, height
        )

    @staticmethod
    def orbit(
        target: Tensor, distance: float, yaw: Tensor, pitch: Tensor, focal: float, width: int, height: int
    ) -> Camera:
        """Cameras on a sphere around `target` [3], looking at it with y up.

        `yaw` and `pitch` [B] are radians; zero is the frontal view, positive yaw moves the camera towards +x and
        positive pitch upwards.
        """
        yaw, pitch = torch.broadcast_tensors(torch.as_tensor(yaw), torch.as_tensor(pitch))
        back = torch.stack([yaw.sin() * pitch.cos(), pitch.sin(), yaw.cos() * pitch.cos()], -1)
        right = torch.stack([yaw.cos(), torch.zeros_like(yaw), -yaw.sin()], -1)
        down = torch.linalg.cross(right, back)
        rotation = torch.stack([right, down, -back], -2)
        pose = torch.eye(4, dtype=rotation.dtype).repeat(len(yaw), 1, 1)
        pose[:, :3, :3] = rotation
        pose[:, :3, 3] = -(rotation @ (target + distance * back)[..., None])[..., 0]
        count = len(yaw)
        return Camera(
            pose,
            torch.full((count, 2), float(focal)),
            torch.tensor([[width / 2, height / 2]]).repeat(count, 1),
            width,
            height,
        )
