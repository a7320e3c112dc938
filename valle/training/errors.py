"""What can end a run."""

from __future__ import annotations

from pathlib import Path

from valle.errors import UserError


class BrokenBatchError(UserError):
    """A loss that is not a number or infinite."""

    def __init__(self, *, step: int, parts: list[str], path: Path, module: str | None, dtype: str) -> None:
        where = f" (first in module {module})" if module else "; --inf-check true names the module"
        advice = "--dtype float32 or a lower --base-lr" if dtype != "float32" else "a lower --base-lr"
        super().__init__(f"the loss of {' and '.join(parts)} was not finite at step {step}{where}; the batch is kept in {path}, try {advice}")


class OtherRunError(UserError):
    """The experiment folder holds a run of other settings."""
