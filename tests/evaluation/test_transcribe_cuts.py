"""A corpus without transcripts gets those that a recogniser is sure of."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_whisper import FakeWhisper, segment
from tiny_speech import write_spoken

from valle.corpora.manifests import read_cuts
from valle.corpora.report import corpus_being_written
from valle.corpora.report_reasons import PARTS
from valle.errors import UserError
from valle.evaluation.recogniser import WhisperRecogniser
from valle.evaluation.transcribe_cuts import TranscribeCutsConfig, transcribe_cuts


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    with corpus_being_written(tmp_path / "manifests"):  # as stage 1 does
        for number, part in enumerate(PARTS):
            write_spoken(tmp_path / "manifests" / f"cuts_{part}.jsonl.gz", num_cuts=2, seed=number)
    return tmp_path / "manifests"


def texts(manifests: Path) -> list[tuple[str | None, str | None]]:
    cuts = [cut for part in PARTS for cut in read_cuts(manifests / f"cuts_{part}.jsonl.gz")]
    return [(cut.supervisions[0].text, cut.supervisions[0].language) for cut in cuts]


def test_what_is_heard_is_written_down_but_not_what_is_doubted(manifests: Path, tmp_path: Path) -> None:
    heard = iter([" Anna  saw it.", "the cat the cat the cat", "", "Peter ran.", "Anna ran.", "Peter saw it."])
    fake = FakeWhisper(lambda audio: [segment(next(heard))])
    config = TranscribeCutsConfig(
        manifest_dir=manifests, whisper="fake", language="German", language_code="de", heard=tmp_path / "heard.jsonl"
    )
    found = transcribe_cuts(config, recogniser=WhisperRecogniser(fake, name="fake", language="de"))
    assert (found.cuts, found.texts, found.doubted) == (6, 4, 2) and "4 of 6 cuts" in str(found)
    assert texts(manifests) == [
        ("Anna saw it.", "German"), (None, None), (None, None), *((text, "German") for text in ("Peter ran.", "Anna ran.", "Peter saw it."))
    ]  # fmt: skip
    assert len(fake.asked) == 6
    transcribe_cuts(config, recogniser=WhisperRecogniser(fake, name="fake", language="de"))
    assert len(fake.asked) == 6, "nothing is heard again"


def test_a_corpus_in_which_nothing_is_heard_is_refused(manifests: Path, tmp_path: Path) -> None:
    fake = WhisperRecogniser(FakeWhisper(lambda audio: []), name="fake")
    with pytest.raises(UserError, match="expected speech"):
        transcribe_cuts(TranscribeCutsConfig(manifest_dir=manifests, whisper="fake", heard=tmp_path / "heard.jsonl"), recogniser=fake)
