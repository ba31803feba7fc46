"""Comparing files to the last bit, with a message that can be read; pytest would look for minutes what differs."""

from pathlib import Path


def assert_same_bits(one: Path, other: Path) -> None:
    first, second = one.read_bytes(), other.read_bytes()
    assert len(first) == len(second), f"{one} has {len(first)} bytes, {other} {len(second)}"
    # numbers of four bytes, as tensors have
    differing = sum(first[k : k + 4] != second[k : k + 4] for k in range(0, len(first), 4)) if first != second else 0
    assert not differing, f"{differing} of {len(first) // 4} numbers differ between {one} and {other}"
