"""The training loop: it learns, it can be stopped and resumed, and it stops itself where numbers end."""

import dataclasses

import pytest
import torch

from stavatar.avatar.avatar import render
from stavatar.errors import InputError, TrainingError
from stavatar.training import checkpoint
from stavatar.training.reference import best_reference
from stavatar.training.schedule import batch_betas, batch_factor, common_factor, exponential
from stavatar.training.trainer import Trainer


def changed(config, **sections):
    return dataclasses.replace(
        config,
        **{name: dataclasses.replace(getattr(config, name), **values) for name, values in sections.items()},
    )


def states(trainer):
    return {
        **trainer.avatar.state_dict(),
        **{f"poses.{name}": value for name, value in trainer.poses.state_dict().items()},
    }


def one_step(trainer):
    """What a turn of `Trainer.run` does."""
    trainer._align_where_due()
    trainer.train_step(trainer.plan.batches[trainer.step], trainer.plan.groups[trainer.step])
    trainer._densify_where_due()


def test_training_lowers_the_error_on_training_frames(small_sequence, head, small_config):
    config = changed(
        small_config,
        training={"steps": 60},
        pose={"passes": ()},
        gaussians={"seeds": 0},
        density={"control": "none"},  # sixty steps are too few to make up for an event
    )
    trainer = Trainer(small_sequence, head, config)

    def error():
        with torch.no_grad():
            rows = trainer.poses.all()[small_sequence.train]
            image = render(trainer.avatar(rows, soft=trainer.soft), small_sequence.camera).image
        return (image - small_sequence.image(small_sequence.train)).square().mean()

    before = error()
    trainer.run()
    assert error() < 0.35 * before


def test_held_out_frames_are_neither_learned_from_nor_moved(small_sequence, head, small_config):
    """Changing a held-out image changes nothing about the avatar; its parameters stay the tracker's."""
    spoiled = dataclasses.replace(small_sequence, images=small_sequence.images.clone())
    spoiled.images[small_sequence.test] = 0
    results = []
    for sequence in (small_sequence, spoiled):
        trainer = Trainer(sequence, head, small_config)
        trainer.run()
        results.append(states(trainer))
        poses = trainer.poses.all()
        assert torch.equal(poses.neck[sequence.test], sequence.parameters.neck[sequence.test])
        assert not torch.equal(poses.neck[sequence.train], sequence.parameters.neck[sequence.train])
    for name, value in results[0].items():
        assert torch.equal(value, results[1][name]), name


def test_true_poses_stay_as_they_are(small_sequence, head, small_config):
    """Without refinement nothing moves a parameter, in training or after it, though the avatar learns."""
    config = changed(small_config, training={"steps": 6}, pose={"refine": False, "passes": (0.0, 0.5)})
    trainer = Trainer(small_sequence, head, config)
    before = trainer.avatar.gaussians.sh_dc.clone()
    trainer.run()
    tracked = trainer.track_held_out()
    for (name, value), (_, given) in zip(tracked.items(), small_sequence.parameters.items(), strict=True):
        assert torch.equal(value, given), name
    assert not torch.equal(trainer.avatar.gaussians.sh_dc, before)


@pytest.mark.parametrize("order", ["clusters", "interleaved"])
@pytest.mark.parametrize("stop", [1, 4, 9])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    small_sequence, head, small_config, tmp_path, stop, order
):
    """Stops lie before, between and after the pose pass, the network's start and the events of density control."""
    config = changed(
        small_config,
        pose={"passes": (0.3,), "iterations": 1},
        schedule={"order": order, "warmup": 0.1, "final": 0.1},
        density={"uv": "redraw"},
    )
    straight = Trainer(small_sequence, head, config)
    assert 1 < straight.plan.events[0].step < 9 < straight.plan.events[-1].step + 4
    straight.run()
    assert len(straight.events) == len(straight.plan.events)

    interrupted = Trainer(small_sequence, head, config)
    while interrupted.step < stop:
        one_step(interrupted)
    checkpoint.save(interrupted, tmp_path)
    resumed = Trainer(small_sequence, head, config)
    assert checkpoint.restore(resumed, tmp_path)
    assert resumed.step == stop
    resumed.run()

    assert resumed.events == straight.events
    assert resumed.curve.rows | {"seconds": []} == straight.curve.rows | {"seconds": []}
    expected = states(straight)
    for name, value in states(resumed).items():
        assert torch.equal(value, expected[name]), name


def test_a_checkpoint_of_another_run_is_refused(small_sequence, head, small_config, tmp_path):
    trainer = Trainer(small_sequence, head, small_config)
    checkpoint.save(trainer, tmp_path)
    other = Trainer(small_sequence, head, changed(small_config, training={"steps": 13}))
    with pytest.raises(InputError, match="another run"):
        checkpoint.restore(other, tmp_path)
    other = Trainer(small_sequence, head, changed(small_config, network={"width": 0.25}))
    with pytest.raises(InputError, match="does not fit"):
        checkpoint.restore(other, tmp_path)
    path = tmp_path / checkpoint.NAME
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InputError, match="not a readable checkpoint"):
        checkpoint.restore(trainer, tmp_path)


def test_a_loss_that_is_no_number_stops_training_and_names_the_part(small_sequence, head, small_config, tmp_path):
    trainer = Trainer(small_sequence, head, small_config)
    checkpoint.save(trainer, tmp_path)
    before = (tmp_path / checkpoint.NAME).read_bytes()
    with torch.no_grad():
        trainer.avatar.gaussians.log_scale[5] = float("nan")
    with pytest.raises(TrainingError, match=r"scale loss is nan at step 0"):
        trainer.run(tmp_path)
    assert (tmp_path / checkpoint.NAME).read_bytes() == before


def test_the_exact_estimator_changes_no_other_gradient(small_sequence, head, small_config):
    """The probing channel shows nothing, so a step with it moves everything as a step without it does."""
    results = []
    for estimator in ("box", "exact"):
        trainer = Trainer(small_sequence, head, changed(small_config, density={"estimator": estimator}))
        trainer.step = trainer.plan.events[0].step - 1
        one_step_groups = trainer.plan.groups[trainer.step]
        assert one_step_groups[0] >= 0
        trainer.train_step(trainer.plan.batches[trainer.step], one_step_groups)
        assert trainer.density.errors.sum() > 0
        results.append(states(trainer))
    for name, value in results[0].items():
        torch.testing.assert_close(value, results[1][name], rtol=1e-4, atol=1e-6, msg=name)


def test_density_control_changes_the_number_of_gaussians_in_training(small_sequence, head, small_config):
    trainer = Trainer(small_sequence, head, small_config)
    before = len(trainer.avatar.gaussians)
    trainer.run()
    assert trainer.events[-1].gaussians == len(trainer.avatar.gaussians) > before
    assert trainer.curve.rows["gaussians"][-1] == len(trainer.avatar.gaussians)
    fixed = Trainer(small_sequence, head, changed(small_config, density={"control": "none"}))
    fixed.run()
    assert len(fixed.avatar.gaussians) == before and fixed.events == []


def test_without_the_network_binding_stays_hard(small_sequence, head, small_config):
    trainer = Trainer(small_sequence, head, changed(small_config, network={"enabled": False}))
    trainer.run()
    assert trainer.avatar.network is None
    assert trainer.avatar(small_sequence.parameters).offsets is None


def test_another_head_model_is_refused(small_sequence, head, small_config):
    with pytest.raises(InputError, match="tracked with head"):
        Trainer(dataclasses.replace(small_sequence, head_model="flame2023"), head, small_config)


def test_the_reference_is_a_frontal_sharp_training_frame(small_sequence):
    blurred = dataclasses.replace(small_sequence, images=small_sequence.images.clone())
    best = best_reference(small_sequence)
    turned = small_sequence.parameters.neck.norm(dim=1)
    assert turned[best] <= turned[small_sequence.train].median()
    blurred.images[best] = 128
    assert best_reference(blurred) != best


def test_rates_fall_from_start_to_end():
    assert exponential(5e-3, 5e-5, 0.0) == pytest.approx(5e-3)
    assert exponential(5e-3, 5e-5, 0.5) == pytest.approx(5e-4)
    assert exponential(5e-3, 5e-5, 1.0) == pytest.approx(5e-5)


def test_other_rates_wait_and_then_fall(small_config):
    config = dataclasses.replace(small_config.training, decay=0.1, decay_start=0.3)
    assert common_factor(config, 0.3) == pytest.approx(1.0)
    assert common_factor(config, 0.65) == pytest.approx(0.1**0.5)
    assert common_factor(config, 1.0) == pytest.approx(0.1)


def test_steps_over_several_frames_are_longer_and_forget_sooner(small_sequence, head, small_config):
    def of(batch, rates):
        config = changed(small_config, training={"batch": batch, "batch_rates": rates}).training
        return batch_factor(config), batch_betas(config)

    for rates in ("sqrt", "linear", "same"):
        assert of(1, rates) == (1.0, (0.9, 0.999))
    assert of(4, "sqrt") == (2.0, (pytest.approx(0.6), pytest.approx(0.996)))
    assert of(16, "sqrt") == (4.0, (0.0, pytest.approx(0.984)))
    assert of(4, "linear") == (4.0, (0.9, 0.999))
    assert of(4, "same") == (1.0, (0.9, 0.999))

    alone, four = (Trainer(small_sequence, head, changed(small_config, training={"batch": b})) for b in (1, 4))
    for trainer in (alone, four):
        trainer._set_rates()
    groups = zip(alone.gaussian_optimiser.param_groups, four.gaussian_optimiser.param_groups, strict=True)
    for one, other in groups:
        assert other["lr"] == pytest.approx(2 * one["lr"])


def test_recordings_end_with_training(small_sequence, head, small_config):
    """Several processes cannot part while a recording holds their exchanges: NCCL would wait for ever."""

    class Remembered:
        """A recorder that records nothing, and notes what it was told."""

        def __init__(self, trainer):
            self.trainer, self.told = trainer, []

        def run(self, kind, inputs):
            self.told.append("run")
            return self.trainer._compute(kind, inputs, None)

        def forget(self):
            self.told.append("forget")

    settings = dataclasses.replace(
        small_config,
        density=dataclasses.replace(small_config.density, control="none"),
        training=dataclasses.replace(small_config.training, steps=2, batch=1, lpips=0.0),
    )
    trainer = Trainer(small_sequence, head, settings)
    trainer.recorder = Remembered(trainer)
    trainer.run()
    assert trainer.recorder.told == ["run", "run", "forget"]
