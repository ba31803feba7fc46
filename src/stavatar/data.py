"""Data from elsewhere: recordings and tracked sequences in any format, what they hold, and writing them anew."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from stavatar import assets
from stavatar.errors import InputError, StavatarError
from stavatar.files import require_apart
from stavatar.head import load_head
from stavatar.sequence import Sequence, split_holdout, write_sequence
from stavatar.sequence.formats import open_dataset, read_data
from stavatar.sequence.inspection import inspect_dataset

if TYPE_CHECKING:  # tracked sequences are read also where there are no packages for video
    from stavatar.capture.video import Source


def open_recording(path: Path) -> Source:
    """A video, or the pictures of a data set in any format, with their mattes where it has them.

    Raises:
        InputError: it cannot be read, or shows one moment from several cameras.
    """
    from stavatar.capture.video import ImageFiles, open_source

    path = Path(path)
    if not path.is_dir():
        return open_source(path)
    dataset = open_dataset(path)
    dataset.faults.refuse()
    if len(dataset.cameras) > 1:
        raise InputError(
            f"{path} was taken by {len(dataset.cameras)} cameras: write one of them to a folder with "
            f"`stavatar data convert {path} --camera NAME -o FOLDER` and give that"
        )
    masks = [view.mask for view in dataset.views if view.mask]
    return ImageFiles(path, [view.image for view in dataset.views], masks or None, cut=dataset.composited)


def inspect_data(path: Path) -> dict[str, Any]:
    """What is at `path`: see :func:`stavatar.sequence.inspection.inspect_dataset`; of a video, its size and length."""
    from stavatar.capture.video import open_source

    path = Path(path)
    if not path.is_dir():
        source = open_source(path)
        first = next(source.frames(), None)
        if first is None:
            raise InputError(f"{path} holds no frame that can be decoded")
        return {
            "format": "video",
            "title": "video",
            "path": str(path),
            "pictures": source.count,
            "size": [first.rgb.shape[1], first.rgb.shape[0]],
            "faults": [],
            "fault_count": 0,
            "uses": [f"reconstruct: stavatar reconstruct {path} -o OUT"],
        }
    dataset = open_dataset(path)
    no_head = None
    if dataset.head_model is not None:
        try:
            load_head(dataset.head_model)
        except StavatarError as error:
            no_head = str(error)
    return inspect_dataset(dataset, no_head)


def convert_data(
    source: Path,
    out: Path,
    *,
    camera: str | None = None,
    holdout: int | None = None,
    image_format: Literal["png", "jpg"] = "png",
    overwrite: bool = False,
) -> Sequence:
    """Write the tracked sequence in `source`, whatever its format, as a VHAP folder.

    Args:
        source: the data set.
        out: the folder to write.
        camera: only the pictures of this one, told by name or index.
        holdout: hold out so many frames at the end; None keeps the data's own split.
        image_format: of the pictures; masks are PNG.
        overwrite: replace an earlier sequence in `out`.

    Raises:
        InputError: the data cannot be read, or `out` not be written.
    """
    require_apart(out, source)
    sequence = read_tracked(source, camera=camera)
    if holdout is not None:
        sequence = split_holdout(sequence, holdout)
    write_sequence(sequence, out, overwrite=overwrite, image_format=image_format)
    return sequence


def read_tracked(path: Path, *, camera: str | None = None) -> Sequence:
    """A tracked sequence in any format; of pictures without mattes the person is cut out.

    Raises:
        InputError: see :func:`stavatar.sequence.formats.read_data`.
    """
    return read_data(path, camera=camera, cut_out=_cut_out)


def _cut_out(pictures: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The person in pictures of data sets without mattes."""
    from stavatar.capture.matte import cut_out

    return cut_out(pictures, assets.path("selfie_segmenter"))
