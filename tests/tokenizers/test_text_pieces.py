"""Text pieces: every text comes back, the same texts fit the same pieces, a folder and a checkpoint hold all of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_texts import texts

from valle.tokenizers.text_pieces import (
    SentencePieces,
    TextTokenizerError,
    fit_text_pieces,
    load_text_tokenizer,
    save_text_tokenizer,
    text_tokenizer_from_state,
    text_tokenizer_to_state,
)

SENTENCES = [text for number in range(200) for text in texts(number)]


@pytest.fixture(scope="module")
def pieces() -> SentencePieces:
    return fit_text_pieces(SENTENCES, num_pieces=400)


def test_texts_come_back_in_fewer_pieces_than_letters(pieces: SentencePieces) -> None:
    for text in SENTENCES[:50]:
        assert pieces.decode(pieces.encode(text)) == text
        assert len(pieces.encode(text)) < len(text)


@pytest.mark.parametrize("text", ["0", "Żółw!", "日本語", "a  b", "[ASR English]", "🐢"])
def test_letters_that_were_never_seen_come_back_by_their_bytes(text: str, pieces: SentencePieces) -> None:
    found = pieces.encode(text)
    assert pieces.decode(found) == text and all(0 <= piece < pieces.num_pieces for piece in found)


def test_the_same_texts_make_the_same_pieces_and_others_other_ones(pieces: SentencePieces) -> None:
    assert fit_text_pieces(SENTENCES, num_pieces=400).identity == pieces.identity
    assert fit_text_pieces(SENTENCES[:100], num_pieces=400).identity != pieces.identity


def test_a_folder_and_a_checkpoint_hold_the_same_tokenizer(pieces: SentencePieces, tmp_path: Path) -> None:
    save_text_tokenizer(pieces, tmp_path / "text")
    assert load_text_tokenizer(tmp_path / "text").identity == pieces.identity
    assert load_text_tokenizer(f"text-pieces={tmp_path / 'text'}").identity == pieces.identity
    assert text_tokenizer_from_state(text_tokenizer_to_state(pieces)).identity == pieces.identity


def test_the_tokenizer_of_a_text_model_is_read_from_its_file(tmp_path: Path) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    made = Tokenizer(WordLevel({"[UNK]": 0, "Anna": 1, "found": 2}, unk_token="[UNK]"))
    made.pre_tokenizer = Whitespace()
    made.save(str(tmp_path / "tokenizer.json"))
    released = load_text_tokenizer(tmp_path)
    assert released.encode("found Anna") == [2, 1] and released.decode([1, 2]) == "Anna found" and released.num_pieces == 3
    save_text_tokenizer(released, tmp_path / "saved")
    assert load_text_tokenizer(tmp_path / "saved").identity == released.identity


def test_damaged_and_missing_tokenizers_are_refused(pieces: SentencePieces, tmp_path: Path) -> None:
    save_text_tokenizer(pieces, tmp_path / "text")
    with pytest.raises(TextTokenizerError, match="expected the text tokenizer other"):
        load_text_tokenizer(f"other={tmp_path / 'text'}")
    (tmp_path / "text" / "pieces.model").write_bytes(b"no")
    with pytest.raises(TextTokenizerError, match="damaged"):
        load_text_tokenizer(tmp_path / "text")
    with pytest.raises(TextTokenizerError, match="found none"):
        load_text_tokenizer(tmp_path)
    with pytest.raises(TextTokenizerError, match="300 text pieces or more"):
        fit_text_pieces(SENTENCES, num_pieces=10)
