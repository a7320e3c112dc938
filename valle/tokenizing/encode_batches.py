"""Cuts in, tokens out: padded batches of like lengths, read and resampled by threads ahead of those that encode them.

On CPUs, batches side by side on one core each are faster than one batch on all cores: nothing waits at the end of every
operation, which matters most where the cores are shared with other programs.  An accelerator gets one batch after the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from lhotse.cut import Cut
from numpy.typing import NDArray
from torch import Tensor

from valle.audio import Waveform, resample
from valle.corpora.cut_audio import read_cut
from valle.device import find_device
from valle.errors import UserError
from valle.measures.level import Level, speech_gain_db, with_gain
from valle.memory import MemoryKeeper, share_one_arena
from valle.timeline import Timeline
from valle.tokenizers.base import AcousticTokenizer, SemanticTokenizer


class TokenizeError(UserError):
    """Cuts that cannot be tokenised."""


@dataclass(frozen=True)
class CutTokens:
    """Whole periods of one cut: ``units (T_u,)`` int16 or None, ``codes (T, Q)`` int16."""

    units: NDArray[np.int16] | None
    codes: NDArray[np.int16]
    gain_db: float | None = None  # at which the audio was heard; None where it was heard as it is


@dataclass(frozen=True)
class AudioBatch:
    """Mono audio of some cuts at each rate that a tokenizer wants: ``wav (B, T)``, ``lengths (B,)``; and each cut's length."""

    by_rate: dict[int, tuple[Tensor, Tensor]]
    seconds: list[Fraction]
    gains_db: list[float | None]


@dataclass
class ChangedTokens:
    """How many tokens of a sample differ from those of float32, by stream and level: ``{"units": ..., "codebook 0": ...}``."""

    changed: dict[str, int] = field(default_factory=dict)
    compared: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, changed: int, compared: int) -> None:
        self.changed[name] = self.changed.get(name, 0) + changed
        self.compared[name] = self.compared.get(name, 0) + compared

    def compare(self, kind: str, tokens: NDArray[np.integer], exact: NDArray[np.integer]) -> None:
        """``tokens (T,)`` or ``(T, Q)`` beside those of float32."""
        differ = (tokens != exact) if tokens.ndim == 2 else (tokens != exact)[:, None]
        for level in range(differ.shape[1]):
            self.add(kind if kind == "units" else f"codebook {level}", int(differ[:, level].sum()), len(differ))

    def update(self, other: dict[str, list[int]]) -> None:
        for name, (changed, compared) in other.items():
            self.add(name, changed, compared)

    def to_dict(self) -> dict[str, list[int]]:
        return {name: [changed, self.compared[name]] for name, changed in self.changed.items()}

    def __str__(self) -> str:
        shares = [f"{name} {100 * changed / max(1, self.compared[name]):.2g} %" for name, changed in self.changed.items()]
        return ", ".join(shares)


class BatchTokenizer:
    """Both tokenizers on one device, with the threads that read and those that encode; a context manager."""

    def __init__(
        self,
        acoustic: AcousticTokenizer,
        semantic: SemanticTokenizer | None,
        *,
        device: str | torch.device = "cpu",
        batch_seconds: float = 60.0,
        num_workers: int = 2,
        dtype: torch.dtype = torch.float32,
        level: Level = "none",
    ) -> None:
        self.device = find_device(device) if isinstance(device, str) else device
        self.acoustic, self.semantic = acoustic.to(self.device), semantic.to(self.device) if semantic else None
        self.identities = (acoustic.identity, semantic.identity if semantic else None)
        self.timeline = Timeline(codes=self.identities[0].grid, units=self.identities[1].grid if self.identities[1] else None)
        for identity in self.identities:
            if identity and identity.codebook_size > 2**15:
                raise TokenizeError(f"tokens are stored as int16, but {identity} has {identity.codebook_size}; use a smaller codebook")
        self.dtype, self.changed = dtype, ChangedTokens()
        self._level = level
        self._batch_seconds, self._memory = batch_seconds, MemoryKeeper()
        share_one_arena()  # before the threads below
        num_encoders = num_workers if self.device.type == "cpu" else 1
        self._ahead = num_workers + num_encoders
        self._readers, self._encoders = ThreadPoolExecutor(num_workers), ThreadPoolExecutor(num_encoders)
        self._num_threads = torch.get_num_threads()

    def __enter__(self) -> BatchTokenizer:
        torch.set_num_threads(1)
        return self

    def __exit__(self, *_: object) -> None:
        self._readers.shutdown(cancel_futures=True)
        self._encoders.shutdown(cancel_futures=True)
        torch.set_num_threads(self._num_threads)

    @property
    def label(self) -> str:
        """Short form of both identities, for every cut."""
        acoustic, semantic = self.identities
        return f"{acoustic.sha256[:12]}/{semantic.sha256[:12] if semantic else ''}"

    def describe(self) -> dict[str, Any]:
        """Timeline and identities as plain values."""
        acoustic, semantic = self.identities
        tokenizers = {"acoustic": acoustic.to_dict(), "semantic": semantic.to_dict() if semantic else None}
        return {"timeline": self.timeline.to_dict(), "tokenizers": tokenizers}

    def encode_all(self, cuts: list[Cut]) -> Iterator[tuple[list[int], list[CutTokens]]]:
        """Tokens of every cut, as (positions in ``cuts``, their tokens), batch by batch; a cut longer than a batch goes alone.

        Below float32, one batch of middling length is encoded in float32 too, and ``changed`` counts what differs.
        """
        batches = list(batches_of_like_lengths([cut.duration for cut in cuts], self._batch_seconds))
        ahead: deque[tuple[list[int], Future[list[CutTokens]]]] = deque()
        for number, indexes in enumerate(batches):
            self._memory.check()
            audio = self._readers.submit(self.read, [cuts[index] for index in indexes])
            compare = self.dtype != torch.float32 and number == len(batches) // 2
            ahead.append((indexes, self._encoders.submit(self._encode, audio, compare)))
            if len(ahead) > self._ahead:
                indexes, future = ahead.popleft()
                yield indexes, future.result()
        for indexes, future in ahead:
            yield indexes, future.result()

    def read(self, cuts: list[Cut]) -> AudioBatch:
        """The audio of a batch, in memory from where it goes to the device at once."""
        rates = {self.acoustic.sample_rate, *([self.semantic.sample_rate] if self.semantic else [])}
        rows: dict[int, list[Waveform]] = {rate: [] for rate in rates}
        seconds, gains_db = list[Fraction](), list[float | None]()
        for cut in cuts:
            samples, rate = read_cut(cut)
            gain_db = speech_gain_db(samples, rate) if self._level == "speech" else None
            gains_db.append(gain_db)
            samples = with_gain(samples, gain_db or 0.0)
            seconds.append(Fraction(len(samples), rate))
            for wanted in rates:
                rows[wanted].append(resample(samples, rate, wanted))
        padded = {rate: _pad(waves) for rate, waves in rows.items()}
        if self.device.type == "cuda":
            padded = {rate: (wav.pin_memory(), lengths) for rate, (wav, lengths) in padded.items()}
        return AudioBatch(by_rate=padded, seconds=seconds, gains_db=gains_db)

    def encode(self, batch: AudioBatch, *, dtype: torch.dtype | None = None) -> list[CutTokens]:
        """Whole periods of the tokens of each row."""
        with torch.inference_mode():
            placed = {
                rate: (wav.to(self.device, non_blocking=True), lengths.to(self.device)) for rate, (wav, lengths) in batch.by_rate.items()
            }
            codes = _encode_rows(self.acoustic, placed, dtype or self.dtype)
            units = _encode_rows(self.semantic, placed, dtype or self.dtype) if self.semantic else [None] * len(codes)
        return [self._trim(*row) for row in zip(units, codes, batch.seconds, batch.gains_db, strict=True)]

    def _encode(self, audio: Future[AudioBatch], compare: bool) -> list[CutTokens]:
        batch = audio.result()
        tokens = self.encode(batch)
        if compare:
            for lower, exact in zip(tokens, self.encode(batch, dtype=torch.float32), strict=True):
                self.changed.compare("codes", lower.codes, exact.codes)
                if lower.units is not None and exact.units is not None:
                    self.changed.compare("units", lower.units, exact.units)
        return tokens

    def _trim(
        self, units: NDArray[np.int16] | None, codes: NDArray[np.int16], seconds: Fraction, gain_db: float | None
    ) -> CutTokens:
        """Whole periods that the audio itself fills, so that no token of padding is kept."""
        periods = min(self.timeline.periods_in(0 if units is None else len(units), len(codes)), int(seconds / self.timeline.period))
        return CutTokens(
            units=None if units is None else units[: periods * self.timeline.units_per_period],
            codes=codes[: periods * self.timeline.frames_per_period],
            gain_db=gain_db,
        )


def batches_of_like_lengths(durations: list[float], batch_seconds: float) -> Iterator[list[int]]:
    """Positions sorted by length, grouped so that rows times the longest row stay within ``batch_seconds``."""
    batch: list[int] = []
    for index in sorted(range(len(durations)), key=lambda index: (durations[index], index)):
        if batch and (len(batch) + 1) * durations[index] > batch_seconds:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _pad(rows: list[Waveform]) -> tuple[Tensor, Tensor]:
    lengths = torch.tensor([len(row) for row in rows])
    wav = torch.zeros(len(rows), int(lengths.max()))
    for index, row in enumerate(rows):
        wav[index, : len(row)] = torch.from_numpy(row)
    return wav, lengths


def _encode_rows(
    tokenizer: AcousticTokenizer | SemanticTokenizer, placed: dict[int, tuple[Tensor, Tensor]], dtype: torch.dtype
) -> list[NDArray[np.int16]]:
    """Tokens of each row without its padding."""
    used = copy(tokenizer)  # with the same weights, but a precision of its own: other threads may run at another
    used.precision = dtype
    wav, lengths = placed[tokenizer.sample_rate]
    with used.at_precision(wav.device):
        tokens, counts = used.encode(wav, lengths)
    stored = tokens.to(torch.int16).cpu().numpy()
    return [row[:count].copy() for row, count in zip(stored, counts.tolist(), strict=True)]
