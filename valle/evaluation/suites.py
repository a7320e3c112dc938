"""The suites of ``bin/evaluate.py``: each turns what the corpus allows into figures, and says what it left out and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from math import isfinite, log
from pathlib import Path
from typing import Any

from valle.corpora.cut_audio import read_cut
from valle.corpora.manifests import read_cuts
from valle.errors import UserError
from valle.evaluation.charts import Chart
from valle.evaluation.codec_report import Recording, codec_scores
from valle.evaluation.continuations import in_hashed_order
from valle.evaluation.figures import Better, Figure
from valle.evaluation.kept_sounds import KeptSound
from valle.evaluation.recogniser import Recogniser
from valle.evaluation.speaker_encoder import SpeakerEncoder
from valle.evaluation.unit_corpus import choose_cuts, encode_cuts
from valle.evaluation.unit_report import unit_report
from valle.inference.pipeline import Pipeline
from valle.measures.intervals import bootstrap_mean, bootstrap_ratio
from valle.progress import TitledProgress
from valle.training.finetune import EvaluateOptions, batch_sums, scoring_task
from valle.training.summary import predicted_seconds


@dataclass(frozen=True, kw_only=True)
class SuiteSettings:
    """What every suite is given."""

    pipeline: Pipeline
    model_source: Path  # a released folder or a checkpoint
    corpus: Path  # folder of cuts_{train,dev,test}.jsonl.gz
    max_items: int = 64
    prompt_seconds: float = 3.0
    max_seconds: float = 7.0
    seed: int = 0
    recogniser: Recogniser | None = None
    speaker: SpeakerEncoder | None = None
    sounds: Path | None = None  # folder where what was generated is kept, beside real speech; None keeps nothing
    language_items: tuple[Path, ...] = ()  # folders of pairs of recordings
    work_dir: Path | None = None  # where suites keep what they can go on from
    model_mark: str = ""  # tells models apart
    safety_items: int = 16  # prompts of the suite of marks and detector, which continues each twice
    safety_windows: int = 10000  # unmarked windows from which its threshold is drawn
    lexicon: str | None = None  # "espeak", a file of words, or None: espeak where the corpus is made of its words

    def corpus_name(self, what: str) -> str:
        """Which cuts a figure is of, for the report."""
        folder = self.corpus.resolve()
        return f"{folder.parent.name}/{folder.name}, {what}"


@dataclass
class SuiteResult:
    """Figures by name, what there is none of, and what the page shows beside them."""

    figures: dict[str, Figure] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    charts: list[Chart] = field(default_factory=list)
    sounds: list[KeptSound] = field(default_factory=list)

    def add(self, other: SuiteResult) -> None:
        """Take over all of ``other``."""
        self.figures.update(other.figures)
        self.left_out += other.left_out
        self.charts += other.charts
        self.sounds += other.sounds


Suite = Callable[[SuiteSettings, TitledProgress], SuiteResult]

_CODEC: dict[str, tuple[str, Better, str]] = {
    "stoi": ("How intelligible the round trip through the codec is, from 0 to 1.", "higher", ""),
    "pesq": ("How good the round trip sounds by a telephone standard, from 1.04 to 4.64.", "higher", ""),
    "mel_l1": ("How far the spectrum of the round trip is from that of the recording.", "lower", "nats"),
    "si_sdr": ("How close the waveform of the round trip is to the recording; low for every codec that keeps the sound, not the wave.",
               "higher", "dB"),
}  # fmt: skip


def codec_suite(settings: SuiteSettings, progress: TitledProgress) -> SuiteResult:
    """The codec with as many codebooks as the model uses, on recordings of the test part."""
    codec, levels = settings.pipeline.acoustic, settings.pipeline.model.config.num_quantizers
    cuts = in_hashed_order(read_cuts(part_of(settings)), settings.seed)[: settings.max_items]
    recordings = (Recording(*read_cut(cut), name=cut.id) for cut in cuts)
    scores = codec_scores(codec, recordings, total=len(cuts), codebooks=[levels], progress=partial(progress, "codec"))
    corpus = settings.corpus_name(f"{len(scores.names)} utterances, at most 15 s each")
    result = SuiteResult()
    for measure, values in scores.systems[str(levels)].items():
        meaning, better, unit = _CODEC[measure]
        others = {"recording itself": scores.systems["identity"][measure], "silence": scores.systems["silence"][measure]}
        controls = {label: bootstrap_mean(own).mean for label, own in others.items()}
        result.figures[f"codec_{measure}"] = Figure.of(
            bootstrap_mean(values), names=scores.names, corpus=corpus, meaning=meaning, better=better, unit=unit,
            definition=f"{scores.definitions[measure]}; {levels} codebooks of {codec.identity.name}",
            controls={label: value for label, value in controls.items() if isfinite(value)},  # PESQ has no score for silence
        )  # fmt: skip
    return result


def units_suite(settings: SuiteSettings, progress: TitledProgress) -> SuiteResult:
    """ABX, purity, speaker probe and bits of the model's units; ABX and purity where the manifest has phone times."""
    tokenizer = settings.pipeline.semantic
    if tokenizer is None:
        return SuiteResult(left_out=["units: the model has none"])
    cuts = choose_cuts(part_of(settings), max_seconds=float("inf"), unseen_voices=False)
    cuts = in_hashed_order(cuts, settings.seed)[: settings.max_items]
    progress("units", 0, 1)
    report = unit_report(tokenizer.identity, encode_cuts(tokenizer, cuts), seed=settings.seed)
    progress("units", 1, 1)
    corpus = settings.corpus_name(f"{report['utterances']} utterances, {report['seconds'] / 60:.1f} minutes")
    result = SuiteResult()

    def put(name: str, estimate: Any, **fields: Any) -> None:
        result.figures[name] = Figure.of(estimate, corpus=corpus, **fields)

    for name, scores in report["abx"].items():
        if "left_out" in scores:
            result.left_out.append(f"abx_{name}: {scores['left_out']}")
            continue
        others = {"features": "features before clustering", "permuted_units": "phones shuffled"}
        controls = {label: scores[key]["mean"] for key, label in others.items() if "mean" in scores.get(key, {})}
        put(f"abx_{name}", scores["units"], definition=report["definitions"]["abx"], controls={**controls, "chance": 0.5}, better="lower",
            unit="%", meaning="How often two sounds of one phone lie further apart than sounds of two phones, "
            + ("said by different speakers." if name == "across" else "said by one speaker."))  # fmt: skip
    told = report["purity"]
    if "left_out" in told:
        result.left_out.append(f"pnmi: {told['left_out']}")
    else:
        put("pnmi", {"mean": told["pnmi"], "low": told["low"], "high": told["high"], "count": report["utterances"]},
            definition=report["definitions"]["pnmi"], controls={"units shuffled": told["permuted"]["pnmi"]},
            meaning="How much of what phone is said a unit tells, from 0 to 1.")  # fmt: skip
    probe = report["speaker_probe"]
    if "left_out" in probe:
        result.left_out.append(f"unit_speaker_probe: {probe['left_out']}")
    else:
        put("unit_speaker_probe", probe["accuracy"], definition=report["definitions"]["speaker_probe"], better="lower", unit="%",
            controls={"speakers shuffled": probe["permuted"]["mean"], "chance": probe["chance"]},
            meaning="How often the units alone give the speaker away; units should say what is said, not by whom.")  # fmt: skip
    return result


def lm_suite(settings: SuiteSettings, progress: TitledProgress) -> SuiteResult:
    """NLL of every stage on dev cuts, as the trainer's validation measures it; needs tokens in the corpus folder."""
    if not (settings.corpus / "info.json").is_file():
        return SuiteResult(left_out=[f"nll: {settings.corpus} holds no tokens (info.json); name a recipe's data/tokenized"])
    try:
        task = scoring_task(EvaluateOptions(
            init_from=settings.model_source, manifest_dir=settings.corpus, valid_max_cuts=settings.max_items,
            max_duration=1e-3,  # a batch is one cut, so that intervals are over cuts
        ))  # fmt: skip
        progress("lm", 0, 1)
        batches = batch_sums(task, of_train=False)
        progress("lm", 1, 1)
    except UserError as error:
        return SuiteResult(left_out=[f"nll: {error}"])
    unigram, result = task.unigram_nll(), SuiteResult()
    corpus = settings.corpus_name(f"{len(batches)} dev utterances")
    for name in dict.fromkeys(name for sums in batches for name in sums):
        rows = [sums[name] for sums in batches if name in sums]
        estimate = bootstrap_ratio([nats for nats, _, _ in rows], [count for _, count, _ in rows], seed=settings.seed)
        stage, _, what = name.partition("_")
        result.figures[f"nll_{name}"] = Figure.of(
            estimate, names=[f"dev {place}" for place, sums in enumerate(batches) if name in sums], corpus=corpus, better="lower",
            unit="nats", controls={"unigram": unigram[name]},
            definition="negative log-likelihood by the token on the trainer's fixed crops; not comparable between tokenizers",
            meaning=f"How surprised the {stage} stage is by each token{_of(what)}; the unigram knows only how often each token occurs.",
        )  # fmt: skip
        seconds = predicted_seconds(task, stage)
        if seconds is not None and not what:
            bits = sum(count for _, count, _ in rows) / log(2) / seconds
            result.figures[f"bits_per_second_{name}"] = Figure(
                value=estimate.mean * bits, low=estimate.low * bits, high=estimate.high * bits, n=estimate.count, corpus=corpus,
                better="lower", unit="bit/s", controls={"unigram": unigram[name] * bits},
                definition="the same negative log-likelihood by the second of audio, in bits",
                meaning="How many bits a second of speech costs in units, whatever the number of units.",
            )  # fmt: skip
    return result


def part_of(settings: SuiteSettings, part: str = "test") -> Path:
    """The manifest of a part."""
    return settings.corpus / f"cuts_{part}.jsonl.gz"


def _of(what: str) -> str:
    return f" of level {what}" if what.isdigit() else f" ({what})" if what else ""
