"""The end of the demo: continue prompts, measure the run, and write the page and ``summary.json`` into its folder."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from valle.audio import read_audio
from valle.corpora.cut_audio import PromptsConfig, read_cut, write_prompts
from valle.errors import UserError
from valle.evaluation.codec_report import Recording, codec_report
from valle.evaluation.curves import draw_curves, read_curves
from valle.evaluation.demo_summary import DemoError, Measured, demo_summary, demo_tables, read_training_summary
from valle.evaluation.evaluate import PAGE as REPORT_PAGE
from valle.evaluation.evaluate import PROGRAM as EVALUATE
from valle.evaluation.evaluate import EvaluateOptions, evaluate
from valle.evaluation.voice_report import VoiceTrialSettings, voice_of, voice_report
from valle.evaluation.voices import VoicesError
from valle.files import write_text
from valle.inference.continuation import ContinueSettings
from valle.inference.infer import InferOptions, infer
from valle.inference.listening_page import PageItem, PagePicture, write_page
from valle.inference.pipeline import Pipeline
from valle.inference.trained_model import trained_model
from valle.outputs import Outputs, claim_outputs
from valle.tokenizing.token_manifests import read_manifests
from valle.training.summary import unigrams

REAL_SAMPLES = Path(__file__).parent.parent / "assets" / "samples"  # real speech by speakers that nothing bundled was trained on
CONTINUED, PROMPTS, REPORT = "continued", "prompts", "report"

Step = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """Flags of ``bin/demo_report.py``."""

    exp_dir: Path = field(default=Path("exp/demo"), metadata={"help": "folder of a training run; the report goes there too"})
    manifest_dir: Path = field(default=Path("data/tokenized"), metadata={"help": "what it was trained on"})
    num_prompts: int = field(default=16, metadata={"help": "recordings of the test part to continue"})
    num_judged: int = field(default=32, metadata={"help": "continuations whose voice is judged"})
    num_measured: int = field(default=8, metadata={"help": "utterances of each suite of report/report.html; 0: no report"})
    num_codec: int = field(default=16, metadata={"help": "synthetic recordings on which the codec is scored"})
    prompt_seconds: float = field(default=3.0, metadata={"help": "how much of each recording is the prompt"})
    max_seconds: float = field(default=7.0, metadata={"help": "longest new audio"})
    started: float = field(default=0.0, metadata={"help": "when the demo began, in seconds since 1970; 0: now"})
    seed: int = field(default=0, metadata={"help": "seed of all random choices"})

    def __post_init__(self) -> None:
        for name in ("num_prompts", "num_judged", "num_codec", "num_measured"):
            if getattr(self, name) < 2 and (name, self.num_measured) != ("num_measured", 0):
                raise DemoError(f"--{name.replace('_', '-')} must be 2 or more, found {getattr(self, name)}")
        ContinueSettings(prompt_seconds=self.prompt_seconds, max_seconds=self.max_seconds)  # refuses what cannot be


def report_demo(options: DemoOptions, *, step: Step = lambda text: None) -> dict[str, Any]:
    """Write ``exp_dir/{summary.json,index.html,curves.png,continued/,report/}`` -> the summary; ``step`` hears what is being done."""
    began = options.started or time.time()
    claimed = claim_outputs(options.exp_dir, ["index.html", "curves.png"], program="demo_report")
    outputs = replace(claimed, names=(*claimed.names, "summary.json"))  # the trainer's, which is read first and refused if it is not
    training = read_training_summary(options.exp_dir / "summary.json")
    manifests = read_manifests(options.manifest_dir)
    step("continuing prompts")
    continued = _continue(options)
    pipeline = Pipeline(trained_model(checkpoint=None, exp_dir=options.exp_dir, epoch=0, avg=1, use_averaged_model=False))
    step("judging voices")
    voices = _voices(options, pipeline)
    step("scoring the codec")
    real = [Recording(*read_audio(path)) for path in sorted(REAL_SAMPLES.glob("*.flac"))]
    synthetic = [Recording(*read_cut(cut)) for cut in islice(manifests.cuts("test"), options.num_codec)]
    codec_real, codec_synthetic = (codec_report(pipeline.acoustic, recordings) for recordings in (real, synthetic))
    step("measuring the report")
    report = _measure(options)
    summary = demo_summary(Measured(
        training=training, statistics=manifests.statistics, n_voices=len({voice_of(cut) for cut in manifests.cuts("train")} - {""}),
        infer=continued, continued=CONTINUED, codec_real=codec_real, codec_synthetic=codec_synthetic, voices=voices, report=report,
        wall_seconds=time.time() - began,
    ))  # fmt: skip
    step("drawing")
    with outputs.being_written():
        _write_page(options, summary)
        write_text(options.exp_dir / "summary.json", json.dumps(summary, indent=2) + "\n")
    return summary


def _continue(options: DemoOptions) -> dict[str, Any]:
    prompts = write_prompts(PromptsConfig(
        manifest_dir=options.manifest_dir, output_dir=options.exp_dir / PROMPTS, num_prompts=options.num_prompts,
        min_seconds=options.prompt_seconds,
    ))  # fmt: skip
    return infer(InferOptions(
        audio_prompts=prompts, output_dir=options.exp_dir / CONTINUED, exp_dir=options.exp_dir, prompt_seconds=options.prompt_seconds,
        max_seconds=options.max_seconds, seed=options.seed,
    ))  # fmt: skip


def _voices(options: DemoOptions, pipeline: Pipeline) -> dict[str, Any]:
    """The voice report; a corpus too small for one says so, since the rest of the demo stands without it."""
    settings = VoiceTrialSettings(
        num_prompts=options.num_judged, prompt_seconds=options.prompt_seconds, max_seconds=options.max_seconds, seed=options.seed
    )
    try:
        return voice_report(pipeline, options.manifest_dir, settings)
    except VoicesError as error:
        return {"left_out": str(error)}


def _measure(options: DemoOptions) -> dict[str, Any]:
    """A short report by every suite, without a recogniser; where a corpus is too small for one, the rest of the demo stands without it."""
    if not options.num_measured:
        return {"left_out": "--num-measured 0"}
    folder, began = options.exp_dir / REPORT, time.time()
    Outputs(folder, (), EVALUATE).delete_earlier()  # of other weights in the same folder
    try:
        evaluate(EvaluateOptions(
            corpus=options.manifest_dir, exp_dir=options.exp_dir, output_dir=folder, max_items=options.num_measured,
            prompt_seconds=options.prompt_seconds, max_seconds=options.max_seconds, seed=options.seed, safety_items=2, safety_windows=0,
        ))  # fmt: skip
    except UserError as error:
        return {"left_out": str(error)}
    return {"page": f"{REPORT}/{REPORT_PAGE}", "seconds": round(time.time() - began, 1)}


def _write_page(options: DemoOptions, summary: dict[str, Any]) -> None:
    draw_curves(read_curves(options.exp_dir / "curves.jsonl"), options.exp_dir / "curves.png", unigram=unigrams(summary))
    items = [
        PageItem(
            title=Path(item["prompt"]).name, wav=item["wav"], picture=str(Path(item["wav"]).with_suffix(".png")),
            prompt_seconds=item["prompt_seconds"], generated_seconds=item["generated_seconds"], seed=item["seed"],
        )
        for item in summary["continuations"]
    ]  # fmt: skip
    lead = (
        f"A small AudioLM, trained just now on {summary['hours_train']:.1f} hours of synthetic speech by {summary['n_voices']} voices, "
        f"hears {options.prompt_seconds:g} seconds that it does not know, in grey, and goes on. All that follows was generated."
    )
    write_page(
        options.exp_dir / "index.html", items, mode="continue", rtf=summary["rtf_infer"], title="A voice goes on", lead=lead,
        tables=demo_tables(summary), pictures=[PagePicture("Training curves", options.exp_dir / "curves.png", "Loss, nats per token.")],
        links=[("Every figure with its interval and its controls", page)] if (page := summary["report"].get("page")) else [],
    )  # fmt: skip
