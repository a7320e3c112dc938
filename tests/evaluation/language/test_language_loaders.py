"""Pairs of other people's data sets, in the layouts that they publish."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_audio import write_sound
from tiny_pipeline import RATE

from valle.evaluation.language.items import LanguageItemsError
from valle.evaluation.language.load import load_pairs, read_salmon, read_zerospeech


def write_wav(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_sound(path, 0.3, rate=RATE, seed=seed)


def write_zerospeech(folder: Path) -> Path:
    """ZeroSpeech 2021's: recordings under meaningless names, and gold.csv, whose lines are in no order."""
    lexical = ["filename,id,voice,frequency,word,phones,length,correct",
               "bb,7,A,0.0,zeppelin,Z EH,2,1", "aa,3,B,12.0,wrottle,R AA,2,0", "cc,3,A,12.0,bottle,B AA,2,1",
               "dd,7,A,0.0,zappelin,Z AH,2,0", "ee,3,A,12.0,wrottle,R AA,2,0", "ff,3,B,12.0,bottle,B AA,2,1"]  # fmt: skip
    syntactic = ["filename,id,voice,type,subtype,transcription,correct",
                 "s1,1,A,agreement,anaphor,they hurt themselves,1", "s2,1,A,agreement,anaphor,they hurt herself,0"]  # fmt: skip
    for part, lines in (("lexical", lexical), ("syntactic", syntactic)):
        home = folder / part / "dev"
        for seed, line in enumerate(lines[1:]):
            write_wav(home / f"{line.split(',')[0]}.wav", seed)
        (home / "gold.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_words_and_non_words_are_joined_by_id_and_voice_not_by_the_order_of_lines(tmp_path: Path) -> None:
    pairs = {pair.id: pair for pair in read_zerospeech(write_zerospeech(tmp_path), "lexical")}
    files = {name: (pair.right.audio.stem, pair.wrong.audio.stem) for name, pair in pairs.items()}
    assert files == {"swuggy/3/A": ("cc", "ee"), "swuggy/3/B": ("ff", "aa"), "swuggy/7/A": ("bb", "dd")}
    assert pairs["swuggy/3/A"].block == pairs["swuggy/3/B"].block != pairs["swuggy/7/A"].block
    assert pairs["swuggy/3/A"].group == "in_vocabulary" and pairs["swuggy/7/A"].group == "out_of_vocabulary"


def test_sentences_carry_their_kind_and_their_words(tmp_path: Path) -> None:
    [pair] = read_zerospeech(write_zerospeech(tmp_path), "syntactic")
    assert (pair.suite, pair.group, pair.right.audio.stem) == ("sblimp", "agreement", "s1")
    assert pair.wrong.symbols == ("they", "hurt", "herself")


def test_a_word_without_its_non_word_is_refused(tmp_path: Path) -> None:
    gold = write_zerospeech(tmp_path) / "lexical" / "dev" / "gold.csv"
    text = gold.read_text()
    gold.write_text(text.replace("ee,3,A,12.0,wrottle,R AA,2,0\n", ""))
    with pytest.raises(LanguageItemsError, match="id 3 by the voice A"):
        read_zerospeech(tmp_path, "lexical")
    gold.write_text(text.replace("ee,3,A", "ee,3,B"))
    with pytest.raises(LanguageItemsError, match="found several"):
        read_zerospeech(tmp_path, "lexical")
    gold.write_text(text.replace("voice", "speaker"))
    with pytest.raises(LanguageItemsError, match="column 'voice'"):
        read_zerospeech(tmp_path, "lexical")


def write_salmon(folder: Path) -> Path:
    for number in (0, 1, 10):
        for option in (0, 1):
            write_wav(folder / "speaker_consistency" / f"sample_{number}_{option}.wav", 2 * number + option)
    (folder / "speaker_consistency" / "metadata.json").write_text("[]")
    write_wav(folder / "rir_consistency" / "sample_0_0.wav")
    write_wav(folder / "rir_consistency" / "sample_0_1.wav", 1)
    return folder


def test_salmons_first_recording_of_a_number_is_the_right_one(tmp_path: Path) -> None:
    pairs = read_salmon(write_salmon(tmp_path), "speaker_consistency")
    assert [(pair.right.audio.stem, pair.wrong.audio.stem) for pair in pairs] == [
        ("sample_0_0", "sample_0_1"), ("sample_1_0", "sample_1_1"), ("sample_10_0", "sample_10_1"),
    ]  # fmt: skip
    (tmp_path / "speaker_consistency" / "sample_1_1.wav").unlink()
    with pytest.raises(LanguageItemsError, match="sample_1_0"):
        read_salmon(tmp_path, "speaker_consistency")


def test_a_folder_is_known_by_what_is_in_it(tmp_path: Path) -> None:
    write_salmon(write_zerospeech(tmp_path))
    assert len(load_pairs(tmp_path)) == 3 + 1 + 3 + 1
    assert len(load_pairs(tmp_path, max_items=2)) == 2 + 1 + 2 + 1
    with pytest.raises(LanguageItemsError, match="make_language_suites"):
        load_pairs(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(LanguageItemsError, match="found none"):
        load_pairs(tmp_path / "empty")
    (tmp_path / "syntactic" / "dev" / "s2.wav").unlink()
    with pytest.raises(LanguageItemsError, match=r"s2\.wav"):
        load_pairs(tmp_path)
