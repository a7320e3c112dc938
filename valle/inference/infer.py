"""What ``bin/infer.py`` does: prompts in; wavs, spectrograms, a page and ``summary.json`` out."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import numpy as np
import torch

from valle.audio import Waveform, audio_info, read_audio, write_wav
from valle.decoding.sampling import Drafts, Sampling
from valle.device import find_device
from valle.errors import UserError
from valle.files import plain_stem, shown, write_text
from valle.inference.continuation import Continuation, ContinueSettings
from valle.inference.listening_page import PageItem, write_page
from valle.inference.live import LiveContinuation
from valle.inference.pipeline import BUNDLED_MODEL, Pipeline
from valle.inference.recordings import Recordings
from valle.inference.sound_output import SoundOutput
from valle.inference.spectrogram import write_spectrogram
from valle.inference.trained_model import check_choice, trained_model
from valle.marks.pattern import read_key
from valle.marks.provenance import Marked, Provenance, read_sign_key
from valle.models.hub import find_model
from valle.models.registry import all_stages
from valle.models.released import Released, load_released
from valle.models.stage import Stage
from valle.models.stage_flags import a_flag_per_stage, of_stage
from valle.outputs import claim_outputs

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PAGE, SUMMARY = "index.html", "summary.json"
SAMPLE_STRIDE = 7919  # between the seeds of a prompt's samples; a prompt has the same seed alone and among others


def _flag(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
@a_flag_per_stage("temperature", float | None, lambda stage: None, lambda stage: f"of the {stage.name} stage alone")
@a_flag_per_stage(
    "guidance", float | None, lambda stage: None, lambda stage: f"of the {stage.name} stage alone", only=lambda stage: stage.takes_guidance
)
class InferOptions:
    """Flags of ``bin/infer.py``."""

    audio_prompts: list[Path] = field(metadata={"help": "audio files to continue"})
    output_dir: Path = field(metadata={"help": "where wavs, index.html and summary.json go"})
    checkpoint: Path | None = field(default=None, metadata={"help": "a trainer's checkpoint"})
    exp_dir: Path | None = field(default=None, metadata={"help": "a trainer's folder; with --epoch 0 the weights with best dev loss"})
    epoch: int = _flag(0, "epoch-N.pt of --exp-dir")
    avg: int = _flag(1, "average the weights of this many epochs, up to --epoch")
    use_averaged_model: bool = _flag(False, "average over all steps of those epochs")
    model: Path | None = field(default=None, metadata={"help": "a released folder, or a model's name on the hub (org/name)"})
    mode: Literal["continue", "resynthesize", "acoustic"] = _flag("continue", "what to do")
    level: Literal["speech", "none"] | None = _flag(
        None, "speech: prompts are heard at one level and get theirs back, or none; not given: speech for a model with units"
    )
    prompt_seconds: float = _flag(3.0, "how much of each file is the prompt")
    max_seconds: float = _flag(10.0, "longest new audio")
    min_seconds: float | None = _flag(None, "shortest new audio: no end is drawn before it; not given: 1")
    temperature: float | None = _flag(
        None, "of all stages; not given: " + ", ".join(f"{stage.sampling.temperature:g} {name}" for name, stage in all_stages().items())
    )
    top_k: int = _flag(0, "sample from this many most likely tokens; 0 for all")
    top_p: float = _flag(1.0, "draw from the likeliest that make up this probability")
    passes: str | None = _flag(None, "of soundstorm: passes on each level, the last number for all further levels; not given: 16,1")
    repetition_aware: bool = _flag(False, "draw again where a coarse code repeats too often")
    guidance: float | None = _flag(
        None,
        "how much more than without them codes follow units and prompt, for a model trained with --drop-conditions; 1 is no guidance; "
        "not given: as the model was released",
    )
    draft_tokens: int = _flag(0, "tokens that draft heads add to a step, for speed; 0 for one token a step")
    draft_rule: Literal["exact", "ratio", "unverified"] = _flag(
        "exact",
        "drafts are kept if they are what would have been drawn without them (exact), by a rule that keeps the distribution but "
        "not the tokens (ratio), or all of them, which is not the model's distribution (unverified)",
    )
    seed: int = _flag(0, "seed of all random choices")
    num_samples: int = _flag(1, "continuations of each prompt")
    batch_size: int = _flag(8, "continuations decoded at once, which sets the memory; one that ends makes room for the next")
    device: str = _flag("auto", "cpu, cuda or mps; auto takes the fastest available")
    num_threads: int = _flag(0, "CPU threads; 0 leaves torch's choice")
    dtype: Literal["float32", "bfloat16", "float16", "int8"] = _flag(
        "float32",
        "of the language models; tokenizers compute in float32. int8: weights are rounded to eight bits where they decide the speed",
    )
    stream: Literal["no", "float32", "pcm16", "wav"] = _flag(
        "no",
        "write new audio to standard output while later audio is made, one prompt after another: raw samples (float32, pcm16) or a wav "
        "without a length; files are written as without it, and all text goes to standard error",
    )
    block_seconds: float | None = _flag(
        None, "new audio that stages which look ahead make at once; not given: as much as they were trained on, with --stream half a second"
    )
    first_block_seconds: list[float] = field(
        default_factory=list,
        metadata={"help": "of the first blocks, before those of --block-seconds; with --stream and without that, few at first"},
    )
    chunk_seconds: float = _flag(0.1, "of --stream: new audio that is written at once")
    watermark: bool = _flag(True, "mark what is generated, inaudibly, so that bin/detect.py finds it")
    watermark_key: Path | None = field(
        default=None, metadata={"help": "file with a key of your own for the watermark; not given: the public key, which everyone can read"}
    )
    sign_key: Path | None = field(
        default=None, metadata={"help": "Ed25519 private key (PEM) that signs the record of provenance in each wav; not given: unsigned"}
    )
    engine: Literal["auto", "torch", "native", "captured"] = _flag(
        "auto", "what takes the steps: torch, native (numba, CPU), the faster of the two (auto), or captured (one compiled graph, for GPUs)"
    )

    def __post_init__(self) -> None:
        if self.num_samples < 1 or self.batch_size < 1:
            raise UserError(f"--num-samples and --batch-size must be 1 or more, found {self.num_samples} and {self.batch_size}")
        if self.num_threads < 0:
            raise UserError(f"--num-threads must be 0 (torch's choice) or more, found {self.num_threads}")
        if sum(choice is not None for choice in (self.checkpoint, self.exp_dir, self.model)) > 1:
            raise UserError("expected one of --checkpoint, --exp-dir and --model, found several; give only one of them")
        check_choice(exp_dir=self.exp_dir, epoch=self.epoch, avg=self.avg, use_averaged_model=self.use_averaged_model)
        if self.stream != "no" and self.mode != "continue":
            raise UserError(f"--stream continues its prompts, found --mode {self.mode}; leave out one of them")
        if not self.watermark and self.watermark_key is not None:
            raise UserError("expected a watermark for --watermark-key, found --watermark false; leave out one of them")
        if not self.audio_prompts:
            raise UserError("expected audio files after --audio-prompts, found none")

    def settings(self, stages: Mapping[str, Stage] | None = None) -> ContinueSettings:
        """The pipeline's settings for a model of these ``stages``; a stage's own temperature wins over the common one."""

        def sampling(stage: Stage | type[Stage]) -> Sampling:
            own = of_stage(self, stage.name, "temperature")
            temperature = own if own is not None else self.temperature if self.temperature is not None else stage.sampling.temperature
            window = stage.repetition_window if self.repetition_aware else 0
            passes = stage.sampling.passes if self.passes is None else read_passes(self.passes)
            of_one = of_stage(self, stage.name, "guidance")
            guidance = of_one if of_one is not None else self.guidance if self.guidance is not None else stage.sampling.guidance
            return Sampling(
                temperature=temperature, top_k=self.top_k, top_p=self.top_p, repetition_window=window, passes=passes,
                guidance=guidance if stage.takes_guidance else 1.0,
            )  # fmt: skip

        return ContinueSettings(
            mode=self.mode,
            prompt_seconds=self.prompt_seconds,
            max_seconds=self.max_seconds,
            min_seconds=self.min_seconds,
            sampling={name: sampling((stages or {}).get(name, kind)) for name, kind in all_stages().items()},
            level=self.level,
            drafts=Drafts(self.draft_tokens, self.draft_rule) if self.draft_tokens else None,
            block_seconds=self.block_seconds,
            first_block_seconds=tuple(self.first_block_seconds),
            watermark=self.watermark,
            watermark_key=read_key(self.watermark_key),
        )


@dataclass(frozen=True)
class Streamed:
    """A result of ``--stream``: what ``Continuation`` says of its sound, and how long it took to come."""

    wav: Waveform
    live: LiveContinuation

    @property
    def sample_rate(self) -> int:
        return self.live.sample_rate

    @property
    def seed(self) -> int:
        return self.live.seed

    @property
    def own_samples(self) -> int:
        return self.live.own_samples

    @property
    def gain_db(self) -> float:
        return self.live.gain_db

    @property
    def seconds(self) -> float:
        return len(self.wav) / self.sample_rate

    @property
    def generated_seconds(self) -> float:
        return self.live.generated_seconds

    @property
    def prompt_seconds(self) -> float:
        return len(self.live.prompt) / self.sample_rate


def infer(options: InferOptions, *, player: BinaryIO | None = None) -> dict[str, Any]:
    """Continue every prompt ``num_samples`` times -> the summary that is written; with ``--stream``, ``player`` gets the new audio."""
    settings = options.settings()
    sign_key = None if options.sign_key is None else read_sign_key(options.sign_key)
    check_inputs(options)
    jobs = [(row, sample) for row in range(len(options.audio_prompts)) for sample in range(options.num_samples)]
    names = _names(options, jobs)
    outputs = claim_outputs(
        options.output_dir,
        [*(f"{name}{ending}" for name in names for ending in (".wav", ".png")), PAGE, SUMMARY],
        program="infer",
        inputs=options.audio_prompts,
    )
    if options.num_threads:
        torch.set_num_threads(options.num_threads)
    pipeline = Pipeline(choose_model(options), device=find_device(options.device), dtype=options.dtype, engine=options.engine)
    settings = options.settings(pipeline.model.stages())
    rate = pipeline.sample_rate
    prompts = Recordings(lambda job: read_prompt(options.audio_prompts[jobs[job][0]], rate, settings), count=len(jobs))
    if options.mode == "resynthesize" or options.stream != "no":  # otherwise each is read before the first result
        for _ in prompts:
            pass
    seeds = [options.seed + SAMPLE_STRIDE * sample for _, sample in jobs]
    work = Work()
    if options.stream != "no":
        assert player is not None, "whoever streams says where to"
        output = SoundOutput(player, options.stream, rate)
        results = work.timed(
            _played(pipeline.stream(prompt, rate, seed=seed, settings=settings, chunk_seconds=options.chunk_seconds), output)
            for prompt, seed in zip(prompts, seeds, strict=True)
        )
    else:
        results = work.timed(pipeline.continue_each(prompts, rate, seed=seeds, settings=settings, batch_size=options.batch_size))
    first = next(results)  # whatever is wrong with a prompt is said before anything is written
    with outputs.being_written():
        done = [
            _write_result(options, name, options.audio_prompts[row], result, sign_key)
            for name, (row, _), result in zip(names, jobs, chain([first], results), strict=True)
        ]
        return _write_summary(options, done, work.seconds, steps_taken_by=pipeline.steps_taken_by)


class Work:
    """How long it takes to make results, without what is done with them in between."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timed(self, results: Iterator[Continuation | Streamed]) -> Iterator[Continuation | Streamed]:
        while True:
            started = time.perf_counter()
            result = next(results, None)
            self.seconds += time.perf_counter() - started
            if result is None:
                return
            yield result


def _played(live: LiveContinuation, output: SoundOutput) -> Streamed:
    """Prompt and new audio, once all of the latter was written."""
    chunks = []
    for chunk in live:
        output.write(chunk)
        chunks.append(chunk)
    return Streamed(wav=np.concatenate([live.prompt, *chunks]), live=live)


def read_passes(text: str) -> tuple[int, ...]:
    """``16,1,1`` as numbers."""
    words = text.replace(" ", "").split(",")
    if not all(word.isdecimal() and int(word) >= 1 for word in words):
        raise UserError(f"--passes must be numbers of 1 or more with commas, as in 16,1, found {text!r}")
    return tuple(int(word) for word in words)


def check_inputs(options: InferOptions) -> None:
    """Refuse what can be seen to fail, before a model is loaded and anything is written."""
    if options.output_dir.exists() and not options.output_dir.is_dir():
        raise UserError(f"expected a folder for --output-dir, found the file {options.output_dir}; name another")
    for path in options.audio_prompts:
        audio_info(path)


def read_prompt(path: Path, sample_rate: int, settings: ContinueSettings) -> Waveform:
    """As much of a file as the mode looks at, so that an hour's recording costs no more than its prompt."""
    seconds = {"continue": settings.prompt_seconds, "acoustic": settings.prompt_seconds + settings.max_seconds, "resynthesize": None}
    return read_audio(path, sample_rate=sample_rate, duration=seconds[settings.mode])[0]


def choose_model(options: InferOptions) -> Released:
    """The model that the flags name; the bundled one if they name none."""
    if options.checkpoint is None and options.exp_dir is None:
        return load_released(find_model(options.model) if options.model else BUNDLED_MODEL)
    return trained_model(
        checkpoint=options.checkpoint,
        exp_dir=options.exp_dir,
        epoch=options.epoch,
        avg=options.avg,
        use_averaged_model=options.use_averaged_model,
    )


@dataclass(frozen=True)
class _Written:
    """What the summary and the page say of a result whose files are there."""

    item: dict[str, Any]
    page: PageItem


def _write_result(
    options: InferOptions, name: str, prompt: Path, result: Continuation | Streamed, sign_key: Ed25519PrivateKey | None
) -> _Written:
    """Its wav and its picture."""
    provenance = Provenance.of(
        result.wav, result.sample_rate, generated_from=result.own_samples, mode=options.mode, watermark=_marked(options)
    )
    write_wav(options.output_dir / f"{name}.wav", result.wav, result.sample_rate, comment=provenance.to_comment(sign_key))
    write_spectrogram(options.output_dir / f"{name}.png", result.wav, result.sample_rate, prompt_seconds=result.prompt_seconds)
    item = {
        "prompt": str(prompt), "wav": f"{name}.wav", "prompt_seconds": result.prompt_seconds,
        "seconds": result.seconds, "generated_seconds": result.generated_seconds, "seed": result.seed,
        "own_seconds": result.own_samples / result.sample_rate, "gain_db": round(result.gain_db, 2),
    }  # fmt: skip
    if isinstance(result, Streamed) and result.live.first_audio_seconds is not None:
        item.update(first_audio_ms=1000 * result.live.first_audio_seconds, rtf=result.live.real_time_factor)
    page = PageItem(
        title=shown(prompt.name), wav=f"{name}.wav", picture=f"{name}.png", prompt_seconds=result.prompt_seconds,
        generated_seconds=result.generated_seconds, seed=result.seed,
    )  # fmt: skip
    return _Written(item, page)


def _write_summary(options: InferOptions, done: list[_Written], seconds: float, *, steps_taken_by: dict[str, str]) -> dict[str, Any]:
    generated = sum(one.page.generated_seconds for one in done)
    summary: dict[str, Any] = {
        "settings": {key: _plain(value) for key, value in asdict(options).items()},
        "items": [one.item for one in done],
        "watermark": _marked(options),
        "rtf": seconds / generated if generated else 0.0,
        "steps_taken_by": steps_taken_by,
        "page": str(options.output_dir / PAGE),
    }
    write_page(options.output_dir / PAGE, [one.page for one in done], mode=options.mode, rtf=summary["rtf"])
    write_text(options.output_dir / SUMMARY, json.dumps(summary, indent=2) + "\n")
    return summary


def _marked(options: InferOptions) -> Marked:
    return "none" if not options.watermark else "public" if options.watermark_key is None else "own"


def _names(options: InferOptions, jobs: list[tuple[int, int]]) -> list[str]:
    """One name an output: the prompt's, numbered where that is taken, and shortened where it is too long for a file."""
    taken: set[str] = set()
    names = []
    for row, sample in jobs:
        stem = plain_stem(options.audio_prompts[row].stem) + (f"-sample{sample + 1}" if options.num_samples > 1 else "")
        candidates = (stem if number == 1 else f"{stem}-{number}" for number in count(1))
        name = next(candidate for candidate in candidates if candidate not in taken)
        taken.add(name)
        names.append(name)
    return names


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
