"""Streams: the same as offline, whatever the chunks, in bounded memory, and gone when closed."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_pipeline import RATE, lean_to_end, recording, tiny_released

import valle.decoding.engine
from valle.audio import Waveform
from valle.decoding.engine import Decoder
from valle.decoding.read_ahead import ReadAhead
from valle.decoding.sampling import Sampling
from valle.errors import UserError
from valle.given_audio import PromptError
from valle.inference.live import SPARE_SECONDS, LiveContinuation, frames_until
from valle.inference.pipeline import Continuation, ContinueSettings, Pipeline
from valle.models.acoustic.growing import GrowingFrames
from valle.models.unit_feed import UnitFeed
from valle.tokenizers.stream import SampleStream

KINDS: dict[str, dict[str, Any]] = {
    "ar-nar": {},
    "ar-nar, units before codes": {"conditioning": "prefix"},
    "ar-nar, codes only": {"units": False},
    "ar-nar, 50 Hz units beside 75 Hz codes": {"rates": "50/75", "num_coarse": 2},
    "ar-nar, no fine level": {"num_coarse": 3},
    "ar-nar, runs of units": {"unit_sequence": "runs"},
    "soundstorm": {"acoustic_model": "soundstorm"},
    "flat": {"acoustic_model": "flat"},
    "delay": {"acoustic_model": "delay"},
    "delay, two steps a frame": {"acoustic_model": "delay", "delay_pattern": "partial-flatten", "rates": "50/75"},
    "delay, codes only": {"acoustic_model": "delay", "units": False},
    "rq": {"acoustic_model": "rq"},
    "rq, delayed": {"acoustic_model": "rq", "acoustic_delay": 2, "rates": "50/75"},
    "rq, codes only": {"acoustic_model": "rq", "units": False, "acoustic_delay": 1},
}
CAUSAL = [name for name in KINDS if name.startswith(("delay", "rq", "flat"))]


def pipeline_of(kind: str, *, end: float = -1e9) -> Pipeline:
    """Goes on until it is told to stop, unless ``end`` says otherwise."""
    released = tiny_released(**KINDS[kind])
    return Pipeline(lean_to_end(released, end) if released.semantic else released, engine="torch")


def pieces(wav: Waveform, sizes: Iterator[int]) -> Iterator[Waveform]:
    while len(wav):
        size = next(sizes)
        yield wav[:size]
        wav = wav[size:]


def every(size: int) -> Iterator[int]:
    while True:
        yield size


def assert_same(live: LiveContinuation, chunks: list[Waveform], offline: Continuation) -> None:
    """To rounding: a codec decodes other lengths at a time, and tokens that differed would show."""
    streamed = np.concatenate([live.prompt, *chunks])
    assert streamed.dtype == np.float32 and len(streamed) == len(offline.wav)
    assert np.allclose(streamed, offline.wav, atol=1e-5)
    assert len(live.prompt) == offline.prompt_samples and live.own_samples == offline.own_samples
    assert live.gain_db == pytest.approx(offline.gain_db) and live.generated_seconds == offline.generated_seconds


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_is_the_offline_continuation_past_the_trained_length(kind: str) -> None:
    asked = ContinueSettings(prompt_seconds=1.3, max_seconds=2.57, block_seconds=None if kind in CAUSAL else 0.3)
    pipeline = pipeline_of(kind)
    [offline] = pipeline.continue_audio(recording(2), RATE, seed=4, settings=asked)
    live = pipeline.stream(recording(2), RATE, seed=4, settings=asked)
    assert_same(live, list(live), offline)


@pytest.mark.parametrize("kind", ["ar-nar", "ar-nar, runs of units", "soundstorm", "flat", "delay", "rq, delayed"])
@pytest.mark.parametrize("end", [3.0, 1e9])
def test_a_stream_ends_where_the_speech_does(kind: str, end: float) -> None:
    pipeline = pipeline_of(kind, end=end)
    asked = ContinueSettings(min_seconds=0.1, max_seconds=3, block_seconds=None if kind in CAUSAL else 0.3)
    [offline] = pipeline.continue_audio(recording(0.8), RATE, seed=2, settings=asked)
    assert offline.generated_seconds < 3
    live = pipeline.stream(recording(0.8), RATE, seed=2, settings=asked)
    assert_same(live, list(live), offline)


@pytest.mark.parametrize("kind", ["ar-nar", "soundstorm"])
@pytest.mark.parametrize("chunk_seconds", [0.06, 0.1, 0.75])
def test_blocks_without_a_length_are_half_a_second_and_at_first_what_the_first_chunk_needs(kind: str, chunk_seconds: float) -> None:
    pipeline, wav = pipeline_of(kind), recording(1.01)
    live = pipeline.stream(wav, RATE, max_seconds=1.5, chunk_seconds=chunk_seconds)
    chunks, chosen = list(live), live.settings
    assert chosen.block_seconds == 0.5 and len(chosen.first_block_seconds) == 2
    [offline] = pipeline.continue_audio(wav, RATE, settings=chosen)
    assert_same(live, chunks, offline)
    first = pipeline.timeline.frames_per_period * pipeline.timeline.periods_for(chosen.first_block_seconds[0])
    known = live.own_samples // pipeline.acoustic.hop_length  # frames of the prompt that are kept
    least = frames_until(pipeline.acoustic, len(wav) + round((chunk_seconds + SPARE_SECONDS) * RATE)) - known
    assert least <= first < least + pipeline.timeline.frames_per_period
    for other in (replace(chosen, first_block_seconds=()), replace(chosen, block_seconds=None, first_block_seconds=())):
        [elsewhere] = pipeline.continue_audio(wav, RATE, settings=other)
        assert not np.allclose(elsewhere.wav, offline.wav, atol=1e-3)


def test_the_first_chunk_comes_with_the_first_block() -> None:
    pipeline, blocks = pipeline_of("ar-nar"), list[int]()
    fine = pipeline.model.acoustic.fine
    filled = fine.generate
    fine.generate = lambda codes, **given: blocks.append(codes.shape[1]) or filled(codes, **given)
    with pipeline.stream(recording(1.01), RATE, max_seconds=1.5) as live:
        next(live)
        assert len(blocks) == 1
        list(live)
    assert len(blocks) > 2


@pytest.mark.parametrize("kind", ["ar-nar", "soundstorm"])
def test_a_first_block_of_its_own_is_the_same_offline_and_for_rows_together(kind: str) -> None:
    asked = ContinueSettings(prompt_seconds=1.3, max_seconds=1.57, block_seconds=0.3, first_block_seconds=(0.2, 0.1))
    pipeline = pipeline_of(kind)
    [offline, other] = pipeline.continue_audio([recording(2), recording(0.9)], RATE, seed=[4, 5], settings=asked)
    live = pipeline.stream(recording(2), RATE, seed=4, settings=asked)
    assert_same(live, list(live), offline)
    live = pipeline.stream(recording(0.9), RATE, seed=5, settings=asked)
    assert_same(live, list(live), other)


def test_a_first_block_without_others_or_without_a_length_is_refused() -> None:
    with pytest.raises(UserError, match="expected --block-seconds, of all later blocks"):
        ContinueSettings(first_block_seconds=(0.2,))
    with pytest.raises(UserError, match="raise --first-block-seconds"):
        ContinueSettings(block_seconds=0.2, first_block_seconds=(0.0,))


PIPELINE = pipeline_of("ar-nar")
AS_IT_IS = ContinueSettings(prompt_seconds=1.0, max_seconds=0.5, block_seconds=0.2, level="none")


@settings(deadline=None, max_examples=15)
@given(sizes=st.lists(st.integers(round(0.02 * RATE), 2 * RATE), min_size=1, max_size=40), seconds=st.sampled_from([0.7, 1.4]))
def test_a_prompt_in_pieces_of_20_ms_to_2_s_is_the_same_prompt(sizes: list[int], seconds: float) -> None:
    wav = recording(seconds)
    [offline] = PIPELINE.continue_audio(wav, RATE, settings=AS_IT_IS)
    repeated = iter(sizes * (1 + len(wav) // sum(sizes)) + sizes)
    live = PIPELINE.stream(pieces(wav, repeated), RATE, settings=AS_IT_IS)
    assert_same(live, list(live), offline)


READ_AHEAD = {"ar-nar": 2, "ar-nar, 50 Hz units beside 75 Hz codes": 2, "flat": 2, "ar-nar, units before codes": 1, "soundstorm": 1,
              "ar-nar, runs of units": 1, "ar-nar, codes only": 0}  # stages that do  # fmt: skip


@pytest.mark.parametrize("kind", READ_AHEAD)
def test_stages_read_a_prompt_while_it_comes_in_and_go_on_as_if_they_had_not(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline, wav, known = pipeline_of(kind), recording(1.4), list[tuple[int, int]]()
    asked = ContinueSettings(prompt_seconds=1.4, max_seconds=0.4, block_seconds=None if kind in CAUSAL else 0.2, level="none")
    read = ReadAhead.read

    def counted(self: ReadAhead, inputs: Any) -> Any:
        known.append((self.known(inputs[:-1]), len(inputs)))
        return read(self, inputs)

    monkeypatch.setattr(ReadAhead, "read", counted)
    live = pipeline.stream(pieces(wav, every(800)), RATE, settings=asked)
    chunks = list(live)
    last = known[len(known) - READ_AHEAD[kind] :]
    assert all(again > 0.6 * length for again, length in last), "most of a prompt is read before it ends"
    assert bool(last) == bool(known)
    [offline] = pipeline.continue_audio(wav, RATE, settings=asked)
    assert_same(live, chunks, offline)


def test_two_streams_whose_prompts_come_in_together_are_as_each_alone() -> None:
    wavs = [recording(1.4), recording(1.4, seed=1)]
    alone = [np.concatenate(list(PIPELINE.stream(wav, RATE, seed=3, settings=AS_IT_IS))) for wav in wavs]
    at_once = Barrier(2)

    def together(wav: Waveform) -> Iterator[Waveform]:
        for piece in pieces(wav, every(800)):
            at_once.wait(timeout=60)
            yield piece

    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(lambda wav: list(PIPELINE.stream(together(wav), RATE, seed=3, settings=AS_IT_IS)), wav) for wav in wavs]
    assert not np.allclose(alone[0], alone[1], atol=1e-3)
    for one, other in zip(alone, both, strict=True):
        assert np.allclose(one, np.concatenate(other.result()), atol=1e-5)


def test_the_level_of_pieces_is_fixed_by_what_was_heard_first_whatever_their_size() -> None:
    asked = ContinueSettings(prompt_seconds=3.0, max_seconds=0.5, block_seconds=0.2)
    wav = np.concatenate([recording(1.5), 0.2 * recording(1.5, seed=1)])
    streams = [PIPELINE.stream(pieces(wav, every(size)), RATE, settings=asked) for size in (333, 5000, 48000)]
    chunks = [np.concatenate(list(stream)) for stream in streams]
    assert streams[0].gain_db == streams[1].gain_db == streams[2].gain_db != 0
    assert all(np.allclose(chunks[0], other, atol=1e-5) for other in chunks[1:])


def test_pieces_at_another_rate_are_resampled_as_the_whole_is() -> None:
    wav = recording(1.2)
    [offline] = PIPELINE.continue_audio(wav, 22050, settings=AS_IT_IS)
    live = PIPELINE.stream(pieces(wav, every(777)), 22050, settings=AS_IT_IS)
    assert_same(live, list(live), offline)


def test_no_more_pieces_are_asked_for_than_the_prompt_lasts() -> None:
    asked_for: list[int] = []

    def endless() -> Iterator[Waveform]:
        while True:
            asked_for.append(1)
            yield recording(0.1)

    with PIPELINE.stream(endless(), RATE, settings=AS_IT_IS) as live:
        next(live)
    assert 10 <= len(asked_for) <= 12


def alive(*kinds: type) -> list[Any]:
    return [thing for thing in gc.get_objects() if type(thing) in kinds]


STATE = (Decoder, UnitFeed, SampleStream, GrowingFrames, ReadAhead)


@pytest.mark.parametrize("kind", ["ar-nar", "rq", "delay", "flat", "soundstorm"])
def test_closing_a_stream_frees_its_state_at_once_and_leaves_the_pipeline_as_it_was(kind: str) -> None:
    pipeline = pipeline_of(kind)
    gc.collect()
    gc.disable()
    try:
        live = pipeline.stream(pieces(recording(1), every(800)), RATE, seed=1, max_seconds=1000)
        next(live)
        assert alive(*STATE)
        live.close()
        assert not alive(*STATE)
    finally:
        gc.enable()
    assert list(live) == []
    again = list(pipeline.stream(recording(1), RATE, seed=1, max_seconds=0.3))
    assert sum(map(len, again)) == round(0.3 * RATE)


@pytest.mark.parametrize("kind", ["ar-nar", "rq", "delay", "flat"])
def test_memory_does_not_grow_with_what_was_made(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(valle.decoding.engine, "TOKENS_AT_ONCE", 64)
    monkeypatch.setattr(valle.models.unit_feed, "FORGOTTEN_AT_ONCE", 8)
    pipeline = pipeline_of(kind)
    held = []
    with pipeline.stream(recording(1), RATE, max_seconds=1000) as live:
        for _ in live:
            if live.generated_seconds > 2 * (1 + len(held)):
                held.append(held_now())
            if len(held) == 6:
                break
    assert max(held[3:]) <= 1.3 * max(held[:3]), held


def held_now() -> float:
    """Tokens, units and frames that a stream keeps."""
    decoders, feeds, samples, frames, _ = (alive(kind) for kind in STATE)
    return (
        sum(decoder.tokens.shape[1] for decoder in decoders)
        + sum(feed.held for feed in feeds)
        + sum(stream.held_frames for stream in samples)
        + sum(row.held for row in frames)
    )


def test_first_audio_and_work_are_counted_from_the_prompts_end() -> None:
    live = PIPELINE.stream(pieces(recording(1), every(1600)), RATE, settings=AS_IT_IS)
    assert live.first_audio_seconds is None and live.real_time_factor == 0
    chunks = list(live)
    assert len(chunks) > 2 and live.first_audio_seconds is not None
    assert 0 < live.first_audio_seconds < live.work_seconds
    assert live.real_time_factor == pytest.approx(live.work_seconds / 0.5)


def test_repetitions_guided_and_drafted_draws_stream_too() -> None:
    pipeline = pipeline_of("rq, delayed")
    asked = ContinueSettings(max_seconds=1.5, sampling={"rq": Sampling(temperature=0.5, repetition_window=4)})
    [offline] = pipeline.continue_audio(recording(1), RATE, settings=asked)
    live = pipeline.stream(recording(1), RATE, settings=asked)
    assert_same(live, list(live), offline)


def test_what_cannot_be_streamed_is_refused_before_anything_is_made() -> None:
    with pytest.raises(UserError, match="a stream continues its prompt, found the mode acoustic"):
        PIPELINE.stream(recording(1), RATE, settings=ContinueSettings(mode="acoustic"))
    with pytest.raises(UserError, match="raise --chunk-seconds"):
        PIPELINE.stream(recording(1), RATE, chunk_seconds=0)
    with pytest.raises(PromptError, match=r"at least 0\.2 s, found 0\.10 s"):
        next(PIPELINE.stream(pieces(recording(0.1), every(160)), RATE))
    with pytest.raises(PromptError, match="mono"):
        next(PIPELINE.stream([np.zeros((2, 800), np.float32)], RATE))
