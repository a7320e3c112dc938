"""LibriSpeech's layout: parts, halves, and what is wrong with a copy of it."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from lhotse import CutSet
from lhotse.cut import Cut
from tiny_audio import write_librispeech, write_sound

from valle.corpora.cut_audio import read_cut
from valle.corpora.librispeech import LibriSpeechConfig, LibriSpeechError, download_parts, prepare_librispeech
from valle.corpora.report import read_left_out, summary_lines
from valle.corpora.report_reasons import Reason

UTTERANCES = {
    "train-a/11-1-0000": 0.5, "train-a/11-1-0001": 0.6, "train-a/12-7-0000": 0.4,
    "dev-a/21-1-0000": 0.5, "dev-a/21-1-0001": 0.5, "dev-a/21-1-0002": 0.5,
    "dev-a/22-1-0000": 0.5, "dev-a/22-2-0000": 0.5, "dev-a/22-2-0001": 0.5, "dev-a/22-3-0000": 0.5,
    "test-a/31-1-0000": 0.7,
}  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_librispeech(tmp_path_factory.mktemp("libri"), UTTERANCES)
    (folder / "SPEAKERS.TXT").write_text(
        "; a header | of | fields\n11   | F | train-a | 1.0 | Somebody\n12 | M | train-a | 1.0 | Another\n"
    )
    return folder


def config(corpus: Path, out: Path, **options) -> LibriSpeechConfig:
    return LibriSpeechConfig(**{"corpus_dir": corpus, "output_dir": out, "train_parts": ["train-a"], "dev_parts": ["dev-a"], **options})


def cuts(out: Path, part: str) -> list[Cut]:
    return list(CutSet.from_jsonl_lazy(out / f"cuts_{part}.jsonl.gz"))


def ids(out: Path, part: str) -> list[str]:
    return [cut.id for cut in cuts(out, part)]


def test_each_part_has_its_utterances_with_text_speaker_and_gender(corpus: Path, tmp_path: Path) -> None:
    sizes = prepare_librispeech(config(corpus, tmp_path, test_parts=["test-a"]))
    assert {part: count for part, (count, _) in sizes.items()} == {"train": 3, "dev": 7, "test": 1}
    first = cuts(tmp_path, "train")[0]
    supervision = first.supervisions[0]
    assert (first.id, supervision.text, supervision.speaker, supervision.gender) == ("11-1-0000", "WORDS OF 11-1-0000", "11", "female")
    assert first.duration == 0.5 and first.load_audio().shape == (1, 8000)


def test_without_parts_for_test_speakers_are_halved_by_chapter_or_by_utterance(corpus: Path, tmp_path: Path) -> None:
    prepare_librispeech(config(corpus, tmp_path))
    assert ids(tmp_path, "dev") == ["21-1-0000", "21-1-0001", "22-1-0000", "22-3-0000"]
    assert ids(tmp_path, "test") == ["21-1-0002", "22-2-0000", "22-2-0001"]


def test_train_alone_has_every_utterance_at_other_speeds_too_each_as_another_speaker(corpus: Path, tmp_path: Path) -> None:
    sizes = prepare_librispeech(config(corpus, tmp_path, speeds=[0.8, 1.25]))
    assert ids(tmp_path, "train")[:3] == ["11-1-0000", "11-1-0000_sp0.8", "11-1-0000_sp1.25"] and len(ids(tmp_path, "dev")) == 4
    assert sizes["train"] == (9, pytest.approx(1.5 * (1 + 1.25 + 0.8), abs=1e-3))
    for cut, speaker, seconds in zip(cuts(tmp_path, "train"), ("11", "11_sp0.8", "11_sp1.25"), (0.5, 0.625, 0.4), strict=False):
        samples, rate = read_cut(cut)
        assert cut.supervisions[0].speaker == speaker and len(samples) / rate == pytest.approx(seconds, abs=1e-3)


@pytest.mark.parametrize("speed", [0.0, 1.0, 3.0])
def test_speeds_that_change_nothing_or_everything_are_refused(corpus: Path, tmp_path: Path, speed: float) -> None:
    with pytest.raises(LibriSpeechError, match="expected speeds"):
        config(corpus, tmp_path, speeds=[speed])


@pytest.mark.parametrize("options", [{"dev_parts": ["train-a"]}, {"test_parts": ["train-a"]}, {"test_parts": ["dev-a"]}])
def test_dev_and_test_inside_train_are_refused(corpus: Path, tmp_path: Path, options: dict) -> None:
    with pytest.raises(LibriSpeechError, match=r"must not share audio, found (train|dev)-a in both"):
        prepare_librispeech(config(corpus, tmp_path, **options))


def test_equal_manifests_have_equal_bytes_whatever_the_number_of_workers(corpus: Path, tmp_path: Path) -> None:
    for name, workers in (("one", 1), ("two", 4)):
        prepare_librispeech(config(corpus, tmp_path / name, num_workers=workers))
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_bad_files_and_lines_are_left_out_with_their_reason(tmp_path: Path) -> None:
    corpus = write_librispeech(tmp_path / "libri", {f"train-a/11-1-000{number}": 0.5 for number in range(5)} | {"dev-a/21-1-0000": 0.5})
    chapter = corpus / "train-a" / "11" / "1"
    (chapter / "11-1-0001.flac").unlink()
    (chapter / "11-1-0002.flac").write_bytes(b"fLaC and no more")
    (chapter / "11-1-0003.flac").write_bytes(b"")
    write_sound(chapter / "11-1-0004.flac", 0.05)
    write_sound(tmp_path / "elsewhere.flac", 0.5)
    with (chapter / "11-1.trans.txt").open("a") as lines:
        lines.write("../../../../elsewhere A LINE THAT LEADS OUT\n11_1 <b>BAD</b>\n\n")
    prepare_librispeech(config(corpus, tmp_path / "out"))
    found = {entry.path.rsplit("/", 1)[1]: entry.reason for entry in read_left_out(tmp_path / "out" / "left_out.jsonl")}
    assert found == {
        "11-1-0001.flac": Reason.MISSING, "11-1-0002.flac": Reason.CORRUPT, "11-1-0003.flac": Reason.EMPTY,
        "11-1-0004.flac": Reason.TOO_SHORT, "11-1.trans.txt:6": Reason.OUTSIDE, "11-1.trans.txt:7": Reason.BAD_LINE,
    }  # fmt: skip
    assert ids(tmp_path / "out", "train") == ["11-1-0000"]
    assert any("6 (" in line for line in summary_lines(tmp_path / "out", {"train": (1, 0.5)}))


def test_a_missing_part_names_those_that_are_there(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(LibriSpeechError, match=r"expected the part dev-clean in .*, found dev-a, test-a, train-a"):
        prepare_librispeech(config(corpus, tmp_path, dev_parts=["dev-clean"]))
    with pytest.raises(LibriSpeechError, match=r"found no such folder"):
        prepare_librispeech(config(tmp_path / "nowhere", tmp_path))


@pytest.mark.parametrize("name", ["..", "../train-a", "a/b", ""])
def test_a_part_that_leads_elsewhere_is_refused(corpus: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(LibriSpeechError, match="expected the name of a part"):
        config(corpus, tmp_path, dev_parts=[name])


def test_a_download_that_finds_no_way_is_one_sentence(tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and nobody listens
        address = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        with pytest.raises(LibriSpeechError, match=rf"expected to download from {address}, found no way there .* name their folder"):
            download_parts(["dev-clean"], tmp_path, base_url=address)
