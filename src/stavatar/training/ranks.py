"""Several processes that train one avatar together, each on a GPU of its own, as ``torchrun`` starts them.

Every process holds the whole avatar, all poses and the whole plan, and draws its share of each step's frames. Three
things are exchanged: which Gaussians a step's pictures show, one sum of all gradients, and at the moments of density
control the statistics of one group. From equal numbers all processes compute equal states, so that nothing else needs
to be sent, and a training by K processes is the training that one process would do with the same batches.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Protocol, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from stavatar.density import Reduction
from stavatar.errors import BackendError, InputError, TrainingError
from stavatar.progress import console

_PATIENCE = timedelta(minutes=10)  # longer than any process computes on its own between two exchanges
_LOOK_SECONDS = 0.2  # between looks at whether the first process is ready
_LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


class _Frames(Protocol):
    def __len__(self) -> int: ...
    def __getitem__(self, index: slice, /) -> Any: ...


_FramesT = TypeVar("_FramesT", bound=_Frames)
_Result = TypeVar("_Result")


class Ranks:
    """The processes of one training, seen from one of them; by default one process that is alone.

    All must call the same methods in the same order. Alone, none of them does or copies anything.

    Args:
        rank: number of this process, from 0.
        count: K, number of processes.
        store: where they leave notes that need no answer.
    """

    def __init__(self, rank: int = 0, count: int = 1, store: dist.Store | None = None) -> None:
        self.rank = rank
        self.count = count
        self._store = store
        self._led = 0  # times that the first process did something for all

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and speaks to the user."""
        return self.rank == 0

    # ------------------------------------------------------------------------------------------- who does what

    def own(self, frames: _FramesT) -> _FramesT:
        """This process's share of whatever has frames for its first dimension; shares differ by one at most.

        A process that gets none, as there are fewer frames than processes, takes the last one. It weighs nothing there,
        so that nothing depends on it, and nobody has to cope with empty batches.
        """
        if self.count == 1:
            return frames
        start, stop = self._bounds(len(frames), self.rank)
        share: _FramesT = frames[start:stop] if start < stop else frames[-1:]
        return share

    def weight(self, frames: int) -> float:
        """How much of the mean over so many frames is this process's share."""
        start, stop = self._bounds(frames, self.rank)
        return (stop - start) / frames

    def shares(self, frames: Tensor) -> list[list[int]]:
        """What each process got of some frames."""
        return [frames[slice(*self._bounds(len(frames), rank))].tolist() for rank in range(self.count)]

    def require_work(self, batch: int) -> None:
        """Refuse to train with fewer frames a step than processes.

        Raises:
            InputError: some would never have a frame of their own.
        """
        if batch < self.count:
            raise InputError(
                f"training.batch={batch} leaves some of {self.count} processes without a frame: add "
                f"--set training.batch={self.count}, or a multiple of it"
            )

    def _bounds(self, frames: int, rank: int) -> tuple[int, int]:
        least, more = divmod(frames, self.count)
        start = rank * least + min(rank, more)
        return start, start + least + (rank < more)

    def led(self, lead: Callable[[], _Result], follow: Callable[[], _Result]) -> _Result:
        """Let the first process do what only one may do, for as long as it takes, and the others `follow` after it."""
        self._led += 1
        note = f"led {self._led}"
        if self._store is None or self.first:
            result = lead()
            if self._store is not None:
                self._store.set(note, "")
            return result
        while not self._store.check([note]):
            if self._store.check(["failed"]):
                raise SystemExit(1)
            time.sleep(_LOOK_SECONDS)
        return follow()

    # ----------------------------------------------------------------------------------------------- exchanges

    def average(self, leaves: list[Tensor], frames: int, told: Tensor) -> Tensor:
        """Turn gradients of the mean over this process's frames into those of the mean over all, in one exchange.

        Args:
            leaves: tensors with gradients, the same everywhere; where one has none it is taken for zero.
            frames: how many there are in all.
            told: [M] means over this process's frames that the others are to know.

        Returns:
            [K, M] what each process told, weighted by its share: the sum over K is the mean over all frames.
        """
        if self.count == 1:
            return told[None]
        each = told.new_zeros(self.count, len(told))
        each[self.rank] = told
        # In the order in which a leaf lies in memory, so that convolutions laid out channels last need not be copied.
        orders = [sorted(range(leaf.dim()), key=leaf.stride, reverse=True) for leaf in leaves]
        gradients = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves]
        parts = [gradient.permute(order).reshape(-1) for gradient, order in zip(gradients, orders, strict=True)]
        flat = torch.cat([*parts, each.flatten()]).mul_(self.weight(frames))
        self._all_reduce(flat, "sum")
        *sums, each = flat.split([*(len(part) for part in parts), each.numel()])
        for leaf, order, total in zip(leaves, orders, sums, strict=True):
            back = sorted(range(len(order)), key=order.__getitem__)
            leaf.grad = total.view([leaf.shape[k] for k in order]).permute(back)
        return each.view(self.count, -1)

    def any(self, mask: Tensor) -> Tensor:
        """Where a bool mask is true in any process."""
        return mask if self.count == 1 else self.reduce(mask.to(torch.uint8), "max").bool()

    def reduce(self, values: Tensor, how: Reduction) -> Tensor:
        """Sum or maximum over all processes."""
        if self.count == 1:
            return values
        result = values.clone(memory_format=torch.contiguous_format)
        self._all_reduce(result, how)
        return result

    def first_says(self, flag: bool) -> bool:
        """What the first process says, for decisions that hang on something as private as the time."""
        return bool(self.reduce(torch.tensor(flag and self.first, dtype=torch.uint8), "max"))

    def adopt(self, *tensors: Tensor) -> None:
        """Overwrite tensors, contiguous ones, by those of the first process."""
        if self.count > 1:
            for tensor in tensors:
                self._exchange(dist.broadcast, tensor, 0)

    def agree(self, *numbers: int) -> bool:
        """Whether all processes have come to the same whole numbers."""
        largest, negated = self.reduce(torch.tensor([numbers, [-number for number in numbers]]), "max")
        return bool((largest == -negated).all())

    def _all_reduce(self, values: Tensor, how: Reduction) -> None:
        self._exchange(dist.all_reduce, values, dist.ReduceOp.SUM if how == "sum" else dist.ReduceOp.MAX)

    def _exchange(self, operation: Callable[..., Any], *arguments: Any) -> None:
        try:
            operation(*arguments)
        except RuntimeError as error:
            raise TrainingError(
                f"rank {self.rank} of {self.count} lost touch with the others ({str(error).splitlines()[0]}): one was "
                "killed, or the network failed; the last checkpoint is intact: resume"
            ) from error

    # ----------------------------------------------------------------------------------------------------- end

    def part(self) -> None:
        """End what is done together, all at the same time; from here on this process is alone."""
        if self.count > 1:
            self.reduce(torch.zeros(1), "sum")  # nobody hangs up on the others
            dist.destroy_process_group()
            self.count = 1

    def failed_first(self) -> bool:
        """Note that this process has failed; whether it was the first to do so."""
        try:
            return self._store is None or self._store.add("failed", 1) == 1
        except RuntimeError:
            return True  # whoever kept the notes is gone


@contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """Join the other processes that ``torchrun`` started along with this one; without it, be alone.

    On GPUs each process takes the one that has its local rank. Only the first process shows progress. When one fails,
    its error is raised in that process, and the others leave without a word, so that the user reads one message; it is
    ``torchrun`` that ends those which wait for an answer of a GPU.

    Args:
        device: what to train on; ``cuda`` is the process's own GPU afterwards.

    Raises:
        BackendError: there is no GPU for this process, or the others did not come.
        TrainingError: the others were lost on the way.
    """
    count = int(os.environ["WORLD_SIZE"]) if all(name in os.environ for name in _LAUNCHED) else 1
    if count == 1:
        yield Ranks()
        return
    rank = int(os.environ["RANK"])
    store = _meet(rank, count)
    ranks = Ranks(rank, count, store)
    loud, console.quiet = console.quiet, console.quiet or not ranks.first
    try:
        _connect(rank, count, store, device)
        yield ranks
        ranks.part()
    except BaseException:
        # No leave is taken from the others here: it would wait for them.
        if ranks.failed_first():
            raise
        raise SystemExit(1) from None
    finally:
        console.quiet = loud


def _meet(rank: int, count: int) -> dist.Store:
    """The store that all processes reach."""
    from torch.distributed.rendezvous import rendezvous  # not in every build of torch, and needed only here

    try:
        store, _, _ = next(rendezvous("env://", rank, count, timeout=_PATIENCE))
    except (RuntimeError, ValueError) as error:
        raise BackendError(_nobody_came(count, error)) from error
    return store


def _connect(rank: int, count: int, store: dist.Store, device: torch.device) -> None:
    """Set up the exchange of tensors: NCCL for those on GPUs, Gloo for those on the CPU."""
    backend = "gloo"
    if device.type == "cuda":
        local, seen = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= seen:
            raise BackendError(
                f"process {local} of this machine has no GPU to itself, as torch sees {seen}: "
                f"start torchrun with --nproc-per-node={seen} at most"
            )
        torch.cuda.set_device(local)
        backend = "cpu:gloo,cuda:nccl"
    try:
        own = dist.PrefixStore("exchange", store)
        dist.init_process_group(backend, store=own, rank=rank, world_size=count, timeout=_PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise BackendError(_nobody_came(count, error)) from error


def _nobody_came(count: int, error: Exception) -> str:
    reason = str(error).splitlines()[0]
    return (
        f"WORLD_SIZE={count} announces {count} processes, and they could not be connected ({reason}): start them with "
        "torchrun, or unset WORLD_SIZE to train alone"
    )
