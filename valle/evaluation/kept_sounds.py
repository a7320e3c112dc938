"""What was generated, kept as sound beside the recording and its round trip: for the report's players and for listening tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import soundfile

from valle.audio import Waveform, to_int16
from valle.evaluation.continuations import Continued
from valle.files import replacing

FOLDER = "sounds"  # below the report
SYSTEMS = {"continuation": "continuation", "codec": "recording through the codec", "recording": "recording"}


@dataclass(frozen=True)
class KeptSound:
    """The sounds of one prompt, each a FLAC file that begins with the prompt."""

    name: str  # of the cut
    prompt_seconds: float
    judged_from: float  # seconds
    files: Mapping[str, str]  # by system, relative to the report
    seconds: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "files": dict(self.files), "seconds": dict(self.seconds)}


def keep_sounds(folder: Path, continued: Sequence[Continued], sample_rate: int) -> list[KeptSound]:
    """Write the three sounds of every row as FLAC into ``folder``; lossless, so that a listening test hears what the model made."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = []
    for number, row in enumerate(continued):
        wavs: dict[str, Waveform] = {system: getattr(row, system) for system in SYSTEMS}
        files = {system: f"{number:04d}-{system}.flac" for system in SYSTEMS}
        for system, wav in wavs.items():
            with replacing(folder / files[system], ending=".tmp.flac") as temporary:
                soundfile.write(temporary, to_int16(wav), sample_rate, format="FLAC", subtype="PCM_16")
        kept.append(KeptSound(
            row.cut.id, row.prompt_samples / sample_rate, row.judged_from / sample_rate,
            {system: f"{folder.name}/{file}" for system, file in files.items()},
            {system: len(wav) / sample_rate for system, wav in wavs.items()},
        ))  # fmt: skip
    return kept
