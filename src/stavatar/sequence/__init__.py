"""What was seen: tracked performances in memory and on disk."""

from stavatar.sequence.sequence import Sequence, Views
from stavatar.sequence.split import split_holdout
from stavatar.sequence.vhap import read_sequence
from stavatar.sequence.vhap_writer import check_replaceable, write_sequence

__all__ = ["Sequence", "Views", "check_replaceable", "read_sequence", "split_holdout", "write_sequence"]
