"""Units scored on a manifest, and a layer and a number of units chosen by ABX: what ``bin/evaluate_units.py`` does.

The choice is made on the dev part and the report on the test part, so that the figure reported is none that was selected.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any, Literal

import torch

from valle.data.speech_crops import SpeechCorpus
from valle.device import find_device
from valle.evaluation.unit_corpus import UnitReportError, choose_cuts, encode_cuts
from valle.evaluation.unit_report import abx, unit_report
from valle.files import write_text
from valle.outputs import Outputs, claim_file, claim_outputs
from valle.progress import Progress
from valle.tokenizers.code_units import CodeUnits, CodeUnitsConfig, codes_from_encoder, with_codes_in_use
from valle.tokenizers.hubert import HubertConfig, HubertTokenizer, hubert_from_encoder
from valle.tokenizers.kmeans_fit import fit_kmeans
from valle.tokenizers.registry import CONFIG_FILE, WEIGHTS_FILE, load_semantic, save_tokenizer
from valle.tokenizers.speech_encoder import SpeechEncoder
from valle.training.speech_encoder_fit import load_encoder, sample_layers

SAMPLE_FRAMES = 60_000  # of each layer, for its k-means; 61 MB at a width of 256


FittedUnits = HubertTokenizer | CodeUnits
_CHOICES = {"true": (True,), "false": (False,), "both": (True, False)}


@dataclass(frozen=True, kw_only=True)
class EvaluateUnitsOptions:
    """Flags of ``bin/evaluate_units.py``."""

    tokenizers: list[str] = field(default_factory=list, metadata={"help": "tokenizers to score, by name or folder"})
    manifest: Path = field(default=Path("data/manifests/cuts_test.jsonl.gz"), metadata={"help": "cuts to score on"})
    title: str = field(default="test", metadata={"help": "what these cuts are called in --output"})
    voices: Literal["all", "unseen"] = field(default="all", metadata={"help": "unseen: only cuts marked as by voices that train lacks"})
    max_minutes: float = field(default=20.0, metadata={"help": "minutes of cuts to score on, spread evenly"})
    span: Literal["phone", "triphone"] = field(default="phone", metadata={"help": "ABX compares the phone, or with its neighbours"})
    context: Literal["same", "any"] = field(
        default="same", metadata={"help": "same: ABX compares phones with the same neighbours; any: with any neighbours, for small corpora"}
    )
    min_confidence: float = field(
        default=0.0, metadata={"help": "score only phones whose times bin/align_phones.py found with at least this confidence, 0 to 1"}
    )
    num_triples: int = field(default=2000, metadata={"help": "ABX triples within, and as many across speakers; 0: all"})
    seed: int = field(default=0, metadata={"help": "seed of all random choices"})
    output: Path | None = field(default=None, metadata={"help": "JSON file of the reports"})
    exp_dir: Path | None = field(default=None, metadata={"help": "a run of trainer_speech_encoder.py out of which to choose units"})
    layers: list[int] = field(
        default_factory=list, metadata={"help": "layers to choose among, from 1, or 0 for vq-wav2vec's own codes; all if not given"}
    )
    num_units: list[int] = field(default_factory=lambda: [100, 200], metadata={"help": "numbers of units to choose among"})
    standardise: Literal["true", "false", "both"] = field(
        default="true", metadata={"help": "cluster features of mean 0 and deviation 1 in each dimension, or as they are, or choose"}
    )
    frames_per_unit: int = field(default=1, metadata={"help": "1 for 50 Hz, 2 for 25 Hz"})
    name: str = field(default="hubert", metadata={"help": "name of the chosen tokenizer"})
    window: int = field(default=50, metadata={"help": "units per window, for encoders with unbounded attention"})
    left: int = field(default=100, metadata={"help": "units of context before a window, for encoders with unbounded attention"})
    right: int = field(default=25, metadata={"help": "units of context after a window, for encoders with unbounded attention"})
    fit_manifest: Path = field(default=Path("data/manifests/cuts_train.jsonl.gz"), metadata={"help": "cuts to fit k-means on"})
    fit_minutes: float = field(default=60.0, metadata={"help": "minutes of them"})
    choose_manifest: Path = field(default=Path("data/manifests/cuts_dev.jsonl.gz"), metadata={"help": "cuts to choose on"})
    output_dir: Path | None = field(default=None, metadata={"help": "folder for the chosen tokenizer"})
    device: str = field(default="cpu", metadata={"help": "cpu, or cuda, for fitting"})

    def __post_init__(self) -> None:
        if not self.tokenizers and self.exp_dir is None:
            raise UnitReportError("expected --tokenizers to score or an --exp-dir to choose units out of, found neither")
        if self.exp_dir is not None and self.output_dir is None:
            raise UnitReportError("expected an --output-dir for the tokenizer that is chosen out of --exp-dir, found none")
        if self.num_triples < 0:
            raise UnitReportError(f"--num-triples must be 0 (all) or more, found {self.num_triples}")
        for flag in ("max_minutes", "fit_minutes"):
            if not getattr(self, flag) > 0:
                raise UnitReportError(f"--{flag.replace('_', '-')} must be above 0, found {getattr(self, flag)}")
        if not 0 <= self.min_confidence <= 1:
            raise UnitReportError(f"--min-confidence must lie within 0..1, found {self.min_confidence:g}")


def evaluate_units(options: EvaluateUnitsOptions, *, progress: Progress | None = None) -> dict[str, Any]:
    """``{"title", "voices", "reports": [...], "choice": [...]}``, which also goes into ``options.output``."""
    choice: list[dict[str, Any]] = []
    claims = _claims(options)
    tokenizers = [load_semantic(name) for name in options.tokenizers]
    if options.exp_dir is not None and options.output_dir is not None:
        chosen, choice = choose_units(options, progress=progress)
        with claims["output_dir"].being_written():
            save_tokenizer(chosen, options.output_dir)
        tokenizers.append(load_semantic(str(options.output_dir)))
    cuts = choose_cuts(options.manifest, max_seconds=60 * options.max_minutes, unseen_voices=options.voices == "unseen")
    reports = []
    for tokenizer in tokenizers:
        corpus = encode_cuts(tokenizer, cuts, min_confidence=options.min_confidence)
        reports.append(unit_report(
            tokenizer.identity, corpus, span=options.span, context=options.context, num_triples=options.num_triples, seed=options.seed
        ))  # fmt: skip
    result = {"title": options.title, "manifest": str(options.manifest), "voices": options.voices, "reports": reports, "choice": choice}
    if options.output is not None:
        with claims["output"].being_written():
            write_text(options.output, json.dumps(result, indent=2) + "\n")
    return result


def _claims(options: EvaluateUnitsOptions) -> dict[str, Outputs]:
    """What will be written, refused before any work where it is not this program's."""
    claims = {}
    manifests = [options.manifest, options.fit_manifest, options.choose_manifest]
    if options.output is not None:
        claims["output"] = claim_file(options.output, program="evaluate_units", inputs=manifests)
    if options.output_dir is not None:
        claims["output_dir"] = claim_outputs(options.output_dir, [WEIGHTS_FILE, CONFIG_FILE], program="evaluate_units", inputs=manifests)
    return claims


def choose_units(options: EvaluateUnitsOptions, *, progress: Progress | None = None) -> tuple[FittedUnits, list[dict[str, Any]]]:
    """Of every layer and number of units the tokenizer with the fewest ABX errors across speakers, on dev; and all that were tried."""
    assert options.exp_dir is not None
    candidates = _fitted(options, progress)
    cuts = choose_cuts(options.choose_manifest, max_seconds=60 * options.max_minutes, unseen_voices=False)
    tried: list[dict[str, Any]] = []
    for tokenizer in candidates:
        corpus = encode_cuts(tokenizer, cuts)
        scores = abx(corpus, options.span, options.context, across=True, num_triples=options.num_triples, seed=options.seed)
        if "left_out" in scores and len(candidates) > 1:
            raise UnitReportError(
                f"units are chosen by ABX, and for {options.choose_manifest} it is left out: {scores['left_out']}; "
                "name another --choose-manifest, or one layer and one number of units"
            )
        tried.append({
            "layer": 0 if isinstance(tokenizer, CodeUnits) else tokenizer.settings.encoder.num_layers, "num_units": tokenizer.num_units,
            "standardised": not _is_as_it_was(tokenizer), "abx_across": scores,
        })  # fmt: skip
    best = min(range(len(tried)), key=lambda index: tried[index]["abx_across"].get("units", {"mean": 0.0})["mean"])
    tried[best]["chosen"] = True
    return candidates[best], tried


def _fitted(options: EvaluateUnitsOptions, progress: Progress | None) -> list[FittedUnits]:
    """A tokenizer of every layer and number of units, by one pass over the audio to fit on."""
    assert options.exp_dir is not None
    encoder = load_encoder(options.exp_dir)
    device = find_device(options.device)
    base = HubertConfig(
        name=options.name, frames_per_unit=options.frames_per_unit, window=options.window, left=options.left, right=options.right
    )
    layers = options.layers or list(range(0 if encoder.bottleneck else 1, encoder.config.num_layers + 1))
    extractors = [_extractor(encoder, base, layer).to(device) for layer in layers]
    step = Fraction(extractors[0].hop_length, extractors[0].sample_rate)
    corpus = SpeechCorpus.read([options.fit_manifest], frame=step, min_seconds=0.1)
    wanted = min(60 * options.fit_minutes, float(corpus.starts[-1] * step))
    done = 0.0

    def count(seconds: float) -> None:
        nonlocal done
        done += seconds
        if progress is not None:
            progress(min(done, wanted), wanted)

    audio = corpus.waveforms(sample_rate=extractors[0].sample_rate, most_seconds=wanted)
    with torch.inference_mode():
        samples = sample_layers(extractors, audio, seed=options.seed, size=SAMPLE_FRAMES, progress=count)
    fitted: list[FittedUnits] = []
    for layer, frames in zip(layers, samples, strict=True):
        if layer == 0:
            codes = (_extractor(encoder, replace(base, num_units=size), 0) for size in options.num_units)
            fitted += [with_codes_in_use(extractor, frames) for extractor in codes if isinstance(extractor, CodeUnits)]
            continue
        for size, standardise in product(options.num_units, _CHOICES[options.standardise]):
            tokenizer = hubert_from_encoder(encoder, replace(base, num_units=size), layer=layer)
            fit = fit_kmeans(frames, size, seed=options.seed, seconds_per_frame=float(step), standardise=standardise)
            tokenizer.take_clusters(fit)
            fitted.append(tokenizer)
    return fitted


def _extractor(encoder: SpeechEncoder, base: HubertConfig, layer: int) -> FittedUnits:
    """Not yet fitted, of a layer, or of the quantizer as layer 0."""
    if layer == 0:
        config = CodeUnitsConfig(name=base.name, num_units=base.num_units, frames_per_unit=base.frames_per_unit, encoder=encoder.config)
        return codes_from_encoder(encoder, config)
    return hubert_from_encoder(encoder, base, layer=layer)


def _is_as_it_was(tokenizer: FittedUnits) -> bool:
    """Whether features are clustered as they are."""
    return not tokenizer.mean.any() and bool((tokenizer.deviation == 1).all())
