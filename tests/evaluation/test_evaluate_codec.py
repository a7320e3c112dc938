import json
import sys
from pathlib import Path

import pytest
from tiny_audio import write_sound
from tiny_pipeline import CODEBOOKS, tiny_codec

from valle.bin import evaluate_codec as program
from valle.errors import run_program
from valle.evaluation.codec_report import CodecReportError
from valle.evaluation.evaluate_codec import EvaluateCodecOptions, choose_files, codec_table, evaluate_codec
from valle.tokenizers.registry import save_tokenizer
from valle.tokenizing.found_files import TokenFileError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A codec of random weights and three recordings, one of them nested."""
    save_tokenizer(tiny_codec(), tmp_path / "codec")
    for seed, name in enumerate(("a.wav", "b.flac", "deeper/c.wav")):
        write_sound(tmp_path / "audio" / name, 1.0, seed=seed)
    (tmp_path / "audio" / "notes.txt").write_text("not a sound")
    return tmp_path


def test_a_report_holds_every_number_of_codebooks_its_controls_and_intervals(folder: Path) -> None:
    options = EvaluateCodecOptions(audio=[folder / "audio"], codec=str(folder / "codec"), output=folder / "codec.json", title="mine")
    report = evaluate_codec(options)
    assert json.loads((folder / "codec.json").read_text()) == {"mine": json.loads(json.dumps(report))}
    assert list(report["systems"]) == ["1", "2", str(CODEBOOKS), "identity", "silence"]
    assert report["recordings"] == 3 and report["systems"]["identity"]["stoi"]["mean"] == pytest.approx(1, abs=1e-4)
    for scores in report["systems"].values():
        for estimate in (scores[measure] for measure in ("stoi", "mel_l1", "si_sdr")):
            assert estimate["count"] == 3 and estimate["low"] <= estimate["mean"] <= estimate["high"]


def test_reports_of_other_titles_stay_and_other_files_are_not_written_over(folder: Path) -> None:
    one = {"audio": [folder / "audio" / "a.wav"], "codec": str(folder / "codec"), "codebooks": [1], "output": folder / "codec.json"}
    evaluate_codec(EvaluateCodecOptions(title="first", **one))
    evaluate_codec(EvaluateCodecOptions(title="second", **one))
    assert list(json.loads((folder / "codec.json").read_text())) == ["first", "second"]
    for content in ("[1]", "{", '{"first": 1}'):
        (folder / "codec.json").write_text(content)
        with pytest.raises(CodecReportError, match="name another --output"):
            evaluate_codec(EvaluateCodecOptions(title="third", **one))
        assert (folder / "codec.json").read_text() == content


def test_of_many_files_evenly_spread_ones_are_taken(tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / f"{number}.wav").write_bytes(b"RIFF")
    assert [file.path.stem for file in choose_files([tmp_path], 5)] == list("02468")
    assert len(choose_files([tmp_path], 10)) == len(choose_files([tmp_path], 99)) == 10
    (tmp_path / "empty").mkdir()
    with pytest.raises(TokenFileError, match="expected files of audio in"):
        choose_files([tmp_path / "empty"], 3)


def test_the_program_prints_a_row_a_number_of_codebooks(
    folder: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ["--audio", str(folder / "audio" / "a.wav"), "--codec", str(folder / "codec"), "--codebooks", "1", "2"]
    monkeypatch.setattr(sys, "argv", ["evaluate_codec.py", *flags])
    program.main()
    lines = [line.strip().split("  ")[0] for line in capsys.readouterr().out.splitlines()]
    assert lines[1:6] == ["decoded from", "1 codebook", "2 codebooks", "the recording itself", "silence"]


def test_opus_stands_beside_the_codec_with_the_rate_that_it_took(folder: Path) -> None:
    options = EvaluateCodecOptions(audio=[folder / "audio"], codec=str(folder / "codec"), codebooks=[1], opus=[6, 32])
    report = evaluate_codec(options)
    rates = [report["systems"][name]["kbps"]["mean"] for name in ("opus 6", "opus 32")]
    assert 6 < rates[0] < rates[1]
    assert [row[0] for row in codec_table("mine", report).rows[1:3]] == [f"Opus, {rate:.1f} kbit/s" for rate in rates]


def test_mistakes_are_one_sentence(folder: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = str(folder / "audio" / "a.wav")
    for flags, words in (
        (["--audio", str(folder / "codec")], "expected files of audio in"),
        (["--audio", sound, "--codec", str(folder / "codec"), "--codebooks", "9"], "within 1..3"),
        (["--audio", sound, "--max-recordings", "0"], "1 or more"),
        (["--audio", sound, "--codec", str(folder / "codec"), "--opus", "3"], "6 to 256 kbit/s"),
        (["--audio", str(folder / "nothing.wav")], "found nothing there"),
    ):
        monkeypatch.setattr(sys, "argv", ["evaluate_codec.py", *flags])
        with pytest.raises(SystemExit) as caught:
            run_program(program.main)
        assert caught.value.code == 2 and words in capsys.readouterr().err
