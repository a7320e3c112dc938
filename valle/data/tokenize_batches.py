"""Cuts in, tokens out: padded batches of like lengths, in fp32, each read, resampled and encoded by one of some threads.

Batches side by side on one core each are faster than one batch on all cores: nothing waits at the end of every
operation, which matters most where the cores are shared with other programs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from lhotse.cut import Cut
from numpy.typing import NDArray

from valle.audio import Waveform, resample
from valle.corpora.cut_audio import read_cut
from valle.device import find_device
from valle.errors import UserError
from valle.memory import give_memory_back
from valle.timeline import Timeline
from valle.tokenizers.base import AcousticTokenizer, SemanticTokenizer


class TokenizeError(UserError):
    """Cuts that cannot be tokenised."""


@dataclass(frozen=True)
class CutTokens:
    """Whole periods of one cut: ``units (T_u,)`` int16 or None, ``codes (T, Q)`` int16."""

    units: NDArray[np.int16] | None
    codes: NDArray[np.int16]


@dataclass(frozen=True)
class CutAudio:
    """One cut's mono audio at each rate that a tokenizer wants, and its length."""

    by_rate: dict[int, Waveform]
    seconds: Fraction


class BatchTokenizer:
    """Both tokenizers on one device, with the threads that run them; a context manager."""

    def __init__(
        self,
        acoustic: AcousticTokenizer,
        semantic: SemanticTokenizer | None,
        *,
        device: str = "cpu",
        batch_seconds: float = 60.0,
        num_workers: int = 2,
    ) -> None:
        self._device = find_device(device)
        self.acoustic, self.semantic = acoustic.to(self._device), semantic.to(self._device) if semantic else None
        self.identities = (acoustic.identity, semantic.identity if semantic else None)
        self.timeline = Timeline(codes=self.identities[0].grid, units=self.identities[1].grid if self.identities[1] else None)
        for identity in self.identities:
            if identity and identity.codebook_size > 2**15:
                raise TokenizeError(f"tokens are stored as int16, but {identity} has {identity.codebook_size}; use a smaller codebook")
        self._batch_seconds, self._num_workers = batch_seconds, num_workers
        self._pool = ThreadPoolExecutor(num_workers)
        self._num_threads = torch.get_num_threads()

    def __enter__(self) -> BatchTokenizer:
        torch.set_num_threads(1)
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
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
        """Tokens of every cut, as (positions in ``cuts``, their tokens), batch by batch; a cut longer than a batch goes alone."""
        ahead: deque[tuple[list[int], Future[list[CutTokens]]]] = deque()
        for indexes in batches_of_like_lengths([cut.duration for cut in cuts], self._batch_seconds):
            give_memory_back()
            ahead.append((indexes, self._pool.submit(self._encode, [cuts[index] for index in indexes])))
            if len(ahead) > self._num_workers:
                indexes, future = ahead.popleft()
                yield indexes, future.result()
        for indexes, future in ahead:
            yield indexes, future.result()

    def _read(self, cut: Cut) -> CutAudio:
        samples, rate = read_cut(cut)
        rates = {self.acoustic.sample_rate, *([self.semantic.sample_rate] if self.semantic else [])}
        by_rate = {wanted: resample(samples, rate, wanted) for wanted in rates}
        return CutAudio(by_rate=by_rate, seconds=Fraction(len(samples), rate))

    @torch.inference_mode()
    def _encode(self, cuts: list[Cut]) -> list[CutTokens]:
        batch = [self._read(cut) for cut in cuts]
        codes = _encode_rows(self.acoustic, batch, self._device)
        units = _encode_rows(self.semantic, batch, self._device) if self.semantic else [None] * len(batch)
        return [self._trim(one, two, audio.seconds) for one, two, audio in zip(units, codes, batch, strict=True)]

    def _trim(self, units: NDArray[np.int16] | None, codes: NDArray[np.int16], seconds: Fraction) -> CutTokens:
        """Whole periods that the audio itself fills, so that no token of padding is kept."""
        periods = min(self.timeline.periods_in(0 if units is None else len(units), len(codes)), int(seconds / self.timeline.period))
        return CutTokens(
            units=None if units is None else units[: periods * self.timeline.units_per_period],
            codes=codes[: periods * self.timeline.frames_per_period],
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


def _encode_rows(tokenizer: AcousticTokenizer | SemanticTokenizer, batch: list[CutAudio], device: torch.device) -> list[NDArray[np.int16]]:
    """Tokens of each row without its padding."""
    rows = [audio.by_rate[tokenizer.sample_rate] for audio in batch]
    lengths = torch.tensor([len(row) for row in rows])
    wav = torch.zeros(len(rows), int(lengths.max()))
    for index, row in enumerate(rows):
        wav[index, : len(row)] = torch.from_numpy(row)
    tokens, counts = tokenizer.encode(wav.to(device), lengths.to(device))
    stored = tokens.to(torch.int16).cpu().numpy()
    return [row[:count].copy() for row, count in zip(stored, counts.tolist(), strict=True)]
