"""How much of a recording a codec keeps, by number of codebooks, beside the recording itself and silence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import isnan
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from valle.audio import Waveform, resample
from valle.errors import UserError
from valle.evaluation.opus import opus_round_trip
from valle.measures.intervals import bootstrap_mean
from valle.measures.sound import SHORTEST_STOI, has_pesq, mel_l1, pesq_wb, si_sdr, stoi
from valle.measures.tokens import entropy, perplexity, token_counts
from valle.progress import Progress
from valle.tokenizers.base import AcousticTokenizer

LONGEST_SECONDS = 15.0  # of a recording that is scored: more says nothing new and costs memory
DEFINITIONS = {
    "stoi": "short-time objective intelligibility against the recording, 0 to 1, higher is better",
    "pesq": "wide-band PESQ (ITU-T P.862.2), 1.04 to 4.64, higher is better; with the extra pesq",
    "mel_l1": "mean L1 distance of log-mel spectra over windows of 64 to 2048 samples, nats, lower is better",
    "si_sdr": "scale-invariant signal-to-distortion ratio, dB, higher is better",
}


class CodecReportError(UserError):
    """Nothing to score a codec on."""


@dataclass(frozen=True)
class Recording:
    """A recording to score the codec on, ``wav (T,)`` at ``sample_rate`` Hz."""

    wav: Waveform
    sample_rate: int
    name: str = ""


@dataclass
class CodecScores:
    """Scores by system and measure, one a recording, and how often each code occurs, ``counts (Q, V)``."""

    codec: AcousticTokenizer
    counts: NDArray[np.int64]
    systems: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)  # of the recordings that were scored
    seconds: float = 0.0
    left_out: int = 0

    @property
    def definitions(self) -> dict[str, str]:
        return {measure: DEFINITIONS[measure] for measure in DEFINITIONS if measure in self.systems["identity"]}


def codec_report(
    codec: AcousticTokenizer,
    recordings: Iterable[Recording],
    *,
    codebooks: Sequence[int] | None = None,
    opus: Sequence[float] = (),
    progress: Progress | None = None,
) -> dict[str, Any]:
    """:func:`codec_scores` as means with their 95 % intervals over recordings."""
    listed = list(recordings)
    scores = codec_scores(codec, listed, total=len(listed), codebooks=codebooks, opus=opus, progress=progress)
    return {
        "codec": str(codec.identity),
        "definitions": scores.definitions,
        "recordings": len(scores.names),
        "left_out": scores.left_out,
        "seconds": scores.seconds,
        "systems": {
            name: {
                measure: bootstrap_mean(values).to_dict()
                for measure, values in of.items()
                if measure != "pesq" or not all(map(isnan, values))
            }
            for name, of in scores.systems.items()
        },
        "codebook_perplexity": [perplexity(row) for row in scores.counts],
        "bits_per_second": float(sum(entropy(row) for row in scores.counts) / np.log(2) * codec.sample_rate / codec.hop_length),
    }


def codec_scores(
    codec: AcousticTokenizer,
    recordings: Iterable[Recording],
    *,
    total: int,
    codebooks: Sequence[int] | None = None,
    opus: Sequence[float] = (),
    progress: Progress | None = None,
) -> CodecScores:
    """Scores of ``codec`` at each number of ``codebooks`` (1, 2, 4, ... and all by default) on each of ``total`` recordings.

    ``identity`` is the recording itself and ``silence`` nothing at all: what a codec cannot surpass, and what it must.  Beside them
    stands Opus at each of ``opus`` kbit/s asked for, with the rate that it took (``kbps``, container included).  Recordings
    are read one at a time, resampled to the codec's rate, cut to 15 s, and left out below half a second.
    """
    levels = sorted(set(codebooks)) if codebooks else _usual_levels(codec.num_codebooks)
    if not 1 <= levels[0] <= levels[-1] <= codec.num_codebooks:
        raise CodecReportError(f"expected numbers of codebooks within 1..{codec.num_codebooks}, found {levels}")
    scores = CodecScores(codec, np.zeros((codec.num_codebooks, codec.codebook_size), np.int64))
    for done, recording in enumerate(recordings, 1):
        wav = resample(recording.wav, recording.sample_rate, codec.sample_rate)[: int(LONGEST_SECONDS * codec.sample_rate)]
        if len(wav) < SHORTEST_STOI * codec.sample_rate:
            scores.left_out += 1
            continue
        scores.names.append(recording.name)
        scores.seconds += len(wav) / codec.sample_rate
        codes, outputs = round_trips(codec, wav, levels)
        scores.counts += np.stack([token_counts([level], codec.codebook_size) for level in codes.T])
        taken: dict[str, float] = {}
        for kbps in opus:
            name = f"opus {kbps:g}"
            outputs[name], taken[name] = opus_round_trip(wav, codec.sample_rate, kbps)
        outputs.update(identity=wav, silence=np.zeros_like(wav))
        for name, output in outputs.items():
            rate = {"kbps": taken[name]} if name in taken else {}
            for measure, value in {**_score(output, wav, codec.sample_rate), **rate}.items():
                scores.systems.setdefault(name, {}).setdefault(measure, []).append(value)
        if progress is not None:
            progress(done, total)
    if not scores.names:
        raise CodecReportError(
            f"expected recordings of {SHORTEST_STOI:g} s or more to score the codec on, found {scores.left_out} shorter ones"
        )
    return scores


def round_trips(codec: AcousticTokenizer, wav: Waveform, levels: Sequence[int]) -> tuple[NDArray[np.int64], dict[str, Waveform]]:
    """Codes ``(T_f, Q)`` of ``wav (T,)``, and ``wav`` again by the first of them, as many as ``levels`` say; named by that number."""
    with torch.inference_mode():
        device = next(codec.parameters()).device
        codes, lengths = codec.encode(torch.from_numpy(wav)[None].to(device), torch.tensor([len(wav)], device=device))
        outputs = {str(level): codec.decode(codes[..., :level], lengths)[0, : len(wav)].float().cpu().numpy() for level in levels}
    return codes[0].cpu().numpy(), outputs


def _score(output: Waveform, target: Waveform, sample_rate: int) -> dict[str, float]:
    scores = {"stoi": stoi(output, target, sample_rate)}
    if has_pesq():
        scores["pesq"] = pesq_wb(output, target, sample_rate)
    return {**scores, "mel_l1": mel_l1(output, target, sample_rate), "si_sdr": si_sdr(output, target)}


def _usual_levels(num_codebooks: int) -> list[int]:
    """1, 2, 4, ... and all."""
    powers = [1 << exponent for exponent in range(num_codebooks.bit_length()) if 1 << exponent < num_codebooks]
    return [*powers, num_codebooks]
