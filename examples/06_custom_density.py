"""Train with a density strategy of one's own: Gaussians that hardly any pixel shows are forgotten.

A strategy is any object with the methods of ``stavatar.density.DensityControl``. Training calls `observe` after a
backward pass and `densify` at the moments of its plan.

    python examples/06_custom_density.py out/sequence/ pruned/ training.steps=600
"""

import sys
from pathlib import Path

import torch

import stavatar
from stavatar import config
from stavatar.avatar.storage import Motion, save_avatar
from stavatar.density import DensityEvent, FixedDensity
from stavatar.density.surgery import rebuild
from stavatar.training.trainer import Trainer

source, folder, changes = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]


class ForgetFaint(FixedDensity):
    """Adds nothing; removes what contributed less than a hundredth of a pixel since the last event."""

    needs_statistics = True

    def __init__(self):
        self.shown = None  # [N] pixels, counted by how much a Gaussian contributed to them

    def observe(self, seen):
        weights = seen.view.blending_weights.sum(0).cpu()
        self.shown = weights if self.shown is None else self.shown + weights

    def densify(self, avatar, optimiser, *, group, cluster, step):
        if self.shown is None:
            return None
        kept = (self.shown > 0.01).nonzero()[:, 0]
        pruned = len(self.shown) - len(kept)
        nothing_born = torch.zeros(len(kept), dtype=torch.bool)
        rebuild(avatar.gaussians, optimiser, kept, nothing_born, {})
        self.shown = None
        return DensityEvent(step, cluster, cloned=0, split=0, pruned=pruned, gaussians=len(kept), mouth=0)


sequence = stavatar.read_sequence(source)
settings = config.override(config.preset("cpu"), changes)
trainer = Trainer(sequence, stavatar.load_embedded_head(), settings, density=ForgetFaint())
trainer.run()
for event in trainer.events:
    print(f"step {event.step}: {event.pruned} forgotten, {event.gaussians} left")
motion = Motion(trainer.track_held_out(), sequence.camera, sequence.fps, sequence.train, sequence.test)
save_avatar(trainer.avatar, motion, folder)
