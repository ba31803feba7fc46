"""Tidying up region labels that rules have put on the faces of a mesh."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from stavatar.head.model import REGIONS

_TURNS = 40


def remove_specks(label: np.ndarray, faces: np.ndarray, movable: np.ndarray) -> None:
    """Give faces that hang on their own region by one edge at most the label of the neighbours that agree.

    Args:
        label: [F] region of each face, changed in place.
        faces: [F, 3].
        movable: [F] faces whose label may change.
    """
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    _, edge = np.unique(edges, axis=0, return_inverse=True)
    owner = sp.csr_matrix((np.ones(len(edge)), (np.tile(np.arange(len(faces)), 3), edge.ravel())))
    neighbours = owner @ owner.T
    neighbours.setdiag(0)
    number = np.arange(len(faces))
    for turn in range(_TURNS):
        votes = neighbours @ np.eye(len(REGIONS))[label]
        own = votes[number, label]
        change = movable & (own <= 1) & (votes.max(1) >= 2)
        change &= number % 2 == turn % 2  # by turns: neighbours that change together could swap labels for ever
        label[change] = votes[change].argmax(1)
