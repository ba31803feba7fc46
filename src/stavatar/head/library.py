"""Which head models there are on this machine, and how to get one by its name.

The embedded head is always there. FLAME is a file of the user's: ``STAVATAR_FLAME`` names it, or it lies in the folder
``flame`` of the cache, or it was named before (``--head``), which is remembered.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from stavatar.assets import cache_folder
from stavatar.errors import InputError
from stavatar.files import read_json, write_json
from stavatar.head.embedded import NAME as EMBEDDED
from stavatar.head.embedded import load_embedded_head
from stavatar.head.flame import load_flame
from stavatar.head.model import HeadModel

VARIABLE = "STAVATAR_FLAME"
_NAME = re.compile(r"(?P<version>flame-[a-z0-9-]*?)(-(?P<file>[0-9a-f]{8}))?(-s(?P<shapes>\d+)e(?P<expressions>\d+))?")


def choose_head(choice: str | None) -> HeadModel:
    """The head that a user asks for: ``embedded`` (also None), ``flame`` (the file this machine knows), or a file.

    A FLAME file is remembered, so that what was made with it can be opened later without naming the file again.

    Raises:
        InputError: there is no such file, or it is no head model.
    """
    if choice in (None, "embedded", EMBEDDED):
        return load_embedded_head()
    if choice == "flame":
        file = next(_files(), None)
        if file is None:
            raise InputError(f"no FLAME file is known here: {_how_to_give()}")
    else:
        file = Path(choice).expanduser()
    head = load_flame(file)
    _remember(head.name, file)
    return head


def load_head(name: str) -> HeadModel:
    """The head model called `name` in a sequence or avatar.

    A name without the digits that tell one file from another, such as ``flame-2023`` in data from elsewhere, is met by
    any file of that version.

    Raises:
        InputError: there is no such head model here; the message says how to give it.
    """
    if name == EMBEDDED:
        return load_embedded_head()
    wanted = _NAME.fullmatch(name)
    if wanted is None:
        raise InputError(f"there is no head model {name!r} here; this version has {EMBEDDED!r} and FLAME")
    counts = {key: int(wanted[key]) for key in ("shapes", "expressions") if wanted[key] is not None}
    found = []
    for file in _files(name):
        head = load_flame(file, **counts)
        version, digits = _told_apart(head.name)
        if wanted["file"] == digits:
            head.name = name  # the very file, though its own name may say another version by now
            return head
        if wanted["file"] is None and version == wanted["version"]:
            return head
        found.append(f"{file} is {head.name}")
    but = f" ({', '.join(found)})" if found else ""
    raise InputError(f"the head model {name} is not known here{but}: {_how_to_give()}")


def known_flame_files() -> list[Path]:
    """The FLAME files that this machine knows of, without opening them.

    Raises:
        InputError: the environment names a file that is not there.
    """
    return list(_files())


def _told_apart(name: str) -> tuple[str, str]:
    """Version and digits of the file in the name of a loaded head."""
    match = _NAME.fullmatch(name)
    assert match is not None, name
    return match["version"], match["file"]


def _how_to_give() -> str:
    return (
        f"give your FLAME file (.pkl or .npz) with --head PATH or {VARIABLE}=PATH, or put it into "
        f"{cache_folder() / 'flame'}"
    )


def _files(name: str | None = None) -> Iterator[Path]:
    """FLAME files to look at: the environment's, those remembered (`name`'s first), the cache's."""
    candidates = []
    if os.environ.get(VARIABLE):
        candidates.append(Path(os.environ[VARIABLE]).expanduser())
        if not candidates[0].is_file():
            raise InputError(f"{candidates[0]} does not exist: correct or remove {VARIABLE} in the environment")
    remembered = _remembered()
    candidates += [Path(remembered[name])] if name in remembered else []
    candidates += map(Path, remembered.values())
    for pattern in ("*.pkl", "*.npz"):
        candidates += sorted((cache_folder() / "flame").glob(pattern))
    yield from (file for file in dict.fromkeys(candidates) if file.is_file())


def _memory() -> Path:
    return cache_folder() / "flame" / "files.json"


def _remembered() -> dict[str, str]:
    """Head name -> file, as far as was noted down."""
    try:
        content = read_json(_memory())
    except InputError:
        return {}
    return {str(name): str(file) for name, file in content.items()} if isinstance(content, dict) else {}


def _remember(name: str, file: Path) -> None:
    noted = _remembered()
    if noted.get(name) != str(file.resolve()):
        write_json(_memory(), noted | {name: str(file.resolve())})
