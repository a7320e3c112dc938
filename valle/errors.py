"""Errors that are for people, and the one frame around every program that shows them."""

from __future__ import annotations

import atexit
import errno
import io
import os
import signal
import sys
from collections.abc import Callable


class UserError(Exception):
    """A mistake of the user's: one sentence with what was expected, what was found and what to do.

    >>> from valle import UserError, read_audio
    >>> try:
    ...     read_audio("nothing.wav")
    ... except UserError as error:
    ...     print(error)
    expected ...nothing.wav...
    """


INTERRUPTED = "interrupted; finished work is kept, and the same command continues it"


def end_on_ctrl_c() -> None:
    """Until ``run_program`` begins, let Ctrl-C end the program with its one line: importing takes seconds.

    A program calls it before its other imports.  There an exception could be taken for a failed import, so none is raised.
    """
    if signal.getsignal(signal.SIGINT) in (signal.default_int_handler, signal.SIG_DFL):  # else a shell's background ignores it
        signal.signal(signal.SIGINT, _end_at_once)
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)  # the last of all: the program has done its work


def _end_at_once(signum: int, frame: object) -> None:
    os.write(2, f"{one_line(f'{_program()}: {INTERRUPTED}')}\n".encode())
    os._exit(130)


def _end_without_a_word(signum: int, frame: object) -> None:
    os._exit(130)


def _program() -> str:
    return sys.argv[0].rsplit("/", 1)[-1]


def run_program(main: Callable[[], None]) -> None:
    """Run a program's ``main``; a user's mistake is one line and exit status 2, never a traceback.

    Ctrl-C ends with status 130 and a reader that left with 141, as shells expect; a programmer's mistake keeps its traceback.
    """
    name = _program()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show is no reason to fail
    hears_at_once = signal.getsignal(signal.SIGINT) is _end_at_once
    try:
        if hears_at_once:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        main()
        if hears_at_once:
            signal.signal(signal.SIGINT, _end_at_once)  # while Python ends, which could not catch it
        sys.stdout.flush()  # here, where a reader that left is understood
    except UserError as error:
        _end(name, f"error: {error}", 2)
    except KeyboardInterrupt:
        if hears_at_once:
            signal.signal(signal.SIGINT, _end_without_a_word)  # Ctrl-C again does not wait for threads
        _end(name, INTERRUPTED, 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would try once more, and complain, on its way out
        raise SystemExit(141) from None
    except OSError as error:
        if (text := explained(error)) is None:
            raise
        _end(name, f"error: {text}", 2)


def explained(error: OSError) -> str | None:
    """One sentence where a disk is full or a path is no good; None for all else, which may be a programmer's mistake."""
    path, reason = error.filename, (error.strerror or "").lower()
    path = os.fsdecode(path) if isinstance(path, bytes) else path
    if error.errno in _DISK_ERRORS:
        return f"cannot write{f' {path}' if path else ''}: {reason}; free some space, then run the same command again"
    if error.errno in (errno.EEXIST, errno.ENOTDIR) and path:
        return f"expected a folder at {path}, found a file there or above it; name another path"
    if error.errno in _PATH_ERRORS and path:
        return f"{path} cannot be used ({reason}); name another path"
    return None


def one_line(text: str) -> str:
    """``text`` as a terminal shows it safely: on one line, and without what would move its cursor or colour it."""
    joined = " ".join(text.splitlines())
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in joined)


def _end(name: str, text: str, status: int) -> None:
    print(one_line(f"{name}: {text}"), file=sys.stderr)
    raise SystemExit(status) from None


# What the system says where a disk is full, and where a path is no good.
_DISK_ERRORS = {errno.EFBIG, errno.ENOSPC, errno.EROFS, errno.EDQUOT}
_PATH_ERRORS = {errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTEMPTY}
