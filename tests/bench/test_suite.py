"""The whole benchmark on something tiny: every part runs, and rows say what they should."""

import dataclasses

import pytest
import torch

from stavatar.bench import machine, memory, suite
from stavatar.bench.floor import adam, both_bytes, products, size_of
from stavatar.bench.memory import Load, loads
from stavatar.bench.parts import BOTH, FORWARD, parts
from stavatar.bench.result_file import FORMAT
from stavatar.bench.scene import make_trainer, repeated, timed_config
from stavatar.bench.steps import HARD, PERCEPTUAL, SOFT, WATCHED, steps
from stavatar.bench.suite import Wanted, benchmark
from stavatar.bench.timing import Effort
from stavatar.bench.whole_training import first_reach
from stavatar.errors import AssetError
from stavatar.training import trainer as training

CPU = torch.device("cpu")


@pytest.fixture
def no_weights(monkeypatch):
    """LPIPS's weights are not there."""

    def refuse(network, reduced=False):
        raise AssetError(f"lpips_{network}.safetensors is missing: fetch it")

    monkeypatch.setattr(training, "LPIPS", refuse)


@pytest.fixture
def zero_distance(monkeypatch):
    """A perceptual loss without weights."""

    class Nothing(torch.nn.Module):
        def __init__(self, network, reduced=False):
            super().__init__()

        def forward(self, render, truth):
            return (render - truth).square().mean((1, 2, 3))

    monkeypatch.setattr(training, "LPIPS", Nothing)


@pytest.fixture(scope="module")
def timed(small_sequence, small_config):
    trainer, missing = make_trainer(small_sequence, timed_config(small_config, 2), CPU, 1500)
    assert missing is None
    return trainer


def test_floors_count_bytes_and_operations():
    left, right = torch.ones(30, 40, requires_grad=True), torch.ones(40, 50)
    assert products(lambda: left @ right) == 2 * 30 * 40 * 50
    assert size_of([left, right]) == 4 * (1200 + 2000)
    assert both_bytes([left, right], [torch.ones(30, 50)]) == 2 * 4 * (1200 + 2000 + 1500) + 4 * 1200
    assert adam([left]).moved == 7 * 4 * 1200


@pytest.mark.parametrize("count", [1500, 25_000])
def test_an_avatar_of_any_size_covers_the_same(small_sequence, small_config, count):
    whole, _ = make_trainer(small_sequence, timed_config(small_config), CPU)
    trainer, _ = make_trainer(small_sequence, timed_config(small_config), CPU, count)
    gaussians = trainer.avatar.gaussians
    assert len(gaussians) == count

    def area(avatar):
        return float((2 * avatar.gaussians.log_scale.detach()[:, 0]).exp().sum())

    assert area(trainer.avatar) == pytest.approx(area(whole.avatar), rel=0.25)
    before = gaussians.position.detach().clone()
    trainer.train_step(trainer.plan.batches[0], torch.zeros(1, dtype=torch.long))
    assert (gaussians.position != before).any()  # the optimiser knows the new ones


def test_parts_come_in_the_order_of_a_step_and_run(timed):
    found = []
    for part in parts(timed, 2):
        part.work()
        assert part.frames == 2
        assert part.floor.moved > 0
        found.append((part.name, part.variant))
    names = list(dict.fromkeys(name for name, _ in found))
    assert names == [
        *("pictures", "head", "UV maps", "offset network", "offsets and binding", "rasteriser"),
        *("photometric loss", "SSIM alone", "optimiser"),
    ]
    assert ("rasteriser", FORWARD) in found
    assert ("offset network", BOTH) in found


def test_backward_passes_reach_what_is_learned(timed):
    network = timed.avatar.network
    for part in parts(timed, 1):
        if (part.name, part.variant) == ("offset network", BOTH):
            network.zero_grad()
            part.work()
            assert network.fuse_last.bias.grad.abs().sum() > 0
            return
    raise AssertionError("the network was not among the parts")


def test_steps_are_of_the_kinds_that_they_are_called(small_sequence, small_config, zero_distance, monkeypatch):
    late = dataclasses.replace(small_config, training=dataclasses.replace(small_config.training, network_start=0.2))
    trainer, _ = make_trainer(small_sequence, timed_config(late, perceptual=True), CPU)
    kinds = {part.variant: part for part in steps(trainer, all_kinds=True)}
    assert set(kinds) == {HARD, SOFT, WATCHED, PERCEPTUAL}
    seen, reports = [], []
    monkeypatch.setattr(trainer.density, "observe", seen.append)
    step = trainer.train_step
    monkeypatch.setattr(trainer, "train_step", lambda *given: reports.append(step(*given)))
    for name in (HARD, SOFT, PERCEPTUAL, WATCHED):
        kinds[name].work()
    hard, soft, perceptual, _ = (set(report.parts) for report in reports)
    assert "offset" not in hard
    assert "offset" in soft
    assert "lpips" not in soft
    assert "lpips" in perceptual
    assert len(seen) == 1
    assert [part.variant for part in steps(trainer, all_kinds=False)] == [SOFT, PERCEPTUAL]


def test_everything_together(small_sequence, small_config, monkeypatch, no_weights):
    monkeypatch.setattr(machine, "_COPIES_MB", {"cpu": (1,)})
    monkeypatch.setattr(machine, "_PRODUCT", {"cpu": 64})
    monkeypatch.setattr(suite, "QUICK", Effort(0, 5, 0.0))
    monkeypatch.setattr(suite, "BATCHES", (1, 2))
    monkeypatch.setattr(suite, "performance", lambda size, frames=10: small_sequence)
    result = benchmark(small_config, CPU, Wanted(gaussians=700, train=True, to_psnr=1.0))
    assert result["format"] == FORMAT
    assert result["settings"]["gaussians"] == 700
    assert "lpips_vgg16" in result["missing"]["LPIPS"]
    rows = {(row["part"], row["variant"], row["frames"]): row for row in result["rows"]}
    step = rows["step", SOFT, 1]
    parts_of_it = ["head", "UV maps", "offset network", "offsets and binding", "rasteriser", "photometric loss"]
    least = sum(rows[name, BOTH, 1]["floor"] for name in parts_of_it)
    least += rows["pictures", FORWARD, 1]["floor"]
    least += rows["optimiser", "Gaussians", 1]["floor"] + rows["optimiser", "network", 1]["floor"]
    assert step["floor"] == pytest.approx(least)
    assert rows["step", SOFT, 2]["floor"] is None  # its parts were timed for one frame only
    fast = rows["animate + render", "batched", 8]
    assert fast["frames_per_second"] == pytest.approx(8e3 / fast["median"])
    training = result["training"]
    assert training["steps"] == small_config.training.steps
    assert training["goal"]["seconds"] <= training["seconds"]
    assert training["final_psnr"] > 1


def test_the_first_point_that_is_good_enough():
    curve = {"psnr": [10.0, 20.0, 15.0, 25.0], "seconds": [1.0, 2.0, 3.0, 4.0], "step": [5, 10, 15, 20]}
    curve["frames"] = curve["step"]
    assert first_reach(curve, 15)["seconds"] == 2.0
    assert first_reach(curve, 21)["step"] == 20
    assert first_reach(curve, 26) is None


def test_repeated_frames_have_memory_of_their_own(small_sequence):
    long = repeated(small_sequence, 25)
    assert len(long) == len(long.train) == 25
    assert torch.equal(long.images[20], small_sequence.images[0])
    long.images[20] = 0
    assert long.images[10].sum() > 0


def test_memory_of_a_load(small_sequence, small_config, monkeypatch):
    monkeypatch.setattr(memory, "performance", lambda size: small_sequence)
    row = memory._peak(small_config, "cpu", Load(700, 12, 64))
    assert row["pictures_mb"] == pytest.approx(12 * 64 * 64 * 4 / 2**20)
    assert row["peak_memory_mb"] is None or row["peak_memory_mb"] > row["pictures_mb"]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_loads_vary_one_thing_and_hold_the_stated_run(device):
    chosen = loads(device)
    assert len(set(chosen)) == len(chosen)
    stated = [load for load in chosen if (load.frames, load.size) == (3_000, 512)]
    assert [load.where for load in stated] == (["auto", "host"] if device == "cuda" else ["auto"])
    middle = chosen[1]
    for load in chosen[:-1]:
        changed = [a != b for a, b in zip(dataclasses.astuple(load), dataclasses.astuple(middle), strict=True)]
        assert sum(changed) <= 1
