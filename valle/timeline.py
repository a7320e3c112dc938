"""The one place where a length or an offset in one token grid becomes one in the other.

Units and codes run at rates of their own (25 Hz beside 50 Hz, 50 beside 75).  Both grids are exact
fractions of a second, never rounded rates; their *period* is the shortest time that holds a whole number
of units and a whole number of frames.  What is stored or cropped is always whole periods, so the two
streams cannot drift apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import gcd
from typing import TYPE_CHECKING, Any, TypeVar

from valle.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

Index = TypeVar("Index", int, "Tensor")

MAX_PERIOD = Fraction(1, 2)  # seconds; crops of 3 s must hold several


def ceil_division(a: Index, b: int) -> Index:
    """``a / b``, rounded up."""
    return -(-a // b)


class GridMismatchError(UserError):
    """Two tokenizers share no usable common grid."""


@dataclass(frozen=True)
class Grid:
    """One token every ``hop_length`` samples at ``sample_rate`` Hz."""

    sample_rate: int
    hop_length: int

    def __post_init__(self) -> None:
        if self.sample_rate <= 0 or self.hop_length <= 0:
            raise UserError(f"a grid needs a positive sample rate and hop, found {self.sample_rate} Hz and {self.hop_length} samples")

    @property
    def step(self) -> Fraction:
        """Seconds from one token to the next."""
        return Fraction(self.hop_length, self.sample_rate)

    @property
    def rate(self) -> float:
        """Tokens a second, for display only."""
        return self.sample_rate / self.hop_length


@dataclass(frozen=True)
class Periods:
    """How many units and frames share a period: all that a model needs to know of the two grids."""

    units: int  # of one period
    frames: int

    def unit_of_frame(self, frame: Index) -> Index:
        """The unit in which a frame starts."""
        return frame * self.units // self.frames

    def frames_before(self, unit: int) -> int:
        """Frames that start before unit number ``unit`` does."""
        return max(0, ceil_division(unit * self.frames, self.units))

    def units_under(self, num_frames: int) -> int:
        """Units that are needed for one to lie under every frame."""
        return self.unit_of_frame(num_frames - 1) + 1 if num_frames else 0

    def units_of_frames(self, start: int, stop: int) -> slice:
        """The units of the periods that hold frames ``start`` to ``stop``; ``start`` begins one."""
        return slice(start // self.frames * self.units, ceil_division(stop, self.frames) * self.units)

    def whole_frames(self, num_frames: int) -> int:
        """As many frames or more, in whole periods."""
        return ceil_division(num_frames, self.frames) * self.frames

    def window(self, num_frames: int) -> int:
        """Frames of a window that slides: ``num_frames``, or as many as its half needs to hold a whole period."""
        return max(num_frames, 2 * self.frames)


@dataclass(frozen=True)
class Timeline:
    """The grid of the codes and, where there are units, that of the units."""

    codes: Grid
    units: Grid | None = None

    def __post_init__(self) -> None:
        if self.period > MAX_PERIOD:
            assert self.units is not None
            raise GridMismatchError(
                f"units at {self.units.rate:g} Hz and codes at {self.codes.rate:g} Hz only meet every {float(self.period):.2f} s; "
                f"choose tokenizers whose rates meet at least every {float(MAX_PERIOD)} s (25 or 50 Hz units with a 50 or 75 Hz codec)"
            )

    @property
    def period(self) -> Fraction:
        """Seconds after which both grids start a token at the same instant."""
        step = self.codes.step
        if self.units is None:
            return step
        other = self.units.step
        denominator = step.denominator * other.denominator
        a, b = step.numerator * other.denominator, other.numerator * step.denominator
        return Fraction(a * b // gcd(a, b), denominator)

    @property
    def periods(self) -> Periods:
        """The two grids without their rates."""
        return Periods(units=self.units_per_period, frames=self.frames_per_period)

    @property
    def frames_per_period(self) -> int:
        return int(self.period / self.codes.step)

    @property
    def units_per_period(self) -> int:
        return 0 if self.units is None else int(self.period / self.units.step)

    def unit_of_frame(self, frame: Index) -> Index:
        """The unit in which a frame starts."""
        return self.periods.unit_of_frame(frame)

    def window_for(self, seconds: float) -> int:
        """Whole periods of a window that slides, as long as what was trained, at least four."""
        return max(4, self.periods_for(seconds))

    def periods_for(self, seconds: float | Fraction) -> int:
        """Whole periods within a time, to the nearest millionth of a period so that 3.0 s means 3 s."""
        return int(Fraction(seconds).limit_denominator(1_000_000) / self.period + Fraction(1, 1_000_000))

    def periods_in(self, num_units: int, num_frames: int) -> int:
        """Whole periods that both streams fill; without units, ``num_units`` is ignored."""
        frames = num_frames // self.frames_per_period
        return frames if self.units is None else min(frames, num_units // self.units_per_period)

    def align(self, num_units: int, num_frames: int) -> tuple[int, int]:
        """Lengths of the two streams, trimmed to the whole periods that both fill."""
        periods = self.periods_in(num_units, num_frames)
        return periods * self.units_per_period, periods * self.frames_per_period

    def frames_for_units(self, num_units: int) -> int:
        """Frames that cover as many whole periods as the units do."""
        return num_units // self.units_per_period * self.frames_per_period

    def units_for_frames(self, num_frames: int) -> int:
        """Units that cover as many whole periods as the frames do."""
        return num_frames // self.frames_per_period * self.units_per_period

    def seconds_of_frames(self, num_frames: int) -> float:
        return float(num_frames * self.codes.step)

    def seconds_of_units(self, num_units: int) -> float:
        return float(num_units * self.units.step) if self.units else 0.0

    def to_dict(self) -> dict[str, Any]:
        units = [self.units.sample_rate, self.units.hop_length] if self.units else None
        return {"codes": [self.codes.sample_rate, self.codes.hop_length], "units": units}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Timeline:
        units = values["units"]
        return cls(codes=Grid(*values["codes"]), units=Grid(*units) if units else None)
