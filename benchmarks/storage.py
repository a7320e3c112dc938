#!/usr/bin/env python3
"""What weights of fewer bits cost the bundled model: nats a token of its stages on recordings that it has not seen, and voices.

  python -m benchmarks.storage --audio FOLDER --recordings 8 --manifest-dir egs/librispeech/data/tokenized

The weights that the native step reads are stored as bfloat16, or as int8 with a scale a row (``valle.decoding.native``), and read back;
all else stays float32, so nats do not tell what a step's cache in bfloat16 costs.  Each recording is scored whole, by every storage, so
that differences are paired.  With --manifest-dir, each storage continues the same prompts of a corpus by the native step (share of
voices kept).
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from contextlib import chdir
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.acoustic_measures import kept_voices
from benchmarks.common import RESULTS, header, write_results
from valle.audio import read_audio
from valle.decoding.native import pack_matrix
from valle.evaluation.score import score_recordings, scored_stages
from valle.inference.pipeline import Pipeline
from valle.measures.intervals import bootstrap_mean
from valle.modules.transformer import Transformer

STORAGES = ("float32", "bfloat16", "int8")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audio", type=Path, required=True, help="folder of recordings that are not of the training set")
    parser.add_argument("--recordings", type=int, default=8, help="the first so many, by name")
    parser.add_argument("--manifest-dir", type=Path, help="data/tokenized of a recipe with named voices, whose dev and test are continued")
    parser.add_argument("--num-prompts", type=int, default=48, help="whose voice is judged")
    parser.add_argument("--output", type=Path, default=RESULTS / "storage.json")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    files = sorted(path for path in options.audio.rglob("*") if path.suffix in (".flac", ".wav"))[: options.recordings]
    pipeline = Pipeline.from_pretrained()
    rows = measure(pipeline, [read_audio(path, sample_rate=pipeline.sample_rate)[0] for path in files])
    command = ["python -m benchmarks.storage --audio", str(options.audio), "--recordings", str(options.recordings)]
    results: dict[str, Any] = {"recordings": len(files), "rows": rows}
    if options.manifest_dir is not None:
        command += ["--manifest-dir", str(options.manifest_dir), "--num-prompts", str(options.num_prompts)]
        results["voices"] = {storage: voices(storage, options.manifest_dir.resolve(), options.num_prompts) for storage in STORAGES}
    write_results(options.output, {**header(command), **results})
    for row in rows:
        print(row)


def measure(pipeline: Pipeline, wavs: Sequence[Any]) -> list[dict[str, Any]]:
    """Nats a token of every stage by every storage, and how many more than float32, with an interval over recordings."""
    exact = {name: tensor.clone() for name, tensor in pipeline.model.state_dict().items()}
    nats: dict[str, dict[str, list[float]]] = {}
    for storage in STORAGES:
        store(pipeline.model, storage)
        scored = score_recordings(pipeline, wavs)
        nats[storage] = {
            stage: [-row[place].mean for row in scored] for place, stage in enumerate(scored_stages(pipeline))
        }  # fmt: skip
        pipeline.model.load_state_dict(exact)
    rows = []
    for storage in STORAGES:
        for stage, values in nats[storage].items():
            more = [value - before for value, before in zip(values, nats["float32"][stage], strict=True)]
            rows.append({
                "storage": storage, "stage": stage, "nats_per_token": round(statistics.mean(values), 4),
                "more_than_float32": bootstrap_mean(more).to_dict() if storage != "float32" else None,
            })  # fmt: skip
    return rows


def voices(storage: str, manifest_dir: Path, num_prompts: int) -> dict[str, Any]:
    """Shares of continuations by the bundled model that keep the prompt's voice, its weights stored as ``storage``."""
    with chdir(manifest_dir.parents[1]):  # manifests name their audio from there
        report = kept_voices(Pipeline.from_pretrained(dtype=storage, engine="native"), manifest_dir, num_prompts)
    return {name: report[name] for name in ("generated", "real", "round_trip", "shuffled")}


@torch.no_grad()
def store(model: torch.nn.Module, storage: str) -> None:
    """Round the weights that a step reads to what ``storage`` holds."""
    for transformer in (part for part in model.modules() if isinstance(part, Transformer) and part.config.num_levels == 0):
        for block in transformer.blocks:
            for layer in (block.qkv, block.out, block.expand, block.project):
                layer.weight.copy_(stored(layer.weight, storage))


def stored(weight: Tensor, storage: str) -> Tensor:
    """``weight (O, K)`` as it is read back."""
    if storage == "float32":
        return weight
    if storage == "bfloat16":
        return weight.bfloat16().float()
    packed, scales = pack_matrix(weight)
    return packed.float() * scales[:, None]


if __name__ == "__main__":
    main()
