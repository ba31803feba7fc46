"""From observations to a Sequence: cameras, identity, poses and expressions."""

from stavatar.tracking.landmarks import track_landmarks, track_with_report
from stavatar.tracking.report import Residuals, TrackReport
from stavatar.tracking.settings import LandmarkSettings
from stavatar.tracking.torso import TorsoPose, estimate_torso, split_head_and_torso

__all__ = [
    "LandmarkSettings",
    "Residuals",
    "TorsoPose",
    "TrackReport",
    "estimate_torso",
    "split_head_and_torso",
    "track_landmarks",
    "track_with_report",
]
