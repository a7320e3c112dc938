"""Recordings in a folder with what is said in them: texts beside them, or a table such as Common Voice's."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from valle.corpora.folder import FolderConfig, FolderReport, Words, prepare_folder
from valle.corpora.folder_scan import Scanned
from valle.corpora.report import write_notes
from valle.corpora.transcripts import TextOf, TranscriptError, texts_beside, texts_of_table
from valle.progress import Progress


@dataclass(frozen=True, kw_only=True)
class SpokenFolderConfig(FolderConfig):
    """As for any folder, with transcripts where there are some."""

    text_suffix: str = field(default="", metadata={"help": "a recording's text is in the file of its name with this ending, such as .txt"})
    text_table: Path | None = field(
        default=None, metadata={"help": "a table of texts by recording, tab-separated, with the columns path and sentence (Common Voice)"}
    )
    language: str = field(default="English", metadata={"help": "the language of the texts, by its English name"})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.text_suffix and self.text_table is not None:
            raise TranscriptError("expected texts beside the recordings (--text-suffix) or in a table (--text-table), found both; give one")


def prepare_spoken_folder(config: SpokenFolderConfig, *, progress: Progress | None = None) -> FolderReport:
    """Write manifests as ``prepare_folder`` does, with texts; raises ``TranscriptError`` where texts are asked for and none is found."""
    text_of: TextOf | None = None
    if config.text_suffix:
        text_of = texts_beside(config.text_suffix)
    elif config.text_table is not None:
        text_of = texts_of_table(config.text_table)
    if text_of is None:
        return prepare_folder(config, progress=progress)
    texts, in_pieces = dict[str, str](), set[str]()

    def words_of(item: Scanned) -> Words | None:
        text = text_of(config.audio_dir / item.path)
        if text and item.segments != [(0, item.num_samples)]:
            in_pieces.add(item.path)
        elif text:
            texts[item.path] = text
        return Words(text, config.language) if item.path in texts else None

    report = prepare_folder(config, words_of=words_of, progress=progress)
    if not texts:
        cut = f" but {len(in_pieces)} of recordings longer than --max-seconds {config.max_seconds:g}, which are cut" if in_pieces else ""
        raise TranscriptError(f"expected texts of the recordings in {config.audio_dir}, found none{cut}; check where they are")
    report.notes.append(f"transcripts of {len(texts)} recordings")
    if in_pieces:
        report.notes.append(
            f"{len(in_pieces)} recordings with a transcript are longer than --max-seconds {config.max_seconds:g} and are cut, so their "
            "pieces have none; raise it"
        )
    write_notes(report.notes, config.output_dir)
    return report
