"""The voice goes on while you listen: sound of codes that are still being made, and how long a listener waits for it."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from types import TracebackType

import numpy as np
import torch
from torch import Tensor

from valle.audio import Waveform
from valle.inference.continuation import ContinueSettings
from valle.inference.joint import Joint
from valle.marks.embed import Marking
from valle.measures.level import LevelHold, active_level, with_gain
from valle.timeline import ceil_division
from valle.tokenizers.base import AcousticTokenizer
from valle.tokenizers.stream import SampleStream, decoder_reach

BLOCK_SECONDS = 0.5  # at once, of stages that look ahead, where nothing else is asked for
SECOND_BLOCK_SECONDS = 0.2  # of the second block then, which is made while the sound of the first plays
SPARE_SECONDS = 0.05  # of sound that the first block has beside the first chunk, so that the second one need not be made as quickly


@dataclass
class LiveNotes:
    """What is known of a stream once its prompt has ended."""

    settings: ContinueSettings
    prompt: Waveform = field(default_factory=lambda: np.zeros(0, np.float32))  # (T,), its last samples generated anew behind a crossfade
    own_samples: int = 0  # up to here they are the prompt's own
    gain_db: float = 0.0  # at which the stages heard the prompt; taken back from what was generated
    prompt_ended: float | None = None  # seconds of ``time.perf_counter``


class LiveContinuation(Iterator[Waveform]):
    """New audio ``(n,)`` float32 at ``sample_rate`` Hz, chunk by chunk: each is made when it is asked for.

    All chunks end to end are what ``Pipeline.continue_audio`` has after the prompt.  ``close`` stops and frees all state at once; so
    does leaving a ``with`` block.  The prompt is read when the first chunk is asked for.
    """

    def __init__(self, chunks: Generator[Waveform, None, None], notes: LiveNotes, *, sample_rate: int, seed: int) -> None:
        self._chunks, self._notes = chunks, notes
        self.sample_rate, self.seed = sample_rate, seed
        self.generated_samples = 0  # so far
        self.work_seconds = 0.0  # so far, since the prompt's end, without the time between one chunk and the next one's being asked for
        self.first_audio_seconds: float | None = None  # from the prompt's end to the first chunk

    def __next__(self) -> Waveform:
        asked = time.perf_counter()
        try:
            chunk = next(self._chunks)
        finally:
            now = time.perf_counter()
            self.work_seconds += now - max(asked, self._notes.prompt_ended or now)
        if self.first_audio_seconds is None:
            self.first_audio_seconds = self.work_seconds
        self.generated_samples += len(chunk)
        return chunk

    def close(self) -> None:
        """Stop here; there are no more chunks."""
        self._chunks.close()

    def __enter__(self) -> LiveContinuation:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    @property
    def prompt(self) -> Waveform:
        """The prompt ``(T,)`` at ``sample_rate``, its last samples generated anew behind a crossfade; empty before the first chunk."""
        return self._notes.prompt

    @property
    def own_samples(self) -> int:
        """Up to here the prompt's samples are its own."""
        return self._notes.own_samples

    @property
    def settings(self) -> ContinueSettings:
        """Those with which ``continue_audio`` makes the same: its blocks are known once the first chunk is there."""
        return self._notes.settings

    @property
    def gain_db(self) -> float:
        """At which the stages heard the prompt; taken back from what was generated."""
        return self._notes.gain_db

    @property
    def generated_seconds(self) -> float:
        """New audio so far."""
        return self.generated_samples / self.sample_rate

    @property
    def real_time_factor(self) -> float:
        """Seconds of work a second of new audio, since the prompt's end."""
        return self.work_seconds / self.generated_seconds if self.generated_samples else 0.0


def frames_until(codec: AcousticTokenizer, num_samples: int) -> int:
    """Frames of a sound that must be there before its first ``num_samples`` can be decoded."""
    return ceil_division(num_samples, codec.hop_length) + decoder_reach(codec)[1]


def new_sound(
    codec: AcousticTokenizer,
    prompt: Waveform,
    codes: Tensor,
    more: Iterator[Tensor],
    notes: LiveNotes,
    *,
    fade: int,
    most: int,
    chunk: int,
    marking: Marking,
) -> Iterator[Waveform]:
    """Sound after ``prompt (T,)``, of its ``codes (T_f, Q)`` and the new ones of ``more``, in chunks of about ``chunk`` samples.

    ``most`` samples are made at most.  ``notes.gain_db`` is taken back, and the prompt's level held, as nothing later matters for it;
    ``marking`` marks what was generated, from the first sample of the crossfade on.
    """
    joint = Joint.after(prompt, known=len(codes) * codec.hop_length, fade=fade)
    level = active_level(prompt, codec.sample_rate) if notes.gain_db else None
    hold = None if level is None else LevelHold(codec.sample_rate, level)
    anew, place, given = list[Waveform](), joint.own, 0
    for wav in _decoded(codec, codes, more, start=joint.own, until=len(prompt) + chunk, chunk=chunk):
        old, new = np.split(with_gain(wav, -notes.gain_db), [max(0, len(prompt) - place)])
        place += len(wav)
        anew.append(marking.next(old.clip(-1, 1) if notes.gain_db else old))
        if place < len(prompt):
            continue
        if not given:
            notes.prompt, notes.own_samples = joint.join(prompt, np.concatenate(anew)), joint.own
        new = new[: most - given] if hold is None else hold.next(new[: most - given])
        given += len(new)
        if len(new):
            yield marking.next(new.clip(-1, 1) if notes.gain_db else new)
        if given >= most:
            return


def _decoded(codec: AcousticTokenizer, codes: Tensor, more: Iterator[Tensor], *, start: int, until: int, chunk: int) -> Iterator[Waveform]:
    """Sound from sample ``start`` on, within full scale: first of all up to sample ``until``, then in pieces of ``chunk`` samples."""
    hop = codec.hop_length
    first = start // hop
    samples = SampleStream(codec, codes[:first])
    pending, frames, skipped = [codes[first:]], len(codes) - first, start - first * hop
    wanted = ceil_division(until, hop) - first + samples.frames_ahead
    for new in more:
        pending.append(new)
        frames += len(new)
        if frames >= wanted:
            yield _waveform(samples.push(torch.cat(pending)))[skipped:]
            pending, frames, skipped, wanted = [], 0, 0, max(1, chunk // hop)
    yield _waveform(torch.cat([samples.push(torch.cat([codes[:0], *pending])), samples.flush()]))[skipped:]


def _waveform(wav: Tensor) -> Waveform:
    sound: Waveform = wav.float().clamp(-1, 1).cpu().numpy()
    return sound
