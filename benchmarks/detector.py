#!/usr/bin/env python3
"""Fit the detector of generated speech, and judge it on models, speakers and prompts that it never heard.

  python -m benchmarks.detector --corpus RECORDINGS/read --held-out-corpus RECORDINGS/other --models bundled=valle/assets/audio-lm \\
    delay=exp/delay --held-out-models rq=exp/rq --work-dir exp/detector

Models are released folders or a trainer's folders.  Each continues the first 3 s of recordings by 6 s, without a watermark, into
``--work-dir`` (kept, and gone on with); the real side are the same recordings' next 6 s, through the same codec, raw and compressed.
Writes ``valle/assets/marks/generated.npz`` and ``benchmarks/results/detector.json``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from benchmarks.common import RESULTS, header, recordings, write_results
from valle.audio import Waveform, audio_info, read_audio, write_wav
from valle.evaluation.attacks import RATE, Attack, attacks
from valle.evaluation.judged_model import judged_model
from valle.files import replacing
from valle.inference.continuation import ContinueSettings
from valle.inference.pipeline import Pipeline
from valle.marks import generated
from valle.measures.intervals import share
from valle.tokenizers.registry import load_tokenizer

PROMPT_SECONDS, NEW_SECONDS, BATCH = 3.0, 6.0, 4
GENERATED_KINDS = ("none", "mp3_64k")
REAL_KINDS = ("none", "mp3_64k", "opus_32k", "resample_8khz", "codec_own")
FALSE_ALARMS, MISSES = 0.01, 0.05
STRENGTH = 0.02  # of the logistic regression's weights: the inverse of the penalty

Rows = dict[str, np.ndarray]  # features (N, D) by kind


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="folder of speech, for fitting")
    parser.add_argument("--held-out-corpus", type=Path, required=True, help="folder of speech of others, for judging")
    parser.add_argument("--models", nargs="+", required=True, metavar="NAME=FOLDER", help="for fitting")
    parser.add_argument("--held-out-models", nargs="+", required=True, metavar="NAME=FOLDER", help="for judging alone")
    parser.add_argument("--codec", default="valle-convnext", help="of the models, for the real side")
    parser.add_argument("--num-prompts", type=int, default=12, help="of each model; all that lie in --work-dir are used")
    parser.add_argument("--num-real", type=int, default=24, help="recordings of the real side for judging, at least")
    parser.add_argument("--work-dir", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=RESULTS / "detector.json")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    kinds = attacks({"own": load_tokenizer(options.codec).eval()})
    sides = {
        name: side(options.work_dir / name, models, corpus, kinds, count=options.num_prompts, least_real=least)
        for name, models, corpus, least in (
            ("fitted", options.models, options.corpus, 0),
            ("held-out", options.held_out_models, options.held_out_corpus, options.num_real),
        )
    }  # fmt: skip
    detector = fit(*sides["fitted"])
    detector, judged = judge(detector, *sides["held-out"])
    with replacing(generated.ASSET, ending=".npz") as temporary:
        np.savez(temporary, **{name: np.float32(value) for name, value in vars(detector).items()})
    given = {name.replace("_", "-"): value for name, value in vars(options).items() if name != "output"}
    command = ["python -m benchmarks.detector", *(f"--{name} {_said(value)}" for name, value in given.items())]
    results = {**header(command), "weights_bytes": generated.ASSET.stat().st_size, "definition": DEFINITION, **judged}
    results["crops_fitted"] = {name: len(rows) for name, rows in flat(sides["fitted"]).items()}
    write_results(options.output, results)
    print(f"written: {options.output}")


DEFINITION = (
    "unmarked crops of 1 s of models, speakers and prompts that were not fitted; the threshold leaves 1 % of real crops of the worst kind "
    "above it, and was set on these real crops; detector_accuracy is AudioLM's: generated against real through the codec, equal weight"
)


def side(
    folder: Path, models: Sequence[str], corpus: Path, kinds: Mapping[str, Attack], *, count: int, least_real: int
) -> tuple[dict[str, Rows], Rows]:
    """Features of what each model generated and of the same recordings (and more, up to ``least_real``), by kind."""
    known = [path for path in recordings(corpus) if audio_info(path).seconds >= PROMPT_SECONDS + 3]
    made: dict[str, Rows] = {}
    used: dict[str, Path] = {}
    for number, words in enumerate(models):
        name, _, model = words.partition("=")
        there = [path for path in known if (folder / name / f"{path.stem}.wav").is_file()]
        new = [path for path in known[number * count :] if path not in there]
        prompts = there + new[: max(0, count - len(there))]
        generate(Path(model), prompts, folder / name)
        used |= {path.stem: path for path in prompts}
        clips = [read_audio(folder / name / f"{path.stem}.wav", sample_rate=RATE)[0] for path in prompts]
        made[name] = described(clips, kinds, GENERATED_KINDS)
    used |= {path.stem: path for path in known[:: max(1, len(known) // (least_real or 1))][: max(0, least_real - len(used))]}
    real = [read_audio(path, sample_rate=RATE, offset=PROMPT_SECONDS, duration=NEW_SECONDS)[0] for path in used.values()]
    return made, described(real, kinds, REAL_KINDS)


def generate(model: Path, prompts: Sequence[Path], folder: Path) -> None:
    """Continuations of the prompts that are not there yet."""
    missing = [path for path in prompts if not (folder / f"{path.stem}.wav").is_file()]
    pipeline: Pipeline | None = None
    for first in range(0, len(missing), BATCH):
        pipeline = pipeline or (judged_model(model, None) if (model / "config.yaml").is_file() else judged_model(None, model))[0]
        batch = missing[first : first + BATCH]
        wavs = [read_audio(path, sample_rate=pipeline.sample_rate, duration=PROMPT_SECONDS)[0] for path in batch]
        settings = ContinueSettings(prompt_seconds=PROMPT_SECONDS, max_seconds=NEW_SECONDS, min_seconds=NEW_SECONDS, watermark=False)
        for path, result in zip(batch, pipeline.continue_audio(wavs, pipeline.sample_rate, seed=1, settings=settings), strict=True):
            write_wav(folder / f"{path.stem}.wav", result.wav[result.prompt_samples :], result.sample_rate)


def described(clips: Sequence[Waveform], kinds: Mapping[str, Attack], names: Sequence[str]) -> Rows:
    """Features ``(N, D)`` of all crops after each attack."""

    def rows(attack: Attack) -> Iterator[np.ndarray]:
        for clip in clips:
            for crop in generated.Crops().next(attack(clip)):
                yield generated.features_of(crop)

    return {name: np.stack(list(rows(kinds[name]))) for name in names}


def fit(made: Mapping[str, Rows], real: Rows) -> generated.Detector:
    """Every model and every kind counts alike; the thresholds are set later."""
    groups = [(1, rows) for by_kind in made.values() for rows in by_kind.values()] + [(0, rows) for rows in real.values()]
    features = np.concatenate([rows for _, rows in groups])
    labels = np.concatenate([np.full(len(rows), label) for label, rows in groups])
    counts = {label: sum(1 for found, _ in groups if found == label) for label in (0, 1)}
    weights = np.concatenate([np.full(len(rows), 1000 / len(rows) / counts[label]) for label, rows in groups])
    mean, scale = features.mean(0), features.std(0) + 1e-6
    model = LogisticRegression(C=STRENGTH, max_iter=1000).fit((features - mean) / scale, labels, sample_weight=weights)
    return generated.Detector(mean, scale, model.coef_[0], float(model.intercept_[0]), np.inf, -np.inf)


def judge(detector: generated.Detector, made: Mapping[str, Rows], real: Rows) -> tuple[generated.Detector, dict[str, Any]]:
    """Thresholds, and what is found and falsely found with them."""
    logits = {kind: detector.logits(rows) for kind, rows in real.items()}
    found = {name: {kind: detector.logits(rows) for kind, rows in by_kind.items()} for name, by_kind in made.items()}
    above = max(float(np.quantile(values, 1 - FALSE_ALARMS)) for values in logits.values())
    below = min(float(np.quantile(by_kind["none"], MISSES)) for by_kind in found.values())
    detector = replace(detector, generated_above=above, neither_below=min(below, above))
    accuracy = {
        name: round(0.5 * float((by_kind["none"] > 0).mean()) + 0.5 * float((logits["codec_own"] <= 0).mean()), 3)
        for name, by_kind in found.items()
    }
    return detector, {
        "detector_accuracy": accuracy,
        "threshold_logit": round(above, 3), "neither_below_logit": round(detector.neither_below, 3),
        "false_alarms": {kind: _share(values > above) for kind, values in logits.items()},
        "found": {name: {kind: _share(values > above) for kind, values in by_kind.items()} for name, by_kind in found.items()},
        "real_called_neither": {kind: _share(values < detector.neither_below) for kind, values in logits.items()},
    }  # fmt: skip


def flat(made_and_real: tuple[dict[str, Rows], Rows]) -> dict[str, np.ndarray]:
    made, real = made_and_real
    return {f"real, {kind}": rows for kind, rows in real.items()} | {f"{name}, none": by_kind["none"] for name, by_kind in made.items()}


def _share(hits: np.ndarray) -> dict[str, float]:
    return share(int(hits.sum()), len(hits)).to_dict()


def _said(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


if __name__ == "__main__":
    main()
