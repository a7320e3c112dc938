"""Voices of the recipe: a base voice, and what is changed in it for good.

A synthesiser with few voices is multiplied: a voice's pitch and formants are factors of the base voice's.  The plane of both
is cut into cells, some of which belong to held-out voices alone, so that no held-out voice is a training voice
with another name.  Tempo, timbre, room and noise are drawn for every voice.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from valle.corpora.synthetic.registry import take_turns
from valle.corpora.synthetic.synthesiser import BaseVoice, Synthesiser

PITCHES = (0.78, 1.2)  # factors of the base voice's pitch, and so of its formants
FORMANTS = (0.88, 1.14)  # factors of the formants beside that
PITCH_CELLS, FORMANT_CELLS = 10, 6
SPEEDS = (0.8, 1.25)
NUM_BANDS = 6  # of the equaliser


@dataclass(frozen=True, kw_only=True)
class VoiceSettings:
    """What is changed in a base voice.

    ``pitch`` and ``formants``: factors of frequency.  ``speed``: factor of the tempo.  ``tilt``: dB an octave.  ``bands``: gains in dB.
    ``room_seconds``: reverberation time, 0 for none; ``room_level``: dB of the reverberation against the direct sound.
    ``noise_level``: dB of the noise against the speech.
    """

    pitch: float = 1.0
    formants: float = 1.0
    speed: float = 1.0
    tilt: float = 0.0
    bands: tuple[float, ...] = ()
    room_seconds: float = 0.0
    room_level: float = 0.0
    noise_level: float = -60.0


@dataclass(frozen=True, kw_only=True)
class SyntheticVoice:
    """One voice of the corpus."""

    name: str
    synthesiser: str
    base: BaseVoice
    settings: VoiceSettings = field(default_factory=VoiceSettings)

    @property
    def is_female(self) -> bool | None:
        """The base voice's, where its pitch and formants are its own; who has changed ones is nobody's to say."""
        return self.base.is_female if self.settings.pitch == self.settings.formants == 1 else None

    @staticmethod
    def from_dict(fields: dict[str, Any]) -> SyntheticVoice:
        settings = fields["settings"]
        return SyntheticVoice(
            name=fields["name"],
            synthesiser=fields["synthesiser"],
            base=BaseVoice(**fields["base"]),
            settings=VoiceSettings(**{**settings, "bands": tuple(settings["bands"])}),
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def make_voice(
    index: int, *, is_held_out: bool, synthesisers: Mapping[str, Synthesiser], shares: Mapping[str, float], seed: int
) -> SyntheticVoice:
    """Voice ``index`` of the training voices or of the held-out ones, the same whatever their number."""
    name, rank = take_turns(shares, index)
    synthesiser = synthesisers[name]
    kind = "test" if is_held_out else "train"
    rng = random.Random(f"{seed} {kind} voice {name} {rank}")
    return SyntheticVoice(
        name=f"{kind}-{name}-{rank:03d}",
        synthesiser=name,
        base=synthesiser.base_voice(rank, is_held_out=is_held_out, seed=seed),
        settings=_draw_settings(rng, rank, is_held_out=is_held_out, synthesiser=synthesiser, seed=seed),
    )


def _draw_settings(rng: random.Random, rank: int, *, is_held_out: bool, synthesiser: Synthesiser, seed: int) -> VoiceSettings:
    pitch = formants = speed = 1.0
    if synthesiser.is_multiplied:
        pitch, formants = _place_in_cell(rng, _cell(rank, is_held_out=is_held_out, seed=seed))
        speed = _geometric(rng, *SPEEDS) if synthesiser.has_speed else pitch
    has_room = rng.random() < 0.5
    room_seconds, room_level = _uniform(rng, 0.1, 0.5), _uniform(rng, -24.0, -8.0)
    return VoiceSettings(
        pitch=round(pitch, 4),
        formants=round(formants, 4),
        speed=round(speed, 4),
        tilt=round(_uniform(rng, -1.5, 1.5), 2),
        bands=tuple(round(_uniform(rng, -4.0, 4.0), 2) for _ in range(NUM_BANDS)),
        room_seconds=round(room_seconds, 3) if has_room else 0.0,
        room_level=round(room_level, 1) if has_room else 0.0,
        noise_level=round(_uniform(rng, -60.0, -30.0), 1),
    )


def _cell(rank: int, *, is_held_out: bool, seed: int) -> tuple[int, int]:
    """The cell of pitch and formants of voice ``rank``: one after the other in an order of the seed's, again and again."""
    cells = [(i, j) for i in range(PITCH_CELLS) for j in range(FORMANT_CELLS) if ((i + 2 * j) % 5 == 0) == is_held_out]
    rng = random.Random(f"{seed} cells")
    cells.sort(key=lambda _: rng.random())
    return cells[rank % len(cells)]


def _place_in_cell(rng: random.Random, cell: tuple[int, int]) -> tuple[float, float]:
    """Pitch and formants within the middle four fifths of a cell."""
    across, along = (cell[0] + _uniform(rng, 0.1, 0.9)) / PITCH_CELLS, (cell[1] + _uniform(rng, 0.1, 0.9)) / FORMANT_CELLS
    pitch = PITCHES[0] * (PITCHES[1] / PITCHES[0]) ** across
    return pitch, pitch * FORMANTS[0] * (FORMANTS[1] / FORMANTS[0]) ** along


def _uniform(rng: random.Random, low: float, high: float) -> float:
    return low + (high - low) * rng.random()


def _geometric(rng: random.Random, low: float, high: float) -> float:
    return float(low * (high / low) ** rng.random())
