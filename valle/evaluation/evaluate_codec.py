"""A codec scored on recordings: what ``bin/evaluate_codec.py`` does."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from valle.audio import AudioFileError, read_audio
from valle.evaluation.codec_report import LONGEST_SECONDS, CodecReportError, Recording, codec_report
from valle.files import shown, write_text
from valle.inference.listening_page import PageTable
from valle.progress import Progress
from valle.tokenizers.registry import BUNDLED_ACOUSTIC, load_acoustic
from valle.tokenizing.found_files import FoundFile, find_audio

COLUMNS = {"stoi": ("STOI", 3), "pesq": ("PESQ", 2), "mel_l1": ("mel L1, nats", 2), "si_sdr": ("SI-SDR, dB", 1)}  # heading, digits


@dataclass(frozen=True, kw_only=True)
class EvaluateCodecOptions:
    """Flags of ``bin/evaluate_codec.py``."""

    audio: list[Path] = field(metadata={"help": "audio files, or folders of them, nested as you like"})
    codec: str = field(default=BUNDLED_ACOUSTIC, metadata={"help": "a codec's name, NAME=FILE_OR_FOLDER, or a saved tokenizer's folder"})
    title: str = field(default="recordings", metadata={"help": "what these recordings are called in --output"})
    codebooks: list[int] = field(
        default_factory=list, metadata={"help": "numbers of codebooks to decode with; default: 1, 2, 4, ... and all"}
    )
    opus: list[float] = field(default_factory=list, metadata={"help": "bitrates of Opus to compare with, in kbit/s, such as 6 12"})
    max_recordings: int = field(default=100, metadata={"help": "score at most this many recordings, spread evenly over their names"})
    output: Path | None = field(default=None, metadata={"help": "JSON file of reports by title; those of other titles stay in it"})

    def __post_init__(self) -> None:
        if self.max_recordings < 1:
            raise CodecReportError(f"--max-recordings must be 1 or more, found {self.max_recordings}")


def evaluate_codec(options: EvaluateCodecOptions, *, progress: Progress | None = None) -> dict[str, Any]:
    """The report of :func:`valle.evaluation.codec_report.codec_report`, which also goes into ``options.output``."""
    before = _read_reports(options.output)
    codec = load_acoustic(options.codec)
    recordings = read_recordings(choose_files(options.audio, options.max_recordings))
    report = codec_report(codec, recordings, codebooks=options.codebooks or None, opus=options.opus, progress=progress)
    if options.output is not None:
        write_text(options.output, json.dumps({**before, options.title: report}, indent=2) + "\n")
    return report


def read_recordings(files: list[FoundFile]) -> list[Recording]:
    """The beginning of each file; one of a folder that cannot be read is passed over."""
    recordings, failed = [], []
    for file in files:
        try:
            recordings.append(Recording(*read_audio(file.path, duration=LONGEST_SECONDS)))
        except AudioFileError as error:
            if file.is_given:
                raise
            failed.append(error)
            logging.warning("left out: %s: %s", shown(file.path), error)
    if not recordings:
        raise failed[0]
    return recordings


def choose_files(audio: list[Path], most: int) -> list[FoundFile]:
    """The files among ``audio`` and the audio files below its folders; of more than ``most``, evenly spread ones."""
    if not audio:
        raise CodecReportError("expected audio files after --audio, found none; name files or folders")
    found = find_audio(audio).files
    return [found[index * len(found) // most] for index in range(most)] if len(found) > most else found


def codec_table(title: str, report: dict[str, Any]) -> PageTable:
    """The report for people: a row a number of codebooks, then the controls."""
    measures = [(name, *head) for name, head in COLUMNS.items() if any(name in scores for scores in report["systems"].values())]
    rows = [
        (_system_name(system, scores), *(_with_interval(scores[name], digits) if name in scores else "" for name, _, digits in measures))
        for system, scores in report["systems"].items()
    ]
    note = f"{report['recordings']} recordings, {report['seconds'] / 60:.1f} minutes; means with 95 % intervals over recordings."
    return PageTable(title, ("decoded from", *(head for _, head, _ in measures)), rows, note=note)


def _system_name(system: str, scores: dict[str, dict[str, float]]) -> str:
    if system.startswith("opus "):
        return f"Opus, {scores['kbps']['mean']:.1f} kbit/s"
    return {"identity": "the recording itself", "silence": "silence", "1": "1 codebook"}.get(system, f"{system} codebooks")


def _with_interval(estimate: dict[str, float], digits: int) -> str:
    mean, low, high = (f"{estimate[name]:.{digits}f}" for name in ("mean", "low", "high"))
    return mean if low == high or estimate["count"] < 2 else f"{mean} ({low} to {high})"


def _read_reports(path: Path | None) -> dict[str, Any]:
    """Reports that are there already, so that none is lost."""
    if path is None or not path.exists():
        return {}
    try:
        reports = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, IsADirectoryError):
        reports = None
    if not isinstance(reports, dict) or not all(isinstance(report, dict) and "systems" in report for report in reports.values()):
        raise CodecReportError(f"expected codec reports in {path}, found something else; name another --output, so that nothing is lost")
    return reports
