"""One frozen frame seen from all around, as PNGs with alpha to put over anything.

python examples/03_turntable.py out/ turntable/ 36
"""

import math
import sys
from pathlib import Path

import torch

import stavatar
from stavatar.rendering import to_uint8

folder, pictures, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])

avatar = stavatar.load_avatar(folder)
posed = avatar.pose(avatar.frame(0))  # posed once, drawn many times
for view in range(count):
    camera = avatar.motion.camera[[0]].around(avatar.pivot, 2 * math.pi * view / count, 0.0)
    drawn = avatar.draw(posed, camera, background=torch.zeros(3))
    stavatar.save_image(to_uint8(drawn.image[0], drawn.alpha[0]), pictures / f"{view:03d}.png")
