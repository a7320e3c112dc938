"""Prompts that come along with the package (valle/assets/samples): to try the server without a microphone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from valle.audio import audio_info, read_audio, wav_bytes

FOLDER = Path(__file__).parent.parent / "assets" / "samples"
LICENCE, SOURCE = "CC BY 4.0", "LibriSpeech ASR corpus, test-other"


@dataclass(frozen=True)
class Sample:
    """A recording of the package."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.stem

    def description(self) -> dict[str, str | float]:
        info = audio_info(self.path)
        return {
            "name": self.name, "url": f"/v1/samples/{self.name}.wav", "seconds": info.seconds, "sample_rate": info.sample_rate,
            "licence": LICENCE, "source": SOURCE,
        }  # fmt: skip

    def wav(self) -> bytes:
        """A file of 16 bits, mono."""
        return bytes(wav_bytes(*read_audio(self.path)))


def bundled_samples() -> dict[str, Sample]:
    """By name."""
    return {path.stem: Sample(path) for path in sorted(FOLDER.glob("*.flac"))}
