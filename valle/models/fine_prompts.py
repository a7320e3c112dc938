"""The acoustic prompts with which the fine stage trains, by the numbers of the VALL-E family (``--prefix-mode``).

    0   no prompt                        [ target ........................ ]
    1   the crop's own beginning         [ prompt | target ............... ]
    2   from elsewhere in the utterance  [ segment | target .............. ]
    4   from a neighbour, by one voice   [ segment | target .............. ]

All have one layout: the prompt's frames come first, positions go on past them, what follows is the target, and a crop stays as long
as it is.  With 2 and 4 the segment takes the place of the crop's beginning, so no frame that the prompt shows is a target too.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from valle.crops import CroppedTokens, Span, place_elsewhere
from valle.models.config import AudioLMConfig
from valle.models.dropping import dropped

NO_PROMPT, BEGINNING, ELSEWHERE, NEIGHBOUR = 0, 1, 2, 4  # the family has no 3


def prompted(crop: CroppedTokens, config: AudioLMConfig) -> tuple[CroppedTokens, int]:
    """The crop with its prompt in front, and the prompt's frames: a random number of them, by the example itself."""
    if config.prefix_mode == NO_PROMPT or dropped(crop, config).prompt:
        return crop, 0
    if config.prefix_mode == BEGINNING:
        return crop, int(crop.chance("prompt") * 2 / 3 * len(crop.codes))
    periods = config.periods
    most = 2 * len(crop.codes) // 3 // periods.frames
    length = int(crop.chance("prompt") * (most + 1))  # whole periods, so that units and frames of both parts begin together
    segment = _elsewhere(crop, config, length) if config.prefix_mode == ELSEWHERE else _of_neighbour(crop, config, length)
    if segment is None:
        return crop, 0
    frames = len(segment.codes)
    rest = crop.units[periods.units_of_frames(frames, len(crop.codes))]
    joined = replace(
        crop, units=np.concatenate([segment.units, rest]), codes=np.concatenate([segment.codes, crop.codes[frames:]]), starts=False
    )
    return joined, frames


def _elsewhere(crop: CroppedTokens, config: AudioLMConfig, length: int) -> Span | None:
    """``length`` periods of the utterance outside the target: where there is nothing else, the crop's own beginning."""
    whole, frames = _whole_of(crop), config.frames_per_period
    first, total = crop.first_frame // frames, len(whole.codes) // frames
    start = place_elsewhere(
        total, first=first + length, stop=first + len(crop.codes) // frames, length=length, chance=crop.chance("segment")
    )
    return _periods_of(whole, config, start, length)


def _of_neighbour(crop: CroppedTokens, config: AudioLMConfig, length: int) -> Span | None:
    """Up to ``length`` periods of the neighbour; None where the voice has no other utterance."""
    if crop.neighbour is None:
        return None
    total = len(crop.neighbour.codes) // config.frames_per_period
    length = min(length, total)
    return _periods_of(crop.neighbour, config, int(crop.chance("segment") * (total - length + 1)), length)


def _whole_of(crop: CroppedTokens) -> Span:
    assert crop.whole is not None, "the dataset keeps the whole utterance beside its crops"
    return crop.whole


def _periods_of(span: Span, config: AudioLMConfig, start: int, length: int) -> Span:
    units, frames = (slice(start * each, (start + length) * each) for each in (config.units_per_period, config.frames_per_period))
    return Span(span.units[units], span.codes[frames])
