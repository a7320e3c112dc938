"""One trainer at a time in an experiment folder: two would write over each other's checkpoints."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from valle.errors import UserError

LOCK_FILE = ".lock"


class FolderInUseError(UserError):
    """Another trainer is at work in the experiment folder."""


@contextmanager
def exp_dir_locked(exp_dir: Path) -> Iterator[None]:
    """Hold ``exp_dir`` while the block runs; raises :class:`FolderInUseError` at once where another process holds it.

    The lock is the system's and belongs to this process alone, so it ends with it however that ends, and is not passed on to the
    readers of batches that it starts.  Of the processes of torchrun the first one holds it.  Nothing is left behind in a folder
    that did not exist before and into which nothing was written.
    """
    if os.environ.get("RANK", "0").strip() not in ("", "0"):
        yield
        return
    was_there = exp_dir.is_dir()
    exp_dir.mkdir(parents=True, exist_ok=True)
    handle = _take(exp_dir)
    try:
        yield
    finally:
        with suppress(OSError):  # while it is held: who has opened it meanwhile finds that it is gone, and makes another
            (exp_dir / LOCK_FILE).unlink()
            if not was_there:
                exp_dir.rmdir()  # which refuses if something was written into it
        os.close(handle)


def _take(exp_dir: Path) -> int:
    path = exp_dir / LOCK_FILE
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            _lock(handle)
        except BlockingIOError as error:
            holder = os.read(handle, 200).decode("utf-8", "replace").strip()
            os.close(handle)
            raise FolderInUseError(
                f"expected {exp_dir} for this trainer alone, found another at work there ({holder or 'it does not say which'}); "
                "wait for it to end, or use another --exp-dir"
            ) from error
        if _is_still(path, handle):
            os.truncate(handle, 0)
            os.write(handle, f"process {os.getpid()} on {socket.gethostname()}".encode())
            return handle
        os.close(handle)  # of a file that its holder has removed meanwhile


def _lock(handle: int) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            raise BlockingIOError from error
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):  # a file system that knows no locks
            raise


def _is_still(path: Path, handle: int) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    ours = os.fstat(handle)
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)
