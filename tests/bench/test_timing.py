"""Timing of known work, and memory that is known to be held."""

import time

import pytest
import torch

from stavatar.bench.timing import Effort, measure, peak_memory_mb, reset_peak_memory

CPU = torch.device("cpu")


def test_a_call_of_known_length_is_timed_and_warm_up_is_not_counted():
    calls = []

    def work():
        calls.append(None)
        time.sleep(0.05 if len(calls) <= 2 else 0.004)

    timing = measure(work, CPU, Effort(warm_up=2, repeats=7, seconds=60))
    assert len(calls) == 9
    assert timing.repeats == 7
    assert 4 <= timing.fastest <= timing.low <= timing.median <= timing.high
    assert timing.fastest < 50  # the slow first two would have lifted every figure
    assert timing.cpu < timing.median  # it slept
    assert timing.busy is None


def test_slow_work_ends_early_but_not_before_five_repeats():
    assert measure(lambda: time.sleep(0.01), CPU, Effort(warm_up=0, repeats=50, seconds=0.0)).repeats == 5


def test_processor_time_is_that_of_the_work():
    def work():
        end = time.process_time() + 0.01
        while time.process_time() < end:
            pass

    assert measure(work, CPU, Effort(warm_up=0, repeats=5)).cpu == pytest.approx(10, rel=0.3)


def test_the_peak_is_that_of_the_time_since_it_was_reset():
    if peak_memory_mb(CPU) is None:
        pytest.skip("this system does not tell the largest resident set")
    big = torch.ones(64 << 18)  # 64 MiB
    with_it = peak_memory_mb(CPU)
    del big
    reset_peak_memory(CPU)
    assert peak_memory_mb(CPU) < with_it - 48
