"""What a data set holds and what can be done with it, in words and numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from stavatar.sequence.dataset import Dataset
from stavatar.sequence.formats import FORMATS


def inspect_dataset(dataset: Dataset, no_head: str | None) -> dict[str, Any]:
    """Look at a data set's pictures (their heads only) and describe all of it, ready for JSON.

    Args:
        dataset: as :func:`stavatar.sequence.formats.open_dataset` returns it.
        no_head: why the head model of its parameters cannot be loaded; None where it can, or there are no parameters.

    Returns:
        ``format``, ``title``, ``path``, ``pictures``, ``timesteps``, ``cameras`` (index -> name), ``size``, ``split``
        (pictures in each; None where the data have none), ``head_model``, ``fields`` (name -> shape), ``camera`` (in
        words), ``background``, ``mattes``, ``remarks``, ``faults``, ``fault_count`` and ``uses``.
    """
    dataset.check_pictures()
    faults = dataset.faults
    mattes = "cannot be told" if faults.count else dataset.mattes
    return {
        "format": dataset.format,
        "title": FORMATS[dataset.format].title,
        "path": str(dataset.folder),
        "pictures": len(dataset.views) if dataset.has_pictures else 0,
        "timesteps": dataset.timesteps,
        "cameras": {str(index): name for index, name in dataset.cameras.items()},
        "size": [dataset.width, dataset.height],
        "split": {name: len(chosen) for name, chosen in dataset.split.items()} or None,
        "head_model": dataset.head_model,
        "fields": {name: list(shape) for name, shape in dataset.fields.items()},
        "camera": _camera(dataset),
        "background": "transparent" if mattes == "alpha channel" else dataset.background,
        "mattes": mattes,
        "remarks": dataset.remarks,
        "faults": faults.sentences,
        "fault_count": faults.count,
        "uses": _uses(dataset, no_head),
    }


def _camera(dataset: Dataset) -> str:
    """Whether it moves, and its focal lengths."""
    lenses = [view.lens for view in dataset.views if view.lens]
    if not lenses:
        return "unknown"
    first = {view.camera: view.lens for view in reversed(dataset.views) if view.lens}
    moves = any(
        view.lens and not np.allclose(view.lens.world_to_camera, first[view.camera].world_to_camera, atol=1e-6)
        for view in dataset.views
    )
    focal = np.array([lens.focal for lens in lenses])
    low, high = focal.min(), focal.max()
    text = f"{low:.1f}" if np.isclose(low, high, rtol=1e-3) else f"{low:.1f} to {high:.1f}"
    return f"{'moves' if moves else 'still'}, focal length {text} pixels"


def _uses(dataset: Dataset, no_head: str | None) -> list[str]:
    """What stavatar can do with it, one sentence or command each."""
    path = dataset.folder
    if dataset.faults.count:
        return ["nothing before its faults are mended"]
    if not dataset.has_pictures:
        return ["it holds motion only: without pictures there is nothing to train on"]
    uses = []
    tracked = dataset.parameters is not None
    if tracked and no_head:
        uses.append(f"train, once its head model is there: {no_head}")
    elif tracked:
        uses.append(f"train: stavatar train {path} -o OUT")
    if tracked:
        uses.append(f"convert to the VHAP layout: stavatar data convert {path} -o OUT")
    else:
        uses.append(f"no training as it is: {dataset.why_not}")
    if len(dataset.cameras) == 1:
        uses.append(f"track its pictures anew: stavatar reconstruct {path} -o OUT")
    return uses
