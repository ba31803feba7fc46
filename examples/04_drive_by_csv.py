"""Move an avatar by a recording of ARKit coefficients, for example from a phone.

python examples/04_drive_by_csv.py out/ take.csv driven.mp4
"""

import sys
from pathlib import Path

import stavatar

folder, recording, video = sys.argv[1:4]

avatar = stavatar.load_avatar(folder)
driver = stavatar.load_driver(Path(recording))
options = stavatar.Retargeting(strength=1.2, smoothing=0.04)
motion = stavatar.Retargeter(avatar.motion, avatar.head, options).follow(driver)
stavatar.play(avatar, motion, avatar.motion.camera[[0]], driver.fps, Path(video))
