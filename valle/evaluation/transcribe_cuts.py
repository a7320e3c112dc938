"""Transcripts of a corpus that has none, by a public recogniser: stage 1 of ``prepare.sh --transcribe WHISPER``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lhotse.cut import Cut
from lhotse.utils import fastcopy

from valle.corpora.cut_audio import read_cut
from valle.corpora.manifests import read_cuts, write_cuts
from valle.corpora.report import corpus_being_written
from valle.corpora.report_reasons import PARTS
from valle.errors import UserError
from valle.evaluation.recogniser import Recogniser, whisper_recogniser
from valle.evaluation.remembered import RememberingRecogniser
from valle.progress import Progress


@dataclass(frozen=True, kw_only=True)
class TranscribeCutsConfig:
    """Flags of ``bin/transcribe_cuts.py``."""

    manifest_dir: Path = field(default=Path("data/manifests"), metadata={"help": "folder of cuts_{train,dev,test}.jsonl.gz"})
    whisper: str = field(metadata={"help": "folder of a Whisper model for CTranslate2, or its name in the hub's cache"})
    language: str = field(default="English", metadata={"help": "what is spoken, by its English name"})
    language_code: str = field(default="en", metadata={"help": "the same as Whisper names it"})
    heard: Path = field(default=Path("data/heard.jsonl"), metadata={"help": "record of what was heard, to continue after a kill"})
    again: bool = field(default=False, metadata={"help": "hear cuts too that have a text"})


@dataclass
class Transcribed:
    """Cuts that have a text, and why others have none."""

    cuts: int = 0
    texts: int = 0
    doubted: int = 0  # heard, but not to be trusted: unsure, a loop, or no speech

    def __str__(self) -> str:
        return f"transcripts of {self.texts} of {self.cuts} cuts; {self.doubted} left without one, since the recogniser was unsure"


def transcribe_cuts(
    config: TranscribeCutsConfig, *, recogniser: Recogniser | None = None, progress: Progress | None = None
) -> Transcribed:
    """Write what is heard into the manifests' first supervisions; cuts that raise doubts keep none.

    ``recogniser`` takes the place of the Whisper that the settings name.
    """
    recogniser = recogniser or whisper_recogniser(config.whisper, language=config.language_code)
    recogniser = RememberingRecogniser(recogniser, config.heard)  # so that a run that was killed goes on where it ended
    parts = {part: list(read_cuts(config.manifest_dir / f"cuts_{part}.jsonl.gz")) for part in PARTS}
    wanted = sum(map(len, parts.values()))
    found = Transcribed()
    with corpus_being_written(config.manifest_dir):
        for part, cuts in parts.items():
            heard = _with_texts(cuts, recogniser, config, found, wanted, progress)
            write_cuts(heard, config.manifest_dir / f"cuts_{part}.jsonl.gz")
    if not found.texts:
        raise UserError(f"expected speech in {config.manifest_dir}, found no cut that {config.whisper} hears with certainty; try another")
    return found


def _with_texts(
    cuts: list[Cut], recogniser: Recogniser, config: TranscribeCutsConfig, found: Transcribed, wanted: int, progress: Progress | None
) -> Iterator[Cut]:
    for cut in cuts:
        found.cuts += 1
        first, *others = cut.supervisions
        if first.text and not config.again:
            found.texts += 1
            yield cut
            continue
        heard = recogniser.hear(*read_cut(cut))
        text = " ".join(heard.text.split())
        if heard.doubts or not text:
            found.doubted += 1
            yield cut
        else:
            found.texts += 1
            yield fastcopy(cut, supervisions=[fastcopy(first, text=text, language=config.language), *others])
        if progress:
            progress(found.cuts, wanted)
