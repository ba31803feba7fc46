"""What each part of the method is worth: many runs with one thing changed, and a table of what that did."""

from stavatar.ablation.ablation import ablate

__all__ = ["ablate"]
