"""What people call audio files, good and bad, becomes mono float32 or one sentence."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from valle.audio import AudioFileError, audio_info, audio_pieces, read_audio, resample, write_wav

RATE = 16000


def tone(seconds: float = 1.0, *, rate: int = RATE, hertz: float = 440.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def write_by_av(path: Path, wav: np.ndarray, codec: str) -> None:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(wav[None], format="fltp", layout="mono")
        frame.rate = RATE
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)


def test_sixteen_bit_samples_are_written_back_bit_for_bit(tmp_path: Path) -> None:
    every = np.arange(-32768, 32768).astype(np.int16)
    soundfile.write(tmp_path / "every.wav", every, RATE, subtype="PCM_16")
    wav, rate = read_audio(tmp_path / "every.wav")
    write_wav(tmp_path / "again.wav", wav, rate)
    assert np.array_equal(soundfile.read(tmp_path / "again.wav", dtype="int16")[0], every)


def test_louder_than_full_scale_is_clipped_not_wrapped(tmp_path: Path) -> None:
    write_wav(tmp_path / "loud.wav", np.array([2.0, -2.0], np.float32), RATE)
    assert soundfile.read(tmp_path / "loud.wav", dtype="int16")[0].tolist() == [32767, -32768]


def test_nothing_is_left_beside_a_written_file(tmp_path: Path) -> None:
    write_wav(tmp_path / "new" / "a.wav", tone(), RATE)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.wav"]


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "aiff"])
def test_common_formats_are_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, tone(), RATE)
    wav, rate = read_audio(path)
    assert rate == RATE and wav.dtype == np.float32
    assert abs(len(wav) - RATE) < 2400 and np.abs(wav[4000:12000]).max() == pytest.approx(0.3, abs=0.03)
    assert audio_info(path).num_channels == 1 and audio_info(path).seconds == pytest.approx(len(wav) / RATE, abs=0.2)


def test_opus_is_read(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.opus", tone(rate=48000), 48000, format="OGG", subtype="OPUS")
    wav, rate = read_audio(tmp_path / "a.opus", sample_rate=RATE)
    assert rate == RATE and abs(len(wav) - RATE) < 2000


def test_m4a_is_read_and_sought_to_the_sample(tmp_path: Path) -> None:
    path = tmp_path / "a.m4a"
    write_by_av(path, tone(2.0), "aac")
    whole, rate = read_audio(path)
    part, _ = read_audio(path, offset=0.7531, duration=0.25)
    first = round(0.7531 * RATE)
    assert rate == RATE and len(part) == RATE // 4
    assert np.array_equal(part, whole[first : first + RATE // 4])
    assert audio_info(path).seconds == pytest.approx(2.0, abs=0.2)


def test_a_part_equals_the_same_part_of_the_whole(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(2.0), RATE)
    whole, _ = read_audio(tmp_path / "a.wav")
    assert np.array_equal(read_audio(tmp_path / "a.wav", offset=0.5, duration=1.0)[0], whole[8000:24000])
    assert len(read_audio(tmp_path / "a.wav", offset=1.5, duration=9.0)[0]) == 8000


def test_eight_channels_become_their_mean(tmp_path: Path) -> None:
    channels = np.stack([tone() * share for share in np.linspace(0, 1, 8)], 1)
    soundfile.write(tmp_path / "a.wav", channels, RATE, subtype="FLOAT")
    wav, _ = read_audio(tmp_path / "a.wav")
    assert wav.shape == (RATE,) and np.allclose(wav, channels.mean(1), atol=1e-6)
    assert audio_info(tmp_path / "a.wav").num_channels == 8


@settings(deadline=None, max_examples=40)
@given(length=st.integers(1, 5000), rates=st.tuples(*[st.sampled_from([8000, 16000, 22050, 24000, 32000, 44100, 48000])] * 2))
def test_resampled_lengths_are_exact(length: int, rates: tuple[int, int]) -> None:
    before, after = rates
    assert len(resample(np.zeros(length, np.float32), before, after)) == -(-length * after // before)


def test_resampling_keeps_sound_in_place() -> None:
    there = resample(tone(rate=44100), 44100, RATE)
    assert np.abs(there[500:-500] - tone()[500 : len(there) - 500]).max() < 2e-3


def sentence(path: Path, **arguments: float) -> str:
    with pytest.raises(AudioFileError) as error:
        read_audio(path, **arguments)
    assert str(path) in str(error.value) and "expected" in str(error.value) and "\n" not in str(error.value)
    return str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "found nothing there" in sentence(tmp_path / "no.wav")


def test_a_folder_is_no_audio_file(tmp_path: Path) -> None:
    assert "found the folder" in sentence(tmp_path)


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    assert "0 bytes" in sentence(tmp_path / "a.wav")


@pytest.mark.parametrize("name", ["text.wav", "text.flac", "text.mp3", "text.m4a", "text.xyz", "text"])
def test_text_named_as_audio_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("This is not audio. " * 100)
    assert "cannot be decoded" in sentence(tmp_path / name)


@pytest.mark.parametrize("suffix", ["flac", "ogg"])
def test_a_damaged_header_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, tone(), RATE)
    path.write_bytes(b"\x00" * 64 + path.read_bytes()[64:])
    assert "cannot be decoded" in sentence(path)


def test_a_flac_cut_short_gives_what_is_there_or_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, np.random.default_rng(0).normal(size=4 * RATE).astype(np.float32) * 0.1, RATE)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    try:
        wav, _ = read_audio(path)
    except AudioFileError as error:
        assert str(path) in str(error)
    else:
        assert 0 < len(wav) < 4 * RATE


def test_a_header_without_samples_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(0, np.float32), RATE)
    assert "found none" in sentence(tmp_path / "a.wav")


def test_an_offset_past_the_end_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(), RATE)
    assert "after 5 s" in sentence(tmp_path / "a.wav", offset=5.0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    wav = tone()
    wav[100] = value
    soundfile.write(tmp_path / "a.wav", wav, RATE, subtype="FLOAT")
    assert "NaN or infinity" in sentence(tmp_path / "a.wav")


def test_samples_far_beyond_full_scale_are_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone() * 32768, RATE, subtype="FLOAT")
    assert "within -1..1" in sentence(tmp_path / "a.wav")


def test_a_video_without_sound_is_refused(tmp_path: Path) -> None:
    import av

    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 16
        frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    assert "without an audio track" in sentence(tmp_path / "a.mp4")


@pytest.mark.parametrize(
    ("rate", "suffix"), [(16000, ".wav"), (22050, ".wav"), (8000, ".flac"), (48000, ".ogg"), (16000, ".m4a"), (44100, ".mp3")]
)
def test_a_file_in_pieces_is_the_file_at_once_to_the_bit(rate: int, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"sound{suffix}"
    wav = tone(2.137, rate=rate, hertz=313.0) + tone(2.137, rate=rate, hertz=2500.0)
    if suffix == ".m4a":
        write_by_av(path, wav, "aac")
    else:
        soundfile.write(path, np.stack([wav, 0.5 * wav], 1), rate)
    whole, _ = read_audio(path, sample_rate=RATE)
    for seconds in (0.1, 0.77, 9.0):
        pieces = list(audio_pieces(path, sample_rate=RATE, seconds=seconds))
        assert all(len(piece) and piece.dtype == np.float32 for piece in pieces) and len(pieces) >= 1.7 / seconds
        np.testing.assert_array_equal(np.concatenate(pieces), whole)
        assert max(map(len, pieces)) < (seconds + 0.2) * RATE


def test_pieces_of_no_sound_are_refused_as_the_whole_is(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "none.wav", np.zeros(0, np.float32), RATE)
    (tmp_path / "noise.mp3").write_bytes(b"no sound at all" * 100)
    wav = tone(2.0)
    wav[30000] = np.nan
    soundfile.write(tmp_path / "nan.wav", wav, RATE, subtype="FLOAT")
    for name in ("none.wav", "noise.mp3", "nan.wav", "absent.wav"):
        with pytest.raises(AudioFileError) as whole:
            read_audio(tmp_path / name)
        with pytest.raises(AudioFileError) as pieces:
            list(audio_pieces(tmp_path / name, sample_rate=RATE, seconds=1.0))
        assert str(pieces.value) == str(whole.value)
