import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile
from matplotlib.image import imread
from tiny_pipeline import RATE, recording

from valle.audio import read_audio, write_wav
from valle.inference.listening_page import PageItem, PagePicture, PageTable, write_page
from valle.inference.spectrogram import mel_picture, write_spectrogram

NASTY = "<script>alert('x')</script> & \"so\" {{ 7 * 7 }}.wav"


class Tags(HTMLParser):
    """Every start tag with its attributes, and the text outside of scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.inside = "", ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = tag

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        self.text += "" if self.inside in ("script", "style") else data

    def values(self, tag: str, name: str) -> list[str]:
        return [attributes.get(name) or "" for found, attributes in self.tags if found == tag]


def page_of(folder: Path, *, title: str = "a.wav", prompt_seconds: float = 1.0, seconds: float = 3.0, **extras: object) -> str:
    write_wav(folder / "a.wav", recording(seconds), RATE)
    write_spectrogram(folder / "a.png", recording(seconds), RATE, prompt_seconds=prompt_seconds)
    item = PageItem(title, "a.wav", "a.png", prompt_seconds, seconds - prompt_seconds, seed=3)
    write_page(folder / "index.html", [item], mode="continue", rtf=0.25, **extras)
    return (folder / "index.html").read_text()


def test_the_page_holds_its_sounds_and_pictures_itself(tmp_path: Path) -> None:
    page = Tags(page_of(tmp_path))
    sources = [value for tag in ("img", "audio", "script", "source") for value in page.values(tag, "src") if value]
    assert len(sources) == 2 and all(source.startswith("data:") for source in sources)
    assert not page.values("link", "href")
    assert all((tmp_path / link).is_file() for link in page.values("a", "href"))


def test_the_sound_in_the_page_is_the_wav_bit_for_bit(tmp_path: Path) -> None:
    source = Tags(page_of(tmp_path)).values("audio", "src")[0]
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(source.removeprefix("data:audio/flac;base64,"))), dtype="int16")
    assert rate == RATE and np.array_equal(samples, soundfile.read(tmp_path / "a.wav", dtype="int16")[0])


def test_an_hour_of_sound_stays_in_its_wavs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("valle.inference.listening_page.MOST_EMBEDDED_SECONDS", 2.0)
    assert Tags(page_of(tmp_path, seconds=3.0)).values("audio", "src") == ["a.wav"]
    assert Tags(page_of(tmp_path, seconds=2.0)).values("audio", "src")[0].startswith("data:")


def test_names_are_text_and_never_markup(tmp_path: Path) -> None:
    table = PageTable(NASTY, [NASTY], [[NASTY]], note=NASTY)
    page = Tags(page_of(tmp_path, title=NASTY, tables=[table], lead=NASTY))
    assert page.text.count(NASTY) == 6
    assert [tag for tag, _ in page.tags].count("script") == 1


def test_the_prompt_is_marked_where_it_ends(tmp_path: Path) -> None:
    page = page_of(tmp_path, prompt_seconds=1.0, seconds=4.0)
    assert re.search(r'class="given" style="width: 25\.000%"', page)
    assert "1.00 s of prompt" in page and "3.00 s generated" in page and "seed 3" in page


def test_nothing_generated_and_no_prompt_are_said_so(tmp_path: Path) -> None:
    assert "0.00 s generated" in page_of(tmp_path, prompt_seconds=3.0, seconds=3.0)
    assert "of prompt" not in page_of(tmp_path, prompt_seconds=0.0)


@pytest.mark.parametrize("seconds", [0.05, 1.0, 13.0, 95.0, 4000.0])
def test_the_time_axis_has_few_marks_within_the_picture(seconds: float) -> None:
    ticks = PageItem("a", "a.wav", "a.png", 0.0, seconds, 0).ticks
    assert 1 <= len(ticks) <= 9
    assert ticks[0] == (0.0, "0") and all(0 <= place <= 100.001 for place, _ in ticks)


def test_an_empty_page_is_a_page(tmp_path: Path) -> None:
    write_page(tmp_path / "index.html", [], mode="continue", rtf=0.0)
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
    assert "<b>0</b> sounds" in (tmp_path / "index.html").read_text()


def test_tables_and_pictures_stand_below_the_sounds(tmp_path: Path) -> None:
    write_spectrogram(tmp_path / "chart.png", recording(1.0), RATE, prompt_seconds=0)
    table = PageTable("Nats", ["stage", "dev"], [["coarse", "1.50"]], note="Lower is better.")
    page = page_of(tmp_path, tables=[table], pictures=[PagePicture("Curves", tmp_path / "chart.png", note="Of this run.")])
    order = [page.index(text) for text in ("<article>", "Nats", "1.50", "Lower is better.", "Curves", "Of this run.")]
    assert order == sorted(order)
    assert len(Tags(page).values("img", "src")) == 2


def test_a_picture_is_as_wide_as_its_sound_is_long_up_to_a_limit() -> None:
    short, long = (imread(io.BytesIO(mel_picture(recording(seconds), RATE)), format="png") for seconds in (2.0, 60.0))
    assert short.shape[:2] == (128, 201)
    assert long.shape[1] <= 1602


@pytest.mark.parametrize("samples", [0, 1, 100])
def test_sounds_of_almost_nothing_have_a_picture(samples: int) -> None:
    assert mel_picture(np.zeros(samples, np.float32), RATE).startswith(b"\x89PNG")


def test_a_higher_tone_stands_higher_in_the_picture() -> None:
    time = np.arange(RATE) / RATE
    tones = [np.sin(2 * np.pi * hertz * time).astype(np.float32) for hertz in (300, 3000)]
    pictures = [imread(io.BytesIO(mel_picture(tone, RATE)), format="png") for tone in tones]
    brightest = [picture[..., :3].sum(-1).mean(1).argmax() for picture in pictures]
    assert brightest[0] > brightest[1]


def test_a_spectrogram_leaves_nothing_beside_it(tmp_path: Path) -> None:
    write_spectrogram(tmp_path / "a.png", read_audio(_wav(tmp_path))[0], RATE, prompt_seconds=0.5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "a.wav"]


def _wav(folder: Path) -> Path:
    write_wav(folder / "a.wav", recording(1.0), RATE)
    return folder / "a.wav"
