"""What can end a run."""

from __future__ import annotations

from pathlib import Path

from valle.errors import UserError


class BrokenBatchError(UserError):
    """A loss, or gradients, not a number or infinite."""

    def __init__(self, *, step: int, what: list[str], in_a_row: int, path: Path, where: str, dtype: str) -> None:
        advice = "a lower --base-lr" if dtype == "float32" else "--dtype float32 or a lower --base-lr"
        before = f", the last of {in_a_row} in a row" if in_a_row > 1 else ""
        super().__init__(
            f"{' and '.join(what)} became infinite or not a number at step {step}{before} ({where}); the batch is kept in {path}, "
            f"try {advice}"
        )


class MemoryShortError(UserError):
    """A batch that does not fit the device."""

    def __init__(self, *, step: int, device: str) -> None:
        super().__init__(
            f"{device} has too little memory for the batch of step {step}; lower --max-duration "
            "(and raise --accumulate-grad-steps by as much), or try --dtype bfloat16"
        )


class OtherRunError(UserError):
    """The experiment folder holds a run of other settings."""
