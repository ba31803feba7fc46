"""Moving an avatar by a performance that is not its own."""

from stavatar.drive.driver import Driver
from stavatar.drive.retarget import Retargeter, Retargeting
from stavatar.drive.sources import load_driver

__all__ = ["Driver", "Retargeter", "Retargeting", "load_driver"]
