"""How far a track is from the truth, where the truth is known: that of a rendered performance.

Everything is compared in the camera's space, because a tracker chooses its own world. What one camera cannot tell
(where exactly the origin of another person's head lies, how large the head is) is a constant of the clip; errors are
given with it and without it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stavatar.camera import Camera
from stavatar.head.landmarks import LandmarkEmbedding
from stavatar.head.model import HeadModel
from stavatar.head.parameters import HeadParameters
from stavatar.head.posing import JOINTS
from stavatar.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from stavatar.sequence.sequence import Sequence
from stavatar.tracking.openings import measure_openings
from stavatar.tracking.steadiness import Spectrum, mean_rotation, spectrum, step_size

FACE = ("face", "forehead", "nose", "eyes", "lips")
"""Regions whose vertices are compared; heads are laid over each other by all of them."""

PARTS = {"face": FACE, "lips": ("lips",), "lids": ("eyes",)}
"""Regions that errors are given for."""

LATEST = 5
"""Frames by which a track may lag or lead at most."""

AT_REST = 0.05
"""Degrees per frame, root mean square, below which a head does not move enough to tell a lag."""

_CHUNK = 64


@dataclass(frozen=True)
class HeadMotion:
    """A person in motion, as tracked or as it was.

    Attributes:
        head: the head model.
        embedding: of the landmarks on it.
        shape: [S] identity.
        parameters: T frames.
        camera: one, or T of them.
    """

    head: HeadModel
    embedding: LandmarkEmbedding
    shape: Tensor
    parameters: HeadParameters
    camera: Camera

    @staticmethod
    def of(sequence: Sequence, head: HeadModel, embedding: LandmarkEmbedding) -> HeadMotion:
        """What a tracked sequence says, on the head that it was tracked with."""
        return HeadMotion(head, embedding, sequence.shape, sequence.parameters, sequence.camera)

    def turns(self) -> Tensor:
        """Rotations [T, 3, 3] of the skull in camera space, float64."""
        turns = axis_angle_to_matrix(self.parameters.rotation.double()) @ axis_angle_to_matrix(
            self.parameters.neck.double()
        )
        return self.camera.world_to_camera[:, :3, :3].double() @ turns

    def places(self) -> Places:
        """Where the head is, in camera space."""
        vertices, landmarks, between = [], [], []
        face = self.head.faces[self.head.faces_in(*FACE)].unique()
        eyes = [JOINTS.index("left_eye"), JOINTS.index("right_eye")]
        for frames in torch.arange(len(self.parameters)).split(_CHUNK):
            posed = self.head(self.shape, self.parameters[frames])
            camera = self.camera[frames]
            vertices.append(camera.to_camera(posed.vertices[:, face]))
            landmarks.append(self.embedding.points(self.head, posed.vertices))
            between.append(camera.to_camera(posed.joints[:, eyes]).mean(1))
        return Places(torch.cat(vertices), torch.cat(landmarks), torch.cat(between))


@dataclass(frozen=True)
class Places:
    """Of T frames, metres.

    Attributes:
        face: [T, P, 3] vertices of `FACE` in camera space.
        landmarks: [T, 478, 3] in the world.
        eyes: [T, 3] the middle between the eyeballs in camera space, which expressions do not move.
    """

    face: Tensor
    landmarks: Tensor
    eyes: Tensor


@dataclass(frozen=True)
class Distances:
    """Mean and 95th percentile over all vertices of all frames, millimetres."""

    mean: float
    p95: float

    @staticmethod
    def of(distances: Tensor) -> Distances:
        """From distances in metres."""
        millimetres = 1000 * distances.double().flatten()
        # kthvalue, because quantile refuses as many values as a few hundred frames have
        place = max(1, round(0.95 * len(millimetres)))
        return Distances(float(millimetres.mean()), float(millimetres.kthvalue(place).values))


@dataclass(frozen=True)
class Accuracy:
    """Errors of a track. Means over frames unless they say otherwise.

    Attributes:
        frames: number of frames compared.
        vertices: of each of `PARTS`, after the rigid motion that lays the tracked face over the true one, frame by
            frame; None where the two heads are of different models.
        vertices_up_to_size: the same with one size for the whole clip taken out as well.
        size: of the tracked face over that of the true one.
        rotation: of the head, degrees, without the constant turn between the two heads' axes.
        rotation_p95: the 95th percentile of that.
        rotation_raw: with it.
        rotation_offset: the constant turn, degrees.
        across, depth: millimetres that the head is off in the picture's directions and away from the camera, without
            the constant shift.
        across_raw, depth_raw: with it.
        blink_correlation, blink_gain: of the gaps between the lids, mean of both eyes: how well their curves agree
            (Pearson), and by which factor tracked lids move as far as true ones. None where the true ones do not move.
        mouth_correlation, mouth_gain: likewise of the lips.
        jitter_rotation: root mean square step of the rotation's error from frame to frame, degrees. On a head that is
            still it is the track's own trembling.
        jitter_across, jitter_depth: likewise of the head's place, millimetres.
        rotation_spectrum, across_spectrum, depth_spectrum: of the same errors, degrees and millimetres.
        lag: frames by which the track's turns come later than the true ones; None where the head hardly turns.
    """

    frames: int
    vertices: dict[str, Distances] | None
    vertices_up_to_size: dict[str, Distances] | None
    size: float | None
    rotation: float
    rotation_p95: float
    rotation_raw: float
    rotation_offset: float
    across: float
    depth: float
    across_raw: float
    depth_raw: float
    blink_correlation: float | None
    blink_gain: float | None
    mouth_correlation: float | None
    mouth_gain: float | None
    jitter_rotation: float
    jitter_across: float
    jitter_depth: float
    rotation_spectrum: Spectrum
    across_spectrum: Spectrum
    depth_spectrum: Spectrum
    lag: float | None


@torch.no_grad()
def measure_accuracy(found: HeadMotion, truth: HeadMotion, fps: float, frames: Tensor | None = None) -> Accuracy:
    """Compare a track with the truth.

    Args:
        found, truth: the same T frames; the head models may differ.
        fps: frames per second.
        frames: [N] sorted indices of the frames to compare, those with a detection as a rule; all where None. Spectra
            and lag take all frames, so that time runs evenly.
    """
    chosen = torch.arange(len(truth.parameters)) if frames is None else frames
    together = chosen.diff() == 1
    ours, theirs = found.places(), truth.places()
    vertices, up_to_size, size = None, None, None
    if found.head.name == truth.head.name:
        vertices, up_to_size, size = vertex_errors(truth.head, ours.face[chosen], theirs.face[chosen])

    # What turns the true head's axes into the tracked ones; where only the axes differ, it is the same in all frames.
    between = truth.turns().transpose(1, 2) @ found.turns()
    offset = mean_rotation(between[chosen])
    turn = matrix_to_axis_angle(between @ offset.T).rad2deg()
    angle = turn[chosen].norm(dim=1)

    across, depth = _along_the_view(ours.eyes - theirs.eyes, theirs.eyes)
    steady_across, steady_depth = across - across[chosen].mean(0), depth - depth[chosen].mean(0)

    our_gaps, their_gaps = measure_openings(ours.landmarks[chosen]), measure_openings(theirs.landmarks[chosen])
    lids = [_agreement(getattr(our_gaps, side), getattr(their_gaps, side)) for side in ("left_lids", "right_lids")]
    mouth = _agreement(our_gaps.mouth, their_gaps.mouth)
    blinks = [pair for pair in lids if pair is not None]
    return Accuracy(
        frames=len(chosen),
        vertices=vertices,
        vertices_up_to_size=up_to_size,
        size=size,
        rotation=float(angle.mean()),
        rotation_p95=float(angle.quantile(0.95)),
        rotation_raw=float(matrix_to_axis_angle(between[chosen]).norm(dim=1).rad2deg().mean()),
        rotation_offset=float(matrix_to_axis_angle(offset).norm().rad2deg()),
        across=float(steady_across[chosen].norm(dim=1).mean()),
        depth=float(steady_depth[chosen].abs().mean()),
        across_raw=float(across[chosen].norm(dim=1).mean()),
        depth_raw=float(depth[chosen].abs().mean()),
        blink_correlation=sum(pair[0] for pair in blinks) / len(blinks) if blinks else None,
        blink_gain=sum(pair[1] for pair in blinks) / len(blinks) if blinks else None,
        mouth_correlation=None if mouth is None else mouth[0],
        mouth_gain=None if mouth is None else mouth[1],
        jitter_rotation=step_size(turn[chosen], together),
        jitter_across=step_size(across[chosen], together),
        jitter_depth=step_size(depth[chosen], together),
        rotation_spectrum=spectrum(turn, fps),
        across_spectrum=spectrum(across, fps),
        depth_spectrum=spectrum(depth, fps),
        lag=measure_lag(found.turns(), truth.turns()),
    )


def measure_lag(found: Tensor, truth: Tensor) -> float | None:
    """Frames by which rotations `found` [T, 3, 3] come later than those of `truth`.

    The angular velocities are shifted against each other to where they agree best; a parabola through the best three
    places tells fractions of a frame. None where the truth hardly turns, or the clip is too short to be shifted.
    """
    velocity, expected = (
        matrix_to_axis_angle(turns[1:] @ turns[:-1].transpose(1, 2)).rad2deg() for turns in (found, truth)
    )
    count = len(expected)
    if count <= 4 * LATEST or expected.square().sum(1).mean().sqrt() < AT_REST:
        return None
    inner = expected[LATEST : count - LATEST]
    agreement = torch.stack(
        [
            (inner * moved).sum() / moved.norm().clamp_min(1e-12)
            for shift in range(-LATEST, LATEST + 1)
            for moved in [velocity[LATEST + shift : count - LATEST + shift]]
        ]
    )
    best = int(agreement[1:-1].argmax()) + 1
    before, top, after = agreement[best - 1 : best + 2].tolist()
    curvature = before - 2 * top + after
    return best - LATEST + (0.5 * (before - after) / curvature if curvature < 0 else 0.0)


def vertex_errors(
    head: HeadModel, found: Tensor, truth: Tensor
) -> tuple[dict[str, Distances], dict[str, Distances], float]:
    """Errors of vertices [T, P, 3] after rigid alignment of each frame, those up to size, and the size."""
    rotation, ours, theirs = _align(found, truth)
    turned = ours @ rotation.transpose(1, 2)
    size = float(ours.square().sum() / (turned * theirs).sum())
    face = head.faces[head.faces_in(*FACE)].unique()
    masks = {name: torch.isin(face, head.faces[head.faces_in(*regions)].unique()) for name, regions in PARTS.items()}
    rigid, sized = (turned - theirs).norm(dim=-1), (turned / size - theirs).norm(dim=-1)
    return (
        {name: Distances.of(rigid[:, mask]) for name, mask in masks.items()},
        {name: Distances.of(sized[:, mask]) for name, mask in masks.items()},
        size,
    )


def _align(source: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The rotations [T, 3, 3] that bring points [T, P, 3] nearest to others (Kabsch 1976), and both, centred."""
    source, target = source - source.mean(1, keepdim=True), target - target.mean(1, keepdim=True)
    left, _, right = torch.linalg.svd(target.transpose(1, 2) @ source)
    sign = torch.ones_like(left[:, 0])
    sign[:, 2] = torch.linalg.det(left @ right).sign()
    return (left * sign[:, None]) @ right, source, target


def _along_the_view(shift: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
    """Shifts [T, 3] of points at `place` [T, 3] from the camera -> across the ray [T, 3] and along it [T, 1], mm."""
    ray = place / place.norm(dim=1, keepdim=True)
    along = (shift * ray).sum(1, keepdim=True)
    return 1000 * (shift - along * ray).double(), 1000 * along.double()


def _agreement(found: Tensor, truth: Tensor) -> tuple[float, float] | None:
    """Correlation of two curves [T], and the slope of the first over the second; None where the second is flat."""
    ours, theirs = found.double() - found.double().mean(), truth.double() - truth.double().mean()
    if theirs.norm() < 1e-4 * len(truth) ** 0.5:
        return None
    product = float((ours * theirs).sum())
    return product / max(float(ours.norm() * theirs.norm()), 1e-12), product / float(theirs.square().sum())
