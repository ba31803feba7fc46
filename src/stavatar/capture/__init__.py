"""From a video to observations: decoding, face landmarks, mattes."""

from stavatar.capture.capture import capture
from stavatar.capture.observations import Observations

__all__ = ["Observations", "capture"]
