"""Anyone's recordings: every format is read, every bad file is named with its reason, nothing stops, splits share nothing."""

from __future__ import annotations

import os
import shutil
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from lhotse import CutSet
from lhotse.cut import Cut
from tiny_audio import sound, write_sound
from tiny_headers import caf_of_unknown_length, flac_of_unknown_length, packed, wav_of_sizes, write_by_av

from valle.corpora.cut_audio import CutAudioError, PromptsConfig, read_cut, write_prompts
from valle.corpora.folder import FolderConfig, FolderReport, SplitBy, prepare_folder, recording_name
from valle.corpora.folder_segments import Cutting
from valle.corpora.folder_walk import FolderError, fingerprint
from valle.corpora.report import read_left_out, write_report
from valle.corpora.report_reasons import PARTS, Reason


def prepare(audio: Path, out: Path, **options) -> FolderReport:
    return prepare_folder(config(audio, out, **options))


def config(audio: Path, out: Path, **options) -> FolderConfig:
    places = {"output_dir": out / "manifests", "cache_dir": out / "audio", "scan_log": out / "scan.jsonl"}
    return FolderConfig(audio_dir=audio, **places, **options)


def cuts(out: Path, part: str) -> list[Cut]:
    return list(CutSet.from_jsonl_lazy(out / "manifests" / f"cuts_{part}.jsonl.gz"))


def all_cuts(out: Path) -> list[Cut]:
    return [cut for part in PARTS for cut in cuts(out, part)]


def reasons(out: Path) -> dict[str, Reason]:
    return {entry.path: entry.reason for entry in read_left_out(out / "manifests" / "left_out.jsonl")}


def write_m4a(path: Path, seconds: float, *, seed: int = 0) -> None:
    rate = 44100
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=rate, layout="stereo")
        wav = np.repeat(sound(seconds, rate=rate, seed=seed)[None], 2, 0)
        frame = av.AudioFrame.from_ndarray(wav, format="fltp", layout="stereo")
        frame.rate = rate
        cutter = av.AudioResampler(format="fltp", layout="stereo", rate=rate, frame_size=1024)
        for part in [*cutter.resample(frame), *cutter.resample(None), None]:
            container.mux(stream.encode(part))


FORMATS = [
    ("wav", 16000, {"subtype": "PCM_16"}), ("wav", 8000, {"subtype": "PCM_U8"}), ("wav", 44100, {"subtype": "PCM_24"}),
    ("wav", 48000, {"subtype": "PCM_32"}), ("wav", 22050, {"subtype": "FLOAT"}), ("wav", 96000, {"subtype": "DOUBLE"}),
    ("wav", 11025, {"subtype": "MS_ADPCM"}), ("flac", 24000, {"subtype": "PCM_24"}), ("mp3", 44100, {}), ("ogg", 32000, {}),
    ("opus", 48000, {"format": "OGG", "subtype": "OPUS"}), ("aiff", 44100, {"subtype": "PCM_16"}), ("caf", 16000, {"subtype": "PCM_16"}),
]  # fmt: skip


@pytest.mark.parametrize(("suffix", "rate", "options"), FORMATS)
def test_every_format_is_read_where_it_lies(tmp_path: Path, suffix: str, rate: int, options: dict) -> None:
    file = write_sound(tmp_path / "in" / f"take.{suffix}", 3.3, rate=rate, **options)
    prepare(tmp_path / "in", tmp_path)
    assert reasons(tmp_path) == {}
    pieces = all_cuts(tmp_path)
    assert {cut.recording.sources[0].source for cut in pieces} == {str(file)}
    whole = np.concatenate([read_cut(cut)[0] for cut in pieces])
    expected = sound(3.3, rate=rate)
    assert abs(len(whole) - len(expected)) < 0.05 * rate
    size = min(len(whole), len(expected))
    assert np.corrcoef(whole[:size], expected[:size])[0, 1] > 0.9


def test_m4a_is_decoded_once_into_the_cache(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_m4a(tmp_path / "in" / "take.m4a", 3)
    prepare(tmp_path / "in", tmp_path)
    sources = {cut.recording.sources[0].source for cut in all_cuts(tmp_path)}
    assert len(sources) == 1 and next(iter(sources)).startswith(str(tmp_path / "audio" / "take.m4a-"))
    info = soundfile.info(next(iter(sources)))
    assert (info.samplerate, info.channels, info.subtype) == (44100, 1, "PCM_16") and abs(info.duration - 3) < 0.1
    assert list((tmp_path / "audio").glob(".*")) == []


def test_recordings_whose_headers_lie_are_cut_from_end_to_end(tmp_path: Path) -> None:
    """Headers of pipes and dead batteries, files end to end, rates and channels that change: what is decoded is the length."""
    mp3 = {"format": "MP3", "subtype": "MPEG_LAYER_III"}
    made = {
        "pipe.flac": (flac_of_unknown_length(6), 6), "battery.wav": (wav_of_sizes(6, riff=0, data=0), 6),
        "live.caf": (caf_of_unknown_length(5), 5), "two.mp3": (packed(4, **mp3) + packed(6, seed=1, **mp3), 10),
        "two.ogg": (packed(4, format="OGG") + packed(6, seed=1, format="OGG"), 10),
        "rates.mp3": (packed(4, rate=44100, **mp3) + packed(6, rate=48000, seed=1, **mp3), 10),
    }  # fmt: skip
    (tmp_path / "in").mkdir()
    for name, (content, _) in made.items():
        (tmp_path / "in" / name).write_bytes(content)
    prepare(tmp_path / "in", tmp_path)
    assert reasons(tmp_path) == {}
    found: dict[str, float] = {}
    for cut in all_cuts(tmp_path):
        wav, rate = read_cut(cut)
        name = cut.recording.id.rpartition("-")[0]
        found[name] = found.get(name, 0.0) + len(wav) / rate
        assert cut.recording.num_samples / cut.recording.sampling_rate == pytest.approx(cut.recording.duration)
    assert len(found) == len({name.rpartition(".")[0] for name in made})
    assert found["pipe"] == pytest.approx(6) and found["battery"] == pytest.approx(6) and found["live"] == pytest.approx(5)
    assert found["two"] == pytest.approx(20, abs=0.3) and found["rates"] == pytest.approx(10, abs=0.2)


@pytest.mark.parametrize("suffix", ["webm", "weba", "mka", "mkv", "mp4", "wav"])
def test_the_sound_of_web_recordings_and_films_is_found(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "in").mkdir()
    container, codec = ("mp4", "aac") if suffix == "mp4" else ("webm", "libopus")
    write_by_av(tmp_path / "in" / f"a.{suffix}", 4, codec, container=container)
    prepare(tmp_path / "in", tmp_path)
    assert reasons(tmp_path) == {} and sum(cut.duration for cut in all_cuts(tmp_path)) == pytest.approx(4, abs=0.1)


def test_stereo_with_one_channel_turned_over_is_not_silent(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    wav = sound(4)
    soundfile.write(tmp_path / "in" / "a.wav", np.stack([wav, -wav], 1), 16000, subtype="FLOAT")
    prepare(tmp_path / "in", tmp_path)
    assert reasons(tmp_path) == {}
    np.testing.assert_allclose(np.abs(np.concatenate([read_cut(cut)[0] for cut in all_cuts(tmp_path)])), np.abs(wav), atol=1e-6)


@pytest.mark.parametrize("channels", [2, 5])
def test_channels_are_mixed_to_their_mean(tmp_path: Path, channels: int) -> None:
    (tmp_path / "in").mkdir()
    wav = np.stack([sound(3, seed=seed) for seed in range(channels)], 1)
    soundfile.write(tmp_path / "in" / "many.wav", wav, 16000, subtype="FLOAT")
    prepare(tmp_path / "in", tmp_path)
    whole = np.concatenate([read_cut(cut)[0] for cut in all_cuts(tmp_path)])
    np.testing.assert_allclose(whole, wav.mean(1), atol=1e-6)


@pytest.fixture(scope="module")
def mess(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one of each thing that goes wrong, and three good files."""
    folder = tmp_path_factory.mktemp("mess")
    for name, seed in (("good/one.wav", 1), ("good/two.flac", 2), ("good/deep/three.ogg", 3)):
        write_sound(folder / name, 2.5, seed=seed)
    rng = np.random.default_rng(0)
    (folder / "empty.wav").touch()
    soundfile.write(folder / "no samples.wav", np.zeros(0), 16000)
    soundfile.write(folder / "silent.wav", np.zeros(40000), 16000)
    soundfile.write(folder / "constant.wav", np.full(40001, 0.5), 16000)
    write_sound(folder / "short.wav", 0.4)
    (folder / "text.mp3").write_text("no sound at all\n" * 5000)
    (folder / "noise.m4a").write_bytes(rng.bytes(50000))
    (folder / "noise.flac").write_bytes(rng.bytes(50001))
    whole = write_sound(folder / "cut.flac", 8, seed=4).read_bytes()
    (folder / "cut.flac").write_bytes(whole[: len(whole) // 2])
    damaged = bytearray(write_sound(folder / "damaged.ogg", 20, seed=5).read_bytes())
    damaged[len(damaged) // 2 : len(damaged) // 2 + 3000] = rng.bytes(3000)
    (folder / "damaged.ogg").write_bytes(damaged)
    wav = sound(2, seed=6)
    soundfile.write(folder / "integers.wav", wav * 32768, 16000, subtype="FLOAT")
    wav[1000] = np.nan
    soundfile.write(folder / "nan.wav", wav, 16000, subtype="FLOAT")
    (folder / "notes <b>&.txt").write_text("what was recorded")
    (folder / "._one.wav").write_bytes(b"left by another system")
    shutil.copy(folder / "good" / "one.wav", folder / "zz copy.wav")
    (folder / "broken.wav").symlink_to("nothing")
    (folder / "good" / "deep" / "again").symlink_to("../..")
    (folder / "ring.wav").symlink_to("ring.wav")
    os.mkfifo(folder / "pipe.wav")
    return folder


EXPECTED = {
    "empty.wav": Reason.EMPTY, "no samples.wav": Reason.EMPTY, "silent.wav": Reason.SILENT, "constant.wav": Reason.SILENT,
    "short.wav": Reason.TOO_SHORT, "text.mp3": Reason.CORRUPT, "noise.m4a": Reason.CORRUPT, "noise.flac": Reason.CORRUPT,
    "cut.flac": Reason.CORRUPT, "damaged.ogg": Reason.CORRUPT, "integers.wav": Reason.OUT_OF_RANGE, "nan.wav": Reason.CORRUPT,
    "notes <b>&.txt": Reason.NOT_AUDIO, "._one.wav": Reason.NOT_AUDIO, "zz copy.wav": Reason.DUPLICATE, "broken.wav": Reason.BROKEN_LINK,
    "good/deep/again": Reason.LINK_LOOP, "ring.wav": Reason.LINK_LOOP, "pipe.wav": Reason.NOT_A_FILE,
}  # fmt: skip


def test_every_bad_file_is_left_out_with_its_reason_and_stops_nothing(mess: Path, tmp_path: Path) -> None:
    report = prepare(mess, tmp_path)
    assert reasons(tmp_path) == EXPECTED
    assert {part: count for part, (count, _) in report.sizes.items()} == {"train": 1, "dev": 1, "test": 1}


def test_the_report_lists_bad_files_and_escapes_their_names(mess: Path, tmp_path: Path) -> None:
    report = prepare(mess, tmp_path)
    left_out = tmp_path / "manifests" / "left_out.jsonl"
    write_report(tmp_path / "report.html", title="<script>alert(1)</script>", left_out=left_out, sizes=report.sizes)
    page = (tmp_path / "report.html").read_text()
    assert "<script>" not in page and "<b>" not in page
    assert "notes &lt;b&gt;&amp;.txt" in page and "Left out: 19" in page
    assert all(reason in page for reason in set(EXPECTED.values()))


def test_a_file_that_cannot_be_opened_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(3):
        write_sound(tmp_path / "in" / f"{seed}.wav", 2, seed=seed)
    opened = Path.open

    def refuse(self: Path, *arguments, **options):
        if self.name == "1.wav":
            raise PermissionError(13, "Permission denied")
        return opened(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)  # root may read everything, so that no mode bits would do
    prepare(tmp_path / "in", tmp_path)
    assert reasons(tmp_path) == {"1.wav": Reason.UNREADABLE}


def test_a_name_that_is_not_text_is_left_out(tmp_path: Path) -> None:
    write_sound(tmp_path / "in" / "good.wav", 3)
    os.rename(write_sound(tmp_path / "in" / "bad.wav", 3, seed=1), os.fsencode(tmp_path / "in") + b"/bad\xff.wav")
    prepare(tmp_path / "in", tmp_path)
    assert reasons(tmp_path) == {"bad\\udcff.wav": Reason.BAD_NAME}


def test_silent_stretches_of_a_long_file_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    wav = np.concatenate([sound(20), np.zeros(40 * 16000, np.float32), sound(20, seed=1)])
    soundfile.write(tmp_path / "in" / "pause.wav", wav, 16000)
    prepare(tmp_path / "in", tmp_path, cutting=Cutting.windows, max_seconds=10.0)
    assert [entry.detail for entry in read_left_out(tmp_path / "manifests" / "left_out.jsonl")] == [
        f"from {start}.00 to {start + 10}.00 s" for start in (20, 30, 40, 50)
    ]
    assert len(all_cuts(tmp_path)) == 4


@pytest.mark.parametrize("seconds", [4.0, 40.0])
def test_one_file_is_split_in_time(tmp_path: Path, seconds: float) -> None:
    write_sound(tmp_path / "in" / "only.wav", seconds)
    report = prepare(tmp_path / "in", tmp_path)
    assert all(count > 0 for count, _ in report.sizes.values())
    assert any("split in time" in note for note in report.notes)
    pieces = all_cuts(tmp_path)
    assert all(abs(one.end - two.start) < 1e-6 for one, two in pairwise(pieces))
    assert abs(pieces[-1].end - seconds) < 1e-6


def test_one_short_recording_is_enough_for_three_parts(tmp_path: Path) -> None:
    write_sound(tmp_path / "in" / "only.wav", 1.5)
    report = prepare(tmp_path / "in", tmp_path)
    assert report.sizes == {part: (1, pytest.approx(0.5, abs=1e-3)) for part in PARTS}
    [note] = report.notes
    assert "split in time" in note and "dev and test are pieces of the recordings that train has" in note
    write_report(tmp_path / "report.html", title="One", left_out=tmp_path / "manifests" / "left_out.jsonl", sizes=report.sizes)
    assert "dev and test are pieces of the recordings that train has" in (tmp_path / "report.html").read_text()


def test_sound_with_a_silent_end_is_enough_for_three_parts(tmp_path: Path) -> None:
    """Two of its three pieces were silent, and dev was empty."""
    (tmp_path / "in").mkdir()
    soundfile.write(tmp_path / "in" / "only.wav", np.concatenate([sound(2.0), np.zeros(3 * 16000, np.float32)]), 16000)
    report = prepare(tmp_path / "in", tmp_path)
    assert all(count > 0 for count, _ in report.sizes.values())


def test_what_leaves_nothing_for_dev_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    """It was found out at the first validation, after twenty minutes."""
    write_sound(tmp_path / "in" / "only.wav", 1.2)
    with pytest.raises(FolderError, match=r"found 1.20 s in all and nothing for dev; give three recordings or more, or one of 1.5 s"):
        prepare(tmp_path / "in", tmp_path)


def test_pieces_of_a_recording_say_whether_they_begin_or_end_it(tmp_path: Path) -> None:
    write_sound(tmp_path / "in" / "long.wav", 40.0)
    for number in range(3):
        write_sound(tmp_path / "in" / f"{number}.wav", 2.0, seed=number)
    prepare(tmp_path / "in", tmp_path)
    found = {cut.id: cut for cut in all_cuts(tmp_path)}
    pieces = sorted((cut for cut in found.values() if cut.recording.duration > 30), key=lambda cut: cut.start)
    assert len(pieces) > 2
    assert [cut.custom["is_first_piece"] for cut in pieces] == [True] + [False] * (len(pieces) - 1)
    assert [cut.custom["is_last_piece"] for cut in pieces] == [False] * (len(pieces) - 1) + [True]
    assert all(not cut.custom for cut in found.values() if cut.recording.duration < 30)  # a whole recording holds both ends


def test_prompts_are_the_longest_where_all_are_short(tmp_path: Path) -> None:
    write_sound(tmp_path / "in" / "only.wav", 5.0)
    prepare(tmp_path / "in", tmp_path)
    settings = {"manifest_dir": tmp_path / "manifests", "output_dir": tmp_path / "prompts", "min_seconds": 3.0, "num_prompts": 1}
    with pytest.raises(CutAudioError, match="expected cuts of at least 3 s"):
        write_prompts(PromptsConfig(**settings))
    [path] = write_prompts(PromptsConfig(**settings, or_longest=True))
    longest = max(cut.duration for cut in cuts(tmp_path, "test"))
    assert soundfile.info(path).duration == pytest.approx(longest, abs=1e-3)


def test_no_speaker_is_in_two_parts(tmp_path: Path) -> None:
    for speaker in range(6):
        for take in range(2):
            write_sound(tmp_path / "in" / f"speaker {speaker}" / "day" / f"{take}.wav", 1.2, seed=2 * speaker + take)
    prepare(tmp_path / "in", tmp_path, split_by=SplitBy.speaker)
    speakers = [{cut.supervisions[0].speaker for cut in cuts(tmp_path, part)} for part in PARTS]
    assert all(speakers) and sum(map(len, speakers)) == 6


def test_fewer_than_three_speakers_are_split_by_file_and_it_is_said(tmp_path: Path) -> None:
    for take in range(4):
        write_sound(tmp_path / "in" / "me" / f"{take}.wav", 1.2, seed=take)
    report = prepare(tmp_path / "in", tmp_path, split_by=SplitBy.speaker)
    assert all(count > 0 for count, _ in report.sizes.values())
    assert report.notes == ["split by file: three speakers or more are needed to split by them, found 1"]


def test_equal_folders_give_equal_bytes_whatever_the_number_of_workers(mess: Path, tmp_path: Path) -> None:
    for name, workers in (("one", 1), ("two", 4)):
        prepare(mess, tmp_path / name, num_workers=workers)
    for path in (tmp_path / "one" / "manifests").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / "manifests" / path.name).read_bytes()


def test_a_killed_scan_goes_on_and_only_changed_files_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import valle.corpora.folder_scan as scan

    for seed in range(6):
        write_sound(tmp_path / "in" / f"{seed}.wav", 1.2, seed=seed)
    read: list[str] = []
    measure = scan.measure_levels
    monkeypatch.setattr(scan, "measure_levels", lambda path: (read.append(path.name), measure(path))[1])
    prepare(tmp_path / "in", tmp_path)
    manifest = (tmp_path / "manifests" / "cuts_train.jsonl.gz").read_bytes()
    log = tmp_path / "scan.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join(lines[:3]) + lines[3][:40])  # as a kill would leave it
    read.clear()
    prepare(tmp_path / "in", tmp_path)
    assert sorted(read) == ["3.wav", "4.wav", "5.wav"]
    assert (tmp_path / "manifests" / "cuts_train.jsonl.gz").read_bytes() == manifest
    write_sound(tmp_path / "in" / "2.wav", 1.3, seed=9)
    read.clear()
    prepare(tmp_path / "in", tmp_path)
    assert read == ["2.wav"]
    read.clear()
    prepare(tmp_path / "in", tmp_path, max_seconds=5.0)
    assert len(read) == 6


def test_the_fingerprint_changes_with_the_audio_alone(tmp_path: Path) -> None:
    file = write_sound(tmp_path / "a.wav", 1)
    before = fingerprint(tmp_path)
    (tmp_path / "notes.txt").write_text("other")
    assert fingerprint(tmp_path) == before
    os.utime(file, ns=(1, 1))
    assert fingerprint(tmp_path) != before


def test_a_folder_without_recordings_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(FolderError, match=r"expected recordings of at least 1 s in .*, found no files"):
        prepare(tmp_path / "in", tmp_path)
    (tmp_path / "in" / "a.txt").touch()
    with pytest.raises(FolderError, match=r"found 1 files that cannot be used, listed in"):
        prepare(tmp_path / "in", tmp_path)
    with pytest.raises(FolderError, match=r"expected a folder of audio, found nothing"):
        prepare(tmp_path / "none", tmp_path)
    with pytest.raises(FolderError, match=r"expected a folder of audio, found a file"):
        prepare(tmp_path / "in" / "a.txt", tmp_path)


@pytest.mark.parametrize(
    "options", [{"min_seconds": 8.0}, {"min_seconds": 0.0}, {"dev_share": 1.0}, {"test_share": -0.1}, {"num_workers": 0}]
)
def test_settings_that_cannot_be_met_are_refused(tmp_path: Path, options: dict) -> None:
    with pytest.raises(FolderError):
        config(tmp_path, tmp_path, **options)


def test_names_of_recordings_are_plain_and_differ() -> None:
    names = [recording_name(path) for path in ("a/b.wav", "a b.wav", "a/b.mp3", "ünï/../x.wav", "-", "a/.wav")]
    assert len(set(names)) == 6 and all(name.replace("-", "").isalnum() and name.isascii() for name in names)


def test_prompts_are_of_as_many_speakers_as_there_are(tmp_path: Path) -> None:
    for speaker in range(5):
        for take in range(2):
            write_sound(tmp_path / "in" / f"s{speaker}" / f"{take}.wav", 1.2, seed=2 * speaker + take)
    prepare(tmp_path / "in", tmp_path, split_by=SplitBy.speaker, test_share=0.9, dev_share=0.0)
    settings = {"manifest_dir": tmp_path / "manifests", "output_dir": tmp_path / "prompts", "min_seconds": 1.0}
    paths = write_prompts(PromptsConfig(**settings, num_prompts=3))
    assert len({path.name.split("-")[0] for path in paths}) == 3
    fewer = write_prompts(PromptsConfig(**settings, num_prompts=2))
    assert sorted(tmp_path.glob("prompts/*.wav")) == sorted(fewer) and len(fewer) == 2
