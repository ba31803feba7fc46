"""Sequence: a tracked performance, the common currency between tracking, training, driving and evaluation."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from stavatar.camera import Camera
from stavatar.head.parameters import HeadParameters


@dataclass(frozen=True)
class Views:
    """Which moment each frame of a sequence of several cameras shows, and which camera took it.

    Attributes:
        timesteps: [T] int64, not decreasing; frames of one timestep have the same head parameters.
        cameras: [T] int64 index of the camera.
        names: index -> name of every camera.
    """

    timesteps: Tensor
    cameras: Tensor
    names: dict[int, str]


@dataclass(frozen=True)
class Sequence:
    """T frames of one subject with the head parameters and cameras that explain them.

    World space is the head's: metres, y up, the head near the origin and looking roughly along +z at a camera on the
    +z axis. In what we track the camera stays still and the head moves; data of others may move the camera. With
    several cameras each picture is a frame, and the parameters of its moment are repeated.

    Attributes:
        name: of the subject or clip.
        head_model: name of the head model that the parameters belong to (``HeadModel.name``).
        shape: [S] identity coefficients.
        parameters: T frames.
        camera: one camera, or T of them.
        images: [T, H, W, 3] uint8 RGB over white.
        masks: [T, H, W] uint8 alpha of the person.
        frame_ids: [T] int64, index of each frame in the source video.
        train, test: sorted int64 indices into the T frames; disjoint. Frames in neither were left out as unusable.
        val: frames of a camera that is held back from training, as multi-view data have; mostly empty.
        landmarks: [T, 478, 2] pixels of detected landmarks, NaN where there are none; None where never detected.
        confidence: [T] in [0, 1], how far the tracker trusts a frame; 0 where the pose was bridged over a gap.
        fps: for playback.
        history: what was done to the parameters so far, for results to quote, for example
            ``{"tracker": "landmarks-1", "test_frames": "landmarks"}``.
        views: None where one camera took all frames, each at its own moment.
    """

    name: str
    head_model: str
    shape: Tensor
    parameters: HeadParameters
    camera: Camera
    images: Tensor
    masks: Tensor
    frame_ids: Tensor
    train: Tensor
    test: Tensor
    fps: float
    landmarks: Tensor | None = None
    confidence: Tensor | None = None
    history: dict[str, str] = field(default_factory=dict)
    val: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    views: Views | None = None

    def __len__(self) -> int:
        return len(self.parameters)

    @property
    def width(self) -> int:
        return self.images.shape[2]

    @property
    def height(self) -> int:
        return self.images.shape[1]

    def with_parameters(self, parameters: HeadParameters, **history: str) -> Sequence:
        """The same frames explained by other parameters; `history` entries are added."""
        return replace(self, parameters=parameters, history={**self.history, **history})

    def image(self, indices: Tensor | list[int] | slice, device: torch.device | str = "cpu") -> Tensor:
        """Float images [B, H, W, 3] in [0, 1]."""
        return self.images[indices].to(device).float() / 255

    def mask(self, indices: Tensor | list[int] | slice, device: torch.device | str = "cpu") -> Tensor:
        """Float mattes [B, H, W] in [0, 1]."""
        return self.masks[indices].to(device).float() / 255
