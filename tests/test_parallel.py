"""Work by several threads: in order, no further ahead than asked, and errors reach whoever takes the results."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

import pytest
import torch

from stavatar.parallel import borrowed, in_chunks, in_order, threads


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


@pytest.mark.parametrize("by_error", [True, False], ids=["by an error", "by being closed"])
def test_nothing_is_at_work_once_it_has_ended(by_error: bool):
    """So that whoever closes the tools next closes them under nobody."""
    at_work, done = threading.Event(), []

    def work(item: int) -> int:
        if item == 0 and by_error:
            at_work.wait(10)
            raise ValueError("the first")
        if item == 1:
            at_work.set()
            time.sleep(0.1)
            done.append(item)
        return item

    with ThreadPoolExecutor(2) as pool:
        results = in_order(pool, work, range(50), ahead=20)
        if by_error:
            with pytest.raises(ValueError, match="the first"):
                next(results)
        else:
            assert next(results) == 0
            assert at_work.wait(10)
            results.close()
        assert done == [1]


def test_a_tool_that_is_borrowed_is_nobody_elses_and_comes_back_from_a_failure():
    idle = SimpleQueue[str]()
    idle.put("hammer")
    with pytest.raises(ValueError), borrowed(idle) as tool:
        assert tool == "hammer" and idle.empty()
        raise ValueError
    assert idle.get_nowait() == "hammer"


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
