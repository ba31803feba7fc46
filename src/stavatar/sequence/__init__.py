"""What was seen: tracked performances in memory and on disk."""

from stavatar.sequence.sequence import Sequence
from stavatar.sequence.split import split_holdout
from stavatar.sequence.vhap import read_sequence, write_sequence

__all__ = ["Sequence", "read_sequence", "split_holdout", "write_sequence"]
