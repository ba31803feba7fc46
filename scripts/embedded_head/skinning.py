"""Joints and skinning weights: MakeHuman's bones gathered into root, neck and the two eyes."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from embedded_head.source import Source
from embedded_head.surface import Surface, eye_center_row, mean_row
from stavatar.head.posing import JOINTS

# How much each bone follows the neck joint. The neck's own bones are on the way from the torso to the head.
NECK_SHARE = {"neck01": 0.2, "neck02": 0.6}


def joint_rows(source: Source) -> sp.csr_matrix:
    """Joint positions as combinations [5, N] of base vertices.

    The neck joint is where MakeHuman's third neck bone begins, in the upper half of the neck: about there a head nods
    and turns. The jaw joint moves nothing (the mouth opens by expression) and is kept for its position.
    """
    return sp.vstack(
        [
            mean_row(source, source.vertex_group("joint-neck")),
            mean_row(source, np.array(source.bones["neck03"]["head"]["vertex_indices"])),
            mean_row(source, source.vertex_group("joint-mouth")),
            eye_center_row(source, "helper-l-eye"),
            eye_center_row(source, "helper-r-eye"),
        ],
        format="csr",
    )


def skinning_weights(source: Source, surface: Surface) -> np.ndarray:
    """Weights [V, 5], rows summing to 1. No vertex follows the jaw joint; eyeballs follow their own joint only."""
    weights = np.zeros((surface.rows.shape[0], len(JOINTS)))
    neck = (surface.rows @ _follow(source, NECK_SHARE)).clip(0, 1)
    neck[surface.vertices_of("mouth", "tongue", "upper_teeth", "lower_teeth")] = 1
    weights[:, JOINTS.index("neck")] = neck
    weights[:, JOINTS.index("root")] = 1 - neck
    for side in ("left_eye", "right_eye"):
        weights[surface.vertices_of(side)] = np.eye(len(JOINTS))[JOINTS.index(side)]
    return weights


def bones_above_trunk(source: Source) -> np.ndarray:
    """For every base vertex [N], how much of its weight lies on bones of the neck and head."""
    return _follow(source, {})


def _follow(source: Source, share: dict[str, float]) -> np.ndarray:
    """Normalised weight [N] of the bones of neck and head, each counted by its `share` (1 where none is given)."""
    total = np.zeros(len(source.mesh.vertices))
    following = np.zeros_like(total)
    for bone, weight in source.bone_weights().items():
        total += weight
        if "neck01" in _ancestry(source, bone):
            following += share.get(bone, 1.0) * weight
    return following / np.maximum(total, 1e-9)


def _ancestry(source: Source, bone: str) -> list[str]:
    """The bone and its parents up to the rig's root."""
    line = []
    while bone:
        line.append(bone)
        bone = source.bones[bone]["parent"]
    return line
