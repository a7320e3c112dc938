"""The page on which continuations are listened to: one file that holds its sounds and pictures, and asks for nothing from elsewhere."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import soundfile
from jinja2 import Environment, PackageLoader, StrictUndefined

from valle.audio import Waveform, read_audio, to_int16
from valle.files import replacing
from valle.inference.spectrogram import mel_picture

TITLES = {"continue": "Continuations", "resynthesize": "Round trips through the codec", "acoustic": "Sound from true units"}
LEADS = {
    "continue": "The grey part of each picture is the prompt, the recording itself. Everything after it was generated.",
    "resynthesize": "Each recording, encoded and decoded by the codec. No continuation can sound better.",
    "acoustic": "The grey part is the prompt. After it, the words are the recording's and the sound was generated.",
}
MOST_TICKS = 8
MOST_EMBEDDED_SECONDS = 600.0  # of sound that the page itself holds (about 15 MB); beyond it the wavs beside it are played
LABEL_PERCENT = 9.0  # parts narrower than this share of the picture have no room for their name


@dataclass(frozen=True)
class PageItem:
    """One result; file names are relative to the page."""

    title: str
    wav: str
    picture: str
    prompt_seconds: float
    generated_seconds: float
    seed: int

    @property
    def seconds(self) -> float:
        return self.prompt_seconds + self.generated_seconds

    @property
    def prompt_percent(self) -> float:
        """Share of the sound that is prompt."""
        return 100 * self.prompt_seconds / max(self.seconds, 1e-9)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Where the time axis is marked, in percent, and with which second."""
        step = next((step for step in (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300) if self.seconds / step <= MOST_TICKS), 600)
        marks = range(int(self.seconds / step) + 1) if self.seconds else ()
        return [(100 * number * step / self.seconds, f"{number * step:g}") for number in marks]


@dataclass(frozen=True)
class PageTable:
    """Figures beside the sounds; the first column of a row is its name."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass(frozen=True)
class PagePicture:
    """A PNG to show under the sounds."""

    title: str
    path: Path
    note: str = ""


def write_page(
    path: Path,
    items: Sequence[PageItem],
    *,
    mode: str,
    rtf: float,
    title: str | None = None,
    lead: str | None = None,
    tables: Sequence[PageTable] = (),
    pictures: Sequence[PagePicture] = (),
    links: Sequence[tuple[str, str]] = (),
) -> None:
    """Write the page under a temporary name and rename it; every text is escaped.

    Sounds are read from the items' wavs and stand in the page as FLAC, lossless at half the size; where they last more than
    ten minutes together, the page plays the wavs beside it.  ``links`` are texts with the pages beside this one that they lead to.
    """
    environment = Environment(
        loader=PackageLoader("valle.inference"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    embedded = sum(item.seconds for item in items) <= MOST_EMBEDDED_SECONDS
    sounds = []
    for item in items:
        wav, rate = read_audio(path.parent / item.wav)
        audio = _flac(wav, rate) if embedded else quote(item.wav)
        sounds.append({"item": item, "audio": audio, "picture": _data("image/png", mel_picture(wav, rate)), "rate": rate})
    page = environment.get_template("listening_page.html").render(
        title=title or TITLES[mode],
        lead=lead or LEADS[mode],
        sounds=sounds,
        embedded=embedded,
        rtf=rtf,
        tables=tables,
        links=[(text, quote(target)) for text, target in links],
        pictures=[{"picture": picture, "data": _data("image/png", picture.path.read_bytes())} for picture in pictures],
        label_percent=LABEL_PERCENT,
    )
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _flac(wav: Waveform, sample_rate: int) -> str:
    """A data URI of ``wav (T,)``."""
    buffer = io.BytesIO()
    soundfile.write(buffer, to_int16(wav), sample_rate, format="FLAC", subtype="PCM_16")
    return _data("audio/flac", buffer.getvalue())


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
