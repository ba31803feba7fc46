"""Rendered performances of a head model: videos whose every parameter is known."""

from stavatar.synth.motion import perform
from stavatar.synth.performance import (
    Performance,
    Truth,
    load_truth,
    make_performance,
    write_performance,
    write_truth,
)
from stavatar.synth.render import Renderer, portrait_camera
from stavatar.synth.subject import Subject

__all__ = [
    "Performance",
    "Renderer",
    "Subject",
    "Truth",
    "load_truth",
    "make_performance",
    "perform",
    "portrait_camera",
    "write_performance",
    "write_truth",
]
