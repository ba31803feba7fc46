"""Files that may lie elsewhere: paths are this machine's, URLs (``s3://``, ``gs://``, ...) go through fsspec.

Object stores know no folders and no renaming. So a folder is uploaded file by file, and what tells that it is complete
(see :mod:`stavatar.batch.records`) is written last.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from stavatar.errors import InputError, StavatarError
from stavatar.files import read_json, write_json

_URL = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)


def is_url(place: str) -> bool:
    """Whether `place` is a URL rather than a path of this machine."""
    return _URL.match(place) is not None


def check_driver(url: str) -> None:
    """Make sure that there is a driver for the URL's scheme; nothing is connected to.

    Raises:
        InputError: the scheme is unknown, or its package is not installed; names it.
    """
    try:
        import fsspec

        fsspec.get_filesystem_class(_scheme(url))
    except ImportError as error:
        hint = "pip install 'stavatar[storage]'" if error.name == "fsspec" else str(error)
        raise InputError(f"{url}: a package for {_scheme(url)}:// is not installed: {hint}") from error
    except ValueError as error:
        raise InputError(f"{url}: {_scheme(url)}:// is no kind of storage that fsspec knows") from error


def join(base: str, *names: str) -> str:
    """`base` with names below it: a URL or a path, as `base` is."""
    return "/".join([base.rstrip("/"), *names]) if is_url(base) else str(Path(base).joinpath(*names))


def exists(place: str) -> bool:
    """Whether a file, or anything below a folder, is there."""
    if not is_url(place):
        return Path(place).exists()
    with _connected(place) as (files, path):
        return bool(files.exists(path))


def size(place: str) -> int | None:
    """Bytes of a file; None of a folder."""
    if not is_url(place):
        return Path(place).stat().st_size if Path(place).is_file() else None
    with _connected(place) as (files, path):
        information = files.info(path)
        return information["size"] if information["type"] == "file" else None


def fetch(place: str, folder: Path) -> Path:
    """A file or folder, brought into `folder` under its own name if it is a URL; what was fetched before is used.

    Raises:
        InputError: there is nothing, or it cannot be fetched.
    """
    if not is_url(place):
        return Path(place)
    with _connected(place) as (files, path):
        name = PurePosixPath(path.rstrip("/")).name
        target = folder / name
        if target.exists():
            return target
        arriving = folder / f".{name}.partial"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        if files.isfile(path):
            files.get_file(path, str(arriving))
        else:
            remote = files.find(path)
            if not remote:
                raise InputError(f"{place} does not exist")
            files.get(remote, [str(arriving / _below(file, path)) for file in remote])
        arriving.rename(target)
        return target


def upload(folder: Path, url: str) -> dict[str, int]:
    """Put everything below a folder to `url`; returns the bytes of each file by its path within the folder."""
    local = sorted(file for file in folder.rglob("*") if file.is_file())
    names = [file.relative_to(folder).as_posix() for file in local]
    with _connected(url) as (files, path):
        targets = [f"{path.rstrip('/')}/{name}" for name in names]
        files.put([str(file) for file in local], targets)
    return {name: file.stat().st_size for name, file in zip(names, local, strict=True)}


def upload_file(file: Path, url: str) -> None:
    """Put one file to `url`."""
    with _connected(url) as (files, path):
        files.makedirs(path.rpartition("/")[0], exist_ok=True)
        files.put_file(str(file), path)


def read(place: str) -> Any:
    """JSON from a path or URL.

    Raises:
        InputError: it is missing or no JSON.
    """
    if not is_url(place):
        return read_json(Path(place))
    with _connected(place) as (files, path):
        try:
            return json.loads(files.cat_file(path))
        except ValueError as error:
            raise InputError(f"{place} cannot be read as JSON: {error}") from error


def write(place: str, content: Any) -> None:
    """JSON to a path or URL, whole or not at all."""
    if not is_url(place):
        write_json(Path(place), content)
        return
    with _connected(place) as (files, path):
        files.makedirs(path.rpartition("/")[0], exist_ok=True)
        files.pipe_file(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())


def remove(place: str) -> None:
    """Delete a file, if it is there."""
    if not is_url(place):
        Path(place).unlink(missing_ok=True)
        return
    with _connected(place) as (files, path):
        if files.exists(path):
            files.rm_file(path)


@contextmanager
def _connected(url: str) -> Iterator[tuple[Any, str]]:
    """The driver and the path within it; whatever goes wrong in the block names the URL."""
    check_driver(url)
    import fsspec

    try:
        yield fsspec.core.url_to_fs(url)
    except StavatarError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{url} does not exist") from error
    except Exception as error:  # each driver has errors of its own: denied, no credentials, no network
        raise InputError(f"{url} cannot be reached: {type(error).__name__}: {error}") from error


def _below(file: str, folder: str) -> str:
    """The path of a file within a folder that was listed; names that lead elsewhere are refused."""
    relative = PurePosixPath(file).relative_to(PurePosixPath(folder))
    if ".." in relative.parts:
        raise InputError(f"{file}: a name that leads out of its folder")
    return relative.as_posix()


def _scheme(url: str) -> str:
    match = _URL.match(url)
    assert match is not None, f"{url} is no URL"
    return match[1].lower()
