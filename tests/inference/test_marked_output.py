"""What is generated carries the mark in every way out of the pipeline; the prompt's own samples do not."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_pipeline import RATE, lean_to_end, recording, tiny_released

from valle.audio import resample
from valle.inference.continuation import ContinueSettings
from valle.inference.pipeline import FADE_SECONDS, Pipeline
from valle.marks import find
from valle.marks.embed import Watermark
from valle.marks.pattern import MarkKey

KINDS = {"16 kHz": {}, "24 kHz, codes only": {"units": False, "rates": "50/75"}}
OWN = MarkKey(b"a key of one's own.")


def endless(kind: str) -> Pipeline:
    released = tiny_released(**KINDS[kind])
    return Pipeline(lean_to_end(released, -1e9) if released.semantic else released, engine="torch")


@pytest.mark.parametrize("kind", KINDS)
def test_only_generated_samples_are_marked_and_by_the_mark_alone(kind: str) -> None:
    pipeline, fade = endless(kind), round(FADE_SECONDS * endless(kind).sample_rate)
    [marked] = pipeline.continue_audio(recording(2), RATE, max_seconds=2)
    [unmarked] = pipeline.continue_audio(recording(2), RATE, max_seconds=2, watermark=False)
    own = marked.own_samples
    assert np.array_equal(marked.codes, unmarked.codes) and own == unmarked.own_samples > 0
    assert np.array_equal(marked.wav[:own], unmarked.wav[:own])
    assert not np.allclose(marked.wav[own + fade :], unmarked.wav[own + fade :], atol=1e-4)
    mark = Watermark(pipeline.sample_rate)
    mark.next(unmarked.wav[own : own + fade])  # other samples stood there, so the filter's memory is let pass
    length = round(0.016 * pipeline.sample_rate)
    expected = mark.next(unmarked.wav[own + fade :])
    assert np.allclose(marked.wav[own + fade + length :], expected[length:], atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_continuation_and_a_stream_are_watermarked(kind: str) -> None:
    pipeline, asked = endless(kind), ContinueSettings(max_seconds=6, block_seconds=0.5)
    [offline] = pipeline.continue_audio(recording(1), RATE, settings=asked)
    with pipeline.stream(recording(1), RATE, settings=asked) as live:
        streamed = np.concatenate(list(live))
    [without] = pipeline.continue_audio(recording(1), RATE, settings=asked, watermark=False)
    [of_own_key] = pipeline.continue_audio(recording(1), RATE, settings=ContinueSettings(max_seconds=6, watermark_key=OWN))
    rate = pipeline.sample_rate
    assert all(find.find_watermark(resample(wav, rate, find.RATE)).is_marked for wav in (offline.wav, streamed))
    assert not find.find_watermark(resample(without.wav, rate, find.RATE)).is_marked
    found = [find.find_watermark(resample(of_own_key.wav, rate, find.RATE), key).is_marked for key in (OWN, MarkKey())]
    assert found == [True, False]


def test_every_mode_marks_what_it_makes() -> None:
    pipeline = endless("16 kHz")
    for settings in (ContinueSettings(mode="resynthesize"), ContinueSettings(mode="acoustic", prompt_seconds=0)):
        [result] = pipeline.continue_audio(recording(6), RATE, settings=settings)
        assert result.own_samples == 0 and find.find_watermark(result.wav).is_marked
