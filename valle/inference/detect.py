"""What ``bin/detect.py`` does: files in; for each, whether it carries a watermark, sounds generated, or cannot be told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from valle.audio import Waveform, audio_pieces
from valle.errors import UserError
from valle.files import shown
from valle.marks import find, generated
from valle.marks.pattern import PUBLIC_KEY, MarkKey, read_key
from valle.marks.provenance import verify
from valle.settings import setting


@dataclass(frozen=True, kw_only=True)
class DetectOptions:
    """Flags of ``bin/detect.py``."""

    first_words: ClassVar[str] = "audio"

    audio: list[Path] = field(metadata={"help": "audio files to look at; also without the flag, before all others"})
    json: bool = setting(False, "print a JSON object a file")
    verify: bool = setting(False, "check the record of provenance in each file instead")
    watermark_key: Path | None = setting(None, "file with your own key; not given: the public key")
    public_key: str | None = setting(None, "of --verify: 64 hexadecimal digits, the only key whose signature counts")

    def __post_init__(self) -> None:
        if not self.audio:
            raise UserError("expected audio files, found none; name them: detect.py a.wav b.flac")
        if self.public_key is not None and not self.verify:
            raise UserError("expected --verify true beside --public-key, found it alone; a signature is looked at by --verify")


def detect(options: DetectOptions) -> Iterator[dict[str, Any]]:
    """One row a file, as soon as it was looked at: ``file``, ``verdict`` and what it is made of; of ``--verify`` the record."""
    key = read_key(options.watermark_key)
    for path in options.audio:
        yield _verified(path, options.public_key) if options.verify else detect_file(path, key)


def detect_file(path: Path, key: MarkKey = PUBLIC_KEY) -> dict[str, Any]:
    """One file of any length, in bounded memory: ``verdict`` is watermarked, generated, neither or cannot-tell.

    ``score`` is the mark's (``Found.score``) where one was found, else the detector's mean logit.  Raises ``AudioFileError``.
    """
    detector, logits = generated.bundled_detector(), list[float]()

    def heard() -> Iterator[Waveform]:
        crops = generated.Crops()
        for piece in audio_pieces(path, sample_rate=find.RATE):
            logits.extend(float(detector.logits(generated.features_of(crop))) for crop in crops.next(piece))
            yield piece

    found = find.find_in_pieces(heard(), key)
    logit = sum(logits) / len(logits) if logits else None
    said = detector.verdict(logit) if logit is not None else "cannot-tell"
    return {
        "file": shown(path), "verdict": "watermarked" if found.is_marked else said,
        "score": round(found.score if found.is_marked or logit is None else logit, 2),
        "watermark_score": round(found.score, 2), "generated_logit": None if logit is None else round(logit, 3),
        "seconds": round(found.seconds, 3), "crops": len(logits),
    }  # fmt: skip


def _verified(path: Path, public_key: str | None) -> dict[str, Any]:
    result = verify(path, public_key=public_key)
    return {"file": shown(path), "verdict": result.verdict, "detail": result.detail, "record": result.record}
