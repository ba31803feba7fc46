"""Photometric tracking: a sequence tracked by landmarks in, one whose poses agree with the pixels out."""

from stavatar.refinement.checkpoint import Keep
from stavatar.refinement.refine import is_refined, refine_tracking

__all__ = ["Keep", "is_refined", "refine_tracking"]
