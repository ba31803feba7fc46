"""Timing: what is counted and when measuring stops."""

from __future__ import annotations

import pytest

from stavatar.evaluation import speed


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that only moves when told to."""
    now = [0.0]
    monkeypatch.setattr(speed.time, "perf_counter", lambda: now[0])
    return now


def test_the_median_ignores_warm_up_and_outliers(clock: list[float]) -> None:
    def work(repeat: int) -> None:
        clock[0] += 100.0 if repeat < speed.WARM_UP else 0.5 if repeat == 7 else 0.01

    timing = speed.median_time(work)
    assert timing.seconds == pytest.approx(0.01)
    assert timing.repeats == speed.REPEATS


def test_slow_work_is_not_repeated_for_long(clock: list[float]) -> None:
    calls = []

    def work(repeat: int) -> None:
        calls.append(repeat)
        clock[0] += 2.0

    timing = speed.median_time(work)
    assert timing.seconds == pytest.approx(2.0)
    assert timing.repeats == speed.FEWEST
    assert calls == list(range(speed.WARM_UP + speed.FEWEST))
