"""For tests of killed recipes: every Python program with this folder on PYTHONPATH kills its process group by SIGKILL
when it is about to rename a file to a path that holds KILL_AT's text for the KILL_AT's number-th time (``text:number``).

A rename is where something becomes visible under its own name, so a kill there is exact and needs no clock.
"""

import os
import signal
import sys

_text, _, _number = os.environ.get("KILL_AT", "").rpartition(":")
_left = int(_number) if _text else 0


def _watch(event: str, arguments: tuple) -> None:
    global _left
    if event == "os.rename" and _text in os.fspath(arguments[1]):
        _left -= 1
        if _left == 0:
            os.killpg(0, signal.SIGKILL)


if _text:
    sys.addaudithook(_watch)
