"""Which stages and acoustic models there are, by the names that configurations and flags use."""

from __future__ import annotations

from collections.abc import Container

from valle.errors import UserError
from valle.models.acoustic.ar_nar import ArNar
from valle.models.acoustic.base import AcousticModel
from valle.models.acoustic.delay import Delay
from valle.models.acoustic.flat import Flat
from valle.models.acoustic.rq import Rq
from valle.models.acoustic.soundstorm import SoundStorm
from valle.models.config import AudioLMConfig
from valle.models.semantic import SemanticLM
from valle.models.semantic_bpe import BpeSemanticLM
from valle.models.semantic_runs import RunSemanticLM
from valle.models.stage import SemanticStage, Stage

# The semantic stage, by what it predicts (AudioLMConfig.unit_sequence): a unit a frame, runs with durations, byte pairs of units.
SEMANTIC_STAGES: dict[str, type[SemanticStage]] = {"frames": SemanticLM, "runs": RunSemanticLM, "bpe": BpeSemanticLM}
ACOUSTIC_MODELS: dict[str, type[AcousticModel]] = {model.name: model for model in (ArNar, SoundStorm, Flat, Delay, Rq)}


def semantic_type(config: AudioLMConfig) -> type[SemanticStage] | None:
    """The semantic stage of a configuration; None without units."""
    if config.unit_sequence not in SEMANTIC_STAGES:
        raise UserError(f"the unit sequence must be {_choices(SEMANTIC_STAGES)}, found {config.unit_sequence!r}")
    return SEMANTIC_STAGES[config.unit_sequence] if config.num_units is not None else None


def acoustic_type(name: str) -> type[AcousticModel]:
    if name not in ACOUSTIC_MODELS:
        raise UserError(f"the acoustic model must be {_choices(ACOUSTIC_MODELS)}, found {name!r}")
    return ACOUSTIC_MODELS[name]


def all_stages() -> dict[str, type[Stage]]:
    """Every stage of any model by name, in the order in which they run; of stages that share a name, the first."""
    types: list[type[Stage]] = [*SEMANTIC_STAGES.values(), *(stage for model in ACOUSTIC_MODELS.values() for stage in model.stage_types)]
    found: dict[str, type[Stage]] = {}
    for stage in types:
        found.setdefault(stage.name, stage)
    return found


def missing_stages(names: Container[str]) -> list[str]:
    """Which stages of a model with units ``names`` lack: none where they hold all of any acoustic model, else those of the first."""
    chains = [[SemanticLM.name, *(stage.name for stage in model.stage_types)] for model in ACOUSTIC_MODELS.values()]
    lacking = [[stage for stage in chain if stage not in names] for chain in chains]
    return lacking[0] if all(lacking) else []


def stage_of(term: str) -> str:
    """The stage whose loss term this is: ``fine`` of ``fine_3``."""
    return term.partition("_")[0]


def _choices(names: dict[str, type]) -> str:
    return " or ".join(", ".join(names).rsplit(", ", 1))
