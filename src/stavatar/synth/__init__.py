"""Rendered performances of a head model: videos whose every parameter is known."""

from stavatar.synth.motion import Style, perform
from stavatar.synth.performance import (
    Performance,
    Truth,
    load_truth,
    make_performance,
    tracked_sequence,
    write_performance,
    write_truth,
)
from stavatar.synth.render import Renderer, portrait_camera
from stavatar.synth.subject import Subject

__all__ = [
    "Performance",
    "Renderer",
    "Style",
    "Subject",
    "Truth",
    "load_truth",
    "make_performance",
    "perform",
    "portrait_camera",
    "tracked_sequence",
    "write_performance",
    "write_truth",
]
