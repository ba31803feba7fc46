"""Numbers stay numbers: odd clips train, and what is no number stops training before it spreads."""

import copy
import dataclasses
import math

import pytest
import torch

from stavatar.avatar.storage import save_avatar
from stavatar.errors import TrainingError
from stavatar.training import checkpoint
from stavatar.training.guard import Guard
from stavatar.training.trainer import Trainer


@pytest.fixture(scope="module")
def short(small_config):
    """Two steps, density control after the first, and poses that are aligned before and after."""
    return dataclasses.replace(
        small_config,
        pose=dataclasses.replace(small_config.pose, passes=(0.5,), iterations=1),
        schedule=dataclasses.replace(small_config.schedule, order="clusters", warmup=0.0, final=0.5, clusters=(1,)),
        training=dataclasses.replace(small_config.training, steps=2, network_start=0.0),
    )


def assert_trains(sequence, head, config):
    trainer = Trainer(sequence, head, config)
    trainer.run()
    assert trainer.step == config.training.steps and len(trainer.events) == len(trainer.plan.events)
    tracked = trainer.track_held_out()
    for name, value in [*trainer.avatar.state_dict().items(), *trainer.poses.state_dict().items(), *tracked.items()]:
        assert bool(value.isfinite().all()), name
    return trainer


def moved(sequence, x=0.0, z=0.0):
    """The same sequence seen by a camera to which everything lies `x` to the right and `z` farther away, metres."""
    pose = sequence.camera.world_to_camera.clone()
    pose[:, 0, 3] += x
    pose[:, 2, 3] += z
    return dataclasses.replace(sequence, camera=dataclasses.replace(sequence.camera, world_to_camera=pose))


def cut(sequence, train, test):
    """Its first frames only."""
    count = len(train) + len(test)
    return dataclasses.replace(
        sequence,
        parameters=sequence.parameters[:count],
        images=sequence.images[:count],
        masks=sequence.masks[:count],
        frame_ids=torch.arange(count),
        train=torch.tensor(train),
        test=torch.tensor(test, dtype=torch.int64),
    )


# ------------------------------------------------------------------------------------------------------ odd clips


@pytest.mark.parametrize("reference", ["image", "mean"])
def test_faces_without_area(small_sequence, head, short, reference):
    """Some collapsed to a line, some to a point."""
    flat = copy.deepcopy(head)
    flat.faces[::40, 1] = flat.faces[::40, 0]
    flat.faces[::80, 2] = flat.faces[::80, 0]
    config = dataclasses.replace(short, network=dataclasses.replace(short.network, reference=reference))
    assert_trains(small_sequence, flat, config)


@pytest.mark.parametrize("reference", ["image", "mean"])
def test_empty_masks(small_sequence, head, short, reference):
    empty = dataclasses.replace(small_sequence, masks=torch.zeros_like(small_sequence.masks))
    config = dataclasses.replace(short, network=dataclasses.replace(short.network, reference=reference))
    assert_trains(empty, head, config)


def test_black_frames(small_sequence, head, short):
    assert_trains(dataclasses.replace(small_sequence, images=torch.zeros_like(small_sequence.images)), head, short)


def test_white_frames_without_a_person(small_sequence, head, short):
    white = torch.full_like(small_sequence.images, 255)
    assert_trains(
        dataclasses.replace(small_sequence, images=white, masks=torch.zeros_like(small_sequence.masks)), head, short
    )


def test_a_head_beside_the_picture(small_sequence, head, short):
    """No Gaussian is visible, in any step."""
    trainer = assert_trains(moved(small_sequence, x=50.0), head, short)
    assert trainer.density.views.sum() == 0


def test_a_head_behind_the_camera(small_sequence, head, short):
    trainer = assert_trains(moved(small_sequence, z=-5.0), head, short)
    assert trainer.density.views.sum() == 0
    assert not trainer.avatar.gaussians.free.any(), "nothing is seeded behind the camera"


def test_a_camera_inside_the_head(small_sequence, head, short):
    assert_trains(moved(small_sequence, z=-1.0), head, short)


@pytest.mark.parametrize(("train", "test"), [([0], []), ([0], [1]), ([0, 1], [])])
@pytest.mark.parametrize("order", ["clusters", "interleaved", "shuffled"])
def test_sequences_of_one_frame_or_two(small_sequence, head, short, train, test, order):
    config = dataclasses.replace(short, schedule=dataclasses.replace(short.schedule, order=order))
    assert_trains(cut(small_sequence, train, test), head, config)


def test_a_cluster_with_one_frame(small_sequence, head, short):
    """One frame unlike all others gets a cluster of its own, and steps and an event of its own."""
    parameters = small_sequence.parameters
    expression, neck = torch.zeros_like(parameters.expression), torch.zeros_like(parameters.neck)
    expression[3], neck[3, 1] = 1.0, 0.4
    odd = dataclasses.replace(small_sequence, parameters=parameters.replaced(expression=expression, neck=neck))
    config = dataclasses.replace(
        short,
        schedule=dataclasses.replace(short.schedule, clusters=(2,), final=0.0),
        training=dataclasses.replace(short.training, steps=8),
    )
    trainer = assert_trains(odd, head, config)
    assert sorted(torch.bincount(trainer.clusters.assignment).tolist()) == [1, 7]
    assert len(trainer.events) == 2


# ------------------------------------------------------------------------------------------------------ the guard


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_bad_gradient_moves_nothing_from_then_on(bad):
    """As on a GPU, where nobody looks after each step."""
    guard = Guard(torch.device("cpu"))
    weight = torch.nn.Parameter(torch.ones(3))
    optimiser = torch.optim.Adam([weight], lr=0.1, fused=True)
    optimiser.found_inf = guard.tripped
    kept, faults = None, []
    for step in range(5):
        weight.grad = torch.tensor([1.0, bad if step == 2 else 0.5, 1.0])
        faults.append(int(guard.look(torch.tensor([0.5]), [torch.ones(2), weight.grad])))
        if step == 2:
            kept = weight.detach().clone(), {name: value.clone() for name, value in optimiser.state[weight].items()}
        optimiser.step()
    assert faults == [0, 0, 2, 0, 0]
    assert kept is not None and torch.equal(weight.detach(), kept[0]) and not torch.equal(weight, torch.ones(3))
    for name, value in optimiser.state[weight].items():
        assert torch.equal(value, kept[1][name]), name


def test_a_bad_loss_stops_learning_though_gradients_are_numbers():
    guard = Guard(torch.device("cpu"))
    assert int(guard.look(torch.tensor([1.0, float("nan")]), [torch.ones(1)])) == 0
    assert guard.tripped == 1


@pytest.mark.parametrize("learned", ["log_scale", "network", "poses"])
def test_a_bad_gradient_stops_training_with_everything_as_it_was(small_sequence, head, short, tmp_path, learned):
    config = dataclasses.replace(
        short, training=dataclasses.replace(short.training, checkpoint_seconds=0.0), pose=small_config_poses(short)
    )
    trainer = Trainer(small_sequence, head, config)
    trainer.train_step(trainer.plan.batches[0], trainer.plan.groups[0])
    checkpoint.save(trainer, tmp_path)
    before = (tmp_path / checkpoint.NAME).read_bytes()
    kept = {name: value.clone() for name, value in [*trainer.avatar.state_dict().items()]}
    spoil(trainer, learned)
    with pytest.raises(TrainingError, match=rf"the gradient of {'.*' if learned == 'network' else learned} is nan at"):
        trainer.run(tmp_path)
    for name, value in trainer.avatar.state_dict().items():
        assert torch.equal(value, kept[name]), name
    assert all(bool(value.isfinite().all()) for value in trainer.poses.state_dict().values())
    assert (tmp_path / checkpoint.NAME).read_bytes() == before


def small_config_poses(config):
    return dataclasses.replace(config.pose, passes=())


def spoil(trainer, learned):
    """Let one gradient come out as NaN, with all losses finite."""
    nan = float("nan")
    if learned == "log_scale":
        trainer.avatar.gaussians.log_scale.register_hook(lambda gradient: gradient * nan)
    elif learned == "network":
        trainer.avatar.network.fuse_last.weight.register_hook(lambda gradient: gradient * nan)
    else:
        rows = trainer.poses.rows

        def spoiled(frames):
            result = rows(frames)
            result.register_hook(lambda gradient: gradient * nan)
            return result

        trainer.poses.rows = spoiled


def test_what_is_no_number_reaches_neither_checkpoint_nor_avatar(small_sequence, small_motion, head, short, tmp_path):
    trainer = Trainer(small_sequence, head, short)
    checkpoint.save(trainer, tmp_path)
    save_avatar(trainer.avatar, small_motion, tmp_path / "avatar")
    files = [tmp_path / checkpoint.NAME, tmp_path / "avatar" / "avatar.safetensors"]
    before = [file.read_bytes() for file in files]
    with torch.no_grad():
        trainer.avatar.gaussians.opacity_logit[7] = float("inf")
    with pytest.raises(TrainingError, match=r"avatar\.gaussians\.opacity_logit holds values that are no numbers"):
        checkpoint.save(trainer, tmp_path)
    with pytest.raises(TrainingError, match=r"gaussians\.opacity_logit holds values that are no numbers"):
        save_avatar(trainer.avatar, small_motion, tmp_path / "avatar")
    assert [file.read_bytes() for file in files] == before


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_glance_at_sums_misses_nothing(bad):
    """Infinities of both signs would cancel if they could: their sum is no number either."""
    gradients = [torch.ones(3), torch.tensor([1.0, bad, -bad]), torch.ones(2)]
    guard = Guard(torch.device("cpu"))
    assert guard.look(torch.ones(2), [gradients[0], gradients[2]]) == 0 and guard.tripped == 0
    assert guard.look(torch.ones(2), gradients) == 2 and guard.tripped == 1


def test_sums_that_overflow_are_no_fault():
    guard = Guard(torch.device("cpu"))
    assert guard.look(torch.ones(1), [torch.full((4,), 3e38)]) == 0 and guard.tripped == 0
