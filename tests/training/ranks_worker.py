"""One of the processes of test_ranks.py: ``python ranks_worker.py SCENARIO FOLDER``, in an environment as torchrun sets
it. Ends as the command line does: with an error's message on standard error and its exit code."""

import os
import sys
from pathlib import Path

import torch

from stavatar import config
from stavatar.errors import StavatarError
from stavatar.head import load_embedded_head
from stavatar.sequence import read_sequence
from stavatar.training import checkpoint
from stavatar.training.ranks import Ranks, joined
from stavatar.training.trainer import Trainer

CPU = torch.device("cpu")
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


def train(folder: Path, ranks: Ranks):
    """Start together, go on from what one process left, and come upon a picture that is no numbers."""
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
        images = trainer.sequence.image
        object.__setattr__(trainer.sequence, "image", lambda *given: images(*given) * float("nan"))
    trainer.run(folder / "two_end")


def vanish(folder: Path, ranks: Ranks):
    """The second process ends without a word, as one does that the system kills."""
    if not ranks.first:
        os._exit(9)
    ranks.gather(torch.zeros(1), 2)


if __name__ == "__main__":
    scenario, place = globals()[sys.argv[1]], Path(sys.argv[2])
    try:
        with joined(CPU) as processes:
            scenario(place, processes)
    except StavatarError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
