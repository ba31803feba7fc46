"""The head model that comes with the package (CC0; how it is made: ``scripts/build_embedded_head.py``)."""

from __future__ import annotations

from importlib import resources

import numpy as np

from stavatar.head.model import HeadModel

NAME = "embedded-1"


def load_embedded_head() -> HeadModel:
    """The embedded head: 100 identity components, 52 expressions named as ARKit's, five joints.

    The mouth opens by the expression ``jawOpen``, and gaze is the eye joints' alone: the eyeLook expressions move the
    lids but not the eyeballs.
    """
    with (
        resources.as_file(resources.files("stavatar.head") / "data" / "embedded_head.npz") as path,
        np.load(path, allow_pickle=False) as data,
    ):
        return HeadModel(
            name=NAME,
            template=data["template"],
            shape_basis=data["shape_basis"],
            expression_basis=data["expression_basis"],
            expression_names=[str(name) for name in data["expression_names"]],
            joints=data["joints"],
            joint_basis=data["joint_basis"],
            weights=data["weights"],
            faces=data["faces"],
            uv=data["uv"],
            uv_faces=data["uv_faces"],
            regions=data["regions"],
            jaw_by_expression=True,
        )
