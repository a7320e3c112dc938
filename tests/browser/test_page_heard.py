"""What a person hears is what the model makes of what was recorded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from served import Served, Watched

from valle.audio import Waveform
from valle.inference.continuation import Continuation
from valle.inference.pipeline import Pipeline

BUSY = 0.4  # seconds of work a second of sound; an idle core needs a fifth


def offline(models: dict[str, Path], name: str, prompt: Waveform, rate: int, *, seed: int, seconds: float = 2) -> Continuation:
    """What ``Pipeline`` makes of a prompt that is all there."""
    [one] = Pipeline.from_pretrained(models[name], engine="torch").continue_audio(prompt, rate, seed=seed, max_seconds=seconds)
    return one


def sounding(sound: Waveform) -> Waveform:
    """Without silent samples: what is heard on a machine that is too busy to play without a gap is the same."""
    return sound[sound != 0]


def test_three_seconds_spoken_are_continued_as_offline_without_an_underrun(
    server: Served, models: dict[str, Path], watched: Watched, tmp_path: Path
) -> None:
    page = watched.open(server.url, model="codes", seed=7)
    watched.listen()
    page.get_by_role("button", name="Record").click()
    watched.wait("done")
    prompt, rate = watched.samples("app.result.source.samples"), int(watched.number("app.result.source.sampleRate"))
    assert len(prompt) == 3 * rate and np.abs(prompt).max() > 0.05
    expected = offline(models, "codes", prompt, rate, seed=7)
    wav = watched.samples("app.result.wav")
    assert len(wav) == len(expected.wav) and np.allclose(wav, expected.wav, atol=1e-4)
    new = wav[expected.prompt_samples :]
    assert np.array_equal(sounding(watched.heard), sounding(new))
    assert watched.number("app.result.underruns") == 0 or watched.number("app.result.realTimeFactor") > BUSY
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    download.value.save_as(tmp_path / "download.wav")
    saved, saved_rate = soundfile.read(tmp_path / "download.wav", dtype="float32")
    assert saved_rate == expected.sample_rate and len(saved) == len(wav) and np.abs(saved - wav).max() <= 1 / 32768


def test_nothing_is_missing_where_the_server_is_quicker_than_the_sound(server: Served, watched: Watched) -> None:
    page = watched.open(server.url, model="codes", seconds=3)
    page.select_option("#sample", index=1)
    watched.wait("done")
    if (factor := watched.number("app.result.realTimeFactor")) > BUSY:
        pytest.skip(f"this machine is busy: the tiny model took {factor:.2f} s of work a second of sound")
    assert watched.number("app.result.underruns") == 0 and "Gaps none" in page.inner_text("#facts")
    assert len(watched.samples("app.result.wav")) == 6 * 16000


def test_a_sample_is_heard_before_what_follows_and_again_is_the_same_prompt_with_the_next_seed(
    server: Served, models: dict[str, Path], watched: Watched
) -> None:
    page = watched.open(server.url, model="codes", seconds=1)
    watched.listen()
    page.select_option("#sample", index=2)
    watched.wait("done")
    prompt, wav = watched.samples("app.result.source.samples"), watched.samples("app.result.wav")
    assert np.array_equal(sounding(watched.heard), sounding(wav))

    watched.forget()
    page.get_by_role("button", name="Again, seed 2").click()
    page.get_by_role("button", name="Again, seed 3").wait_for()
    assert np.array_equal(watched.samples("app.result.source.samples"), prompt) and page.input_value("#seed") == "2"
    expected, wav = offline(models, "codes", prompt, 16000, seed=2, seconds=1), watched.samples("app.result.wav")
    assert np.allclose(wav, expected.wav, atol=1e-4)
    assert np.array_equal(sounding(watched.heard), sounding(wav[expected.prompt_samples :]))

    watched.forget()
    page.get_by_role("button", name="Play").click()
    watched.wait("playing")
    watched.wait("done")
    assert np.array_equal(sounding(watched.heard), sounding(wav))


def test_stop_is_silence_at_once_and_keeps_what_was_made(server: Served, watched: Watched) -> None:
    page = watched.open(server.url, model="codes", seconds=30)
    watched.listen()
    page.select_option("#sample", index=1)
    watched.wait("continuing")
    page.wait_for_timeout(500)
    page.get_by_role("button", name="Stop").click()
    watched.wait("done")
    count = page.evaluate("window.heard.length")
    page.wait_for_timeout(300)
    later = watched.page.evaluate("count => window.heard.slice(count + 2).some(block => block.some(sample => sample !== 0))", count)
    assert later is False
    assert 0 < watched.number("app.result.newSamples") < 30 * 16000


def test_another_model_is_one_choice_away(server: Served, models: dict[str, Path], watched: Watched) -> None:
    """One that hears speech at one level, whose gain a stream fixes in the first second of it."""
    page = watched.open(server.url, model="units", seconds=1, seed=3)
    page.select_option("#sample", index=3)
    watched.wait("done")
    prompt = watched.samples("app.result.source.samples")
    with Pipeline.from_pretrained(models["units"], engine="torch").stream(iter([prompt]), 16000, seed=3, max_seconds=1) as chunks:
        expected = np.concatenate(list(chunks))
    wav = watched.samples("app.result.wav")
    assert np.allclose(wav[-len(expected) :], expected, atol=1e-4)
