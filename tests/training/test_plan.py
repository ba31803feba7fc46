"""The order of frames and of density control's moments."""

import dataclasses

import pytest
import torch

from stavatar import config
from stavatar.training.plan import make_plan, total_steps

TRAIN = torch.arange(100, 160)  # sixty frames somewhere in a sequence
ASSIGNMENT = torch.tensor([0] * 30 + [1] * 20 + [2] * 10)


def settings(order="clusters", batch=1, **schedule):
    base = config.preset("paper")
    return dataclasses.replace(
        base,
        schedule=dataclasses.replace(base.schedule, order=order, **{"warmup": 0.0, "final": 1 / 6} | schedule),
        training=dataclasses.replace(base.training, epochs=6, batch=batch),
    )


def test_the_papers_schedule():
    """Six epochs of which the last is over all frames; each cluster has five, and density control acts after two."""
    plan = make_plan(settings(), TRAIN, ASSIGNMENT)
    assert len(plan) == 360 == total_steps(settings(), 60)
    assert [(event.step, event.group, event.cluster) for event in plan.events] == [
        (60, 0, 0),
        (150 + 40, 1, 1),
        (250 + 20, 2, 2),
    ]
    seen = torch.cat(plan.batches)
    for cluster, (start, end) in enumerate([(0, 150), (150, 250), (250, 300)]):
        own = TRAIN[cluster == ASSIGNMENT]
        assert seen[start:end].bincount(minlength=160)[own].tolist() == [5] * len(own)
        moment = plan.events[cluster].step
        assert [plan.watched(step) for step in (start, moment - 1, moment, end - 1)] == [True, True, False, False]
    assert sorted(seen[300:].tolist()) == TRAIN.tolist()
    assert not any(plan.watched(step) for step in range(300, 360))


def test_interleaved_statistics_belong_to_each_frames_cluster():
    plan = make_plan(settings("interleaved", batch=4), TRAIN, ASSIGNMENT)
    assert plan.group_count == 3
    for batch, groups in zip(plan.batches[:20], plan.groups[:20], strict=True):
        assert groups.tolist() == ASSIGNMENT[batch - 100].tolist()
    assert sorted(torch.cat(plan.batches[:15]).tolist()) == TRAIN.tolist()  # epochs of fifteen batches of four


@pytest.mark.parametrize("order", ["interleaved", "shuffled"])
def test_other_orders_act_as_often_and_at_the_same_steps(order):
    clustered, other = make_plan(settings(), TRAIN, ASSIGNMENT), make_plan(settings(order), TRAIN, ASSIGNMENT)
    assert [event.step for event in other.events] == [event.step for event in clustered.events]
    assert len(other) == len(clustered)
    if order == "shuffled":
        assert other.group_count == 1 and all(event.cluster is None for event in other.events)
    last = other.events[-1].step
    assert other.watched(last - 1) and not other.watched(last)


def test_warm_up_comes_first_and_is_not_watched():
    plan = make_plan(settings(warmup=0.5), TRAIN, ASSIGNMENT)
    assert not any(plan.watched(step) for step in range(180))
    assert plan.watched(180)
    assert sorted(torch.cat(plan.batches[:60]).tolist()) == TRAIN.tolist()


def test_frames_of_a_batch_are_different_and_epochs_differ():
    plan = make_plan(settings("shuffled", batch=7), TRAIN, ASSIGNMENT)
    assert all(len(batch.unique()) == len(batch) for batch in plan.batches)
    first, second = torch.cat(plan.batches[:9]), torch.cat(plan.batches[9:18])
    assert sorted(first.tolist()) == sorted(second.tolist()) == TRAIN.tolist()
    assert first.tolist() != second.tolist()


def test_the_same_seed_gives_the_same_plan_and_another_seed_another():
    first, again = make_plan(settings(), TRAIN, ASSIGNMENT), make_plan(settings(), TRAIN, ASSIGNMENT)
    assert torch.equal(torch.cat(first.batches), torch.cat(again.batches))
    other = settings()
    other = dataclasses.replace(other, training=dataclasses.replace(other.training, seed=5))
    assert not torch.equal(torch.cat(first.batches), torch.cat(make_plan(other, TRAIN, ASSIGNMENT).batches))


@pytest.mark.parametrize("order", ["clusters", "interleaved", "shuffled"])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_handful_of_steps_is_planned_too(order, steps):
    base = settings(order)
    short = dataclasses.replace(base, training=dataclasses.replace(base.training, steps=steps))
    plan = make_plan(short, TRAIN, ASSIGNMENT)
    assert len(plan.batches) == len(plan.groups) == steps
    assert all(0 < event.step <= steps for event in plan.events)
    assert all(event.group < plan.group_count for event in plan.events)
    assert all(int(groups.max()) < plan.group_count for groups in plan.groups)
