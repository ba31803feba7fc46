"""Which of MediaPipe's 478 face landmarks lie where, and how far a fit may trust them.

The indices are those of MediaPipe's canonical face mesh: 468 points of the skin, then five for each iris.
"Right" and "left" are the subject's.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stavatar.head.landmarks import LANDMARKS

SKIN = tuple(range(468))
"""Everything but the irises."""

OUTER_EYE_CORNERS = (33, 263)
"""Right, left. Their distance is the unit in which landmark errors are given."""

EYE_CORNERS = ((263, 362), (33, 133))
"""Outer and inner corner of the left eye, then of the right."""

CONTOUR = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
"""The outline of the face, which slides over the skin when the head turns."""

EYES = (33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380, 159, 145, 386, 374, 7, 163, 246, 161)
"""Rims of the lids."""

NOSE_TO_FOREHEAD = (2, 10)
"""Below the nose and at the hairline: the way up a face, which jaw and lids do not change."""

LID_PAIRS = (((386, 374), (385, 380), (387, 373)), ((159, 145), (158, 153), (160, 144)))
"""Points of the upper and of the lower rim opposite each other: the left eye's, then the right eye's."""

LIP_PAIRS = ((11, 16), (72, 85), (302, 315))
"""Points in the middle of the upper and of the lower lip. Those of the rims, where the lips touch, lie on one and the
same lip of a mesh whose mouth is shut."""

LIPS = (
    61, 40, 37, 0, 267, 270, 291, 321, 314, 17, 84, 91, 78, 81, 13, 311, 308, 402, 14, 178,
    191, 80, 82, 312, 310, 415, 95, 88, 87, 317, 318, 324,
)  # fmt: skip

INNER = (
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300,              # brows
    168, 6, 197, 195, 5, 4, 48, 115, 220, 45, 440, 344, 278,    # nose
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,  # eyes
    61, 40, 37, 0, 267, 270, 291, 321, 314, 17, 84, 91, 78, 81, 13, 311, 308, 402, 14, 178,  # lips
)  # fmt: skip
"""The parts of a face that carry its look."""


def landmark_weights() -> Tensor:
    """Weights [478] of the squared landmark errors in a fit of pose and expression.

    The contour counts little. Irises count nothing: they follow the gaze, which is fitted afterwards, and where an eye
    is shut MediaPipe makes them up.
    """
    weights = torch.zeros(LANDMARKS)
    weights[list(SKIN)] = 1
    weights[list(CONTOUR)] = 0.2
    weights[list(LIPS + EYES)] = 2
    return weights
