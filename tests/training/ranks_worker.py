"""One of the processes of test_ranks.py: ``python ranks_worker.py SCENARIO FOLDER DEVICE``.

The environment is as torchrun sets it. Ends as the command line does: with an error's message on standard error and its
exit code.
"""

import os
import sys
from dataclasses import replace
from pathlib import Path

import torch

from stavatar import config
from stavatar.errors import StavatarError
from stavatar.head import load_embedded_head
from stavatar.sequence import read_sequence
from stavatar.training import checkpoint
from stavatar.training.ranks import Ranks, joined
from stavatar.training.trainer import Trainer

STOP = 3
"""Step of the first checkpoint: after the pose pass and the first event of density control."""
LATER = 4
"""Step of the second: statistics wait for the second event, and a batch of one frame will add to them."""


def trainer_for(folder, ranks=None):
    sequence = read_sequence(folder / "sequence")
    return Trainer(sequence, load_embedded_head(), config.load(folder / "config.yaml"), ranks=ranks)


def go_on(trainer, to):
    """Train until `to` steps are done, as `Trainer.run` does."""
    while trainer.step < to:
        trainer._align_where_due()
        trainer.train_step(trainer.plan.batches[trainer.step], trainer.plan.groups[trainer.step])
        trainer._densify_where_due()


def train(folder: Path, ranks: Ranks, device: torch.device):
    """Start together, go on from what one process left, and come upon colours that are no numbers."""
    rank = os.environ["RANK"]
    trainer = trainer_for(folder, ranks)
    go_on(trainer, STOP)
    checkpoint.save(trainer, folder / "two")

    trainer = trainer_for(folder, ranks)
    assert checkpoint.restore(trainer, folder / "one")
    go_on(trainer, LATER)
    checkpoint.save(trainer, folder / "two_later")
    go_on(trainer, trainer.steps)
    checkpoint.save(trainer, folder / "two_end")
    trainer.ranks = Ranks()  # each writes what it has itself
    checkpoint.save(trainer, folder / f"two_end_{rank}")

    trainer.ranks = ranks
    trainer.step -= 1
    if rank == "1":
        trainer.avatar.forward = without_colours(trainer.avatar.forward)
    trainer.run(folder / "nan")


def without_colours(pose):
    """Posing Gaussians, with colours that are no numbers."""

    def posed(*arguments, **options):
        gaussians = pose(*arguments, **options)
        return replace(gaussians, sh=gaussians.sh * float("nan"))

    return posed


def exchange(folder: Path, ranks: Ranks, device: torch.device):
    """Everything that two processes say to each other, with three frames: two for the first."""
    number = float(ranks.rank)
    kernel = torch.zeros(4, 3, 2, 2, device=device).to(memory_format=torch.channels_last).requires_grad_()
    kernel.grad = torch.full_like(kernel, 1 + number)
    told = ranks.average([kernel], 3, torch.tensor([3 + number], device=device))
    torch.testing.assert_close(kernel.grad, torch.full_like(kernel, 4 / 3))
    assert kernel.grad.stride() == kernel.stride()
    torch.testing.assert_close(told, torch.tensor([[2.0], [4 / 3]], device=device))

    everyone = torch.arange(3.0, device=device)
    assert torch.equal(ranks.any(everyone == number), everyone < 2)
    assert torch.equal(ranks.reduce(everyone * number, "max"), everyone)
    adopted = everyone + number
    ranks.adopt(adopted)
    assert torch.equal(adopted, everyone)
    assert ranks.agree(3, -4) and not ranks.agree(3, ranks.rank)
    assert ranks.first_says(ranks.first) and not ranks.first_says(not ranks.first)


def vanish(folder: Path, ranks: Ranks, device: torch.device):
    """The second process ends without a word, as one does that the system kills."""
    exchange(folder, ranks, device)
    if not ranks.first:
        os._exit(9)
    ranks.reduce(torch.zeros(1), "sum")


if __name__ == "__main__":
    scenario, place, kind = globals()[sys.argv[1]], Path(sys.argv[2]), torch.device(sys.argv[3])
    try:
        with joined(kind) as processes:
            scenario(place, processes, kind)
    except StavatarError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
