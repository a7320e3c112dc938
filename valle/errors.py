"""Errors that are for people, and the one frame around every program that shows them."""

from __future__ import annotations

import sys
from collections.abc import Callable


class UserError(Exception):
    """A mistake of the user's: one sentence with what was expected, what was found and what to do."""


def run_program(main: Callable[[], None]) -> None:
    """Run a program's ``main``; a user's mistake is one line and exit status 2, never a traceback.

    Ctrl-C ends with status 130, as shells expect; a programmer's mistake keeps its traceback.
    """
    name = sys.argv[0].rsplit("/", 1)[-1]
    try:
        main()
    except UserError as error:
        print(f"{name}: error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print(f"{name}: interrupted; what was finished is kept, and the same command goes on", file=sys.stderr)
        raise SystemExit(130) from None
    except BrokenPipeError:
        raise SystemExit(141) from None
    except OSError as error:
        if error.errno in _DISK_ERRORS:
            where = f" ({error.filename})" if error.filename else ""
            print(
                f"{name}: error: cannot write{where}: {error.strerror}; free some space, then run the same command again", file=sys.stderr
            )
            raise SystemExit(2) from None
        raise


_DISK_ERRORS = {28, 30, 122}  # ENOSPC, EROFS, EDQUOT
