"""Which stages of a model draft tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from valle.decoding.sampling import Drafts, Sampling
from valle.errors import UserError
from valle.models.audio_lm import AudioLM


def with_drafts(model: AudioLM, sampling: Mapping[str, Sampling], drafts: Drafts | None) -> Mapping[str, Sampling]:
    """``sampling`` by stage, where every stage that has draft heads drafts as many tokens as ``drafts`` says, or all it can.

    Raises ``UserError`` where no stage has as many heads.
    """
    if drafts is None:
        return sampling
    heads = {name: stage.num_drafts for name, stage in model.stages().items() if stage.num_drafts}
    if not heads:
        raise UserError(
            f"--draft-tokens {drafts.tokens} needs draft heads, and this model has none; "
            "train it with --semantic-drafts or --coarse-drafts, or leave out --draft-tokens"
        )
    if drafts.tokens > max(heads.values()):
        found = " and ".join(f"{number} of the {name} stage" for name, number in heads.items())
        raise UserError(f"--draft-tokens {drafts.tokens} needs as many draft heads, found {found}; lower it")
    stages = model.stages()
    drafting = {
        name: replace(sampling.get(name, stages[name].sampling), drafts=replace(drafts, tokens=min(drafts.tokens, number)))
        for name, number in heads.items()
    }
    return {**sampling, **drafting}
