"""Several processes train one avatar as one process would; here two on the CPU."""

import dataclasses
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from ranks_worker import LATER, STOP, go_on, trainer_for
from safetensors import safe_open

import stavatar
from stavatar import config
from stavatar.errors import BackendError, InputError
from stavatar.head import HeadParameters
from stavatar.sequence import write_sequence
from stavatar.training import checkpoint, ranks
from stavatar.training.ranks import Ranks, joined

WORKER = Path(__file__).with_name("ranks_worker.py")
SOURCE = Path(stavatar.__file__).parents[1]
CPU = torch.device("cpu")


def launched(rank, count, port=29500):
    """The variables that torchrun sets."""
    variables = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return {name: str(value) for name, value in variables.items()}


def settled(**more):
    """An environment for processes that share this machine."""
    threads = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    places = [str(SOURCE), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | threads | {"PYTHONPATH": os.pathsep.join(places)} | more


def together(scenario, folder, device="cpu", count=2):
    """Let that many processes play a scenario; their exit codes, and what each said on standard error."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, str(WORKER), scenario, str(folder), device]
    processes = [
        subprocess.Popen(command, env=settled(**launched(rank, count, port)), stderr=subprocess.PIPE, text=True)
        for rank in range(count)
    ]
    said = [process.communicate(timeout=280)[1] for process in processes]
    return [process.returncode for process in processes], said


# ------------------------------------------------------------------------------------- the same as one process does


@pytest.fixture(scope="module")
def folder(small_sequence, small_config, tmp_path_factory):
    """Ten frames in batches of 3, 3, 3, 1: shares are uneven, and in the last the second process has no frame at all.

    A pose pass at the start, then two events of density control, each with the statistics of a cluster of its own.
    """
    folder = tmp_path_factory.mktemp("ranks")
    everything = dataclasses.replace(small_sequence, train=torch.arange(10), test=torch.arange(0))
    write_sequence(everything, folder / "sequence")
    settings = dataclasses.replace(
        small_config,
        pose=dataclasses.replace(small_config.pose, passes=(0.0,), iterations=1),
        schedule=dataclasses.replace(
            small_config.schedule, order="interleaved", clusters=(2,), warmup=0.1, final=0.1, densify=0.6
        ),
        training=dataclasses.replace(small_config.training, steps=7, batch=3, network_start=0.2, precision="fp32"),
    )
    config.save(settings, folder / "config.yaml")
    return folder


@pytest.fixture(scope="module")
def alone(folder):
    """The training by one process."""
    trainer = trainer_for(folder)
    assert [len(batch) for batch in trainer.plan.batches] == [3, 3, 3, 3, 1, 3, 3]
    first, second = trainer.plan.events
    assert first.step < STOP < LATER < second.step < trainer.steps
    assert trainer.plan.groups[LATER].tolist() == [second.group], "the batch of one frame counts for the second event"
    go_on(trainer, STOP)
    checkpoint.save(trainer, folder / "one")
    go_on(trainer, trainer.steps)
    checkpoint.save(trainer, folder / "one_end")
    return trainer


@pytest.fixture(scope="module")
def played(folder, alone):
    """The same by two; exit codes and last words."""
    return together("train", folder)


def saved(folder, name):
    """Tensors and numbers of a checkpoint."""
    with safe_open(folder / name / checkpoint.NAME, framework="pt") as file:
        header = json.loads(file.metadata()["stavatar"])
        return {key: file.get_tensor(key) for key in file.keys()}, header  # noqa: SIM118


def assert_equal_but_for_rounding(folder, name, reference):
    """Two states are the same training: the same Gaussians, and values that are equal up to rounding.

    Sums over frames are added in another order, so gradients differ by about 1e-7 of their size. Adam divides them by
    their size; where those of two frames nearly cancel, more is left of the difference. Hence 0.5 % of a tensor's mean
    magnitude, and one value in a thousand may be farther off. A share that is weighed wrongly, counted twice or left
    out changes moments and statistics by a tenth and more.
    """
    (found, said), (expected, told) = saved(folder, name), saved(folder, reference)
    assert found.keys() == expected.keys()
    assert [said[key] for key in ("step", "passes_done", "events")] == [
        told[key] for key in ("step", "passes_done", "events")
    ]
    for column in ("step", "frames", "gaussians", "loss", "psnr"):
        assert said["curve"]["rows"][column] == pytest.approx(told["curve"]["rows"][column], rel=1e-5), column
    for key, value in expected.items():
        assert found[key].shape == value.shape, key
        if not value.is_floating_point() or key == "density.views":
            assert torch.equal(found[key], value), key
        elif value.numel():
            far = (found[key] - value).abs() > 5e-3 * value.abs().mean()
            assert far.float().mean() < 1e-3, key


def test_two_processes_that_go_on_from_one_train_what_it_would(folder, played):
    assert_equal_but_for_rounding(folder, "two_end", "one_end")


def test_one_process_that_goes_on_from_two_trains_what_they_would(folder, played):
    trainer = trainer_for(folder)
    assert checkpoint.restore(trainer, folder / "two_later")
    assert trainer.density.views[trainer.plan.events[1].group].sum() > 0
    go_on(trainer, trainer.steps)
    checkpoint.save(trainer, folder / "two_one")
    assert_equal_but_for_rounding(folder, "two_one", "two_end")


def test_both_processes_end_with_the_very_same_avatar(folder, played):
    (first, said), (second, same) = saved(folder, "two_end_0"), saved(folder, "two_end_1")
    assert said["events"] == same["events"]
    for key, value in first.items():
        if not key.startswith("density."):  # of which each has its own part
            assert torch.equal(value, second[key]), key


def test_from_the_start_two_processes_decide_like_one(folder, played):
    """Rounding may turn what lies on a threshold's edge, so that numbers of Gaussians are nearly equal."""
    (found, said), (expected, told) = saved(folder, "two"), saved(folder, "one")
    assert torch.equal(found["assignment"], expected["assignment"])
    for event, wanted in zip(said["events"], told["events"], strict=True):
        assert (event["step"], event["cluster"]) == (wanted["step"], wanted["cluster"])
        assert wanted["split"] > 100 and wanted["cloned"] > 100
        for what in ("cloned", "split", "gaussians"):
            assert event[what] == pytest.approx(wanted[what], rel=1e-2)
    # The pass aligns every frame by itself and comes first: what follows on it has no rounding behind it yet.
    assert said["curve"]["rows"]["loss"][:2] == pytest.approx(told["curve"]["rows"]["loss"][:2], rel=1e-5)
    torch.testing.assert_close(found["poses.table"], expected["poses.table"], rtol=0, atol=1e-4)
    assert (found["density.views"].sum(1) / expected["density.views"].sum(1) - 1).abs().nan_to_num().max() < 1e-2


# ------------------------------------------------------------------------------------------------------- failures


def test_a_loss_that_is_no_number_stops_both_with_one_message(folder, played):
    codes, said = played
    assert all(code != 0 for code in codes), said
    messages = [text for text in said if "error:" in text]
    assert len(messages) == 1, said
    last = trainer_for(folder).plan.batches[-1].tolist()
    assert f"the photometric loss is nan at step 6 (frames {last[2:]} of rank 1)" in messages[0]
    assert not any("Traceback" in text for text in said), said
    assert not (folder / "nan").exists(), "nothing was written"


@pytest.mark.gpu
def test_gpus_exchange_what_processes_on_a_cpu_do(tmp_path):
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two CUDA GPUs")
    codes, said = together("exchange", tmp_path, "cuda")
    assert codes == [0, 0], said


def test_a_process_that_vanishes_after_an_exchange_does_not_leave_the_other_waiting(tmp_path):
    codes, said = together("vanish", tmp_path)
    assert codes == [5, 9]
    assert "error: rank 0 of 2 lost touch with the others" in said[0] and "resume" in said[0]


def test_who_fails_first_speaks_and_who_waits_for_the_first_leaves():
    store = dist.HashStore()
    first, second = Ranks(0, 2, store), Ranks(1, 2, store)

    def fail():
        raise InputError("no such sequence")

    left = []

    def follow():
        with pytest.raises(SystemExit) as end:
            second.led(lambda: None, lambda: None)
        left.append(end.value.code)

    waiting = threading.Thread(target=follow)
    waiting.start()
    with pytest.raises(InputError):
        first.led(fail, lambda: None)
    assert first.failed_first()
    waiting.join(20)
    assert left == [1]
    assert not second.failed_first()


def test_the_others_follow_when_the_first_is_done():
    store, order = dist.HashStore(), []
    second = threading.Thread(target=lambda: Ranks(1, 2, store).led(lambda: None, lambda: order.append("second")))
    second.start()
    Ranks(0, 2, store).led(lambda: order.append("first"), lambda: None)
    second.join(20)
    assert order == ["first", "second"]


def test_fewer_frames_than_processes_are_refused(folder):
    with pytest.raises(InputError, match=r"training.batch=3 leaves some of 4 .* --set training.batch=4"):
        trainer_for(folder, Ranks(0, 4))


def test_a_process_without_a_gpu_is_told_so(monkeypatch):
    monkeypatch.setattr(ranks, "_meet", lambda *_: dist.HashStore())
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name, value in launched(2, 3).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(BackendError, match="process 2 of this machine has no GPU"), joined(torch.device("cuda")):
        pass


@pytest.mark.parametrize("variables", [{}, {"WORLD_SIZE": "2"}, launched(0, 1)])
def test_without_torchrun_a_process_is_alone(monkeypatch, variables):
    for name in launched(0, 1):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with joined(CPU) as own:
        assert own.first and own.count == 1 and own.own([3, 1, 2]) == [3, 1, 2]


# ------------------------------------------------------------------------------------------------ shares and sums


@pytest.mark.parametrize("frames", [1, 2, 5, 8])
def test_shares_are_disjoint_and_their_weights_add_up(frames):
    everyone = [Ranks(rank, 3) for rank in range(3)]
    numbers = torch.arange(frames)
    parts = [own.own(numbers) for own in everyone]
    weights = [own.weight(frames) for own in everyone]
    assert sum(weights) == pytest.approx(1)
    assert torch.cat([part for part, weight in zip(parts, weights, strict=True) if weight]).tolist() == numbers.tolist()
    assert everyone[0].shares(numbers) == [part.tolist() if w else [] for part, w in zip(parts, weights, strict=True)]
    assert all(len(part) > 0 for part in parts), "nobody has an empty batch"
    assert max(weights) - min(weights) <= 1 / frames
    poses = HeadParameters.zeros(frames, 5)
    assert [len(own.own(poses)) for own in everyone] == [len(part) for part in parts]


class Mirrored(Ranks):
    """The second of two processes, whose partner says `other` times what this one says."""

    other = 3.0

    def _all_reduce(self, values, how):
        values.mul_(1 + self.other) if how == "sum" else values.copy_(torch.maximum(values, self.other * values))


def test_gradients_are_averaged_as_they_lie_in_memory():
    own = Mirrored(1, 2)
    generator = torch.Generator().manual_seed(0)
    kernel = torch.randn(4, 3, 2, 2, generator=generator).to(memory_format=torch.channels_last).requires_grad_()
    plain = torch.randn(5, generator=generator).requires_grad_()
    untouched = torch.zeros(2, 3, requires_grad=True)
    ((kernel**3).sum() + (plain**2).sum()).backward()
    expected = [leaf.grad.clone() for leaf in (kernel, plain)]
    told = own.average([kernel, plain, untouched], 3, torch.tensor([6.0, 9.0]))
    weight = 4 / 3  # one frame of three, and the partner's part thrice that
    for leaf, gradient in zip((kernel, plain), expected, strict=True):
        torch.testing.assert_close(leaf.grad, weight * gradient)
        assert leaf.grad.stride() == leaf.stride()
    assert torch.equal(untouched.grad, torch.zeros(2, 3))
    torch.testing.assert_close(told, torch.tensor([[0.0, 0.0], [8.0, 12.0]]))


def test_agreement_is_noticed_and_so_is_its_lack():
    own = Mirrored(1, 2)
    own.other = 1.0
    assert own.agree(4, -7)
    own.other = 1.5
    assert not own.agree(4, -7)


# ------------------------------------------------------------------------------------------------- the whole way


@pytest.mark.slow
def test_torchrun_trains_a_run_that_one_process_speaks_for(small_sequence, tmp_path):
    write_sequence(small_sequence, tmp_path / "sequence")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "stavatar"]
    command += ["train", str(tmp_path / "sequence"), "-o", str(tmp_path / "run"), "--preset", "cpu", "--device", "cpu"]
    for setting in ("training.steps=3", "network.uv_size=32", "network.width=0.125", "pose.passes=[0.5]"):
        command += ["--set", setting]
    environment = settled(STAVATAR_CACHE=str(tmp_path / "cache"))

    refused = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=250)
    assert refused.returncode != 0 and refused.stderr.count("error: training.batch=1 leaves") == 1, refused.stderr
    assert not (tmp_path / "run").exists()

    command += ["--set", "training.batch=2"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("numbers:") == 1 and done.stderr.count("aligning poses") == 1
    assert (tmp_path / "run" / "results.json").exists()
    assert not (tmp_path / "run" / checkpoint.NAME).exists()
