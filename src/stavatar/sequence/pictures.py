"""Plain folders of pictures, with mattes in their alpha channels, in a folder beside them, or not at all.

    NAME.png, .jpg ...                                   in the folder itself or in one of `PICTURE_FOLDERS`
    mask/NAME.png (or another of `MASK_FOLDERS`)         grey, white where the person is

Such a folder is a recording, not yet a tracked performance: it can be reconstructed or tracked as a video can. Pictures
are taken in the order of their names, numbers by value.
"""

from __future__ import annotations

from pathlib import Path

from stavatar.errors import InputError
from stavatar.sequence.dataset import Dataset, View
from stavatar.sequence.untrusted import PICTURES, DataFolder, Faults, picture_head

PICTURE_FOLDERS = (".", "images", "image", "imgs", "input", "source", "frames")
MASK_FOLDERS = ("fg_masks", "masks", "mask", "mattes", "matte", "alpha")


def recognise(folder: DataFolder) -> bool:
    """Whether there are pictures."""
    return bool(find_pictures(folder))


def find_pictures(folder: DataFolder) -> list[Path]:
    """The pictures of the first folder that has some, in order."""
    return next((found for name in PICTURE_FOLDERS if (found := folder.listing(name, PICTURES))), [])


def find_masks(folder: DataFolder, pictures: list[Path], faults: Faults) -> list[Path | None]:
    """The mask of each picture, by name; none at all where there is no folder of masks."""
    listed = next((found for name in MASK_FOLDERS if (found := folder.listing(name, PICTURES))), [])
    masks = {path.stem: path for path in listed}
    if masks:
        for picture in pictures:
            if picture.stem not in masks:
                faults.add(f"{listed[0].parent} holds no mask for {picture.name}")
    return [masks.get(picture.stem) for picture in pictures]


def open_pictures(folder: DataFolder) -> Dataset:
    """List the pictures; their size is the first one's.

    Raises:
        InputError: there are none.
    """
    found, faults = find_pictures(folder), Faults()
    if not found:
        raise InputError(f"{folder.root} holds no pictures ({', '.join(PICTURES)})")
    size = (0, 0)
    with faults.collected():
        size, _ = picture_head(found[0])
    masks = find_masks(folder, found, faults)
    return Dataset(
        format="pictures",
        folder=folder.root,
        name=folder.root.resolve().name,
        views=[View(image, mask, None, i, i) for i, (image, mask) in enumerate(zip(found, masks, strict=True))],
        width=size[0],
        height=size[1],
        faults=faults,
        why_not="plain pictures come without head parameters",
    )
