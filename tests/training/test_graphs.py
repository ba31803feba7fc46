"""A replayed step computes what the ordinary way computes."""

import dataclasses
from importlib.util import find_spec

import pytest
import torch

from stavatar.training.trainer import Trainer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
    pytest.mark.skipif(find_spec("gsplat") is None, reason="needs gsplat: pip install stavatar[cuda]"),
    pytest.mark.timeout(900),  # the first call compiles gsplat
]


def trainer_of(sequence, head, config, **training):
    settings = {"network_start": 0.0, "precision": "fp32"} | training
    return Trainer(
        sequence,
        head,
        dataclasses.replace(
            config,
            training=dataclasses.replace(config.training, **settings),
            pose=dataclasses.replace(config.pose, passes=()),
        ),
        device="cuda",
    )


def tensors_of(trainer):
    """Everything that a step changes."""
    moments = [
        (f"{name}.{key}", value)
        for name, optimiser in (("gaussians", trainer.gaussian_optimiser), ("network", trainer.network_optimiser))
        for index, state in enumerate(optimiser.state.values())
        for key, value in ((f"{index}.{key}", value) for key, value in state.items())
    ]
    return {
        **{f"avatar.{name}": value for name, value in trainer.avatar.state_dict().items()},
        **{f"poses.{name}": value for name, value in trainer.poses.state_dict().items()},
        **{f"density.{name}": value for name, value in trainer.density.state().items()},
        **dict(moments),
    }


def gradients_of(trainer):
    return {name: value.grad.clone() for name, value in trainer.avatar.named_parameters() if value.grad is not None}


def relative_error(value, truth):
    return (value - truth).norm() / truth.norm().clamp_min(1e-12)


@pytest.mark.parametrize("watched", [False, True], ids=["unwatched", "watched"])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_replay_computes_what_the_ordinary_way_computes(small_sequence, head, small_config, batch, watched):
    trainer = trainer_of(small_sequence, head, small_config, batch=batch)
    frames = small_sequence.train[:batch]
    groups = torch.full_like(frames, 0 if watched else -1)
    for _ in range(3):  # the ordinary way, the same within bounds, recorded
        trainer.train_step(frames, groups)
    assert trainer.recorder.recorded == 1

    before = {name: value.clone() for name, value in tensors_of(trainer).items()}
    step = trainer.step
    replayed = trainer.train_step(frames, groups)
    replayed_gradients = gradients_of(trainer)
    replayed_state = {name: value.clone() for name, value in tensors_of(trainer).items()}

    for name, value in tensors_of(trainer).items():
        value.copy_(before[name])
    trainer.step, trainer.recorder = step, None
    ordinary = trainer.train_step(frames, groups)
    for name, value in ordinary.parts.items():
        torch.testing.assert_close(replayed.parts[name], value, rtol=1e-5, atol=1e-7)
    gradients = gradients_of(trainer)
    assert gradients.keys() == replayed_gradients.keys()
    for name, value in gradients.items():
        if value.numel() and value.abs().max() > 1e-8:
            assert relative_error(replayed_gradients[name], value) < 1e-3, name
    # Atomic additions have no fixed order on a GPU, and Adam makes a step of the full size of what the last digit says
    # where a gradient is nearly zero: so the state may differ in a few values.
    state = tensors_of(trainer)
    apart, total = 0, 0
    for name, value in state.items():
        if value.is_floating_point():
            apart += int(((value - replayed_state[name]).abs() > 1e-3 * (1e-2 + value.abs())).sum())
            total += value.numel()
    assert apart < 1e-3 * total


def test_learning_rates_of_a_replay_are_those_of_its_step(small_sequence, head, small_config):
    """With all rates at zero a replay moves nothing."""
    trainer = trainer_of(small_sequence, head, small_config)
    frames = small_sequence.train[:1]
    for _ in range(3):
        trainer.train_step(frames, torch.full_like(frames, -1))
    before = {name: value.clone() for name, value in trainer.avatar.named_parameters()}
    trainer._set_rates = lambda: trainer._rates.zero_()
    trainer.train_step(frames, torch.full_like(frames, -1))
    assert trainer.recorder.recorded == 1
    for name, value in trainer.avatar.named_parameters():
        assert torch.equal(value, before[name]), name


def test_a_whole_training_with_recordings_learns_as_well(small_sequence, head, small_config):
    """Density events, smaller last batches and changes of the schedule included; one seed differs by a decibel."""
    reached = {False: 0.0, True: 0.0}
    for graphs in reached:
        for seed in range(4):
            settings = {"batch": 3, "graphs": graphs, "steps": 40, "precision": "bf16", "seed": seed}
            trainer = trainer_of(small_sequence, head, small_config, **settings)
            trainer.run()
            assert len(trainer.events) == len(trainer.plan.events)
            reached[graphs] += trainer.curve.rows["psnr"][-1] / 4
    assert reached[True] > reached[False] - 0.5


def test_a_loss_that_is_no_number_stops_a_replayed_training(small_sequence, head, small_config):
    from stavatar.errors import TrainingError

    trainer = trainer_of(small_sequence, head, small_config)
    frames = small_sequence.train[:1]
    for _ in range(4):
        trainer.train_step(frames, torch.full_like(frames, -1))
    trainer.avatar.gaussians.log_scale.data[0] = float("nan")
    with pytest.raises(TrainingError, match="at step"):
        for _ in range(4):
            trainer.train_step(frames, torch.full_like(frames, -1))


def test_bfloat16_gives_nearly_the_same_gradients(small_sequence, head, small_config):
    """The gradient of the network's weights points the same way, whichever precision its convolutions have."""
    gradients = []
    for precision in ("fp32", "bf16"):
        trainer = trainer_of(small_sequence, head, small_config, precision=precision)
        trainer.train_step(trainer.plan.batches[0], trainer.plan.groups[0])
        gradients.append(torch.cat([value.grad.flatten() for value in trainer.avatar.network.parameters()]))
    assert torch.nn.functional.cosine_similarity(*gradients, dim=0) > 0.995


def test_pictures_sent_when_due_are_those_kept_on_the_device(small_sequence):
    from stavatar.training.pictures import Pictures

    kept, sent = (Pictures(small_sequence, torch.device("cuda"), where) for where in ("device", "host"))
    assert kept.on_device and not sent.on_device
    for start in range(6):  # more batches than wait on their way at a time
        frames = small_sequence.train[torch.arange(start, start + 3) % len(small_sequence.train)]
        assert torch.equal(kept.read(frames), sent.read(frames))
        assert torch.equal(kept.read(frames).cpu(), small_sequence.images[frames])
