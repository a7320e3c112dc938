"""What every acoustic model is asked for, and what it is: units and a prompt's codes in, codes out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import ClassVar, TypeVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from valle.decoding.read_ahead import Ahead
from valle.decoding.sampling import Sampling
from valle.models.config import AudioLMConfig
from valle.models.dropping import refuse_guidance
from valle.models.stage import Stage
from valle.models.unit_feed import UnitFeed

T = TypeVar("T")
UNTRAINED_WINDOW = 500  # frames, of a stage for which a request names no window


@dataclass(frozen=True)
class AcousticRequest:
    """Codes of ``num_frames`` frames a row that go on from its prompt's; sampling and windows are given by stage name."""

    prompt_codes: Sequence[Tensor]  # (T_b, Q) each; T_b may be 0
    num_frames: Sequence[int]  # in all, prompt included
    seeds: Sequence[int]
    units: Sequence[Tensor] | None  # (T_u,) each, of the whole time
    sampling: Mapping[str, Sampling] = field(default_factory=dict)  # of a stage that is not named, its own default
    windows: Mapping[str, int] = field(default_factory=dict)  # frames that were trained; longer requests slide
    block: int | None = None  # new frames at once of a stage that looks ahead; None: as many as its window holds
    first_blocks: Sequence[int] = ()  # of the first blocks, where blocks are asked for
    at_once: int | None = None  # rows in memory at once: one that ends makes room for the next; None: all

    def __post_init__(self) -> None:
        rows, units = len(self.prompt_codes), self.prompt_codes if self.units is None else self.units
        if not rows == len(self.num_frames) == len(self.seeds) == len(units):
            raise ValueError(
                f"expected a length, a seed and units for each of {rows} prompts, "
                f"found {len(self.num_frames)} lengths, {len(self.seeds)} seeds and units of {len(units)} rows"
            )
        for prompt, frames in zip(self.prompt_codes, self.num_frames, strict=True):
            if frames < len(prompt):
                raise ValueError(f"num_frames counts the prompt too: expected at least its {len(prompt)} frames, found {frames}")

    def sampling_of(self, stage: Stage) -> Sampling:
        return self.sampling.get(stage.name, stage.sampling)

    def window_of(self, stage: Stage) -> int:
        return self.windows.get(stage.name, UNTRAINED_WINDOW)


@dataclass(frozen=True)
class LiveRequest:
    """One row whose units are still being made; it ends with them, or after ``num_frames``."""

    prompt_codes: Tensor  # (T, Q)
    num_frames: int  # at most, prompt included
    seed: int
    units: UnitFeed | None  # of the whole time, the prompt's first
    sampling: Mapping[str, Sampling] = field(default_factory=dict)
    windows: Mapping[str, int] = field(default_factory=dict)
    block: int | None = None  # as of ``AcousticRequest``
    first_blocks: Sequence[int] = ()
    ahead: Ahead = field(default_factory=Ahead)  # what was done of this row before its prompt ended

    def blocks(self) -> Iterator[int | None]:
        """Frames of one block after another."""
        return chain(self.first_blocks, repeat(self.block))

    def sampling_of(self, stage: Stage) -> Sampling:
        return self.sampling.get(stage.name, stage.sampling)

    def window_of(self, stage: Stage) -> int:
        return self.windows.get(stage.name, UNTRAINED_WINDOW)


class AcousticModel(ABC):
    """The base class of acoustic models: stages of their own, and how these make codes together.

    An instance holds no weights itself; ``AudioLM`` registers its stages under their names.
    """

    name: ClassVar[str]  # of --acoustic-model
    stage_types: ClassVar[tuple[type[Stage], ...]]  # all that it may have, in the order in which they run
    looks_ahead: ClassVar[bool] = False  # whether a frame's codes depend on later frames, so that a stream goes block by block
    adds_up: ClassVar[bool] = True  # whether the stages' losses of a frame add up to the nats of its codes, each given what is before

    def __init__(self, config: AudioLMConfig, stages: Mapping[str, Stage]) -> None:
        """``stages``: those of ``types_for(config)``, by name."""
        self.config, self.stages = config, stages

    @classmethod
    def types_for(cls, config: AudioLMConfig) -> tuple[type[Stage], ...]:
        """The stages that a model of this configuration has."""
        return cls.stage_types

    @abstractmethod
    def generate(self, request: AcousticRequest) -> list[Tensor]:
        """Codes ``(num_frames_b, Q)`` int64 of every row; they begin with its prompt's.  Raises ``ValueError`` for too few units."""

    def stream(self, request: LiveRequest) -> Iterator[Tensor]:
        """New frames ``(n, Q)`` of one row as soon as they are final; together those that ``generate`` makes of the whole row.

        A model that does not say how has them all at once, after the last unit.
        """
        units, num_frames = None, request.num_frames
        if request.units is not None:
            reader = request.units.reader()
            num_frames = min(num_frames, reader.num_frames(num_frames))
            units = [reader.between(0, request.units.total)]
        [codes] = self.generate(AcousticRequest(
            prompt_codes=[request.prompt_codes], num_frames=[num_frames], seeds=[request.seed], units=units,
            sampling=request.sampling, windows=request.windows, block=request.block, first_blocks=request.first_blocks,
        ))  # fmt: skip
        yield codes[len(request.prompt_codes) :]

    def draw_ahead(self, ahead: Ahead, seed: int, windows: Mapping[str, int]) -> None:
        """Draw the noise that the first frames of a stream of ``seed`` need whatever its prompt; ``windows`` in frames, by stage."""
        for name, stage in self.stages.items():
            stage.draw_ahead(ahead.noise, seed, windows.get(name, UNTRAINED_WINDOW))

    def refuse_guidance(self, request: AcousticRequest | LiveRequest) -> None:
        """Raises ``UserError`` where guidance is asked for that was not learned."""
        refuse_guidance(self.config, self.stages, request.sampling)

    def refuse_too_few_units(self, request: AcousticRequest) -> None:
        """Raises ``ValueError`` unless a unit lies under every frame."""
        for row, frames in enumerate(request.num_frames):
            needed = self.config.periods.units_under(frames)
            if request.units is not None and len(request.units[row]) < needed:
                raise ValueError(f"{frames} frames need {needed} units, found {len(request.units[row])}")


def in_groups(rows: Sequence[T], at_once: int | None, *, length: Callable[[T], int]) -> Iterator[Sequence[T]]:
    """``rows`` in groups of ``at_once`` (all, if None) that are of about one ``length``, so that little is padding."""
    if at_once is None or at_once >= len(rows):
        yield rows
        return
    ordered = sorted(rows, key=length)
    for first in range(0, len(ordered), at_once):
        yield ordered[first : first + at_once]


def pad_codes(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Codes ``(T_b, Q)`` or units ``(T_b,)`` of every row -> ``(B, T, ...)`` and lengths ``(B,)``."""
    lengths = torch.tensor([len(row) for row in rows], device=rows[0].device)
    return pad_sequence(list(rows), batch_first=True), lengths


def with_prompts(coarse: Sequence[Tensor], prompts: Sequence[Tensor], *, num_levels: int) -> list[Tensor]:
    """Rows ``(T_b, num_levels)`` of which the first levels are there, ``coarse (T_b, Q')``, and the prompts with all of theirs; else 0."""
    rows = []
    for prompt, levels in zip(prompts, coarse, strict=True):
        codes = levels.new_zeros(len(levels), num_levels)
        codes[:, : levels.shape[1]] = levels
        codes[: len(prompt)] = prompt[:, :num_levels]
        rows.append(codes)
    return rows
