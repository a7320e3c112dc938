"""What a run needs to know of its unit sequence: the model's fields, whose weights fit, and bits a second."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from valle.data.fit_unit_bpe import FittedUnitBpe, train_units
from valle.errors import UserError
from valle.models.checkpoint import load_checkpoint
from valle.models.released import read_released_config
from valle.tokenizers.unit_bpe import UnitBpe, UnitBpeError
from valle.tokenizers.unit_runs import collapse
from valle.tokenizing.token_manifests import TokenManifests
from valle.training.options import AudioLMOptions

CUTS_FOR_LENGTHS = 500  # the first of them, on which the mean length of runs is measured


def sequence_fields(options: AudioLMOptions, manifests: TokenManifests) -> dict[str, Any]:
    """The fields of ``AudioLMConfig`` that say what the semantic stage predicts."""
    fields: dict[str, Any] = {"unit_sequence": options.unit_sequence, "longest_run": options.longest_run}
    if manifests.semantic is None or options.unit_sequence not in ("runs", "bpe"):
        return fields
    if options.unit_sequence == "runs":
        return {**fields, "frames_per_token": mean_run(manifests, options.longest_run)}
    fitted = read_unit_bpe(options.unit_bpe)
    if fitted.semantic_sha256 != manifests.semantic.sha256:
        raise UserError(
            f"expected a unit BPE of {manifests.semantic}'s units, found one of {fitted.semantic_name} ({fitted.semantic_sha256[:12]}) in "
            f"{options.unit_bpe}; run bin/fit_unit_bpe.py on these tokens"
        )
    bpe = {"unit_bpe_model": fitted.bpe.text, "unit_bpe_sha256": fitted.bpe.sha256}
    return {**fields, **bpe, "frames_per_token": fitted.frames_per_token}


def mean_run(manifests: TokenManifests, longest: int) -> float:
    """Frames of a run on average, over the first training cuts."""
    frames = runs = 0
    for units in islice(train_units(manifests), CUTS_FOR_LENGTHS):
        frames, runs = frames + len(units), runs + len(collapse(torch.tensor(units), longest)[0])
    return frames / max(runs, 1) if frames else 1.0


def read_unit_bpe(source: Path) -> FittedUnitBpe:
    """The unit BPE of a file of ``fit_unit_bpe.py``, of a checkpoint or of a released folder."""
    if source.suffix != ".pt" and not source.is_dir():
        return FittedUnitBpe.load(source)
    fields, identities = model_fields(source)
    if fields.get("unit_bpe_model") is None:
        raise UnitBpeError(f"expected a model with a unit BPE in {source}, found one without; name a file of bin/fit_unit_bpe.py")
    bpe = UnitBpe.from_text(fields["unit_bpe_model"], num_units=fields["num_units"])
    semantic = identities["semantic"]
    return FittedUnitBpe(bpe, semantic["name"], semantic["sha256"], fields["frames_per_token"])


def model_fields(source: Path) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Fields of ``AudioLMConfig``, and the tokenizers' identities."""
    if source.is_dir():
        config = read_released_config(source)
        return config["model"], config["identities"]
    state = load_checkpoint(source)
    return state, state.get("identities", {})
