"""How likely a model finds any recording, by stage: what ``bin/score.py`` does.

A recording longer than a stage was trained on is scored in pieces of that length.  Tokens that a stage is only shown, such as the
first one of a later piece, have no likelihood.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from valle.audio import Waveform, read_audio, resample
from valle.crops import CroppedTokens
from valle.errors import UserError
from valle.evaluation.judged_model import judged_model, refuse_two_models
from valle.files import shown, write_text
from valle.inference.pipeline import Pipeline
from valle.measures.level import speech_gain_db, with_gain
from valle.models.stage import ExampleSettings, Stage
from valle.outputs import claim_file
from valle.progress import Progress
from valle.settings import require_at_least, setting
from valle.tokenizers.stream import encode_pieces
from valle.tokenizing.found_files import find_audio


@dataclass(frozen=True, kw_only=True)
class ScoreOptions:
    """Flags of ``bin/score.py``."""

    audio: list[Path] = setting([], "audio files, or folders of them")
    output: Path | None = setting(None, "JSON lines with the log-likelihood of every token; not given: sums and means alone are printed")
    model: Path | None = setting(None, "a released folder, or a model's name on the hub (org/name); not given: the bundled model")
    exp_dir: Path | None = setting(None, "a trainer's folder: its weights with best dev loss")
    stages: list[str] = setting([], "stages to score by; not given: all that predict one token after another")
    batch_size: int = setting(8, "pieces scored at once; figures do not depend on it")

    def __post_init__(self) -> None:
        refuse_two_models(self.model, self.exp_dir)
        require_at_least(self, 1, "batch_size")
        if not self.audio:
            raise UserError("expected audio files after --audio, found none; name files or folders")


@dataclass(frozen=True)
class Likelihood:
    """Log-likelihoods in nats of a recording's tokens under one stage, in order, and where in the recording each ends, in seconds."""

    stage: str
    tokens: list[float]
    ends: list[float] = field(default_factory=list)

    @property
    def sum(self) -> float:
        return sum(self.tokens)

    @property
    def mean(self) -> float:
        """By the token; NaN without any."""
        return self.sum / len(self.tokens) if self.tokens else float("nan")

    def to_dict(self) -> dict[str, Any]:
        return {"stage": self.stage, "sum": self.sum, "mean": self.mean if self.tokens else None, "count": len(self.tokens),
                "log_likelihoods": self.tokens}  # fmt: skip


def score(options: ScoreOptions, *, progress: Progress | None = None) -> list[dict[str, Any]]:
    """A row for each recording and stage, which also go into ``options.output``."""
    files = [file.path for file in find_audio(options.audio).files]
    outputs = None if options.output is None else claim_file(options.output, program="score", inputs=files)
    pipeline, _ = judged_model(options.model, options.exp_dir)
    stages = scored_stages(pipeline, options.stages)
    rows = []
    for first in range(0, len(files), options.batch_size):
        batch = files[first : first + options.batch_size]
        wavs = [read_audio(path, sample_rate=pipeline.sample_rate)[0] for path in batch]
        scored = score_recordings(pipeline, wavs, stages=stages, batch_size=options.batch_size)
        for path, wav, likelihoods in zip(batch, wavs, scored, strict=True):
            about = {"audio": shown(path), "seconds": len(wav) / pipeline.sample_rate}
            rows += [{**about, **likelihood.to_dict()} for likelihood in likelihoods]
        if progress is not None:
            progress(first + len(batch), len(files))
    if outputs is not None and options.output is not None:
        with outputs.being_written():
            write_text(options.output, "".join(json.dumps(row) + "\n" for row in rows))
    return rows


def scored_stages(pipeline: Pipeline, names: Sequence[str] = ()) -> list[str]:
    """Those of ``names`` that give a likelihood, or all of the model's that do; raises ``UserError`` for others."""
    stages = pipeline.model.stages()
    able = [name for name, stage in stages.items() if type(stage).token_nats is not Stage.token_nats]
    wrong = [name for name in names if name not in able]
    if wrong:
        raise UserError(f"expected stages that predict one token after another ({', '.join(able)}), found {', '.join(wrong)}")
    return [name for name in able if not names or name in names]


def score_recordings(
    pipeline: Pipeline, recordings: Sequence[Waveform], *, stages: Sequence[str] | None = None, batch_size: int = 8
) -> list[list[Likelihood]]:
    """Likelihoods of every recording ``(T,)`` at the pipeline's rate, one a stage; each as if it were scored alone.

    Units and codes are what the model's stages hear: speech at the level they were trained on.  The recording's start and end are
    taken as the utterance's own, so the end counts as a token of the semantic stage.
    """
    clips = [clip_of(pipeline, wav, name=str(number)) for number, wav in enumerate(recordings)]
    return score_clips(pipeline, clips, stages=stages, batch_size=batch_size)


def score_clips(
    pipeline: Pipeline, clips: Sequence[CroppedTokens], *, stages: Sequence[str] | None = None, batch_size: int = 8
) -> list[list[Likelihood]]:
    """:func:`score_recordings` of tokens that :func:`clip_of` made."""
    chosen = scored_stages(pipeline) if stages is None else list(stages)
    found: list[list[Likelihood]] = [[] for _ in clips]
    for name in chosen:
        stage, each = pipeline.model.stages()[name], pipeline.timeline.periods_for(pipeline.continuer.trained_seconds[name])
        pieces = [(row, piece) for row, clip in enumerate(clips) for piece in _pieces(pipeline, clip, max(1, each))]
        likelihoods = [Likelihood(name, []) for _ in clips]
        lengths = [0.0] * len(clips)  # seconds of the pieces before
        for first in range(0, len(pieces), batch_size):
            batch = pieces[first : first + batch_size]
            tensors = type(stage).collate([piece for _, piece in batch], ExampleSettings(pipeline.model.config))
            tensors = {key: value.to(pipeline.device) for key, value in tensors.items()}
            with torch.inference_mode():
                nats, ends = stage.token_nats(**tensors), stage.token_ends(**tensors)
            assert nats is not None and ends is not None
            for (row, piece), values, shares in zip(batch, nats.double().cpu(), ends.double().cpu(), strict=True):
                seconds, is_target = seconds_of(pipeline, piece), ~values.isnan()
                likelihoods[row].tokens.extend((-values[is_target]).tolist())
                likelihoods[row].ends.extend((lengths[row] + seconds * shares[is_target]).tolist())
                lengths[row] += seconds
        for row, likelihood in enumerate(likelihoods):
            found[row].append(likelihood)
    return found


def seconds_of(pipeline: Pipeline, clip: CroppedTokens) -> float:
    """How long the sound of a clip is."""
    return float(len(clip.codes) // pipeline.timeline.frames_per_period * pipeline.timeline.period)


def rest_of(pipeline: Pipeline, clip: CroppedTokens, seconds: float) -> CroppedTokens | None:
    """The tokens after ``seconds``, to the nearest period, as a recording of its own; None where none are left."""
    timeline, periods = pipeline.timeline, round(seconds / pipeline.timeline.period)
    if not 0 <= periods < len(clip.codes) // timeline.frames_per_period:
        return None
    units, codes = clip.units[periods * timeline.units_per_period :], clip.codes[periods * timeline.frames_per_period :]
    return replace(clip, units=units, codes=codes)


def clip_of(pipeline: Pipeline, wav: Waveform, *, name: str) -> CroppedTokens:
    """Both streams of a recording ``(T,)`` at the pipeline's rate, in whole periods."""
    heard = wav if pipeline.semantic is None else with_gain(wav, speech_gain_db(wav, pipeline.sample_rate))
    with torch.inference_mode():
        codes = encode_pieces(pipeline.acoustic, [heard])[:, : pipeline.model.config.num_quantizers].cpu()
        units = codes.new_zeros(0)
        if pipeline.semantic is not None:
            units = encode_pieces(pipeline.semantic, [resample(heard, pipeline.sample_rate, pipeline.semantic.sample_rate)]).cpu()
    num_units, num_frames = pipeline.timeline.align(len(units), len(codes))
    if num_frames == 0:
        raise UserError(f"expected recordings of at least one token, found one of {len(wav) / pipeline.sample_rate:.3f} s; leave it out")
    return CroppedTokens(name, units[:num_units].numpy(), codes[:num_frames].numpy(), starts=True, ends=True, seed=0, epoch=0)


def _pieces(pipeline: Pipeline, clip: CroppedTokens, periods: int) -> Iterator[CroppedTokens]:
    """A clip in pieces of ``periods``, the last one shorter."""
    timeline = pipeline.timeline
    total = len(clip.codes) // timeline.frames_per_period
    for start in range(0, total, periods):
        stop = min(total, start + periods)
        yield CroppedTokens(
            clip.cut_id, clip.units[start * timeline.units_per_period : stop * timeline.units_per_period],
            clip.codes[start * timeline.frames_per_period : stop * timeline.frames_per_period],
            starts=start == 0, ends=stop == total, seed=0, epoch=0,
        )  # fmt: skip
