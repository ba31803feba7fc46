"""From a video to observations: decoding, face landmarks, mattes."""

from stavatar.capture.capture import capture
from stavatar.capture.observations import Observations
from stavatar.capture.video import write_video

__all__ = ["Observations", "capture", "write_video"]
