"""What this program wrote is never a recording, and no sound is in two of train, dev and test."""

import json
import shutil
from pathlib import Path

import pytest
import soundfile
from tiny_audio import write_sound

from valle.corpora.folder import FolderConfig, prepare_folder
from valle.corpora.folder_walk import FolderError, fingerprint, walk_folder
from valle.corpora.manifests import read_cuts
from valle.corpora.report_reasons import PARTS, Reason
from valle.outputs import claim_outputs


def prepare(audio_dir: Path, data: Path) -> dict[str, set[str]]:
    """Run stage 1 -> the recordings' files by part."""
    prepare_folder(FolderConfig(
        audio_dir=audio_dir, output_dir=data / "manifests", cache_dir=data / "audio", scan_log=data / "scan.jsonl",
        report=data / "report.html",
    ))  # fmt: skip
    return {
        part: {Path(cut.recording.sources[0].source).name for cut in read_cuts(data / "manifests" / f"cuts_{part}.jsonl.gz")}
        for part in PARTS
    }


def left_out(data: Path) -> dict[str, Reason]:
    lines = (data / "manifests" / "left_out.jsonl").read_text().splitlines()
    return {entry["path"]: Reason(entry["reason"]) for entry in map(json.loads, lines)}


def recordings(folder: Path, count: int = 6) -> None:
    for seed in range(count):
        write_sound(folder / f"{seed}.wav", 1.5, seed=seed)


def test_the_caches_copies_are_not_recordings_on_the_second_run(tmp_path: Path) -> None:
    data = tmp_path / "data"
    recordings(data / "mine")
    first = prepare(data, data)
    write_sound(data / "audio" / "copy.m4a-1f.flac", 1.5, seed=99)  # as the cache holds an m4a's sound
    assert prepare(data, data) == first
    assert left_out(data)["audio/"] == Reason.OWN


@pytest.mark.parametrize("inside", ["data", "data/mine", "data/audio"])
def test_recordings_in_a_recipes_own_data_are_refused(tmp_path: Path, inside: str) -> None:
    (tmp_path / "data" / ".stages").mkdir(parents=True)
    recordings(tmp_path / inside)
    for look in (walk_folder, fingerprint):
        with pytest.raises(FolderError, match="where this program keeps its own files; move the recordings"):
            look(tmp_path / inside)


def test_a_recipes_data_below_the_recordings_is_passed_over_and_changes_no_fingerprint(tmp_path: Path) -> None:
    recordings(tmp_path)
    before = fingerprint(tmp_path)
    (tmp_path / "recipe" / "data" / ".stages").mkdir(parents=True)
    recordings(tmp_path / "recipe" / "data" / "audio")
    assert fingerprint(tmp_path) == before
    walk = walk_folder(tmp_path)
    assert len(walk.files) == 6 and [(entry.path, entry.reason) for entry in walk.left_out] == [("recipe/data/", Reason.OWN)]


def test_what_another_program_wrote_among_the_recordings_is_not_one(tmp_path: Path) -> None:
    recordings(tmp_path / "rec")
    with claim_outputs(tmp_path / "rec", ["deeper/continued.wav", "changed.wav"], program="infer").being_written():
        write_sound(tmp_path / "rec" / "deeper" / "continued.wav", 1.5, seed=50)
        write_sound(tmp_path / "rec" / "changed.wav", 1.5, seed=51)
    write_sound(tmp_path / "rec" / "changed.wav", 1.5, seed=52)  # somebody's own by now
    walk = walk_folder(tmp_path / "rec")
    assert {file.path for file in walk.files} == {*(f"{seed}.wav" for seed in range(6)), "changed.wav"}
    assert {entry.path: entry.reason for entry in walk.left_out} == {
        "deeper/continued.wav": Reason.OWN, ".valle-outputs.json": Reason.NOT_AUDIO,
    }  # fmt: skip


def test_a_sound_in_another_format_is_in_one_part_alone_and_is_reported(tmp_path: Path) -> None:
    rec, data = tmp_path / "rec", tmp_path / "data"
    for seed in range(8):
        wav, _ = soundfile.read(write_sound(rec / f"a{seed}.wav", 1.5, seed=seed, subtype="PCM_16"), dtype="int16")
        soundfile.write(rec / f"b{seed}.flac", wav, 16000, subtype="PCM_16")
    shutil.copy(rec / "a0.wav", rec / "c.wav")
    parts = prepare(rec, data)
    assert set.union(*parts.values()) == {f"a{seed}.wav" for seed in range(8)}
    assert sum(map(len, parts.values())) == 8
    found = left_out(data)
    assert found == {**{f"b{seed}.flac": Reason.DUPLICATE for seed in range(8)}, "c.wav": Reason.DUPLICATE}
    assert "the sound of a3.wav" in (data / "manifests" / "left_out.jsonl").read_text()
