"""The watermark: inaudibly small, the same in pieces, found after it was carried about, and not found where it is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from valle.audio import Waveform, read_audio, resample
from valle.errors import UserError
from valle.evaluation.opus import opus_round_trip
from valle.marks import find
from valle.marks.embed import Watermark, mark_filters
from valle.marks.pattern import BANDS, CELLS, PUBLIC_KEY, MarkKey, read_key

RATE = 16000
SAMPLES = sorted((Path(__file__).parents[2] / "valle" / "assets" / "samples").glob("*.flac"))
OWN = MarkKey(b"sixteen bytes of one's own")


def speech(number: int, seconds: float = 6.0) -> Waveform:
    return read_audio(SAMPLES[number], sample_rate=RATE, duration=seconds)[0]


MARKED = Watermark(RATE).next(speech(0))


@settings(deadline=None, max_examples=20, derandomize=True)
@given(sizes=st.lists(st.integers(1, 9000), min_size=1, max_size=30), rate=st.sampled_from([8000, 16000, 22050, 24000, 44100]))
def test_pieces_of_any_size_are_marked_as_the_whole_is(sizes: list[int], rate: int) -> None:
    wav = np.random.default_rng(0).uniform(-1, 1, sum(sizes)).astype(np.float32)
    mark = Watermark(rate)
    pieces = [mark.next(piece) for piece in np.split(wav, np.cumsum(sizes)[:-1])]
    assert np.allclose(np.concatenate(pieces), Watermark(rate).next(wav), atol=1e-6)


def test_a_sample_depends_on_none_that_follows_it() -> None:
    wav = speech(0, 2.0)
    other = wav.copy()
    other[20000:] = 0
    assert np.array_equal(Watermark(RATE).next(wav)[:20000], Watermark(RATE).next(other)[:20000])


def test_cells_are_louder_and_quieter_by_their_decibels_and_the_mean_is_kept() -> None:
    gains = 20 * np.log10(np.abs(np.fft.rfft(mark_filters(RATE, PUBLIC_KEY), 1024)))
    middles = gains[:, 20 + 8 * np.arange(BANDS)]  # 312.5 Hz and on
    assert np.array_equal(np.sign(middles), PUBLIC_KEY.signs())
    assert 0.8 < np.abs(middles[:, 1:8]).mean() < 1.4 and 2.3 < np.abs(middles[:, 12:25]).mean() < 3.6
    assert (PUBLIC_KEY.signs().sum(0) == 0).all() and PUBLIC_KEY.signs().shape == (CELLS, BANDS)


@pytest.mark.parametrize("number", range(len(SAMPLES)))
def test_a_mark_is_found_and_its_absence_too(number: int) -> None:
    wav = speech(number)
    unmarked, marked = find.find_watermark(wav), find.find_watermark(Watermark(RATE).next(wav))
    assert not unmarked.is_marked and unmarked.score < 2
    assert marked.is_marked and marked.score > 10


def test_another_key_does_not_find_it() -> None:
    own = Watermark(RATE, OWN).next(speech(1))
    assert find.find_watermark(own, OWN).score > 10
    assert not find.find_watermark(own).is_marked and not find.find_watermark(MARKED, OWN).is_marked


ATTACKS = {
    "telephone": lambda wav: resample(resample(wav, RATE, 8000), 8000, RATE),
    "opus": lambda wav: opus_round_trip(wav, RATE, 32)[0],
    "quieter": lambda wav: 0.03 * wav,
    "noise": lambda wav: wav + 0.1 * wav.std() * np.random.default_rng(0).normal(size=len(wav)).astype(np.float32),
    "a second somewhere": lambda wav: wav[33333 : 33333 + RATE],
    "inside a long recording": lambda wav: np.concatenate([speech(2), wav[:32000], speech(3)]),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_mark_survives(name: str) -> None:
    assert find.find_watermark(ATTACKS[name](MARKED).astype(np.float32)).is_marked


@pytest.mark.parametrize("rate", [8000, 24000, 44100])
def test_sound_of_other_rates_is_marked_alike(rate: int) -> None:
    marked = Watermark(rate).next(resample(speech(1), RATE, rate))
    assert find.find_watermark(resample(marked, rate, RATE)).is_marked


@settings(deadline=None, max_examples=10, derandomize=True)
@given(sizes=st.lists(st.integers(1, 40000), min_size=1, max_size=6))
def test_pieces_are_searched_as_the_whole_is(sizes: list[int]) -> None:
    pieces = np.split(MARKED, np.minimum(np.cumsum(sizes), len(MARKED)))
    assert find.find_in_pieces(pieces).z == pytest.approx(find.find_watermark(MARKED).z, rel=1e-9)


def test_silence_and_nothing_are_not_marked() -> None:
    for wav in (np.zeros(0, np.float32), np.zeros(40000, np.float32), np.ones(RATE, np.float32)):
        assert find.find_watermark(wav).chance == 1


def test_the_search_holds_a_few_sums_however_long_it_is() -> None:
    search = find.Search()
    block = np.random.default_rng(0).normal(size=(find.PERIOD, BANDS))
    for _ in range(300):
        search.take(block)
    assert len(search._waiting) <= 10


def test_a_key_is_a_file_and_never_shown(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"k" * 32)
    assert read_key(tmp_path / "key") == MarkKey(b"k" * 32) and "kkk" not in repr(read_key(tmp_path / "key"))
    (tmp_path / "short").write_bytes(b"k")
    for name in ("short", "missing"):
        with pytest.raises(UserError, match="key"):
            read_key(tmp_path / name)


def test_sound_that_repeats_with_the_pattern_is_one_try_and_not_many() -> None:
    """Regression: of a sound with the same period, such as one marked by another key, every period counted as new evidence."""
    for number in range(4):
        period = np.random.default_rng(number).normal(size=(find.PERIOD, BANDS))
        once, often = find.folded(period), find.Search()
        for _ in range(64):
            often.take(period)
        assert often.best == pytest.approx(once.z(PUBLIC_KEY))
