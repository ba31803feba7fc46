"""Photometric alignment: head parameters that make an avatar's pictures agree with the recorded ones."""

from stavatar.alignment.align import Alignment, Descent, align
from stavatar.alignment.unknowns import Unknowns

__all__ = ["Alignment", "Descent", "Unknowns", "align"]
