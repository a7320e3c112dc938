"""Which semantic stage a configuration asks for: one unit a frame, runs with durations, or byte pairs."""

from __future__ import annotations

from valle.models.config import AudioLMConfig
from valle.models.semantic import SemanticLM
from valle.models.semantic_bpe import BpeSemanticLM
from valle.models.semantic_runs import RunSemanticLM


def semantic_lm(config: AudioLMConfig) -> SemanticLM:
    """The semantic stage of ``config.unit_sequence``; raises ``UserError`` for a unit BPE that is damaged or another's."""
    if config.unit_sequence == "runs":
        return RunSemanticLM(config)
    if config.unit_sequence == "bpe":
        return BpeSemanticLM(config)
    return SemanticLM(config)
