"""Floors from rates, and the rates themselves."""

import pytest
import torch

from stavatar.avatar.network_cpu import reduced_type
from stavatar.bench import machine as module
from stavatar.bench.machine import Machine, busy, circumstances, measure_machine
from stavatar.bench.timing import Effort

MACHINE = Machine(bandwidth={1: 100e9, 256: 20e9}, operations=50e9, reduced_operations=500e9)


def test_the_slower_of_moving_and_computing_decides():
    assert MACHINE.seconds(2e9, 1e9) == pytest.approx(0.1)  # 2 GB at 20 GB/s
    assert MACHINE.seconds(1e3, 10e9) == pytest.approx(0.2)
    assert MACHINE.seconds(1e3, 10e9, reduced=True) == pytest.approx(0.02)


def test_what_fits_a_cache_moves_at_its_rate():
    assert MACHINE.bandwidth_for(2 << 20) == 100e9  # a copy of one MiB moves two
    assert MACHINE.bandwidth_for((2 << 20) + 1) == 20e9
    assert MACHINE.bandwidth_for(1e12) == 20e9


def test_reduced_precision_helps_only_where_the_device_has_it():
    plain = Machine(bandwidth={1: 1e9}, operations=1e9, reduced_operations=None)
    assert plain.seconds(0, 1e9, reduced=True) == pytest.approx(1)


def test_measured_rates_are_those_of_a_computer(monkeypatch):
    monkeypatch.setattr(module, "_COPIES_MB", {"cpu": (1,)})
    monkeypatch.setattr(module, "_PRODUCT", {"cpu": 128})
    found = measure_machine(torch.device("cpu"), Effort(1, 5, 0.1))
    assert 1e7 < found.bandwidth[1] < 1e13
    assert 1e7 < found.operations < 1e14
    assert (found.reduced_operations is None) == (reduced_type() == torch.float32)


def test_circumstances_name_the_processor_and_the_load():
    facts = circumstances(torch.device("cpu"))
    assert facts["device"]
    assert facts["threads"] == torch.get_num_threads()
    assert busy(facts | {"load": 5.0})
    assert not busy(facts | {"load": 0.1})
    assert not busy(facts | {"load": None})
