"""Options of landmark tracking."""

from __future__ import annotations

from dataclasses import dataclass

from stavatar.errors import InputError


@dataclass(frozen=True)
class LandmarkSettings:
    """How landmarks are turned into poses. Landmark errors count in percent of the outer-eye distance ("%").

    Attributes:
        focal: focal length in crop pixels; None takes the video's own where its metadata give one, else 2.5 times the
            image width. A face alone hardly tells the focal length, and an avatar hardly depends on it.
        fit_focal: adjust the focal length to the clip, starting from the one above. Worthwhile only where the subject
            turns the head widely or comes close.
        bias: give each landmark a constant place of its own on the person, so that what the head model cannot express
            does not pull on the pose.
        identities: number of identity coefficients to fit.
        identity_prior: weight of the squared coefficients, %² per squared standard deviation. Much weaker ones let
            the shape run off in exchange for focal length.
        identity_frames: identity is fitted to so many frames, spread evenly over the clip.
        identity_steps: Gauss-Newton steps for identity (and focal length).
        frame_steps: Gauss-Newton steps over all frames, with identity fixed.
        expression_prior: weight of the squared distance to MediaPipe's calibrated blendshape scores, %².
        expression_bounds: range of the expression coefficients where they are named as ARKit's.
        expressions: number of expression coefficients to fit on heads that have no names for them (FLAME).
        unnamed_bound: those coefficients stay within so many standard deviations.
        robust: landmark errors beyond this many % count linearly (Huber).
        bias_size: how far from its place on the head model a landmark is expected to be, metres.
        smooth_rotation, smooth_translation: radians and metres that the head may stray in 1/25 s from moving on with
            its own velocity, at the cost of an error of `noise`. More than twice that costs linearly: a still head
            is held still, a jolt is not held back.
        smooth_expression: likewise, coefficients changing in 1/25 s.
        torso: give the torso a motion of its own; without, it moves rigidly with the head.
        noise: how much detected landmarks tremble while nothing moves, %.
    """

    focal: float | None = None
    fit_focal: bool = False
    bias: bool = True
    identities: int = 60
    identity_prior: float = 7e-3
    identity_frames: int = 160
    identity_steps: int = 8
    frame_steps: int = 6
    expression_prior: float = 0.2
    expression_bounds: tuple[float, float] = (-0.15, 1.2)
    expressions: int = 50
    unnamed_bound: float = 3.0
    robust: float = 3.0
    bias_size: float = 0.003
    smooth_rotation: float = 0.005
    smooth_translation: float = 0.002
    smooth_expression: float = 0.4
    noise: float = 0.15
    torso: bool = True

    def __post_init__(self) -> None:
        for name in ("identities", "identity_frames", "identity_steps", "frame_steps", "expressions"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} of the landmark settings must be at least 1")
        positive = ("identity_prior", "expression_prior", "unnamed_bound", "robust", "bias_size", "noise")
        for name in (*positive, "smooth_rotation", "smooth_translation", "smooth_expression"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} of the landmark settings must be more than 0")
        low, high = self.expression_bounds
        if not low <= 0 < high:
            raise InputError("expression_bounds of the landmark settings must enclose 0")
