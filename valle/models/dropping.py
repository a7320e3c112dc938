"""What is left out of training examples now and then, so that a stage knows its tokens without conditions too.

Units and prompt together in ``drop_conditions`` of the examples, the prompt alone in ``drop_prompt``, the pooled voice in
``drop_voice`` at least.  No units are units of length 0, to which every stage has an answer of its own: in a window of units the
learned padding stands everywhere, before codes there is nothing.  No prompt is a prompt of 0 frames.  Nothing is left out in
validation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from valle.crops import CroppedTokens
from valle.decoding.sampling import Sampling
from valle.errors import UserError
from valle.models.config import AudioLMConfig

if TYPE_CHECKING:
    from valle.models.stage import Stage


@dataclass(frozen=True)
class Dropped:
    """What an example goes without; without a prompt, it has no voice."""

    units: bool
    prompt: bool
    voice: bool


def dropped(crop: CroppedTokens, config: AudioLMConfig) -> Dropped:
    """By one number of the example's own, never by its batch mates."""
    if crop.is_validation:
        return Dropped(units=False, prompt=False, voice=False)
    chance, prompt = crop.chance("dropping"), config.drop_conditions + config.drop_prompt
    return Dropped(units=chance < config.drop_conditions, prompt=chance < prompt, voice=chance < max(prompt, config.drop_voice))


def refuse_guidance(config: AudioLMConfig, stages: Mapping[str, Stage], sampling: Mapping[str, Sampling]) -> None:
    """Raises ``UserError`` where ``sampling`` asks for guidance of a stage that has not learned to do without conditions."""
    for name in stages.keys() & sampling.keys():
        weight = sampling[name].guidance
        if weight == 1:
            continue
        if not stages[name].takes_guidance:
            raise UserError(f"expected guidance 1 for the {name} stage, which has no condition to leave out, found {weight:g}")
        if not stages[name].knows_no_conditions(config):
            raise UserError(
                f"guidance {weight:g} needs a model that has learned without units and prompt too, this one has not; "
                "train with --drop-conditions 0.1 --drop-prompt 0.05, or use --guidance 1"
            )
