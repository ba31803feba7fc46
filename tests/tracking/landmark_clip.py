"""Clips without images whose truth is known: a head moves, and what a landmark detector would see is computed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stavatar.camera import Camera
from stavatar.capture.observations import Observations
from stavatar.head import HeadModel, HeadParameters, LandmarkEmbedding
from stavatar.rotations import axis_angle_to_matrix
from stavatar.tracking.detector_bias import load_detector_bias
from stavatar.tracking.smoothing import smooth_path

SIZE = 256
FOCAL = 2.5 * SIZE
MOVING = ("jawOpen", "mouthSmileLeft", "mouthSmileRight", "browInnerUp", "mouthPucker", "eyeBlinkLeft", "eyeBlinkRight")


def detector_offset(parameters: HeadParameters, random: torch.Generator) -> Tensor:
    """Where the detector sees the landmarks of a random person besides the true ones: [T, 478, 3], world axes."""
    detector = load_detector_bias()
    offset = detector.of(torch.randn(detector.modes.shape[2], generator=random))
    turn = axis_angle_to_matrix(parameters.rotation) @ axis_angle_to_matrix(parameters.neck)
    return offset @ turn.transpose(1, 2)


@dataclass(frozen=True)
class Clip:
    observations: Observations
    head: HeadModel
    embedding: LandmarkEmbedding
    shape: Tensor
    parameters: HeadParameters
    camera: Camera

    def vertices(self) -> Tensor:
        return self.head(self.shape, self.parameters).vertices


def make_clip(
    head: HeadModel,
    embedding: LandmarkEmbedding,
    *,
    frames: int = 100,
    noise: float = 0.3,
    still: bool = False,
    undetected: tuple[int, ...] = (),
    misplaced: float = 0.0,
    focal: float = FOCAL,
    seed: int = 0,
) -> Clip:
    """A random person who moves, talks, blinks and looks around; or, `still`, does nothing at all.

    Landmarks are off by `noise` pixels in each frame, and throughout by what the detector does to people and, at
    random, by `misplaced` metres. Blendshape scores are the true coefficients, blurred, and resting at 0.2.
    """
    random = torch.Generator().manual_seed(seed)

    def wander(columns: int, size: float, sigma: float = 6.0) -> Tensor:
        """Smooth random curves [frames, columns] with standard deviation `size`."""
        curve = smooth_path(torch.randn(frames, columns, generator=random), torch.ones(frames), sigma)
        return curve / curve.std(0) * size * (0 if still else 1)

    shape = torch.zeros(head.shape_count)
    shape[:40] = torch.randn(40, generator=random) * 0.8
    parameters = head.neutral(frames)
    expression = parameters.expression.clone()
    for name in MOVING:
        sigma = 1.5 if "Blink" in name else 5.0
        expression[:, head.expression_names.index(name)] = (wander(1, 0.35, sigma)[:, 0] + 0.1).clamp(0, 1)
    gaze = wander(2, 0.15, 4.0)
    eyes = torch.zeros(frames, 6)
    eyes[:, [0, 1]] = gaze
    eyes[:, [3, 4]] = gaze
    joints = head.joint_template + torch.einsum("s,sjc->jc", shape, head.joint_basis)
    parameters = parameters.replaced(
        expression=expression,
        eyes=eyes,
        neck=wander(3, 0.12),
        rotation=wander(3, 0.02),
        translation=wander(3, 0.01) - joints[1],
    )
    camera = Camera.frontal(focal / 560, focal, SIZE, SIZE)
    posed = head(shape, parameters).vertices
    points = embedding.points(head, posed)
    offset = misplaced * torch.randn(1, points.shape[1], 3, generator=random)
    pixels = camera.project(points + offset + detector_offset(parameters, random))
    pixels = pixels + noise * torch.randn(pixels.shape, generator=random)
    depth = camera.to_camera(points)[..., 2]
    depth = (depth - depth.mean(1, keepdim=True)) * 560
    landmarks = torch.cat([pixels, depth[..., None]], -1)

    scores = 0.2 + 0.8 * (expression + 0.05 * torch.randn(expression.shape, generator=random)).clamp(0, 1)
    blendshapes = torch.cat([torch.zeros(frames, 1), scores], 1)[:, :52]
    detected = torch.ones(frames, dtype=torch.bool)
    detected[list(undetected)] = False
    landmarks[~detected] = torch.nan
    blendshapes[~detected] = torch.nan
    observations = Observations(
        images=torch.zeros(frames, SIZE, SIZE, 3, dtype=torch.uint8),
        mattes=torch.zeros(frames, SIZE, SIZE, dtype=torch.uint8),
        landmarks=landmarks,
        blendshapes=blendshapes,
        blendshape_names=("_neutral", *head.expression_names[:51]),
        detected=detected,
        frame_ids=torch.arange(frames),
        seconds=torch.arange(frames, dtype=torch.float64) / 25,
        fps=25.0,
    )
    return Clip(observations, head, embedding, shape, parameters, camera)
