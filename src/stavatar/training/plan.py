"""Which frames each training step sees, and after which steps density control acts (METHOD section 3).

A plan is computed once, from the configuration and the clusters alone. Any step of it can be looked up, so training
can be taken up anywhere and sees the very frames that it would have seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from stavatar.config import Config

NO_GROUP = -1
"""Group of steps whose frames density control does not look at."""


@dataclass(frozen=True)
class Event:
    """Density control acts after `step` steps, by the statistics of `group`; `cluster` is what to call it by."""

    step: int
    group: int
    cluster: int | None


@dataclass(frozen=True)
class Plan:
    """The order of training.

    Attributes:
        batches: for each step, the frames it sees: indices into the sequence, all different.
        groups: for each step, the statistics group of each of its frames, or `NO_GROUP` throughout.
        events: in order of their steps.
    """

    batches: list[Tensor]
    groups: list[Tensor]
    events: list[Event]

    def __len__(self) -> int:
        return len(self.batches)

    def watched(self, step: int) -> bool:
        """Whether density control looks at a step."""
        return int(self.groups[step][0]) != NO_GROUP

    @property
    def group_count(self) -> int:
        """How many statistics groups there are, at least one; a very short training has some that no event acts on."""
        watched = (int(groups.max()) for groups in self.groups)
        return 1 + max(0, *watched, *(event.group for event in self.events))


def total_steps(config: Config, frames: int) -> int:
    """Steps of a whole training over so many frames."""
    training = config.training
    return training.steps or max(1, math.ceil(training.epochs * math.ceil(frames / training.batch)))


def make_plan(config: Config, train: Tensor, assignment: Tensor) -> Plan:
    """Lay out a whole training.

    Three parts follow each other: the warm-up, the part that clusters rule, and the final part. Warm-up and final part
    see all frames in shuffled epochs. What lies between depends on `config.schedule.order`:

    - ``clusters``: one cluster after the other, each with steps in proportion to its frames and in shuffled epochs of
      its own; density control watches the first `densify` of a cluster's steps and acts after them.
    - ``interleaved``: shuffled epochs over all frames; statistics are kept per cluster, and density control acts at the
      same steps as above, each time by another cluster.
    - ``shuffled``: the same with a single group, so that runs with and without clusters differ in nothing else.

    Args:
        config: of the run.
        train: [n] frames to learn from, indices into the sequence.
        assignment: [n] cluster of each, 0 to K - 1, every cluster with at least one frame.
    """
    schedule = config.schedule
    order = _Shuffler(config.training.batch, config.training.seed)
    steps = total_steps(config, len(train))
    first = round(schedule.warmup * steps)
    last = max(first, steps - round(schedule.final * steps))

    everyone = torch.arange(len(train))
    shares = torch.bincount(assignment).double()
    bounds = first + (shares.cumsum(0) / shares.sum() * (last - first)).round().long()
    spans = list(zip([first, *bounds[:-1].tolist()], bounds.tolist(), strict=True))
    moments = [start + max(1, round(schedule.densify * (end - start))) for start, end in spans]

    places = order.epochs(everyone, first)
    groups: list[Tensor] = [torch.full((len(batch),), NO_GROUP) for batch in places]
    events = []
    if schedule.order == "clusters":
        for cluster, ((start, end), moment) in enumerate(zip(spans, moments, strict=True)):
            own = order.epochs((assignment == cluster).nonzero()[:, 0], end - start)
            for step, batch in enumerate(own, start):
                groups.append(torch.full((len(batch),), cluster if step < moment else NO_GROUP))
            places += own
            if start < end:
                events.append(Event(moment, cluster, cluster))
    else:
        clustered = schedule.order == "interleaved"
        mixed = order.epochs(everyone, last - first)
        places += mixed
        groups += [assignment[batch] if clustered else torch.zeros(len(batch), dtype=torch.long) for batch in mixed]
        for cluster, ((start, end), moment) in enumerate(zip(spans, moments, strict=True)):
            if start < end:
                events.append(Event(moment, *((cluster, cluster) if clustered else (0, None))))
        for step in range(events[-1].step if events else first, last):
            groups[step] = torch.full_like(groups[step], NO_GROUP)  # nothing is decided by these any more
    final = order.epochs(everyone, steps - last)
    places += final
    groups += [torch.full((len(batch),), NO_GROUP) for batch in final]
    return Plan([train[batch] for batch in places], groups, events)


class _Shuffler:
    """Deals out permutations of frames in batches, each epoch with a seed of its own."""

    def __init__(self, batch: int, seed: int) -> None:
        self._batch = batch
        self._seed = seed
        self._epoch = 0

    def epochs(self, places: Tensor, steps: int) -> list[Tensor]:
        """`steps` batches of shuffled epochs over `places`; the last batch of an epoch may be smaller."""
        batches: list[Tensor] = []
        while len(batches) < steps:
            generator = torch.Generator().manual_seed(1_000_003 * self._seed + self._epoch)
            self._epoch += 1
            batches += places[torch.randperm(len(places), generator=generator)].split(self._batch)
        return batches[:steps]
