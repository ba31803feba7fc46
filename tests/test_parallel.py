"""Work by several threads: in order, no further ahead than asked, and errors reach whoever takes the results."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from stavatar.parallel import in_chunks, in_order, threads


def test_results_come_in_the_order_of_the_items():
    def slow_at_first(item: int) -> int:
        time.sleep(0.02 if item == 0 else 0)
        return item * item

    with ThreadPoolExecutor(4) as pool:
        assert list(in_order(pool, slow_at_first, range(20), ahead=8)) == [item * item for item in range(20)]


def test_work_is_done_side_by_side():
    both_there = threading.Barrier(2, timeout=10)
    with ThreadPoolExecutor(2) as pool:
        list(in_order(pool, lambda _: both_there.wait(), range(2), ahead=2))


def test_items_are_not_asked_for_long_before_they_are_wanted():
    asked = 0

    def items() -> Iterator[int]:
        nonlocal asked
        for item in range(100):
            asked += 1
            yield item

    with ThreadPoolExecutor(2) as pool:
        results = in_order(pool, lambda item: item, items(), ahead=3)
        assert next(results) == 0 and asked == 4
        assert next(results) == 1 and asked == 5


def test_an_error_comes_at_its_place():
    def work(item: int) -> int:
        if item == 2:
            raise ValueError("the third")
        return item

    with ThreadPoolExecutor(2) as pool:
        results = in_order(pool, work, range(5), ahead=5)
        assert [next(results), next(results)] == [0, 1]
        with pytest.raises(ValueError, match="the third"):
            next(results)


def test_chunks_hold_all_items_and_the_last_may_be_shorter():
    assert list(in_chunks(range(7), 3)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(in_chunks([], 3)) == []


def test_as_many_threads_as_torch_is_allowed():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert threads() == 1
    finally:
        torch.set_num_threads(before)
