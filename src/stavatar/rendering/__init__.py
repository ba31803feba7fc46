"""From posed avatars to files: where the camera goes, and pictures as a video or as PNGs."""

from stavatar.rendering.output import check_target, save_image, to_uint8, write_pictures
from stavatar.rendering.playback import play
from stavatar.rendering.views import CameraMove

__all__ = ["CameraMove", "check_target", "play", "save_image", "to_uint8", "write_pictures"]
