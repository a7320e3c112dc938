"""What a model generates, ready for judges: continuations beside what was really said, and sound made of given units.

No judge hears a prompt: what follows it is cut again by the codec's receptive field, in which the prompt still sounds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np
import torch
from lhotse.cut import Cut
from torch import Tensor

from valle.audio import Waveform, resample
from valle.corpora.cut_audio import read_cut
from valle.decoding.sampling import Sampling
from valle.evaluation.codec_report import round_trips
from valle.inference.continuation import Continuation, ContinueSettings
from valle.inference.continuing import TokenPrompt
from valle.inference.pipeline import Pipeline
from valle.measures.level import speech_gain_db, with_gain
from valle.progress import Progress
from valle.tokenizers.stream import decode_pieces, encode_pieces


@dataclass(frozen=True)
class Continued:
    """One prompt and what stands after it, three times, each ``(T,)`` from the prompt's start."""

    cut: Cut
    continuation: Waveform = field(repr=False)  # the prompt's own samples, then what was generated
    recording: Waveform = field(repr=False)
    codec: Waveform = field(repr=False)  # the recording through the codec
    prompt_samples: int
    judged_from: int  # after the prompt, in samples: before it the prompt can still be heard
    prompt_units: Tensor | None = field(repr=False)  # (T_u,) of what was heard; None for a model without units
    new_units: Tensor | None = field(repr=False)  # what the model went on with
    real_units: Tensor | None = field(repr=False)  # what the speaker went on with
    new_codes: Tensor = field(repr=False)  # (T_f,) of level 0, as the model went on
    real_codes: Tensor = field(repr=False)

    @property
    def prompt(self) -> Waveform:
        return self.recording[: self.prompt_samples]

    @property
    def generated(self) -> Waveform:
        """What judges hear: new audio without any of the prompt."""
        return self.continuation[self.judged_from :]

    @property
    def real(self) -> Waveform:
        """What was really said, from the same moment."""
        return self.recording[self.judged_from :]

    @property
    def round_trip(self) -> Waveform:
        """The same through the codec."""
        return self.codec[self.judged_from :]


def guard_seconds(pipeline: Pipeline) -> float:
    """Sound after the prompt's end that the prompt can still be heard in."""
    return pipeline.acoustic.left_context / pipeline.sample_rate


def continue_cuts(
    pipeline: Pipeline,
    cuts: Sequence[Cut],
    settings: ContinueSettings,
    *,
    batch_size: int = 16,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Continued]:
    """Continue every cut after its first ``settings.prompt_seconds`` by up to ``settings.max_seconds``, without a watermark."""
    rate = pipeline.sample_rate
    length, guard = round(settings.max_seconds * rate), round(guard_seconds(pipeline) * rate)
    done: list[Continued] = []
    if progress is not None:
        progress(0, len(cuts))
    for first in range(0, len(cuts), batch_size):
        batch = cuts[first : first + batch_size]
        recordings = [cut_audio(cut, rate) for cut in batch]
        results = pipeline.continue_audio(recordings, rate, seed=seed, settings=settings, watermark=False)
        for cut, wav, result in zip(batch, recordings, results, strict=True):
            done.append(_continued(pipeline, cut, wav, result, stop=result.prompt_samples + length, guard=guard))
        if progress is not None:
            progress(len(done), len(cuts))
    return done


def _continued(pipeline: Pipeline, cut: Cut, wav: Waveform, result: Continuation, *, stop: int, guard: int) -> Continued:
    """``wav`` up to ``stop`` beside ``result``, which was made of its start."""
    levels = pipeline.model.config.num_quantizers
    codes, again = round_trips(pipeline.acoustic, wav[:stop], [levels])
    periods = pipeline.timeline.periods_for(result.prompt_seconds)
    prompt_units = new_units = real_units = None
    if result.units is not None:
        said, known = units_of(pipeline, wav[:stop]), periods * pipeline.timeline.units_per_period
        prompt_units, real_units, new_units = said[:known], said[known:], result.units[known:].cpu()
    frames = periods * pipeline.timeline.frames_per_period
    return Continued(
        cut, result.wav[:stop], wav[:stop], again[str(levels)], result.prompt_samples, result.prompt_samples + guard,
        prompt_units, new_units, real_units,
        new_codes=result.codes[frames:, 0].cpu(), real_codes=torch.from_numpy(codes[frames:, 0]),
    )  # fmt: skip


def speak_units(
    pipeline: Pipeline, units: Sequence[Tensor], *, seed: int = 0, sampling: Mapping[str, Sampling] | None = None
) -> list[Waveform]:
    """Sound of ``units (T_u,)`` of every row without a prompt: the voice is the model's choice."""
    each = pipeline.timeline.units_per_period
    whole = [torch.cat([row, row[-1:].expand(-len(row) % each)]).to(pipeline.device) for row in units]
    nothing = torch.zeros(0, dtype=torch.int64, device=pipeline.device)
    empty = nothing.new_zeros(0, pipeline.model.config.num_quantizers)
    prompts = [TokenPrompt(codes=empty, units=nothing, seed=seed + row) for row in range(len(units))]
    with torch.inference_mode():
        codes = pipeline.continuer.codes(prompts, units=whole, num_frames=[0] * len(units), sampling=sampling or {})
        return [_sound(pipeline, row) for row in codes]


def _sound(pipeline: Pipeline, codes: Tensor) -> Waveform:
    pieces = [piece.float().clamp(-1, 1).cpu().numpy() for piece in decode_pieces(pipeline.acoustic, codes)]
    return np.concatenate(pieces)


def shuffled_runs(units: Tensor, *, seed: int) -> Tensor:
    """``units (T_u,)`` in another order: each stays as long as it was, so that only what is said is lost."""
    values, counts = torch.unique_consecutive(units, return_counts=True)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(values)))
    return values[order].repeat_interleave(counts[order])


def units_of(pipeline: Pipeline, wav: Waveform) -> Tensor:
    """Units ``(T_u,)`` of ``wav (T,)`` at the codec's rate, heard at the level of speech as the model's stages hear it."""
    assert pipeline.semantic is not None
    heard = with_gain(wav, speech_gain_db(wav, pipeline.sample_rate))
    with torch.inference_mode():
        return encode_pieces(pipeline.semantic, [resample(heard, pipeline.sample_rate, pipeline.semantic.sample_rate)]).cpu()


def round_trip(pipeline: Pipeline, wav: Waveform) -> Waveform:
    """``wav (T,)`` through the codec, with as many codebooks as the model knows."""
    levels = pipeline.model.config.num_quantizers
    return round_trips(pipeline.acoustic, wav, [levels])[1][str(levels)]


def cut_audio(cut: Cut, sample_rate: int) -> Waveform:
    """The sound of a cut at ``sample_rate`` Hz."""
    wav, rate = read_cut(cut)
    return resample(wav, rate, sample_rate)


def in_hashed_order(cuts: Iterable[Cut], seed: int) -> list[Cut]:
    """Cuts in an order that depends on their ids alone, whatever the manifest's order."""
    return sorted(cuts, key=lambda cut: blake2b(f"{seed}:{cut.id}".encode(), digest_size=8).digest())
