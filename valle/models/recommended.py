"""How a released model is best sampled from: what its stages draw by, where that is not their kind's default."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from valle.errors import UserError
from valle.models.audio_lm import AudioLM
from valle.models.dropping import refuse_guidance

NUMBERS = ("temperature", "guidance")  # that a model may come with


def recommended(model: AudioLM) -> dict[str, dict[str, Any]]:
    """By stage, the numbers of its sampling that differ from those of its kind."""
    found = {}
    for name, stage in model.stages().items():
        own, usual = stage.sampling, type(stage).sampling
        differing = {field: getattr(own, field) for field in NUMBERS if getattr(own, field) != getattr(usual, field)}
        if differing:
            found[name] = differing
    return found


def recommend(model: AudioLM, chosen: Mapping[str, Mapping[str, Any]]) -> None:
    """Give stages of ``model`` these numbers as what they draw by unless a request says otherwise.  Raises ``UserError``."""
    stages = model.stages()
    for name, numbers in chosen.items():
        if name not in stages:
            raise UserError(f"expected sampling of one of {', '.join(stages)}, found {name}; name a stage of this model")
        unknown = [field for field in numbers if field not in NUMBERS]
        if unknown:
            raise UserError(f"expected one of {', '.join(NUMBERS)} of the {name} stage, found {unknown[0]}; use one of these")
        try:
            typed: dict[str, Any] = {field: float(value) for field, value in numbers.items()}
        except (TypeError, ValueError) as error:
            raise UserError(f"expected numbers for the sampling of the {name} stage, found {dict(numbers)}") from error
        stages[name].sampling = replace(type(stages[name]).sampling, **typed)
    refuse_guidance(model.config, stages, {name: stages[name].sampling for name in chosen})


def parse_sampling(words: Sequence[str]) -> dict[str, dict[str, str]]:
    """``coarse:guidance=2`` -> ``{"coarse": {"guidance": "2"}}``; raises ``UserError`` for anything else."""
    found: dict[str, dict[str, str]] = {}
    for word in words:
        stage, colon, assigned = word.partition(":")
        name, equals, value = assigned.partition("=")
        if not (stage and colon and name and equals and value):
            raise UserError(f"expected STAGE:FIELD=NUMBER after --sampling, such as coarse:guidance=2, found {word!r}")
        found.setdefault(stage, {})[name] = value
    return found
