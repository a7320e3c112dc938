"""Transcripts that shall get phone times."""

from __future__ import annotations

from pathlib import Path

from damage import Make, mistake

from valle.corpora.librispeech import LibriSpeechConfig, prepare_librispeech
from valle.models.phone_aligner import AlignerConfig, PhoneAligner

FLAGS = "--manifests m/cuts_dev.jsonl.gz --recordings m/cuts_train.jsonl.gz --output-dir out --aligner-dir aligner --timed-manifest"
NO_TIMES = f"{FLAGS} m/cuts_train.jsonl.gz"


def _transcribed(folder: Path) -> None:
    parts = {"train_parts": ["train-x"], "dev_parts": ["dev-clean"], "test_parts": []}
    prepare_librispeech(LibriSpeechConfig(corpus_dir=folder / "good" / "LibriSpeech", output_dir=folder / "m", **parts))


def _with_aligner(*, damaged: bool) -> Make:
    def make(folder: Path) -> None:
        _transcribed(folder)
        PhoneAligner(AlignerConfig(phones=("a",), dim=8, num_blocks=1)).save(folder / "aligner" / "round-0", {"round": 0, "steps": 3})
        if damaged:
            (folder / "aligner" / "round-0" / "model.safetensors").write_bytes(b"words")

    return make


CASES = [
    mistake("`align_phones.py` and a manifest that is not there", "align_phones", NO_TIMES, "expected a manifest at m/cuts_dev.jsonl.gz"),
    mistake(
        "`align_phones.py` and cuts without transcripts",
        "align_phones",
        NO_TIMES.replace("m/cuts_dev", "good/data/manifests/cuts_dev"),
        "expected a transcript with every cut",
    ),
    mistake(
        "`align_phones.py --accent` of nowhere",
        "align_phones",
        f"{NO_TIMES} --accent xx-nowhere",
        "in the accent 'xx-nowhere'",
        "--accent",
        make=_transcribed,
    ),
    mistake(
        "`align_phones.py` and synthetic speech without phone times",
        "align_phones",
        NO_TIMES,
        "expected cuts with phone times in m/cuts_train.jsonl.gz",
        make=_transcribed,
    ),
    mistake(
        "`align_phones.py` and synthetic speech that is not there",
        "align_phones",
        f"{FLAGS} no.jsonl.gz",
        "expected a manifest at no.jsonl.gz",
        make=_transcribed,
    ),
    mistake(
        "`align_phones.py` and an aligner of other settings",
        "align_phones",
        NO_TIMES,
        "the same --dtype, --seed, --steps",
        "--aligner-dir",
        make=_with_aligner(damaged=False),
    ),
    mistake(
        "`align_phones.py` and an aligner that is damaged",
        "align_phones",
        NO_TIMES,
        "the aligner in aligner/round-0 cannot be read",
        make=_with_aligner(damaged=True),
    ),
    mistake("`align_phones.py --rounds -1`", "align_phones", f"{NO_TIMES} --rounds -1", "--rounds must be 0 or more, found -1"),
    mistake("`align_phones.py --steps 0`", "align_phones", f"{NO_TIMES} --steps 0", "--steps must be above 0, found 0"),
]
