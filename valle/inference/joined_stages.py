"""One model of stages that were trained in runs of their own, as two processes train them at the same time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from valle.errors import UserError
from valle.inference.trained_model import released_from_checkpoint, trained_state
from valle.models.released import Released


def parse_stages_from(words: Sequence[str]) -> dict[str, Path]:
    """``semantic=exp/semantic`` -> ``{"semantic": Path("exp/semantic")}``; raises ``UserError`` for anything else."""
    found: dict[str, Path] = {}
    for word in words:
        stage, equals, source = word.partition("=")
        if not (stage and equals and source):
            raise UserError(f"expected STAGE=RUN after --stages-from, such as semantic=exp/semantic, found {word!r}")
        if stage in found:
            raise UserError(f"expected each stage once after --stages-from, found {stage} twice; name one run for it")
        found[stage] = Path(source)
    return found


def with_stages(released: Released, sources: Mapping[str, Path]) -> Released:
    """``released`` with whole stages of other runs: of a checkpoint, or of a trainer's folder the weights with best dev loss.

    All runs must have the same tokenizers, and each stage the same shape.  Raises ``UserError``.
    """
    stages, trained = released.model.stages(), dict(released.trained_seconds)
    for name, source in sources.items():
        if name not in stages:
            raise UserError(f"expected one of {', '.join(stages)} after --stages-from, found {name}; name a stage of this model")
        folder, file = (source, None) if source.is_dir() else (None, source)
        other = released_from_checkpoint(trained_state(checkpoint=file, exp_dir=folder, epoch=0, avg=1, use_averaged_model=False))
        if _tokenizers(other) != _tokenizers(released):
            raise UserError(f"expected a run with the tokenizers {_tokenizers(released)}, found {_tokenizers(other)} in {source}")
        theirs = other.model.stages().get(name)
        fits = theirs is not None and stages[name].means_the_same(released.model.config, vars(other.model.config))
        weights = theirs.state_dict() if theirs is not None and fits else {}
        own = stages[name].state_dict()
        if weights.keys() != own.keys() or any(tensor.shape != own[key].shape for key, tensor in weights.items()):
            raise UserError(f"expected the shape of this stage {name} in {source}, found another; train both with one configuration")
        stages[name].load_state_dict(weights)
        trained[name] = other.trained_seconds[name]
    return replace(released, trained_seconds=trained)


def _tokenizers(released: Released) -> str:
    return " and ".join(str(one.identity) for one in (released.acoustic, released.semantic) if one is not None)
