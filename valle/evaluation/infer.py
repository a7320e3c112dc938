"""What ``bin/infer.py`` does: prompts in; wavs, spectrograms, a page and ``summary.json`` out."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from valle.audio import read_audio, write_wav
from valle.decoding.sampling import Sampling
from valle.errors import UserError
from valle.evaluation.listening_page import PageItem, write_page
from valle.evaluation.spectrogram import write_spectrogram
from valle.models.released import Released, load_released
from valle.pipeline import BUNDLED_MODEL, Continuation, ContinueSettings, Pipeline

REPETITION_WINDOW = 10  # VALL-E 2's
SAMPLE_STRIDE = 7919  # between the seeds of a prompt's samples; a prompt has the same seed alone and among others


def _flag(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class InferOptions:
    """Flags of ``bin/infer.py``."""

    audio_prompts: list[Path] = field(metadata={"help": "audio files to continue"})
    output_dir: Path = field(metadata={"help": "where wavs, index.html and summary.json go"})
    checkpoint: Path | None = _flag(None, "a trainer's checkpoint")
    exp_dir: Path | None = _flag(None, "a trainer's folder; with --epoch 0 the weights that were best on dev")
    epoch: int = _flag(0, "epoch-N.pt of --exp-dir")
    avg: int = _flag(1, "average the last so many epochs")
    use_averaged_model: bool = _flag(False, "average over all steps of those epochs")
    model: Path | None = _flag(None, "a released folder")
    mode: Literal["continue", "resynthesize", "acoustic"] = _flag("continue", "what to do")
    prompt_seconds: float = _flag(3.0, "how much of each file is the prompt")
    max_seconds: float = _flag(10.0, "longest new audio")
    min_seconds: float | None = _flag(None, "shortest new audio, no end is drawn before it; not given: 1, or all of a shorter --max-seconds")
    temperature: float | None = _flag(None, "of all stages; not given: 0.6 semantic, 0.8 coarse, 0.6 fine")
    semantic_temperature: float | None = _flag(None, "of the semantic stage alone")
    coarse_temperature: float | None = _flag(None, "of the coarse stage alone")
    fine_temperature: float | None = _flag(None, "of the fine stage alone")
    top_k: int = _flag(0, "draw from the so many likeliest; 0 for all")
    top_p: float = _flag(1.0, "draw from the likeliest that make up this probability")
    repetition_aware: bool = _flag(False, "draw again where a coarse code repeats too often")
    seed: int = _flag(0, "of everything drawn")
    num_samples: int = _flag(1, "continuations of each prompt")
    batch_size: int = _flag(8, "continuations made at once")
    device: str = _flag("cpu", "cpu, cuda or mps")
    num_threads: int = _flag(0, "CPU threads; 0 leaves torch's choice")

    def __post_init__(self) -> None:
        if self.num_samples < 1 or self.batch_size < 1:
            raise UserError(f"--num-samples and --batch-size must be 1 or more, found {self.num_samples} and {self.batch_size}")
        if sum(choice is not None for choice in (self.checkpoint, self.exp_dir, self.model)) > 1:
            raise UserError("expected one of --checkpoint, --exp-dir and --model, found several; which model shall speak?")
        if not self.audio_prompts:
            raise UserError("expected audio files after --audio-prompts, found none")

    def settings(self) -> ContinueSettings:
        """The pipeline's settings; a stage's own temperature wins over the common one."""

        def sampling(own: float | None, usual: float, *, window: int = 0) -> Sampling:
            temperature = own if own is not None else self.temperature if self.temperature is not None else usual
            return Sampling(temperature=temperature, top_k=self.top_k, top_p=self.top_p, repetition_window=window)

        return ContinueSettings(
            mode=self.mode,
            prompt_seconds=self.prompt_seconds,
            max_seconds=self.max_seconds,
            min_seconds=min(1.0, self.max_seconds) if self.min_seconds is None else self.min_seconds,
            semantic=sampling(self.semantic_temperature, 0.6),
            coarse=sampling(self.coarse_temperature, 0.8, window=REPETITION_WINDOW if self.repetition_aware else 0),
            fine=sampling(self.fine_temperature, 0.6),
        )


def infer(options: InferOptions) -> dict[str, Any]:
    """Continue every prompt ``num_samples`` times -> the summary that is written."""
    settings = options.settings()
    if options.num_threads:
        torch.set_num_threads(options.num_threads)
    _check_device(options.device)
    pipeline = Pipeline(choose_model(options), device=options.device)
    rate = pipeline.sample_rate
    audio = [read_audio(path, sample_rate=rate)[0] for path in options.audio_prompts]  # every prompt is checked before work begins
    jobs = [(row, sample) for row in range(len(audio)) for sample in range(options.num_samples)]
    started = time.perf_counter()
    results: list[Continuation] = []
    for first in range(0, len(jobs), options.batch_size):
        batch = jobs[first : first + options.batch_size]
        results += pipeline.continue_audio(
            [audio[row] for row, _ in batch], rate, seed=[options.seed + SAMPLE_STRIDE * sample for _, sample in batch], settings=settings
        )
    seconds = time.perf_counter() - started
    return _write(options, jobs, results, seconds)


def choose_model(options: InferOptions) -> Released:
    """The model that the flags name; the bundled one if they name none."""
    from valle.training.checkpoint import choose_checkpoint, load_checkpoint

    if options.checkpoint is not None:
        return released_from_checkpoint(load_checkpoint(options.checkpoint))
    if options.exp_dir is not None:
        return released_from_checkpoint(
            choose_checkpoint(options.exp_dir, epoch=options.epoch, avg=options.avg, use_averaged_model=options.use_averaged_model)
        )
    return load_released(options.model or BUNDLED_MODEL)


def released_from_checkpoint(state: dict[str, Any]) -> Released:
    """A trainer's checkpoint as what the pipeline takes."""
    from valle.training.checkpoint import model_from_checkpoint

    model, timeline, acoustic, semantic = model_from_checkpoint(state)
    trained = {stage: float(state[f"{stage}_seconds"]) for stage in ("semantic", "coarse", "fine")}
    return Released(model=model, timeline=timeline, acoustic=acoustic, semantic=semantic, trained_seconds=trained)


def _write(options: InferOptions, jobs: list[tuple[int, int]], results: list[Continuation], seconds: float) -> dict[str, Any]:
    options.output_dir.mkdir(parents=True, exist_ok=True)
    items, page_items = [], []
    for name, (row, _), result in zip(_names(options, jobs), jobs, results, strict=True):
        write_wav(options.output_dir / f"{name}.wav", result.wav, result.sample_rate)
        write_spectrogram(options.output_dir / f"{name}.png", result.wav, result.sample_rate, prompt_seconds=result.prompt_seconds)
        items.append({
            "prompt": str(options.audio_prompts[row]), "wav": f"{name}.wav", "prompt_seconds": result.prompt_seconds,
            "seconds": result.seconds, "generated_seconds": result.generated_seconds, "seed": result.seed,
        })  # fmt: skip
        page_items.append(PageItem(title=options.audio_prompts[row].name, wav=f"{name}.wav", picture=f"{name}.png", **{
            key: items[-1][key] for key in ("prompt_seconds", "generated_seconds", "seed")
        }))  # fmt: skip
    generated = sum(result.generated_seconds for result in results)
    summary: dict[str, Any] = {
        "settings": {key: _plain(value) for key, value in asdict(options).items()},
        "items": items,
        "rtf": seconds / generated if generated else 0.0,
        "page": str(options.output_dir / "index.html"),
    }
    write_page(options.output_dir / "index.html", page_items, mode=options.mode, rtf=summary["rtf"])
    temporary = options.output_dir / ".summary.json.tmp"
    temporary.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    temporary.replace(options.output_dir / "summary.json")
    return summary


def _names(options: InferOptions, jobs: list[tuple[int, int]]) -> list[str]:
    """One name an output: the prompt's, numbered where two prompts or several samples share it."""
    stems = [path.stem for path in options.audio_prompts]
    names = []
    for row, sample in jobs:
        name = stems[row] if stems.count(stems[row]) == 1 else f"{stems[row]}-{row + 1}"
        names.append(name if options.num_samples == 1 else f"{name}-sample{sample + 1}")
    return names


def _check_device(name: str) -> None:
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(name.split(":")[0], False):
        raise UserError(f"--device {name} is not to be had here; use {', '.join(device for device, here in available.items() if here)}")


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
