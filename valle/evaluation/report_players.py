"""The page's players: a few prompts, each as it was continued, through the codec, and as it was recorded, with their spectrograms."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from valle.audio import read_audio
from valle.evaluation.chart_drawing import Tick, ticks
from valle.evaluation.kept_sounds import SYSTEMS, KeptSound
from valle.inference.spectrogram import mel_picture

MOST_PLAYERS = 12
MOST_BYTES = 7_500_000  # of sounds and pictures in the page, whose figures take less than one million more


@dataclass(frozen=True)
class Player:
    """One sound in the page; percents are of the width of its card."""

    label: str
    style: str
    audio: str  # data URI
    picture: str
    seconds: float
    width: float
    prompt: float


@dataclass(frozen=True)
class PlayerCard:
    name: str
    prompt_seconds: float
    players: Sequence[Player]
    ticks: Sequence[Tick]


def player_cards(folder: Path, sounds: Sequence[KeptSound]) -> list[PlayerCard]:
    """Cards of the first prompts, as many as there is room for; nobody chooses them."""
    cards: list[PlayerCard] = []
    size = 0
    there = [sound for sound in sounds if all((folder / file).is_file() for file in sound.files.values())]  # someone may have moved them
    for sound in there[: MOST_PLAYERS // len(SYSTEMS)]:
        card = _card(folder, sound)
        size += sum(len(player.audio) + len(player.picture) for player in card.players)
        if size > MOST_BYTES:
            break
        cards.append(card)
    return cards


def _card(folder: Path, sound: KeptSound) -> PlayerCard:
    longest = max(sound.seconds.values())
    players = []
    for system, label in SYSTEMS.items():
        path = folder / sound.files[system]
        wav, rate = read_audio(path)
        players.append(Player(
            label=label, style="new" if system == "continuation" else "codec" if system == "codec" else "real",
            audio=_data("audio/flac", path.read_bytes()), picture=_data("image/png", mel_picture(wav, rate)),
            seconds=sound.seconds[system], width=100 * sound.seconds[system] / longest, prompt=100 * sound.prompt_seconds / longest,
        ))  # fmt: skip
    marks = [Tick(100 * second / longest, text) for second, text in ticks(0, longest, most=8)]
    return PlayerCard(sound.name, sound.prompt_seconds, players, marks)


def links(sounds: Sequence[KeptSound]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Of every prompt its name, and the label and address of each sound beside the page."""
    return [(sound.name, [(label, quote(sound.files[system])) for system, label in SYSTEMS.items()]) for sound in sounds]


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
