"""Errors that are for people, and the one frame around every program that shows them."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable


class UserError(Exception):
    """A mistake of the user's: one sentence with what was expected, what was found and what to do."""


def run_program(main: Callable[[], None]) -> None:
    """Run a program's ``main``; a user's mistake is one line and exit status 2, never a traceback.

    Ctrl-C ends with status 130 and a reader that left with 141, as shells expect; a programmer's mistake keeps its traceback.
    """
    name = sys.argv[0].rsplit("/", 1)[-1]
    try:
        main()
        sys.stdout.flush()  # here, where a reader that left is understood
    except UserError as error:
        _end(name, f"error: {error}", 2)
    except KeyboardInterrupt:
        _end(name, "interrupted; what was finished is kept, and the same command goes on", 130)
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
        return f"{path} cannot be used as it is asked for here ({reason}); name another path"
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
