"""Bars of programs, shown or not."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PARTS = "from valle.bin.terminal import named_progress\nwith named_progress() as p:\n    p('one', 1, 2); p('one', 2, 2); p('two', 1, 1)\n"


@pytest.mark.parametrize("disabled", ["", "1"])
def test_work_in_parts_goes_on_where_bars_are_turned_off(disabled: str) -> None:
    """Regression: with TQDM_DISABLE=1, which others' scripts set, a program of several parts ended in a traceback."""
    done = subprocess.run(
        [sys.executable, "-c", PARTS], env={**os.environ, "TQDM_DISABLE": disabled}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
