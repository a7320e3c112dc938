"""What a run needs to know of its unit sequence: the model's fields, whose weights fit, and bits a second."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from math import log
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from valle.data.fit_unit_bpe import FittedUnitBpe, train_units
from valle.errors import UserError
from valle.models.checkpoint import load_checkpoint
from valle.models.config import AudioLMConfig
from valle.models.released import read_released_config
from valle.tokenizers.unit_bpe import UnitBpe, UnitBpeError
from valle.tokenizers.unit_runs import collapse
from valle.tokenizing.token_manifests import TokenManifests
from valle.training.distributed import World
from valle.training.logs import Sums
from valle.training.options import AudioLMOptions

if TYPE_CHECKING:
    from valle.training.audio_lm_task import AudioLMTask

CUTS_FOR_LENGTHS = 500  # the first of them, on which the mean length of runs is measured


def sequence_fields(options: AudioLMOptions, manifests: TokenManifests) -> dict[str, Any]:
    """The fields of ``AudioLMConfig`` that say what the semantic stage predicts."""
    fields: dict[str, Any] = {"unit_sequence": options.unit_sequence, "longest_run": options.longest_run}
    if manifests.semantic is None or options.unit_sequence == "frames":
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
    fields, identities = _model_fields(source)
    if fields.get("unit_bpe_model") is None:
        raise UnitBpeError(f"expected a model with a unit BPE in {source}, found one without; name a file of bin/fit_unit_bpe.py")
    bpe = UnitBpe.from_text(fields["unit_bpe_model"], num_units=fields["num_units"])
    semantic = identities["semantic"]
    return FittedUnitBpe(bpe, semantic["name"], semantic["sha256"], fields["frames_per_token"])


def has_same_sequence(config: AudioLMConfig, source: Path) -> bool:
    """Whether the semantic stage of a checkpoint or released folder predicts the same kind of tokens, whatever its shape."""
    fields, _ = _model_fields(source)
    theirs = fields.get("unit_sequence", "frames"), fields.get("unit_bpe_sha256")
    return theirs == (config.unit_sequence, config.unit_bpe_sha256)


def _model_fields(source: Path) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Fields of ``AudioLMConfig``, and the tokenizers' identities."""
    if source.is_dir():
        config = read_released_config(source)
        return config["model"], config["identities"]
    state = load_checkpoint(source)
    return state, state.get("identities", {})


def semantic_summary(task: AudioLMTask, *, train: Sums, valid: Sums, unigram: Mapping[str, float]) -> dict[str, Any]:
    """The semantic stage in nats a token and bits a second of audio, units and durations together and, of runs, apart.

    Bits count everything that is predicted, ends too, over the time that it covers, so that sequences of other lengths compare.
    """
    names = [name for name in valid if name.partition("_")[0] == "semantic"]
    seconds = predicted_seconds(task)
    rows = {name: _row(name, train=train, valid=valid, unigram=unigram, seconds=seconds) for name in names}
    first = rows[names[0]]
    if len(names) == 1:
        return first
    tokens = first["valid_tokens"]
    together = {key: sum(row[key] for row in rows.values()) for key in ("bits_per_second", "unigram_bits_per_second")}
    nats = {
        "train_nll": sum(train[name][0] for name in names) / train[names[0]][1],
        "valid_nll": sum(valid[name][0] for name in names) / tokens,
        "unigram_nll": sum(unigram[name] * valid[name][1] for name in names) / tokens,
    }
    parts = {name.partition("_")[2]: row for name, row in rows.items()}
    return {**first, **nats, **together, "parts": parts}


def _row(name: str, *, train: Sums, valid: Sums, unigram: Mapping[str, float], seconds: float) -> dict[str, float]:
    nats, count, hits = valid[name]
    return {
        "train_nll": train[name][0] / train[name][1], "valid_nll": nats / count, "unigram_nll": unigram[name], "accuracy": hits / count,
        "valid_tokens": count, "tokens_per_second": count / seconds, "bits_per_second": nats / log(2) / seconds,
        "unigram_bits_per_second": unigram[name] * count / log(2) / seconds,
    }  # fmt: skip


def predicted_seconds(task: AudioLMTask) -> float:
    """Time that the semantic stage's targets in validation cover."""
    semantic, grid = task.model.semantic, task.manifests.timeline.units
    assert semantic is not None and grid is not None
    frames = sum(semantic.frames_predicted(**batch["semantic"]) for batch in task.validation_batches(World()))
    return float(frames * grid.step)
