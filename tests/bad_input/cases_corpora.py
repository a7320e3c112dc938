"""Folders that shall become a corpus."""

from __future__ import annotations

from pathlib import Path

from damage import Make, mistake
from tiny_audio import write_librispeech, write_sound

FOLDER = "--output-dir out --cache-dir c --scan-log s --report r.html"


def _folder_of(*makers: Make) -> Make:
    def make(folder: Path) -> None:
        (folder / "in").mkdir()
        for one in makers:
            one(folder / "in")

    return make


def _wrong_layout(folder: Path) -> None:
    write_sound(folder / "in" / "dev-clean" / "a.flac", 1.0)


def _leading_outside(folder: Path) -> None:
    write_librispeech(folder / "in", {"dev-clean/1-1-0000": 1.0, "train-x/2-1-0000": 1.0})
    (folder / "in" / "dev-clean" / "1" / "1" / "1-1.trans.txt").write_text("../../../../good/a WORDS\n")


def _corrupt_corpus(**changes: str) -> Make:
    """A finished corpus of eSpeak's with files of its own replaced."""

    def make(folder: Path) -> None:
        (folder / "corpus").mkdir()
        for name, content in changes.items():
            (folder / "corpus" / name.replace("__", ".")).write_text(content)

    return make


CORPORA = [
    mistake(
        "`prepare_folder.py` and a folder that is not there",
        "prepare_folder",
        f"--audio-dir no {FOLDER}",
        "folder of audio, found nothing at no",
    ),
    mistake(
        "`prepare_folder.py` and a file for a folder", "prepare_folder", f"--audio-dir good/a.wav {FOLDER}", "found a file at good/a.wav"
    ),
    mistake(
        "`prepare_folder.py` and an empty folder",
        "prepare_folder",
        f"--audio-dir in {FOLDER}",
        "found no files",
        make=_folder_of(),
        leaves=("out", "s", "c"),
    ),
    mistake(
        "`prepare_folder.py` and a folder without audio",
        "prepare_folder",
        f"--audio-dir in {FOLDER}",
        "1 files that cannot be used",
        make=_folder_of(lambda f: (f / "thesis.txt").write_text("words")),
        leaves=("out", "s", "c"),
    ),
    mistake(
        "`prepare_folder.py` and only empty, silent, short and corrupt files",
        "prepare_folder",
        f"--audio-dir in {FOLDER}",
        "files that cannot be used",
        make=_folder_of(
            lambda f: (f / "a.wav").touch(), lambda f: (f / "b.mp3").write_text("words"), lambda f: write_sound(f / "c.wav", 0.1)
        ),
        leaves=("out", "s", "c"),
    ),
    mistake(
        "`prepare_piano.py` and a folder that is not there",
        "prepare_piano",
        f"--audio-dir no {FOLDER}",
        "folder of audio, found nothing at no",
    ),
    mistake(
        "`prepare_piano.py` and pieces that are all too short",
        "prepare_piano",
        f"--audio-dir good/recordings {FOLDER}",
        "at least 5 s",
        leaves=("out", "s", "c"),
    ),
    mistake("`fingerprint_folder.py` and a folder that is not there", "fingerprint_folder", "--audio-dir no", "found nothing at no"),
    mistake(
        "`prepare_librispeech.py` and a folder that is not there",
        "prepare_librispeech",
        "--corpus-dir no --output-dir out --report r.html",
        "part train-clean-100 in no",
        "no such folder",
    ),
    mistake(
        "`prepare_librispeech.py` and a part that is not there",
        "prepare_librispeech",
        "--corpus-dir good/LibriSpeech --train-parts train-y --output-dir out --report r.html",
        "part train-y",
        "found dev-clean, train-x",
    ),
    mistake(
        "`prepare_librispeech.py` and a part without transcripts",
        "prepare_librispeech",
        "--corpus-dir in --train-parts dev-clean --dev-parts dev-other --output-dir out --report r.html",
        "expected transcripts SPEAKER/CHAPTER",
        make=_wrong_layout,
    ),
    mistake(
        "`prepare_librispeech.py` and transcripts that lead out of the folder",
        "prepare_librispeech",
        "--corpus-dir in --train-parts dev-clean --dev-parts train-x --output-dir out --report r.html",
        "none that can be used",
        "left_out.jsonl",
        make=_leading_outside,
        leaves=("out",),
    ),
    mistake(
        "`prepare_espeak.py` before stage 0",
        "prepare_espeak",
        "--corpus-dir no --output-dir out --report r.html",
        "synthesised corpus in no",
        "stage 0",
    ),
    mistake(
        "`prepare_espeak.py` and a report that is no JSON",
        "prepare_espeak",
        "--corpus-dir corpus --output-dir out --report r.html",
        "corpus",
        "stage 0",
        make=_corrupt_corpus(report__json="{"),
    ),
    mistake(
        "`prepare_espeak.py` and an index that is damaged",
        "prepare_espeak",
        "--corpus-dir corpus --output-dir out --report r.html",
        "utterances_train.jsonl",
        "stage 0",
        leaves=("out",),
        make=_corrupt_corpus(report__json="{}", utterances_train__jsonl="words\n"),
    ),
    mistake(
        "`prepare_espeak.py` and an index that is missing",
        "prepare_espeak",
        "--corpus-dir corpus --output-dir out --report r.html",
        "utterances_train.jsonl",
        "stage 0",
        leaves=("out",),
        make=_corrupt_corpus(report__json="{}"),
    ),
    mistake(
        "`synthesize_espeak.py` with settings of an earlier corpus that are damaged",
        "synthesize_espeak",
        "--output-dir corpus --num-hours 0.001",
        "corpus",
        make=_corrupt_corpus(settings__json="{"),
    ),
]

CASES = CORPORA
