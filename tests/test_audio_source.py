"""What FFmpeg reads whole is read whole, right, or refused in one line; by content, whatever the name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from tiny_audio import sound
from tiny_headers import (
    RATE,
    aac_frames,
    caf_of_unknown_length,
    flac_of_unknown_length,
    mp3_that_promises,
    packed,
    wav_of_sizes,
    write_by_av,
)  # fmt: skip

from valle.audio import AudioFileError, audio_info, audio_pieces, count_samples, read_audio
from valle.audio_source import channel_to_take, find_source

VORBIS, OPUS = {"format": "OGG", "subtype": "VORBIS"}, {"format": "OGG", "subtype": "OPUS"}
MP3 = {"format": "MP3", "subtype": "MPEG_LAYER_III"}
ALL_ONES = 2**32 - 1
HALF = 3 * RATE  # samples of three seconds

LENGTHS = {  # name: (content, seconds, tolerance)
    "flac to a pipe.flac": (flac_of_unknown_length(6), 6, 0),
    "flac that promises half.flac": (flac_of_unknown_length(6, promised=HALF), 6, 0),
    "two flacs.flac": (packed(4, format="FLAC") + packed(6, format="FLAC", seed=1), 10, 0),
    "wav to a pipe.wav": (wav_of_sizes(6, riff=ALL_ONES, data=ALL_ONES), 6, 0),
    "wav by sox.wav": (wav_of_sizes(6, riff=0x7FFFF024, data=0x7FFFF000), 6, 0),
    "battery died.wav": (wav_of_sizes(6, riff=0, data=0), 6, 0),
    "battery died, size known.wav": (wav_of_sizes(6, riff=36 + 12 * RATE, data=0), 6, 0),
    "odd chunk.wav": (wav_of_sizes(6, riff=52 + 12 * RATE, data=12 * RATE, extra=b"LIST\7\0\0\0INFOabc\0"), 6, 0),
    "last byte missing.wav": (wav_of_sizes(6, riff=36 + 12 * RATE, data=12 * RATE)[:-1], 6, 1 / RATE),
    "live.caf": (caf_of_unknown_length(6), 6, 0),
    "two vorbis.ogg": (packed(4, **VORBIS) + packed(6, **VORBIS, seed=1), 10, 0.1),
    "two opus.opus": (packed(4, rate=48000, **OPUS) + packed(6, rate=48000, **OPUS, seed=1), 10, 0.1),
    "two mp3.mp3": (packed(4, **MP3) + packed(6, **MP3, seed=1), 10, 0.2),
    "mp3 of two rates.mp3": (packed(4, rate=44100, **MP3) + packed(6, rate=48000, **MP3, seed=1), 10, 0.2),
    "mp3 of one and two channels.mp3": (packed(4, rate=44100, **MP3) + packed(6, rate=44100, channels=2, **MP3, seed=1), 10, 0.2),
    "Xing with half of the frames.mp3": (mp3_that_promises(6, share=0.5), 6, 0.2),
    "Xing with thrice the frames.mp3": (mp3_that_promises(6, share=3), 6, 0.2),
    "channels.aac": (aac_frames(44100, 1, 150) + aac_frames(44100, 2, 150), 300 * 1024 / 44100, 0.01),
    "rates.aac": (aac_frames(44100, 1, 150) + aac_frames(48000, 1, 150), 150 * 1024 / 44100 + 150 * 1024 / 48000, 0.01),
}


@pytest.mark.parametrize("name", LENGTHS)
def test_all_of_a_recording_is_read_whatever_its_header_says(tmp_path: Path, name: str) -> None:
    content, seconds, tolerance = LENGTHS[name]
    (tmp_path / name).write_bytes(content)
    wav, rate = read_audio(tmp_path / name)
    assert abs(len(wav) / rate - seconds) <= tolerance + 1e-9
    assert count_samples(tmp_path / name) == (len(wav), rate)
    pieces = list(audio_pieces(tmp_path / name, sample_rate=RATE, seconds=1.0))
    assert np.array_equal(np.concatenate(pieces), read_audio(tmp_path / name, sample_rate=RATE)[0])
    part, _ = read_audio(tmp_path / name, offset=1.5, duration=2.0)
    assert np.allclose(part, wav[round(1.5 * rate) : round(1.5 * rate) + 2 * rate], atol=1e-6)


@pytest.mark.parametrize("name", ["flac to a pipe.flac", "battery died.wav", "live.caf"])
def test_samples_of_a_header_without_a_length_are_those_that_were_written(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(LENGTHS[name][0])
    assert np.abs(read_audio(tmp_path / name)[0] - sound(6)).max() < 1e-4


def test_a_change_of_rate_keeps_pitch_and_place(tmp_path: Path) -> None:
    tone = {rate: np.sin(2 * np.pi * 440 * np.arange(4 * rate) / rate).astype(np.float32) * 0.3 for rate in (44100, 48000)}
    path = tmp_path / "a.mp3"
    content = b""
    for rate, wav in tone.items():
        soundfile.write(tmp_path / "one.mp3", wav, rate)
        content += (tmp_path / "one.mp3").read_bytes()
    path.write_bytes(content)
    wav, rate = read_audio(path)
    assert rate == 44100
    for first in (1, 5):  # seconds, in the first and in the second file
        spectrum = np.abs(np.fft.rfft(wav[first * rate : (first + 2) * rate]))
        assert spectrum.argmax() / 2 == pytest.approx(440, abs=1)


@pytest.mark.parametrize("kind", ["WAV", "AIFF", "AU", "CAF", "W64", "RF64"])
def test_files_end_to_end_that_no_library_reads_on_are_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "two.wav"
    path.write_bytes(packed(1, format=kind, subtype="PCM_16") * 2)
    with pytest.raises(AudioFileError, match="put end to end"):
        read_audio(path)


def test_two_mp4_end_to_end_are_refused(tmp_path: Path) -> None:
    one = write_by_av(tmp_path / "one.m4a", 1, "aac").read_bytes()
    (tmp_path / "two.m4a").write_bytes(one + one)
    assert len(read_audio(tmp_path / "one.m4a")[0]) > 0
    with pytest.raises(AudioFileError, match="put end to end"):
        read_audio(tmp_path / "two.m4a")


@pytest.mark.parametrize("other", [{"rate": 44100}, {"channels": 2}])
def test_a_change_that_ffmpeg_does_not_read_is_refused_in_one_line(tmp_path: Path, other: dict[str, int]) -> None:
    (tmp_path / "a.ogg").write_bytes(packed(2, **VORBIS) + packed(2, **VORBIS, **other))
    with pytest.raises(AudioFileError, match=r"its rate or its channels change on the way") as error:
        read_audio(tmp_path / "a.ogg")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("suffix", [".wav", ".mp3", ".flac", ".raw", ".webm", ""])
def test_the_content_says_what_a_file_is_and_not_its_name(tmp_path: Path, suffix: str) -> None:
    web = write_by_av(tmp_path / "made.weba", 2, "libopus", container="webm").read_bytes()
    for number, content in enumerate((web, packed(2, format="WAV"), packed(2, **MP3), packed(2, format="FLAC"))):
        path = tmp_path / f"{number}{suffix}"
        path.write_bytes(content)
        wav, rate = read_audio(path)
        assert abs(len(wav) / rate - 2) < 0.1


@pytest.mark.parametrize("container", ["matroska", "mp4", "mpegts"])
def test_the_sound_of_a_film_is_read(tmp_path: Path, container: str) -> None:
    import av

    path = tmp_path / "film.wav"
    with av.open(str(path), "w", format=container) as file:
        video, audio = file.add_stream("mpeg4", rate=10), file.add_stream("aac", rate=48000, layout="mono")
        video.width = video.height = 16
        for _ in range(20):
            file.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")))
        frame = av.AudioFrame.from_ndarray(sound(2, rate=48000)[None], format="fltp", layout="mono")
        frame.rate = 48000
        cutter = av.AudioResampler(format="fltp", layout="mono", rate=48000, frame_size=1024)
        for part in [*cutter.resample(frame), *cutter.resample(None), None]:
            file.mux(audio.encode(part))
    wav, rate = read_audio(path)
    assert rate == 48000 and abs(len(wav) / rate - 2) < 0.1


PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile '{}'\n",
    "sdp": "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 5004 RTP/AVP 0\r\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{}</BaseURL></MPD>\n',
}


@pytest.mark.parametrize("name", ["list.wav", "list.m3u8", "list.ffconcat", "list.mpd"])
@pytest.mark.parametrize("kind", PLAYLISTS)
def test_a_list_of_other_files_opens_none_of_them(tmp_path: Path, kind: str, name: str) -> None:
    (tmp_path / "secret.mp3").write_bytes(packed(2, **MP3))
    (tmp_path / name).write_text(PLAYLISTS[kind].format(tmp_path / "secret.mp3"))
    with pytest.raises(AudioFileError, match="cannot be decoded"):
        read_audio(tmp_path / name)


def test_a_name_like_an_address_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("concat:a.mp3").write_bytes(packed(2, **MP3))
    assert abs(len(read_audio("concat:a.mp3")[0]) / RATE - 2) < 0.1
    with pytest.raises(AudioFileError, match="found nothing there"):
        read_audio("http://127.0.0.1:9/a.mp3")


def test_more_hours_than_anybody_wants_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small file may decode to days: known from the header at once, else as soon as it is decoded."""
    monkeypatch.setattr("valle.audio_source.MAX_HOURS", 5 / 3600)
    (tmp_path / "a.flac").write_bytes(packed(6, format="FLAC"))
    (tmp_path / "b.flac").write_bytes(flac_of_unknown_length(6))
    for name in ("a.flac", "b.flac"):
        with pytest.raises(AudioFileError, match=r"h of sound in .*, found more; split it"):
            list(audio_pieces(tmp_path / name, sample_rate=RATE))


def test_no_more_is_held_at_once_than_memory_may_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("valle.audio.MAX_HOURS_AT_ONCE", 5 / 3600)
    (tmp_path / "a.flac").write_bytes(packed(6, format="FLAC"))
    with pytest.raises(AudioFileError, match="at once, found more"):
        read_audio(tmp_path / "a.flac")
    assert len(read_audio(tmp_path / "a.flac", duration=4.0)[0]) == 4 * RATE


@pytest.mark.parametrize(("rate", "channels"), [(1, 1), (2_000_000, 1), (RATE, 200)])
def test_rates_and_channels_beyond_sense_are_refused(tmp_path: Path, rate: int, channels: int) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros((4000, channels)), rate)
    with pytest.raises(AudioFileError, match="its header is wrong"):
        audio_info(tmp_path / "a.wav")


def test_what_is_plain_is_left_to_libsndfile(tmp_path: Path) -> None:
    for name, options in (("a.wav", {}), ("a.flac", {}), ("a.mp3", {}), ("a.ogg", {}), ("a.aiff", {})):
        soundfile.write(tmp_path / name, sound(3), RATE, **options)
        assert find_source(tmp_path / name).seekable, name


def stereo(path: Path, left: np.ndarray, right: np.ndarray) -> Path:
    soundfile.write(path, np.stack([left, right], 1), RATE, subtype="FLOAT")
    return path


def test_one_channel_turned_over_is_not_silence(tmp_path: Path) -> None:
    wav = sound(3)
    path = stereo(tmp_path / "a.wav", wav, -wav)
    assert np.array_equal(np.abs(read_audio(path)[0]), np.abs(wav))
    assert np.array_equal(np.abs(np.concatenate(list(audio_pieces(path, sample_rate=RATE, seconds=0.3)))), np.abs(wav))
    assert np.array_equal(read_audio(path, offset=1.0, duration=1.0)[0], read_audio(path)[0][RATE : 2 * RATE])


def test_the_louder_channel_is_taken_where_both_cancel(tmp_path: Path) -> None:
    wav = sound(3)
    assert channel_to_take(stereo(tmp_path / "a.wav", 0.8 * wav, -wav)) == 1
    assert channel_to_take(stereo(tmp_path / "b.wav", -wav, 0.8 * wav)) == 0


def test_channels_that_do_not_cancel_are_averaged(tmp_path: Path) -> None:
    wav, other = sound(3), sound(3, seed=1)
    for right in (wav, other, 0 * wav, -0.3 * wav):
        path = stereo(tmp_path / "a.wav", wav, right)
        assert np.allclose(read_audio(path)[0], (wav + right) / 2, atol=1e-6)


def test_silence_before_the_sound_decides_nothing(tmp_path: Path) -> None:
    wav = np.concatenate([np.zeros(40 * RATE, np.float32), sound(3)])
    path = stereo(tmp_path / "a.wav", wav, -wav)
    assert np.array_equal(np.abs(read_audio(path)[0]), np.abs(wav))
