"""Files from elsewhere: decoded as far as the prompt, in a process with limits, from a few containers and nothing beside them."""

from __future__ import annotations

import asyncio
import io
import time
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from tiny_live import nothing_left, run
from tiny_pipeline import RATE, recording

from valle.live import uploads
from valle.live.decode_upload import UploadError, decode_upload
from valle.live.protocol import ProtocolError
from valle.live.uploads import UploadDecoder


def of_soundfile(form: str, wav: np.ndarray, rate: int = RATE, subtype: str | None = None) -> bytes:
    packed = io.BytesIO()
    soundfile.write(packed, wav, rate, format=form, subtype=subtype)
    return packed.getvalue()


def of_ffmpeg(form: str, codec: str, wav: np.ndarray) -> bytes:
    packed = io.BytesIO()
    with av.open(packed, "w", format=form) as container:
        stream = container.add_stream(codec, rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.repeat(wav, 3)[None].astype(np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 48000, 0
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return packed.getvalue()


@pytest.mark.parametrize("form", ["WAV", "FLAC", "OGG", "MP3", "mp4", "webm"])
def test_the_beginning_of_every_format_that_is_taken_is_decoded(form: str) -> None:
    wav = recording(1.5)
    codec = {"mp4": "aac", "webm": "libopus"}.get(form)
    content = of_ffmpeg(form, codec, wav) if codec else of_soundfile(form, wav)
    found, rate = decode_upload(content, 0.5)
    assert found.dtype == np.float32 and len(found) == round(0.5 * rate) and rate in (RATE, 48000)
    if form in ("WAV", "FLAC"):
        assert np.array_equal(found, wav[: RATE // 2])
    assert 0.5 < np.sqrt(np.mean(found**2)) / np.sqrt(np.mean(wav[: RATE // 2] ** 2)) < 1.5


def test_channels_become_one_also_where_they_cancel_each_other() -> None:
    wav = recording(0.5)
    assert np.allclose(decode_upload(of_soundfile("WAV", np.stack([wav, wav], 1)), 1)[0], wav, atol=1e-4)
    assert np.allclose(decode_upload(of_soundfile("WAV", np.stack([wav, -wav], 1)), 1)[0], wav, atol=1e-4)


def test_an_hour_of_silence_in_a_small_file_costs_no_more_than_its_prompt() -> None:
    content = of_soundfile("FLAC", np.zeros(3600 * 8000, np.int16), 8000)
    assert len(content) < 200_000
    started = time.process_time()
    assert len(decode_upload(content, 3)[0]) == 3 * 8000
    assert time.process_time() - started < 2


@pytest.mark.parametrize(
    "content, said",
    [
        (b"", "cannot be decoded"),
        (b"RIFF", "cannot be decoded"),
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n", "cannot be decoded"),
        (b"ffconcat version 1.0\nfile /etc/hostname\n", "cannot be decoded"),
        (of_soundfile("AIFF", recording(0.3)), "cannot be decoded"),  # of libraries that would read it, it is not on the list
        (of_soundfile("WAV", np.zeros((800, 9))), "at most 8 channels"),
        (of_soundfile("WAV", np.zeros(800), 1000), "4000 to 192000 samples a second"),
        (of_soundfile("WAV", np.full(800, np.nan, np.float32), subtype="FLOAT"), "finite samples"),
        (of_soundfile("WAV", np.zeros(0)), "found none"),
    ],
)
def test_what_is_no_sound_of_these_formats_is_refused_in_one_line(content: bytes, said: str) -> None:
    with pytest.raises(UploadError, match=said):
        decode_upload(content, 1)


def test_a_process_decodes_and_leaves_nothing_behind() -> None:
    async def work() -> None:
        decoder = UploadDecoder()
        await decoder.decode(of_soundfile("WAV", recording(0.3)), 1)  # the watcher of processes is there from now on
        with nothing_left():
            wav, rate = await decoder.decode(of_soundfile("WAV", recording(0.3)), 1)
            assert rate == RATE and np.array_equal(wav, recording(0.3))
            with pytest.raises(ProtocolError, match="cannot be decoded"):
                await decoder.decode(b"no sound", 1)
            await asyncio.sleep(0.1)

    run(work())


def test_a_process_that_takes_too_long_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "DECODE_SECONDS", 0.01)

    async def work() -> None:
        with pytest.raises(ProtocolError, match="found a slower one"):
            await UploadDecoder().decode(of_soundfile("WAV", recording(0.3)), 1)

    run(work())


def test_a_process_that_dies_is_a_file_that_cannot_be_decoded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    dies = tmp_path / "dies"
    dies.write_text("#!/bin/sh\nkill -9 $$\n")
    dies.chmod(0o755)
    monkeypatch.setattr(uploads.sys, "executable", str(dies))

    async def work() -> None:
        with pytest.raises(ProtocolError, match="on which the decoder failed"):
            await UploadDecoder().decode(bytes(10**6), 1)

    run(work())
