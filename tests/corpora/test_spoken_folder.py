"""Recordings with what is said in them: texts beside them, tables as Common Voice has them, and what has no text."""

from __future__ import annotations

from pathlib import Path

import pytest
from lhotse import CutSet
from tiny_audio import write_sound

from valle.corpora.report_reasons import PARTS
from valle.corpora.spoken_folder import SpokenFolderConfig, prepare_spoken_folder
from valle.corpora.transcripts import TranscriptError


def write_recordings(folder: Path) -> Path:
    """Four short ones and a long one."""
    for number, name in enumerate(("a.wav", "deep/b.flac", "c.mp3", "d.wav", "long.wav")):
        rate, seconds = (16000, 44100, 44100, 8000, 16000)[number], 9.0 if name == "long.wav" else 1.5 + 0.1 * number
        write_sound(folder / name, seconds, rate=rate, seed=number)
    return folder


def config(audio: Path, out: Path, **changes) -> SpokenFolderConfig:
    places = {"output_dir": out / "manifests", "cache_dir": out / "audio", "scan_log": out / "scan.jsonl"}
    return SpokenFolderConfig(audio_dir=audio, max_seconds=4.0, dev_share=0.2, test_share=0.2, **places, **changes)


def said(out: Path) -> dict[str, tuple[str | None, str | None]]:
    """By recording: text and language."""
    cuts = [cut for part in PARTS for cut in CutSet.from_jsonl_lazy(out / "manifests" / f"cuts_{part}.jsonl.gz")]
    return {Path(cut.recording.sources[0].source).name: (cut.supervisions[0].text, cut.supervisions[0].language) for cut in cuts}


def test_texts_lie_beside_recordings(tmp_path: Path) -> None:
    audio = write_recordings(tmp_path / "in")
    (audio / "a.txt").write_text("Anna saw\n  it.\n", encoding="utf-8-sig")
    (audio / "deep" / "b.txt").write_text("Él vino.", encoding="utf-8")
    (audio / "c.txt").write_text("  \n")
    (audio / "long.txt").write_text("Too long to be one cut.")
    report = prepare_spoken_folder(config(audio, tmp_path, text_suffix=".txt", language="Spanish"))
    found = said(tmp_path)
    assert found["a.wav"] == ("Anna saw it.", "Spanish") and found["b.flac"] == ("Él vino.", "Spanish")
    assert all(found[name] == (None, None) for name in ("c.mp3", "d.wav", "long.wav"))
    assert any("transcripts of 2 recordings" in note for note in report.notes)
    assert any("1 recordings with a transcript are longer than --max-seconds 4" in note for note in report.notes)


def test_a_table_names_recordings_as_common_voice_does(tmp_path: Path) -> None:
    audio = write_recordings(tmp_path / "in")
    table = tmp_path / "validated.tsv"
    rows = ["client_id\tpath\tsentence\tup_votes", 'x\ta.mp3\tShe said "no.\t2', "x\tb.flac\tHe came.\t2", "x\telsewhere.mp3\tNobody.\t2"]
    table.write_text("\n".join(rows) + "\n", encoding="utf-8")
    prepare_spoken_folder(config(audio, tmp_path, text_table=table))
    found = said(tmp_path)
    assert found["a.wav"] == ('She said "no.', "English") and found["b.flac"] == ("He came.", "English") and found["d.wav"] == (None, None)


def test_without_texts_asked_for_nothing_changes(tmp_path: Path) -> None:
    audio = write_recordings(tmp_path / "in")
    (audio / "a.txt").write_text("Anna saw it.")
    prepare_spoken_folder(config(audio, tmp_path))
    assert set(said(tmp_path).values()) == {(None, None)}


def test_texts_that_cannot_be_had_are_told(tmp_path: Path) -> None:
    audio = write_recordings(tmp_path / "in")
    table = tmp_path / "table.tsv"
    with pytest.raises(TranscriptError, match="found none; check where they are"):
        prepare_spoken_folder(config(audio, tmp_path / "none", text_suffix=".txt"))
    (audio / "long.txt").write_text("Long.")
    with pytest.raises(TranscriptError, match="found none but 1 of recordings longer than --max-seconds 4"):
        prepare_spoken_folder(config(audio, tmp_path / "long", text_suffix=".txt"))
    (audio / "a.txt").write_bytes("Él".encode("latin-1"))
    with pytest.raises(TranscriptError, match="save it as UTF-8"):
        prepare_spoken_folder(config(audio, tmp_path / "latin", text_suffix=".txt"))
    for content, words in (("file\ttext\na.wav\tAnna.\n", "found file, text"), ("", "found no rows")):
        table.write_text(content)
        with pytest.raises(TranscriptError, match=words):
            prepare_spoken_folder(config(audio, tmp_path / "table", text_table=table))
    for changes in ({"text_table": tmp_path / "no.tsv"}, {"text_suffix": "txt"}):
        with pytest.raises(TranscriptError, match="expected"):
            prepare_spoken_folder(config(audio, tmp_path / "no", **changes))
    with pytest.raises(TranscriptError, match="found both; give one"):
        config(audio, tmp_path, text_suffix=".txt", text_table=table)
