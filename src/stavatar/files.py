"""Writing files and folders so that a reader never sees half of one.

Everything is first written under a temporary name in the folder where it will live, flushed to the disk, and then
renamed to its final name: the rename is atomic on one file system, so a killed process leaves either the old one or the
new one, and besides it at most leftovers that :func:`sweep` knows by their names.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from stavatar.errors import InputError, reason

_PARTIAL, _REPLACED = ".partial", ".replaced"
_LEFTOVER = re.compile(r"\.(?P<stem>.+)-[a-z0-9_]{8}(?P<kind>\.partial|\.replaced)(?P<suffix>\..+)?")
_ADVICE = {
    "ENOSPC": "make room on that disk, then run the command again",
    "EDQUOT": "make room within your quota, then run the command again",
    "EFBIG": "the file is larger than this system allows: choose another disk or raise the limit",
    "EROFS": "choose a folder that can be written to",
    "EACCES": "choose a folder that can be written to, or change its permissions",
    "EPERM": "choose a folder that can be written to, or change its permissions",
    "EIO": "the disk reports a fault: check it, or choose another one",
}
"""What to do about errors of the disk, which can come up in the middle of any writing."""


def by_number(file: Path) -> list[tuple[int, str]]:
    """A key that sorts file names with numbers in them by value: ``f2`` before ``f10``."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", file.stem)]


def cannot_write(path: Path | str, error: OSError) -> InputError:
    """The sentence for a file or folder that cannot be written."""
    advice = _ADVICE.get(errno.errorcode.get(error.errno or 0, ""))
    return InputError(f"cannot write {path}: {error.strerror or error}" + (f"; {advice}" if advice else ""))


def is_of_the_disk(error: OSError) -> bool:
    """Whether an error is one that any writing can meet: a full disk, a read-only folder."""
    return errno.errorcode.get(error.errno or 0, "") in _ADVICE


@contextmanager
def _disk_errors_of(path: Path) -> Iterator[None]:
    """Errors of the disk in this block are those of writing `path`; others may come from what is being written."""
    try:
        yield
    except OSError as error:
        if is_of_the_disk(error):
            raise cannot_write(path, error) from error
        raise


@contextmanager
def atomic_path(final: Path) -> Iterator[Path]:
    """Yield a temporary path next to `final` (same suffix); rename it to `final` when the block ends well.

    The parent folder is created. If the block raises, the temporary file is removed and `final` is left as it was.

    Raises:
        InputError: the file cannot be written: the sentence says why, and what to do about a full disk.
    """
    final = Path(final)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=final.parent, prefix=f".{final.stem}-", suffix=_PARTIAL + final.suffix)
    except OSError as error:
        raise cannot_write(final, error) from error
    os.close(handle)
    temporary = Path(name)
    try:
        with _disk_errors_of(final):
            yield temporary
            flush(temporary)
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(final)
            flush_folder(final.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(final: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `final`; put it in the place of `final` when the block ends well.

    Whatever `final` held before is gone then: look into it first. Files must be flushed by whoever writes them, as all
    functions here do. If the block raises, the temporary folder is removed and `final` is left as it was.

    A folder cannot be renamed over another one: an earlier `final` is moved aside first. A process killed between the
    two renames leaves it there, where :func:`sweep` finds it and brings it back.

    Raises:
        InputError: the folder cannot be written.
    """
    final = Path(final).resolve()
    try:
        temporary = temporary_folder(final)
    except OSError as error:
        raise cannot_write(final, error) from error
    try:
        with _disk_errors_of(final):
            yield temporary
            for folder, _, _ in os.walk(temporary):
                flush_folder(Path(folder))
            _put_in_place(temporary, final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def temporary_folder(beside: Path) -> Path:
    """Make an empty folder next to `beside`, under a name that :func:`sweep` knows for one of its leftovers."""
    beside.parent.mkdir(parents=True, exist_ok=True)
    name = tempfile.mkdtemp(dir=beside.parent, prefix=f".{beside.stem}-", suffix=_PARTIAL + beside.suffix)
    temporary = Path(name)
    temporary.chmod(0o777 & ~_umask())
    return temporary


def _put_in_place(temporary: Path, final: Path) -> None:
    """Rename `temporary` to `final`; an earlier folder is moved aside first, and back if that fails."""
    if not final.exists():
        temporary.rename(final)
    else:
        aside = temporary.with_name(temporary.name.replace(_PARTIAL, _REPLACED))
        final.rename(aside)
        try:
            temporary.rename(final)
        except OSError:
            aside.rename(final)
            raise
        shutil.rmtree(aside)
    flush_folder(final.parent)


def sweep(folder: Path, name: str | None = None) -> None:
    """Remove what killed processes left in `folder` of unfinished files and folders: of `name`, or of all.

    A folder that was moved aside for one that then did not come is put back. Nobody may be writing there meanwhile:
    hold a lock (:mod:`stavatar.locks`).
    """
    for entry in list(folder.iterdir()):
        found = _LEFTOVER.fullmatch(entry.name)
        target = found["stem"] + (found["suffix"] or "") if found else None
        if found is None or name not in (None, target):
            continue
        if found["kind"] == _REPLACED and not (folder / str(target)).exists():
            entry.rename(folder / str(target))
        elif entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def is_leftover(path: Path) -> bool:
    """Whether a name is one that only an unfinished file or folder has."""
    return _LEFTOVER.fullmatch(path.name) is not None


def flush(file: Path) -> None:
    """Wait until a file's content is on the disk."""
    with file.open("rb+") as written:
        os.fsync(written.fileno())


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file that is on the disk a second name, or where file systems allow none, a copy, on the disk as well."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
        flush(target)


def flush_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, where the platform lets folders be opened."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write `content` to `path` atomically, as UTF-8."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: Any, *, indent: int | None = 2) -> None:
    """Write `content` as strict JSON (no NaN or Infinity), atomically."""
    write_text(path, json.dumps(content, indent=indent, allow_nan=False) + "\n")


def require_apart(out: Path, source: Path) -> None:
    """Refuse to write into the folder that is read: its pictures and files would mix with the results.

    Raises:
        InputError: `out` is the folder `source`, or lies in it.
    """
    if source.is_dir() and Path(out).resolve().is_relative_to(source.resolve()):
        raise InputError(f"{out} lies in {source}, which is read: choose an output folder outside of it")


# -------------------------------------------------------------------------------- reading what anybody may have written

MOST_JSON_VALUES = 5_000_000
"""A file with more values is refused: each becomes an object of tens of bytes, however few its text has."""
MOST_YAML_BYTES = 256 << 10
"""Our own files have some kilobytes, and PyYAML needs seconds for each megabyte."""


def require_file(path: Path, *, most_bytes: int) -> int:
    """The size of an ordinary file in bytes. Others (pipes, devices) may never end, and reading them waits for ever.

    Raises:
        InputError: there is none, or it is larger than `most_bytes`.
    """
    try:
        found = path.stat()
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except (OSError, ValueError) as error:  # a name with a null byte, or one that no file can have, is a ValueError
        raise InputError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if stat.S_ISDIR(found.st_mode):
        raise InputError(f"{path} is a folder, and a file is expected")
    if not stat.S_ISREG(found.st_mode):
        raise InputError(f"{path} is no ordinary file")
    if found.st_size > most_bytes:
        raise InputError(f"{path} is larger than {_in_words(most_bytes)}, which no file of this kind should be")
    return found.st_size


def _in_words(size: int) -> str:
    return f"{size >> 20:,} MiB" if size >= 1 << 20 else f"{size >> 10} KiB"


def read_content(path: Path, *, most_bytes: int) -> bytes:
    """The bytes of an ordinary file.

    Raises:
        InputError: there is none, it is larger than `most_bytes`, or cannot be read.
    """
    path = Path(path)
    require_file(path, most_bytes=most_bytes)
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error


def read_json(path: Path, *, most_bytes: int = 128 << 20) -> Any:
    """Read JSON from `path`.

    Raises:
        InputError: the file is missing, too large, not JSON, or nested too deep.
    """
    content = read_content(path, most_bytes=most_bytes)
    if sum(content.count(sign) for sign in (b",", b"[", b"{")) > MOST_JSON_VALUES:
        raise InputError(f"{path} holds more than {MOST_JSON_VALUES:,} values, which no file of this kind should")
    try:
        return json.loads(content)
    except RecursionError as error:
        raise InputError(f"{path} cannot be read as JSON: it is nested too deep") from error
    except ValueError as error:  # not JSON, not UTF-8, or an integer of thousands of digits
        raise InputError(f"{path} cannot be read as JSON: {reason(error)}") from error


def read_json_object(path: Path, *, most_bytes: int = 128 << 20) -> dict[str, Any]:
    """Read JSON that must be an object.

    Raises:
        InputError: as :func:`read_json`, or it is something else.
    """
    content = read_json(path, most_bytes=most_bytes)
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold a JSON object")
    return content


class _PlainYaml(yaml.SafeLoader):
    """YAML without aliases, by which a few lines can stand for billions of values."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it uses aliases (*name), which are not read")
        return super().compose_node(parent, index)


def parse_yaml(text: str, source: str) -> Any:
    """Plain data out of YAML; `source` names the text in errors.

    Raises:
        InputError: it is not YAML, or a value is not what its form promises, such as the date 2001-99-99.
    """
    try:
        return yaml.load(text, _PlainYaml)
    except RecursionError as error:
        raise InputError(f"{source} is not YAML: it is nested too deep") from error
    # PyYAML passes on whatever int(), datetime() and the like raise about a scalar that looks like theirs.
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        problem = getattr(error, "problem", None) or reason(error)
        raise InputError(f"{source} is not YAML that can be read: {problem}") from error


def read_yaml(path: Path) -> Any:
    """Read plain data from a YAML file.

    Raises:
        InputError: the file is missing, too large, or not YAML.
    """
    try:
        text = read_content(path, most_bytes=MOST_YAML_BYTES).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not YAML that can be read: {error}") from error
    return parse_yaml(text, str(path))
