"""What was seen: tracked performances in memory and on disk."""

from stavatar.sequence.sequence import Sequence
from stavatar.sequence.split import split_holdout
from stavatar.sequence.vhap import check_replaceable, read_sequence, write_sequence

__all__ = ["Sequence", "check_replaceable", "read_sequence", "split_holdout", "write_sequence"]
