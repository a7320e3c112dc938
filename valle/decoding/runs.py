"""Many tokens in one call: what draws, looks up and feeds them without the engine in between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

from valle.decoding.sampling import Noise
from valle.decoding.seats import Seats
from valle.decoding.steps import StepEngine, TorchSteps

if TYPE_CHECKING:
    from valle.decoding.engine import Autoregressor, DecodingRequest


class Runs(Protocol):
    """What draws runs of tokens for one request, the same tokens as a step at a time."""

    @property
    def window(self) -> int:
        """Tokens by which repetition is judged."""
        ...

    def draw(self, hidden: Tensor, seats: Seats, recent: Tensor, *, rooms: Sequence[int], early: Sequence[int], numbers: Sequence[int],
             positions: Sequence[int], filled: Sequence[int], noise: Noise) -> Tensor | None:  # fmt: skip
        """From ``hidden (B, D)`` on -> tokens ``(B, n)``, of which all but the last are fed; None where a step at a time is needed.

        ``recent (B, window)`` are the tokens that repetition is judged by, newest first; ``rooms``: tokens until a row that goes on
        must stop; ``early``: tokens before which a row's end is not drawn; ``numbers``: of the tokens that each row has drawn;
        ``positions`` of their next ones, and how much of the cache is ``filled``.
        """
        ...


def runs_of(model: Autoregressor, steps: StepEngine, request: DecodingRequest) -> Runs | None:
    """None where ``steps``, the model, or what is asked for goes a token at a time."""
    if isinstance(steps, TorchSteps):
        return None
    from valle.decoding.captured import CapturedRuns, CapturedSteps

    if isinstance(steps, CapturedSteps):
        return CapturedRuns.of(model, steps, request)
    from valle.decoding.native_run import NativeRuns  # where numba is

    return NativeRuns.of(model, steps, request)
