"""The field's data formats: which one a folder is in, by what its files hold, and reading it.

A reader is a module with ``recognise(folder)`` and an opening function that returns a :class:`Dataset`; the table
:data:`FORMATS` is all that ties them together. How each format counts, measures and points its axes is written in its
module and in ``docs/formats.md``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from stavatar.errors import InputError
from stavatar.sequence import imavatar, insta, lam, metrical, nerface, pictures, vhap
from stavatar.sequence.dataset import CutOut, Dataset
from stavatar.sequence.sequence import Sequence
from stavatar.sequence.untrusted import DataFolder


@dataclass(frozen=True)
class Format:
    """A data format.

    Attributes:
        title: who made it and who reads it.
        recognise: whether a folder is in it.
        open: read everything but the pictures.
        contains: formats that folders of this one are in as well.
    """

    title: str
    recognise: Callable[[DataFolder], bool]
    open: Callable[[DataFolder], Dataset]
    contains: tuple[str, ...] = ()


FORMATS = {
    "lam": Format("LAM", lam.recognise, lam.open_lam, contains=("vhap",)),
    "vhap": Format("VHAP / GaussianAvatars / stavatar", vhap.recognise, vhap.open_vhap),
    "imavatar": Format("IMavatar / PointAvatar / SplattingAvatar", imavatar.recognise, imavatar.open_imavatar),
    "metrical": Format("metrical-tracker / FlashAvatar / RGBAvatar", metrical.recognise, metrical.open_metrical),
    "insta": Format("INSTA", insta.recognise, insta.open_insta),
    "nerface": Format("NerFace", nerface.recognise, nerface.open_nerface),
    "pictures": Format("plain pictures", pictures.recognise, pictures.open_pictures),
}
"""In the order in which they are tried: a format that tells more comes before one that tells less."""

_DEPTH, _MOST_FOLDERS = 3, 200  # how far below a folder data sets are looked for, when it is none itself


def detect(path: Path) -> str:
    """The key in :data:`FORMATS` of the data set in a folder.

    Raises:
        InputError: it is in none of the formats; names data sets below it, if there are some.
    """
    return _detect(DataFolder(path))[0]


def _detect(folder: DataFolder) -> list[str]:
    """The formats that a folder is in, the one to read it as first."""
    found = _matching(folder)
    if found:
        return found
    path = folder.root
    below = _data_sets_below(path)
    if below:
        raise InputError(f"{path} is no data set itself: give one of those in it, {', '.join(below)}")
    known = ", ".join(one.title for one in FORMATS.values())
    raise InputError(f"{path} holds no data in a format that can be read ({known})")


def open_dataset(path: Path) -> Dataset:
    """Read everything but the pictures of the data set in a folder, whatever its format.

    Faults are collected in ``Dataset.faults``; only what cannot be read at all is raised.

    Raises:
        InputError: as :func:`detect`, or its main file cannot be used.
    """
    folder = DataFolder(path)
    name, *others = _detect(folder)
    dataset = FORMATS[name].open(folder)
    others = [other for other in others if other not in FORMATS[name].contains]
    if others:
        dataset.remarks.append(f"also looks like {', '.join(others)}, and is read as {name}")
    return dataset


def read_data(path: Path, *, camera: str | None = None, cut_out: CutOut | None = None) -> Sequence:
    """The tracked sequence in a folder of any format that holds one.

    Args:
        path: the data set.
        camera: read only this one, told by name or index.
        cut_out: finds the person in pictures that come without mattes.

    Raises:
        InputError: names the file and field that cannot be used, or says why the data are no tracked sequence.
    """
    dataset = open_dataset(path)
    return (dataset if camera is None else dataset.only_camera(camera)).load(cut_out)


def _matching(folder: DataFolder) -> list[str]:
    """Keys of the formats that a folder is in; ``pictures``, which all of them have, where there is no other."""
    named = [name for name, one in FORMATS.items() if one.open is not pictures.open_pictures and one.recognise(folder)]
    return named or ["pictures"] * pictures.recognise(folder)


def _data_sets_below(root: Path) -> list[str]:
    """Paths, relative to `root`, of some data sets in it; plain pictures do not count."""
    found: list[str] = []
    level = [root]
    for _ in range(_DEPTH):
        level = [child for folder in level for child in sorted(folder.iterdir()) if child.is_dir()][:_MOST_FOLDERS]
        for folder in level:
            try:
                formats = _matching(DataFolder(folder))
            except (InputError, OSError):
                continue
            if formats and formats != ["pictures"]:
                found.append(str(folder.relative_to(root)))
        if found:
            break
    return found[:5]
