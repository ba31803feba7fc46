"""What was seen: tracked performances in memory and on disk."""

from stavatar.sequence.sequence import Sequence

__all__ = ["Sequence"]
