"""Continuing on tokens alone: units, then their codes (AudioLM, Borsos et al. 2022, figure 2).

``Pipeline`` does it for sound, and the trainer for the samples of its dev cuts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from valle.decoding.read_ahead import Ahead
from valle.decoding.sampling import Sampling
from valle.models.acoustic.base import AcousticRequest, LiveRequest
from valle.models.audio_lm import AudioLM
from valle.models.unit_feed import UnitFeed
from valle.seeds import stage_seed
from valle.timeline import Timeline


@dataclass(frozen=True)
class TokenPrompt:
    """What is known of a row: whole periods of both streams."""

    codes: Tensor  # (T_f, Q)
    units: Tensor  # (T_u,); empty without units
    seed: int


@dataclass(frozen=True)
class Continuer:
    """A model on its timeline; ``trained_seconds`` are the longest crops of its stages, by name: longer rows slide."""

    model: AudioLM
    timeline: Timeline
    trained_seconds: Mapping[str, float]

    def units(
        self, prompts: Sequence[TokenPrompt], *, shortest: Sequence[int], longest: Sequence[int], sampling: Mapping[str, Sampling],
        at_once: int | None = None,
    ) -> list[Tensor] | None:  # fmt: skip
        """Units ``(T_u,)`` of prompt and continuation, in whole periods; None for a model without units.

        ``shortest`` and ``longest`` count periods, the prompt's included: no end is drawn before the one, and none is needed at the other.
        ``at_once`` rows are decoded together, and one that ends makes room for the next; all, if None.
        """
        stage, each = self.model.unit_stage, self.timeline.units_per_period
        if stage is None:
            return None
        known = [len(prompt.units) for prompt in prompts]
        new = stage.generate(
            [prompt.units for prompt in prompts],
            max_new=[periods * each - units for periods, units in zip(longest, known, strict=True)],
            min_new=[periods * each - units for periods, units in zip(shortest, known, strict=True)],
            sampling=sampling.get(stage.name, stage.sampling),
            seeds=[stage_seed(prompt.seed, 0) for prompt in prompts],
            window=self._window(stage.name) * each,
            at_once=at_once,
        )
        rows = [torch.cat([prompt.units, tokens]) for prompt, tokens in zip(prompts, new, strict=True)]
        return [row[: len(row) // each * each] for row in rows]

    def codes(
        self,
        prompts: Sequence[TokenPrompt],
        *,
        units: Sequence[Tensor] | None,
        num_frames: Sequence[int],
        sampling: Mapping[str, Sampling],
        block_seconds: float | None = None,
        first_block_seconds: Sequence[float] = (),
        at_once: int | None = None,
    ) -> list[Tensor]:
        """Codes ``(T_f, Q)`` of prompt and continuation: along ``units`` of the whole time, or without them ``num_frames`` in all.

        With ``block_seconds``, stages that look ahead fill so much at once, the first blocks ``first_block_seconds`` each.  ``at_once``
        as in ``units``.
        """
        if units is not None:
            num_frames = [self.timeline.frames_for_units(len(row)) for row in units]
        request = AcousticRequest(
            prompt_codes=[prompt.codes for prompt in prompts],
            num_frames=num_frames,
            seeds=[stage_seed(prompt.seed, 1) for prompt in prompts],
            units=units,
            sampling=sampling,
            windows=self._windows,
            block=self._block(block_seconds),
            first_blocks=self._blocks(first_block_seconds),
            at_once=at_once,
        )
        return self.model.acoustic.generate(request)

    def stream(
        self,
        prompt: TokenPrompt,
        *,
        shortest: int,
        longest: int,
        num_frames: int,
        sampling: Mapping[str, Sampling],
        block_seconds: float | None = None,
        first_block_seconds: Sequence[float] = (),
        ahead: Ahead | None = None,
    ) -> Iterator[Tensor]:
        """New codes ``(n, Q)`` of one row as soon as they are final, each unit made when a frame needs it.

        Together they are what ``units`` and ``codes`` make; without units, ``num_frames`` is the length.  ``ahead`` is what was read of
        the prompt as it came in.
        """
        ahead = Ahead() if ahead is None else ahead
        stage, each, feed = self.model.unit_stage, self.timeline.units_per_period, None
        if stage is not None:
            known = len(prompt.units)
            units = stage.stream(
                prompt.units, max_new=longest * each - known, min_new=shortest * each - known,
                sampling=sampling.get(stage.name, stage.sampling), seed=stage_seed(prompt.seed, 0), window=self._window(stage.name) * each,
                ahead=ahead.windows.get(stage.name),
            )  # fmt: skip
            feed, num_frames = UnitFeed(prompt.units, units, self.timeline.periods), longest * self.timeline.frames_per_period
        return self.model.acoustic.stream(LiveRequest(
            prompt_codes=prompt.codes, num_frames=num_frames, seed=stage_seed(prompt.seed, 1), units=feed, sampling=sampling,
            windows=self._windows, block=self._block(block_seconds), first_blocks=self._blocks(first_block_seconds), ahead=ahead,
        ))  # fmt: skip

    def ahead(self, seed: int) -> Ahead:
        """What can be done for a row of ``seed`` before anything of its prompt is known."""
        ahead = Ahead()
        self.model.acoustic.draw_ahead(ahead, stage_seed(seed, 1), self._windows)
        return ahead

    def read_ahead(self, ahead: Ahead, codes: Tensor, units: Tensor) -> None:
        """Let every stage read what is known of a prompt, ``codes (T_f, Q)`` and ``units (T_u,)``, as far as its window reaches."""
        seconds = self.timeline.seconds_of_frames(len(codes))
        for name, stage in self.model.stages().items():
            if seconds < self.trained_seconds[name]:  # past it the window slides, and begins elsewhere
                stage.read_ahead(ahead, codes, units)
            else:
                ahead.windows.pop(name, None)

    @property
    def _windows(self) -> dict[str, int]:
        """Frames of the acoustic stages' windows."""
        return {name: self._window(name) * self.timeline.frames_per_period for name in self.model.acoustic_stages()}

    def _block(self, seconds: float | None) -> int | None:
        """Frames of a block, whole periods and one at least."""
        return None if seconds is None else max(1, self.timeline.periods_for(seconds)) * self.timeline.frames_per_period

    def _blocks(self, seconds: Sequence[float]) -> list[int]:
        return [max(1, self.timeline.periods_for(each)) * self.timeline.frames_per_period for each in seconds]

    def _window(self, stage: str) -> int:
        return self.timeline.window_for(self.trained_seconds[stage])
