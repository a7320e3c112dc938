"""How functions that take long say how far they are; ``bin`` shows it as bars."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[float, float], None]  # (done, wanted), in whatever is counted
TitledProgress = Callable[[str, float, float], None]  # (title, done, wanted), for work in parts
