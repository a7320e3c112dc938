"""Dialogue in one pass: a prompt of each voice, then turns, as one row of a request (SoundStorm, Borsos et al. 2023, on dialogue)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from valle.timeline import Periods


@dataclass(frozen=True)
class VoicePrompt:
    """What is known of a voice, in whole periods."""

    units: Tensor  # (T_u,)
    codes: Tensor  # (T, Q)


@dataclass(frozen=True)
class Dialogue:
    """A row of an ``AcousticRequest``: all prompts one after another, then the turns."""

    prompt_codes: Tensor  # (T, Q) of all prompts
    units: Tensor  # (T_u,) of prompts and turns
    turn_frames: tuple[int, ...]  # of each turn

    @property
    def num_frames(self) -> int:
        """Of prompts and turns."""
        return len(self.prompt_codes) + sum(self.turn_frames)

    def turns_of(self, codes: Tensor) -> list[Tensor]:
        """The codes of each turn ``(T_n, Q)`` among those that an acoustic model made of this row."""
        return list(codes[len(self.prompt_codes) :].split(self.turn_frames))


def dialogue(prompts: Sequence[VoicePrompt], turns: Sequence[Tensor], periods: Periods) -> Dialogue:
    """Speak ``turns``, units ``(T_u,)`` of one voice after another, in the voices of ``prompts``; who speaks is in the units' order alone.

    Raises ``ValueError`` unless each is of whole periods, without which a voice's units would lie beside another's frames.
    """
    for units in (*(prompt.units for prompt in prompts), *turns):
        if len(units) % periods.units:
            raise ValueError(f"expected prompts and turns of whole periods of {periods.units} units, found {len(units)} units")
    for prompt in prompts:
        if len(prompt.codes) * periods.units != len(prompt.units) * periods.frames:
            raise ValueError(f"expected units and codes of the same time in a prompt, found {len(prompt.units)} and {len(prompt.codes)}")
    return Dialogue(
        prompt_codes=torch.cat([prompt.codes for prompt in prompts]),
        units=torch.cat([*(prompt.units for prompt in prompts), *turns]),
        turn_frames=tuple(len(units) // periods.units * periods.frames for units in turns),
    )
