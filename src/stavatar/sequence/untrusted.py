"""Reading data sets that others made: every path, number, array and picture is checked before it is used.

Nothing is unpickled, nothing outside the data set is opened, and sizes are looked at before content is. A fault is an
:class:`InputError` of one sentence that names file and field; :class:`Faults` collects them, so that a data set can be
looked through to its end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
from PIL import Image

from stavatar.errors import InputError, reason
from stavatar.files import by_number, read_json_object, require_file

MOST_JSON_BYTES = 128 << 20
MOST_ARRAY_BYTES = 256 << 20
MOST_FRAMES = 100_000
MOST_PICTURE_BYTES = 1 << 30
MOST_PIXELS_A_SIDE = 1 << 14
MOST = 1e18
"""Numbers from here on are refused as infinite ones are: their squares leave the range of 32-bit floats."""
PICTURES = (".png", ".jpg", ".jpeg")

_KIND_NAMES = {int: "an integer", str: "a text", list: "a list", dict: "an object"}


class Faults:
    """What is wrong with a data set: faults that differ only in numbers are one group, told by its first.

    Attributes:
        count: of all faults.
    """

    MOST_GROUPS = 20

    def __init__(self) -> None:
        self.count = 0
        self._groups: dict[str, tuple[str, int]] = {}  # sentence without digits -> first sentence, how many

    def add(self, sentence: str) -> None:
        self.count += 1
        group = re.sub(r"\d+", "#", sentence)
        first, alike = self._groups.get(group, (sentence, 0))
        if alike or len(self._groups) < self.MOST_GROUPS:
            self._groups[group] = (first, alike + 1)

    @contextmanager
    def collected(self) -> Iterator[None]:
        """Note an InputError of the block instead of passing it on."""
        try:
            yield
        except InputError as error:
            self.add(str(error))

    @property
    def sentences(self) -> list[str]:
        """The first of each group, with the number of those like it; the last tells of what is not listed."""
        told = [
            f"{first} ({alike - 1} more like this)" if alike > 1 else first for first, alike in self._groups.values()
        ]
        hidden = self.count - sum(alike for _, alike in self._groups.values())
        return [*told, f"{hidden} more faults of other kinds"] if hidden else told

    def refuse(self) -> None:
        """Raise the first fault, if there are any, and say how many more there are."""
        if self.count:
            first = next(iter(self._groups.values()))[0]
            more = f" ({self.count - 1} more faults: `stavatar data inspect` lists them)" if self.count > 1 else ""
            raise InputError(first + more)


class DataFolder:
    """The folder of a data set: all files are reached through it and lie inside it, links followed."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise InputError(f"{root} is not a folder: give the folder of a data set")
        self._resolved = self.root.resolve()
        self._json = cache(self._read_json)

    def has(self, name: str) -> bool:
        return (self.root / name).exists()

    def json(self, name: str) -> dict[str, Any]:
        """The object in a JSON file; read once, so not to be changed."""
        return self._json(name)

    def _read_json(self, name: str) -> dict[str, Any]:
        return read_json_object(self.contained(self.root / name), most_bytes=MOST_JSON_BYTES)

    def contained(self, path: Path) -> Path:
        """`path`, if it is inside the data set even after following links."""
        if self._is_inside(path):
            return path
        raise InputError(f"{path} is a link that leads out of the data set: copy what it points to")

    def _is_inside(self, path: Path) -> bool:
        try:
            path.exists()  # complains of names that are too long, which resolve() does not
            return path.resolve().is_relative_to(self._resolved)
        except (OSError, RuntimeError, ValueError):  # too long; links that go round in circles; no name of a file
            return False

    def file(self, origin: Path, where: str, text: str) -> Path:
        """The file that field `where` of the file `origin` names by `text`: a relative path inside the data set.

        Raises:
            InputError: the path is absolute, goes upwards, or leads outside by a link.
        """
        parts = PureWindowsPath(text).parts  # splits at both kinds of slashes
        outside = PurePosixPath(text).is_absolute() or PureWindowsPath(text).anchor or ".." in parts or not parts
        if not outside and "\0" not in text:
            path = self.root.joinpath(*parts)
            if self._is_inside(path):
                return path
        shown = repr(text) if len(text) <= 100 else f"{text[:97]!r}..."
        raise InputError(f"{origin}: {where} must be a path inside the data set, not {shown}")

    def picture(self, path: Path) -> Path:
        """The picture whose path without suffix is given; ``.png`` where there is none."""
        found = [path.with_name(f"{path.name}{suffix}") for suffix in PICTURES]
        return self.contained(next((file for file in found if file.exists()), found[0]))

    def frame_keys(self, name: str) -> set[str]:
        """The keys of the first hundred entries of ``frames`` in a JSON file: any single one may be broken."""
        frames = self.json(name).get("frames") if self.has(name) else None
        some = frames[:100] if isinstance(frames, list) else []
        return {key for frame in some if isinstance(frame, dict) for key in frame}

    def listing(self, name: str, suffixes: tuple[str, ...]) -> list[Path]:
        """Files of a subfolder ("." for the data set's own) with one of the suffixes, numbers in names by value."""
        folder = self.root / name
        if not folder.is_dir():
            return []
        found = [entry for entry in self.contained(folder).iterdir() if entry.suffix.lower() in suffixes]
        if len(found) > MOST_FRAMES:
            raise InputError(f"{folder} holds {len(found)} files, and at most {MOST_FRAMES} are read")
        return sorted((self.contained(entry) for entry in found), key=by_number)


def number_in(file: Path) -> int | None:
    """The last number in a file's name, ``f_0012.png`` -> 12."""
    numbers = re.findall(r"\d{1,15}", file.stem)
    return int(numbers[-1]) if numbers else None


# ------------------------------------------------------------------------------------------------------ JSON fields


def field(path: Path, where: str, entry: Any, name: str, kind: type) -> Any:
    """Field `name` of a JSON object found at `where` ("" for the top) in `path`, of the expected type."""
    if not isinstance(entry, dict):
        raise InputError(f"{path}: {where} must be an object")
    full = f"{where}.{name}" if where else name
    if name not in entry:
        raise InputError(f"{path}: {full} is missing")
    value = entry[name]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise InputError(f"{path}: {full} must be {_KIND_NAMES[kind]}")
    if isinstance(value, int) and not abs(value) < 1 << 62:
        raise InputError(f"{path}: {full} must be an integer of at most 62 bits")
    return value


def number(path: Path, where: str, entry: dict[str, Any], name: str) -> float:
    """A finite number."""
    full = f"{where}.{name}" if where else name
    value = entry.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < MOST:
        raise InputError(f"{path}: {full} must be a finite number" + (" (missing)" if value is None else ""))
    assert value is not None
    return float(value)


def frame_list(path: Path, content: dict[str, Any]) -> list[Any]:
    """The list ``frames``: not empty, and not so long that it cannot be a video's."""
    frames = field(path, "", content, "frames", list)
    if not frames:
        raise InputError(f"{path}: frames is empty")
    if len(frames) > MOST_FRAMES:
        raise InputError(f"{path}: frames has {len(frames)} entries, and at most {MOST_FRAMES} are read")
    return frames


def numbers(path: Path, where: str, entry: dict[str, Any], name: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """Nested lists of numbers as a float64 array whose axes have the given lengths (None: any but zero)."""
    array = _array_of(field(path, where, entry, name, list))
    if not _fits(array.shape, shape) or not (np.abs(array) < MOST).all():
        full = f"{where}.{name}" if where else name
        raise InputError(f"{path}: {full} must be finite numbers of the shape {_shape_text(shape)}")
    return array


def rigid(path: Path, where: str, matrix: Any) -> np.ndarray:
    """Check that a matrix of 3 or 4 rows of 4 is a rotation and a translation; returned as float64 [4, 4]."""
    pose = _array_of(matrix)
    if pose.shape == (3, 4):
        pose = np.vstack([pose, [0, 0, 0, 1]])
    good = (
        pose.shape == (4, 4)
        and bool((np.abs(pose) < MOST).all())
        and np.allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-3)
        and np.linalg.det(pose[:3, :3]) > 0
        and np.allclose(pose[3], [0, 0, 0, 1])
    )
    if not good:
        raise InputError(f"{path}: {where} must be a 4 x 4 rotation and translation")
    return pose


def _array_of(value: Any) -> np.ndarray:
    """Nested lists as a float64 array; an empty one where they are ragged, or hold anything but numbers."""
    try:
        array = np.array(value)
    except (ValueError, TypeError, OverflowError):
        return np.empty(0)
    return array.astype(np.float64) if array.dtype.kind in "iuf" else np.empty(0)


def _fits(actual: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return len(actual) == len(wanted) and all(
        0 < length <= MOST_FRAMES if want is None else length == want
        for length, want in zip(actual, wanted, strict=True)
    )


def _shape_text(shape: tuple[int | None, ...]) -> str:
    return f"({', '.join('any' if length is None else str(length) for length in shape)})"


# ----------------------------------------------------------------------------------------------------------- arrays


def checked_array(path: Path, arrays: dict[str, Any], key: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """One array as float32, whose axes have the given lengths (None: any but zero)."""
    if key not in arrays:
        raise InputError(f"{path}: {key} is missing")
    array = arrays[key]
    if not isinstance(array, np.ndarray) or not _fits(array.shape, shape):
        found = f"the shape {array.shape}" if isinstance(array, np.ndarray) else "no array"
        raise InputError(f"{path}: {key} has {found}, and {_shape_text(shape)} is expected")
    if not np.issubdtype(array.dtype, np.floating) or not (np.abs(array) < MOST).all():
        raise InputError(f"{path}: {key} must hold finite floating-point numbers")
    return array.astype(np.float32)


# --------------------------------------------------------------------------------------------------------- pictures


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """An opened picture, only its head read so far."""
    require_file(path, most_bytes=MOST_PICTURE_BYTES)
    try:
        with Image.open(path, formats=("PNG", "JPEG")) as picture:
            if max(picture.size) > MOST_PIXELS_A_SIDE:
                raise InputError(
                    f"{path} is {picture.width} x {picture.height} pixels, and at most {MOST_PIXELS_A_SIDE} are read"
                )
            yield picture
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise InputError(f"{path} has more pixels than can be read: make it smaller") from error
    except Exception as error:  # a damaged picture can make Pillow fail in any way
        raise InputError(f"{path} cannot be read as a picture: {reason(error)}") from error


def picture_head(path: Path) -> tuple[tuple[int, int], str]:
    """((width, height), colour mode) of a picture, without decoding it."""
    with _opened(path) as picture:
        return picture.size, picture.mode


def check_picture(path: Path, size: tuple[int, int], modes: tuple[str, ...]) -> None:
    """Raise unless a picture's head says the (width, height) that is expected and one of the colour modes."""
    with _opened(path) as picture:
        _check_head(path, picture, size, modes)


def _check_head(path: Path, picture: Image.Image, size: tuple[int, int], modes: tuple[str, ...]) -> None:
    if picture.size != size:
        raise InputError(f"{path} is {picture.width} x {picture.height} pixels, and {size[0]} x {size[1]} are expected")
    if picture.mode not in modes:
        raise InputError(f"{path} has the colour mode {picture.mode}, and {' or '.join(modes)} with 8 bits is expected")


COLOUR_MODES = ("RGB", "RGBA")
MASK_MODES = ("L", "1", "RGB")


def read_colour(path: Path, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray | None]:
    """RGB [H, W, 3] uint8 and the alpha channel [H, W], if there is one, of a picture of (width, height) `size`."""
    with _opened(path) as picture:
        _check_head(path, picture, size, COLOUR_MODES)
        pixels = np.asarray(picture)
    return (pixels[..., :3], pixels[..., 3]) if pixels.shape[2] == 4 else (pixels, None)


def read_mask(path: Path, size: tuple[int, int]) -> np.ndarray:
    """A matte [H, W] uint8. One saved in colour is taken if it is grey."""
    with _opened(path) as picture:
        _check_head(path, picture, size, MASK_MODES)
        pixels = np.asarray(picture.convert("L") if picture.mode == "1" else picture)
    if pixels.ndim == 3:
        # JPEG moves equal channels apart by a few levels
        if int(np.ptp(pixels.astype(np.int16), axis=2).max()) > 16:
            raise InputError(f"{path} is coloured, and a mask must be grey")
        return np.ascontiguousarray(pixels[..., 1])
    return pixels
