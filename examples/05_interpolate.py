"""Glide from one recorded frame to another and on to a third, slower than life.

python examples/05_interpolate.py out/ glide.mp4 0 20 45
"""

import sys
from itertools import pairwise
from pathlib import Path

import torch

import stavatar

folder, video, *stops = sys.argv[1:]
steps = 25

avatar = stavatar.load_avatar(folder)
keys = [avatar.frame(int(stop)) for stop in stops]
parts = []
for before, after in pairwise(keys):
    share = torch.linspace(0, 1, steps)[:, None]
    smooth = share * share * (3 - 2 * share)  # starts and stops gently
    # Axis-angle vectors this small may be blended like everything else.
    blended = {name: torch.lerp(value, getattr(after, name), smooth) for name, value in before.items()}
    parts.append(stavatar.HeadParameters(**blended))
motion = stavatar.HeadParameters.concatenate(parts)
stavatar.play(avatar, motion, avatar.motion.camera[[0]], avatar.motion.fps, Path(video))
