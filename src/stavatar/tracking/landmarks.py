"""Tracking from landmarks: observations -> Sequence. The first stage; photometric refinement comes after it.

What is fitted: identity and focal length once per clip, rigid head pose, expression, jaw and gaze in each frame. On a
head without ARKit's names (FLAME) expression starts from neutral, and MediaPipe's scores only say how far the jaw is
open and the eyes are shut. Landmarks
do not see the torso: it is assumed to stand upright and drift slowly (see `torso`).
"""

from __future__ import annotations

import time
from dataclasses import replace

import torch
from torch import Tensor

from stavatar.camera import Camera
from stavatar.capture.observations import Observations
from stavatar.errors import InputError
from stavatar.head.landmarks import LandmarkEmbedding
from stavatar.head.model import HeadModel
from stavatar.head.parameters import HeadParameters
from stavatar.progress import Stage, stage, warn
from stavatar.sequence.sequence import Sequence
from stavatar.tracking.advice import advise
from stavatar.tracking.blendshapes import blink_guess, expression_guess, gaze_guess, jaw_guess
from stavatar.tracking.detector_bias import load_detector_bias
from stavatar.tracking.gaps import LEAST_CONFIDENCE, LONGEST_BRIDGE, Bridge
from stavatar.tracking.gaze import fit_gaze
from stavatar.tracking.landmark_fit import LandmarkFit, LandmarkTarget, fit_landmarks
from stavatar.tracking.landmark_groups import OUTER_EYE_CORNERS, SKIN, landmark_weights
from stavatar.tracking.landmark_jaw import UNIT as JAW_UNIT
from stavatar.tracking.landmark_model import LandmarkModel, require_arkit
from stavatar.tracking.report import Residuals, TrackReport, jitter
from stavatar.tracking.settings import LandmarkSettings
from stavatar.tracking.torso import NECK, ROOT, estimate_torso, split_head_and_torso

TRACKER = "landmarks-2"
"""Goes into ``Sequence.history``; raised when results change."""

FEWEST = 10
"""Frames with a face below which tracking refuses."""

HALF_TRUST = 3.0
"""Landmark error at which a frame's confidence is one half, %."""

SMALLEST_FACE = 4.0
"""Outer-eye distance in pixels below which landmarks say nothing."""

ASSUMED_FOCAL = 2.5
"""Focal length in image widths where nothing tells it."""


def track_landmarks(
    observations: Observations,
    head: HeadModel,
    embedding: LandmarkEmbedding,
    *,
    name: str,
    settings: LandmarkSettings | None = None,
    progress: Stage = stage,
) -> Sequence:
    """Track a clip from its landmarks, telling the user of whatever may spoil the result.

    See :func:`track_with_report`, which returns the figures too and prints nothing.
    """
    sequence, report = track_with_report(observations, head, embedding, name=name, settings=settings, progress=progress)
    for advice in report.advice:
        warn(str(advice))
    return sequence


def track_with_report(
    observations: Observations,
    head: HeadModel,
    embedding: LandmarkEmbedding,
    *,
    name: str,
    settings: LandmarkSettings | None = None,
    progress: Stage = stage,
) -> tuple[Sequence, TrackReport]:
    """Track a clip from its landmarks.

    The camera stays at +z of the origin and looks at it, so far away that the neck joint has z = 0 on average. Frames
    without a detection get a pose between their neighbours' over a short gap, that of the nearer neighbour in a long
    one (:data:`stavatar.tracking.gaps.LONGEST_BRIDGE`), and confidence 0; they are left out of `train`, as are frames
    whose landmarks do not fit. `test` is empty.

    Args:
        observations: T frames of one person.
        head: with ARKit expressions, as the embedded head has, or with a jaw joint that opens the mouth, as FLAME.
        embedding: of the landmarks on `head`.
        name: for the sequence.
        settings: options; the defaults where None.
        progress: shows the stage.

    Raises:
        InputError: too few frames show a face, an option is out of range, or `head` opens its mouth by
                expressions that are not ARKit's.
    """
    started = time.perf_counter()
    settings = settings or LandmarkSettings()
    require_arkit(head)
    known = usable_frames(observations)
    if len(known) < FEWEST:
        raise InputError(
            f"{name}: a face was found in only {len(known)} of {len(observations)} frames; tracking needs at least "
            f"{FEWEST}, so give a clip in which the face is larger, brighter or turned to the camera"
        )
    focal, focal_source = choose_focal(settings, observations)

    named = head.jaw_by_expression
    expressions = None if named else settings.expressions
    model = LandmarkModel.of(head, embedding, settings.identities, expressions, load_detector_bias())
    target = make_target(observations, known, head.expression_names[: model.expression_basis.shape[2]])
    if model.jaw is not None:
        jaw = jaw_guess(observations, known) / JAW_UNIT
        target = replace(target, expression=torch.cat([target.expression, jaw], 1))
    with progress("tracking the head", settings.identity_steps + settings.frame_steps) as step_done:
        fit = fit_landmarks(model, target, focal, settings, lambda note: step_done(1, note))
    if named:
        shut = fit.pose.expression[:, [head.expression_names.index(f"eyeBlink{side}") for side in ("Left", "Right")]]
    else:
        shut = blink_guess(observations, known)
    eyes = fit_gaze(head, embedding, model, fit, target, gaze_guess(observations, known), shut)

    errors = fit.errors(model, target, with_bias=True)
    confidence = torch.zeros(len(observations))
    confidence[known] = 1 / (1 + (errors[:, list(SKIN)].mean(1) / HALF_TRUST).square())
    parameters, camera = _to_world(
        head, model, fit, eyes, known, confidence, observations.fps, observations.size, torso=settings.torso
    )
    train = torch.nonzero(confidence >= LEAST_CONFIDENCE)[:, 0]

    turn, shift = jitter(fit.pose.rotation, fit.pose.translation[:, :2])
    residual = Residuals.of(errors)
    if settings.fit_focal:
        focal_source += ", fitted"
    sequence = Sequence(
        name=name,
        head_model=head.name,
        shape=torch.nn.functional.pad(fit.shape, (0, head.shape_count - len(fit.shape))),
        parameters=parameters,
        camera=camera,
        images=observations.images,
        masks=observations.mattes,
        frame_ids=observations.frame_ids,
        train=train,
        test=torch.empty(0, dtype=torch.int64),
        fps=observations.fps,
        landmarks=observations.landmarks[..., :2].where(observations.detected[:, None, None], torch.nan),
        confidence=confidence,
        history={
            "tracker": TRACKER,
            "landmark_error": f"{residual.all:.2f} % of the outer-eye distance",
            "focal": f"{float(fit.focal):.1f} px, {focal_source}",
        },
    )
    report = TrackReport(
        frames=len(observations),
        detected=len(known),
        usable=len(train),
        eye_distance=float(target.unit.median() * 100),
        residual=residual,
        residual_on_head=Residuals.of(fit.errors(model, target, with_bias=False)),
        jitter_rotation=turn,
        jitter_translation=shift,
        focal=float(fit.focal),
        focal_source=focal_source,
        seconds=time.perf_counter() - started,
        advice=advise(observations, sequence, turns=fit.pose.rotation, residual=residual.all),
    )
    return sequence, report


def usable_frames(observations: Observations) -> Tensor:
    """Indices [N] of the frames with landmarks of a face that is more than a few pixels large."""
    landmarks = observations.landmarks
    seen = observations.detected & landmarks.isfinite().flatten(1).all(1) & observations.blendshapes.isfinite().all(1)
    return torch.nonzero(seen & (eye_distance(landmarks) >= SMALLEST_FACE))[:, 0]


def eye_distance(landmarks: Tensor) -> Tensor:
    """Distance [T] of the outer eye corners of landmarks [T, 478, 3], pixels; with depth, so not shorter in profile."""
    right, left = OUTER_EYE_CORNERS
    return (landmarks[:, right] - landmarks[:, left]).norm(dim=1)


def choose_focal(settings: LandmarkSettings, observations: Observations) -> tuple[float, str]:
    """The focal length to start from, pixels, and where it comes from."""
    width = observations.size[0]
    if settings.focal is not None:
        focal, source = settings.focal, "option"
    elif observations.source_focal_hint is not None:
        focal, source = observations.source_focal_hint, "metadata"
    else:
        focal, source = ASSUMED_FOCAL * width, "assumed"
    if not 0.1 * width <= focal <= 100 * width:
        raise InputError(
            f"focal {focal:g} ({source}) is out of range: give pixels between {0.1 * width:g} and {100 * width:g} as "
            f"the option focal for images {width} wide"
        )
    return focal, source


def make_target(observations: Observations, known: Tensor, expression_names: list[str]) -> LandmarkTarget:
    """What the frames `known` [N] are fitted to."""
    landmarks = observations.landmarks[known]
    weights = landmark_weights()
    seconds = observations.seconds[known]
    width, height = observations.size
    return LandmarkTarget(
        landmarks=landmarks,
        unit=eye_distance(landmarks) / 100,
        weights=weights / weights.sum(),
        expression=expression_guess(observations, known, expression_names),
        elapsed=((seconds[1:] - seconds[:-1]) * 25).clamp_min(0.1).float(),
        center=torch.tensor([width / 2, height / 2]),
    )


def _to_world(
    head: HeadModel,
    model: LandmarkModel,
    fit: LandmarkFit,
    eyes: Tensor,
    known: Tensor,
    confidence: Tensor,
    fps: float,
    size: tuple[int, int],
    *,
    torso: bool,
) -> tuple[HeadParameters, Camera]:
    """Head poses in front of the camera -> parameters of all frames in world space, and the camera."""
    fitted = model.expression_basis.shape[2]
    expression = torch.nn.functional.pad(fit.pose.expression[:, :fitted], (0, head.expression_count - fitted))
    identity = torch.einsum("s,sjc->jc", fit.shape, head.joint_basis[: len(fit.shape)])
    joints = head.joint_template + identity
    flip = torch.diag(torch.tensor([1.0, -1.0, -1.0]))  # camera axes <-> world axes
    bridge = Bridge(known, len(confidence), LONGEST_BRIDGE * fps)
    arm = joints[NECK] - model.pivot
    neck = fit.pose.rotation @ arm + fit.pose.translation
    distance = float(neck[:, 2].mean())
    neck = bridge.values((neck - torch.tensor([0.0, 0.0, distance])) @ flip)
    rotation = bridge.rotations(flip @ fit.pose.rotation)

    if torso:
        torso_rotation, torso_translation = estimate_torso(rotation, neck, confidence, joints, fps)
    else:  # as if the neck joint did not exist
        lever = (rotation @ (joints[NECK] - joints[ROOT])[:, None])[..., 0]
        torso_rotation, torso_translation = rotation, neck - joints[ROOT] - lever
    pose = split_head_and_torso(rotation, neck, torso_rotation, torso_translation, joints)
    parameters = HeadParameters(
        expression=bridge.values(expression),
        rotation=pose.rotation,
        neck=pose.neck,
        jaw=torch.zeros_like(pose.neck)
        if model.jaw is None
        else bridge.values(fit.pose.expression[:, fitted:] * JAW_UNIT),
        eyes=bridge.values(eyes),
        translation=pose.translation,
        neck_translation=pose.neck_translation,
    )
    return parameters, Camera.frontal(distance, float(fit.focal), *size)
