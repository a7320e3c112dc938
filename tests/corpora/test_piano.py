"""Piano: windows of 5 to 15 s, no piece in two parts, lists of a corpus are believed but not followed out of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from lhotse import CutSet
from tiny_audio import write_sound

from valle.corpora.folder import FolderReport
from valle.corpora.folder_walk import FolderError
from valle.corpora.piano import PianoConfig, PieceIs, prepare_piano
from valle.corpora.report import read_left_out
from valle.corpora.report_reasons import PARTS, Reason


def prepare(audio: Path, out: Path, **options) -> FolderReport:
    places = {"output_dir": out / "manifests", "cache_dir": out / "audio", "scan_log": out / "scan.jsonl"}
    return prepare_piano(PianoConfig(audio_dir=audio, **places, **options))


def files(audio: Path, out: Path) -> dict[str, set[str]]:
    """The files of each part, relative to the folder."""
    found = {}
    for part in PARTS:
        cuts = CutSet.from_jsonl_lazy(out / "manifests" / f"cuts_{part}.jsonl.gz")
        found[part] = {Path(cut.recording.sources[0].source).relative_to(audio).as_posix() for cut in cuts}
    return found


def test_windows_last_from_5_to_15_seconds(tmp_path: Path) -> None:
    for seed, seconds in enumerate((5.0, 15.2, 31.0, 47.3)):
        write_sound(tmp_path / "in" / f"{seed}.flac", seconds, rate=8000, seed=seed)
    prepare(tmp_path / "in", tmp_path)
    cuts = [cut for part in PARTS for cut in CutSet.from_jsonl_lazy(tmp_path / "manifests" / f"cuts_{part}.jsonl.gz")]
    assert all(5 <= cut.duration <= 15 for cut in cuts)
    assert abs(sum(cut.duration for cut in cuts) - 98.5) < 1e-3


def test_test_pieces_are_not_in_train(tmp_path: Path) -> None:
    for seed in range(5):
        write_sound(tmp_path / "in" / f"{seed}.flac", 17, rate=8000, seed=seed)
    prepare(tmp_path / "in", tmp_path)
    found = files(tmp_path / "in", tmp_path)
    assert all(found.values()) and sum(map(len, found.values())) == 5


@pytest.mark.parametrize("marker", ["ATEPP-metadata-1.2.csv", None])
def test_performances_of_one_piece_stay_together(tmp_path: Path, marker: str | None) -> None:
    audio = tmp_path / "in"
    for piece in range(4):
        for take in range(3):
            write_sound(audio / "Composer" / f"Sonata {piece}" / f"{take:05d}.mp3", 5.5, rate=16000, seed=3 * piece + take)
    if marker:
        (audio / marker).write_text("artist,composition_id\n")
    prepare(audio, tmp_path, piece=PieceIs.auto if marker else PieceIs.folder)
    pieces = {part: {path.rsplit("/", 1)[0] for path in paths} for part, paths in files(audio, tmp_path).items()}
    assert all(pieces.values()) and sum(map(len, pieces.values())) == 4


def write_maestro(audio: Path) -> None:
    rows = ["canonical_composer,canonical_title,split,year,midi_filename,audio_filename,duration"]
    for seed, (title, split) in enumerate([("A", "train"), ("A", "train"), ("B", "validation"), ("C", "test"), ("D", "train")]):
        write_sound(audio / "2004" / f"{seed}.wav", 6, rate=8000, seed=seed)
        rows.append(f"Somebody,{title},{split},2004,2004/{seed}.midi,2004/{seed}.wav,6.0")
    rows += [
        "Somebody,E,train,2004,x,../outside.wav,6", "Somebody,E,train,2004,x,/etc/passwd,6",
        "Somebody,E,train,2004,x,2004/gone.wav,6", "Somebody,E,holiday,2004,x,2004/0.wav,6",
    ]  # fmt: skip
    (audio / "maestro-v3.0.0.csv").write_text("\n".join(rows) + "\n")
    write_sound(audio.parent / "outside.wav", 6, rate=8000, seed=99)


def test_the_split_of_maestro_is_kept(tmp_path: Path) -> None:
    write_maestro(tmp_path / "in")
    prepare(tmp_path / "in", tmp_path)
    assert files(tmp_path / "in", tmp_path) == {
        "train": {"2004/0.wav", "2004/1.wav", "2004/4.wav"}, "dev": {"2004/2.wav"}, "test": {"2004/3.wav"},
    }  # fmt: skip


def test_paths_of_a_list_stay_inside_the_corpus(tmp_path: Path) -> None:
    write_maestro(tmp_path / "in")
    prepare(tmp_path / "in", tmp_path)
    found = {entry.path: entry.reason for entry in read_left_out(tmp_path / "manifests" / "left_out.jsonl")}
    assert found == {
        "maestro-v3.0.0.csv": Reason.NOT_AUDIO, "maestro-v3.0.0.csv:7": Reason.OUTSIDE, "maestro-v3.0.0.csv:8": Reason.OUTSIDE,
        "maestro-v3.0.0.csv:9": Reason.MISSING, "maestro-v3.0.0.csv:10": Reason.BAD_LINE,
    }  # fmt: skip


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="expected a folder of audio, found nothing"):
        prepare(tmp_path / "none", tmp_path)
