"""Load an avatar, make it smile, save the picture.

python examples/01_load_and_render.py out/ smile.png
"""

import sys

import stavatar

folder, picture = sys.argv[1:3]

avatar = stavatar.load_avatar(folder)
pose = avatar.frame(0)  # the first recorded frame
pose = avatar.express(pose, mouthSmileLeft=0.8, mouthSmileRight=0.8)
image = avatar.render(pose, size=512).image[0]  # [512, 512, 3] in [0, 1]
stavatar.save_image(image, picture)
