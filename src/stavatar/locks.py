"""One writer at a time: locks of the operating system, which end with the process that holds them, however it ends."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stavatar.errors import InputError
from stavatar.files import cannot_write, sweep
from stavatar.progress import warn

_PATIENCE = "wait until it ends, end it, or choose another output"


@contextmanager
def sole_writer(target: Path) -> Iterator[None]:
    """Keep other processes from writing the file or folder `target`, and sweep what killed ones left of it.

    The lock is a hidden file beside `target`, there only while it is held.

    Raises:
        InputError: another process is writing it (the sentence says which), or the place cannot be written to.
    """
    target = Path(target).resolve()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(target, error) from error
    with locked(target.with_name(f".{target.name}.lock"), target):
        sweep(target.parent, target.name)
        yield


@contextmanager
def locked(file: Path, what: Path) -> Iterator[None]:
    """Hold the lock `file`, which is made for it, in a folder that exists, and removed in the end.

    Raises:
        InputError: another process holds it, and is named as the one that works on `what`; or the file cannot be made.
    """
    handle = None
    while handle is None:
        handle = _opened(file, what)
        if not _try_lock(handle):
            holder = os.pread(handle, 200, 0).decode(errors="replace").strip() if os.name != "nt" else ""
            os.close(handle)
            raise InputError(f"{what} is in use by {holder or 'another process'}: {_PATIENCE}")
        if not _is_still(file, handle):  # its last holder removed it between our opening and locking it
            os.close(handle)
            handle = None
    try:
        os.ftruncate(handle, 0)
        os.write(handle, f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield
    finally:
        if os.name == "nt":  # an open file cannot be removed there
            os.close(handle)
            with suppress(OSError):
                file.unlink()
        else:
            file.unlink(missing_ok=True)  # while it is locked, so that nobody's but ours
            os.close(handle)


def _opened(file: Path, what: Path) -> int:
    try:
        return os.open(file, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
    except OSError as error:
        raise cannot_write(what, error) from error


def _is_still(file: Path, handle: int) -> bool:
    """Whether the open file is the one that has the name."""
    try:
        return os.path.samestat(os.fstat(handle), file.stat())
    except FileNotFoundError:
        return False


if sys.platform == "win32":
    import msvcrt

    _FAR = 1 << 30  # the locked byte lies beyond the text, which others may then read

    def _try_lock(handle: int) -> bool:
        os.lseek(handle, _FAR, os.SEEK_SET)
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        os.lseek(handle, 0, os.SEEK_SET)
        return True

else:
    import fcntl

    def _try_lock(handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
                raise
            warn("this file system has no locks: let no two commands write to one place here")
        return True
