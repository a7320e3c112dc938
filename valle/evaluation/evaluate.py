"""One command that measures a model on a corpus: what ``bin/evaluate.py`` does.

A suite's figures are kept in ``suites/NAME.json`` as soon as it ends; the same command goes on with the next one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from valle.errors import UserError
from valle.evaluation.figures import Figure, figures_table
from valle.evaluation.judged_model import judged_model, refuse_two_models
from valle.evaluation.kept_sounds import FOLDER as SOUNDS
from valle.evaluation.kept_suites import read_suite, suite_to_json
from valle.evaluation.language.load import items_mark
from valle.evaluation.recogniser import Recogniser, whisper_recogniser
from valle.evaluation.remembered import RememberingRecogniser
from valle.evaluation.report_page import write_report_page
from valle.evaluation.scalars import write_scalars
from valle.evaluation.speaker_encoder import speaker_encoder
from valle.evaluation.suite_continuation import continuation_suite
from valle.evaluation.suite_language import SCORED, language_suite
from valle.evaluation.suite_safety import safety_suite
from valle.evaluation.suite_words import refuse_no_lexicon
from valle.evaluation.suites import Suite, SuiteResult, SuiteSettings, codec_suite, lm_suite, part_of, units_suite
from valle.files import write_text
from valle.inference.continuation import ContinueSettings
from valle.inference.listening_page import PageTable
from valle.inference.pipeline import Pipeline
from valle.models.audio_lm import AudioLM
from valle.outputs import Outputs, claim_outputs
from valle.progress import TitledProgress
from valle.settings import setting

SUITES: dict[str, Suite] = {
    "codec": codec_suite, "units": units_suite, "lm": lm_suite, "language": language_suite, "continuation": continuation_suite,
    "safety": safety_suite,
}  # fmt: skip
PROGRAM = "evaluate"
REPORT, PAGE, HEARD, SCALARS = "report.json", "report.html", "suites/heard.jsonl", "tensorboard"
KEPT = {"continuation": (HEARD, SOUNDS), "language": (f"suites/{SCORED}",)}  # what suites go on from, and leave beside their figures


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """Flags of ``bin/evaluate.py``."""

    corpus: Path | None = setting(None, "folder of cuts_{train,dev,test}.jsonl.gz: a recipe's data/manifests or data/tokenized")
    output_dir: Path = field(metadata={"help": "where report.json, report.html and suites/ go"})
    model: Path | None = setting(None, "a released folder, or a model's name on the hub (org/name); not given: the bundled model")
    exp_dir: Path | None = setting(None, "a trainer's folder: its weights with best dev loss")
    suite: Literal["all", "codec", "units", "lm", "language", "continuation", "safety"] = setting("all", "what to measure")
    max_items: int = setting(64, "utterances or prompts of each suite")
    safety_items: int = setting(16, "prompts of the suite safety, at most; each is continued twice")
    safety_windows: int = setting(10000, "unmarked windows of train for the watermark's threshold; with fewer than 10000 a bound is used")
    prompt_seconds: float = setting(3.0, "how much of an utterance is the prompt")
    max_seconds: float = setting(7.0, "longest new audio")
    whisper: str | None = setting(None, "folder of a Whisper model for faster-whisper, or its name if it was downloaded before")
    language: str = setting("en", "what the recogniser is told to hear")
    language_items: list[Path] = setting(
        [], "folders of make_language_suites.py's items, ZeroSpeech 2021's or SALMon's; not given: made on the spot for the embedded corpus"
    )
    lexicon: str | None = setting(None, "espeak, or a file of words; not given: espeak where the corpus's texts are made of its words")
    speaker: str | None = setting(None, "speaker encoder: resemblyzer, or a folder of WavLM with an x-vector head")
    compare: list[Path] = setting([], "two or more folders of earlier reports, or models to measure: differences on the same items")
    tensorboard: Path | None = setting(None, "folder to add tensorboard scalars to; not given: tensorboard/ beside the report")
    step: int = setting(0, "the step at which tensorboard shows the figures, such as the checkpoint's")
    seed: int = setting(0, "seed of all random choices")

    def __post_init__(self) -> None:
        refuse_two_models(self.model, self.exp_dir)
        refuse_no_lexicon(self.lexicon)
        ContinueSettings(prompt_seconds=self.prompt_seconds, max_seconds=self.max_seconds)  # refuses what cannot be
        if self.corpus is None and not self.compare:
            raise UserError("expected a folder of manifests after --corpus, found none; name a recipe's data/tokenized")
        if self.compare and (len(self.compare) < 2 or self.model is not None or self.exp_dir is not None):
            raise UserError("expected two or more reports or models after --compare, without --model and --exp-dir; name all of them there")
        for name in ("max_items", "safety_items"):
            if getattr(self, name) < 2:
                flag = name.replace("_", "-")
                raise UserError(f"--{flag} must be 2 or more, found {getattr(self, name)}; intervals need several items")

    @property
    def model_name(self) -> str:
        """For titles."""
        return str(self.exp_dir or self.model or "the bundled model")

    @property
    def suites(self) -> list[str]:
        return list(SUITES) if self.suite == "all" else [self.suite]


def evaluate(options: EvaluateOptions, *, progress: TitledProgress = lambda title, done, wanted: None) -> dict[str, Any]:
    """Measure what is not measured yet -> the report, which also goes into ``options.output_dir``."""
    corpus = _corpus(options)
    names = [f"suites/{name}.json" for name in SUITES]
    names += [name for kept in KEPT.values() for name in kept]
    outputs = claim_outputs(options.output_dir, [REPORT, PAGE, SCALARS, *names], program=PROGRAM, inputs=[corpus])
    settings = _settings(options)
    model = settings.model_mark
    marks = {name: _marks(options, model, name) for name in SUITES}
    found = {name: kept for name in SUITES if (kept := _kept(options.output_dir / f"suites/{name}.json", marks[name])) is not None}
    for name in options.suites:
        if name not in found:
            own = Outputs(options.output_dir, (f"suites/{name}.json", *KEPT.get(name, ())), outputs.program)
            with own.being_written():
                found[name] = SUITES[name](settings, progress)
                write_text(options.output_dir / own.names[0], suite_to_json(found[name], marks[name], _about(settings.pipeline)))
    ordered = {name: found[name] for name in SUITES if name in found}
    with Outputs(options.output_dir, (REPORT, PAGE), outputs.program).being_written():
        report = write_reports(options.output_dir, ordered, model=options.model_name)
    _write_scalars(options, ordered, outputs)
    return report


def write_reports(folder: Path, suites: Mapping[str, SuiteResult], *, model: str) -> dict[str, Any]:
    """``report.json`` and ``report.html`` of finished suites -> the former."""
    report = {name: figure.to_dict() for result in suites.values() for name, figure in result.figures.items()}
    write_text(folder / REPORT, json.dumps(report, indent=2) + "\n")
    write_report_page(folder / PAGE, suites, model=model)
    return report


def _write_scalars(options: EvaluateOptions, suites: Mapping[str, SuiteResult], outputs: Outputs) -> None:
    """Beside the report, in place of earlier ones, or added to what lies in ``options.tensorboard``."""
    if options.tensorboard is not None:
        write_scalars(options.tensorboard, suites, step=options.step)
        return
    own = Outputs(options.output_dir, (SCALARS,), outputs.program)
    with own.being_written():
        for earlier in (options.output_dir / SCALARS).glob("events.*.evaluate"):
            earlier.unlink()
        write_scalars(options.output_dir / SCALARS, suites, step=options.step)


def report_tables(options: EvaluateOptions, report: dict[str, Any]) -> list[PageTable]:
    """The report for the terminal."""
    return [figures_table(f"{options.corpus}", {name: Figure.from_dict(values) for name, values in report.items()})]


def left_out(options: EvaluateOptions) -> list[str]:
    """What the suites of ``output_dir`` could not measure, and why."""
    files = [options.output_dir / f"suites/{name}.json" for name in options.suites]
    return [reason for file in files if file.is_file() for reason in json.loads(file.read_text(encoding="utf-8"))["left_out"]]


def _corpus(options: EvaluateOptions) -> Path:
    if options.corpus is None or not options.corpus.is_dir():
        raise UserError(f"expected a folder of manifests at --corpus {options.corpus}, found none; run a recipe's prepare.sh")
    return options.corpus


def _settings(options: EvaluateOptions) -> SuiteSettings:
    pipeline, source = judged_model(options.model, options.exp_dir)
    settings = SuiteSettings(
        pipeline=pipeline, model_source=source, corpus=_corpus(options), max_items=options.max_items, prompt_seconds=options.prompt_seconds,
        max_seconds=options.max_seconds, seed=options.seed, lexicon=options.lexicon, safety_items=options.safety_items,
        safety_windows=options.safety_windows,
        recogniser=_recogniser(options), speaker=None if options.speaker is None else speaker_encoder(options.speaker),
        sounds=options.output_dir / SOUNDS,
        language_items=tuple(options.language_items), work_dir=options.output_dir / "suites",
        model_mark=model_hash(pipeline.model),
    )  # fmt: skip
    if not part_of(settings).is_file():
        raise UserError(f"expected test cuts in {part_of(settings)}, found none; run a recipe's prepare.sh")
    return settings


def _recogniser(options: EvaluateOptions) -> Recogniser | None:
    """Whisper takes most of the time, so what it heard is kept sound by sound."""
    if options.whisper is None:
        return None
    return RememberingRecogniser(whisper_recogniser(options.whisper, language=options.language), options.output_dir / HEARD)


def model_hash(model: AudioLM) -> str:
    """Tells models apart by their weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.float().cpu().numpy().tobytes())
    return digest.hexdigest()


def _marks(options: EvaluateOptions, model_sha256: str, suite: str) -> dict[str, Any]:
    """What a suite's figures depend on: kept ones with other marks are not of this measurement."""
    marks = {"model_sha256": model_sha256, "corpus": str(_corpus(options).resolve()), "max_items": options.max_items, "seed": options.seed}
    if suite == "language":
        return {**marks, "language_items": items_mark(options.language_items)}
    if suite == "safety":
        return {**marks, **{name: getattr(options, name) for name in ("prompt_seconds", "max_seconds", "safety_items", "safety_windows")}}
    if suite != "continuation":
        return marks
    whisper = None if options.whisper is None else Path(options.whisper).name
    given = {name: getattr(options, name) for name in ("prompt_seconds", "max_seconds", "language", "lexicon", "speaker")}
    return {**marks, **given, "whisper": whisper}


def _kept(path: Path, marks: dict[str, Any]) -> SuiteResult | None:
    """A finished suite's figures; None where there are none."""
    if not path.is_file():
        return None
    result, before, _ = read_suite(path)
    if before != marks:
        differ = ", ".join(name for name in marks if before.get(name) != marks[name])
        raise UserError(f"{path} was measured with another {differ}; name another --output-dir, or delete that file")
    return result


def _about(pipeline: Pipeline) -> dict[str, Any]:
    """Likelihoods of other tokens cannot be compared."""
    return {"tokenizers": [str(one.identity) for one in (pipeline.semantic, pipeline.acoustic) if one is not None]}
