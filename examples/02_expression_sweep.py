"""Open the mouth and close it again: one expression, everything else at rest.

python examples/02_expression_sweep.py out/ sweep.mp4 jawOpen
"""

import math
import sys
from pathlib import Path

import stavatar

folder, video, name = sys.argv[1:4]
frames, fps = 50, 25.0

avatar = stavatar.load_avatar(folder)
rest = stavatar.Retargeter(avatar.motion, avatar.head).rest  # what the face looks like when it does nothing
still = avatar.frame(0).replaced(expression=rest.expression[None])
sweep = [avatar.express(still, **{name: 0.5 - 0.5 * math.cos(2 * math.pi * frame / frames)}) for frame in range(frames)]
motion = stavatar.HeadParameters.concatenate(sweep)
stavatar.play(avatar, motion, avatar.motion.camera[[0]], fps, Path(video))
