"""Byte-pair encoding of units (Sennrich et al. 2016), by sentencepiece: frequent sequences of units become tokens of their own.

A unit is written as one character, so sentencepiece sees text without spaces.  Every token is a sequence of units, one a
frame of the unit grid, so decoding is exact and gives back the frames.
"""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Iterable, Sequence
from functools import cached_property
from hashlib import sha256
from itertools import chain

import sentencepiece

from valle.errors import UserError

FIRST_CHARACTER, MOST_UNITS = 0x4E00, 20000  # CJK ideographs: one block without spaces, marks or letters that normalisation joins
LONGEST_TOKEN = 16  # units; a prompt's edge is uncertain that far
UNKNOWN = 1  # sentencepiece's first token, which no unit becomes and which is left out here


class UnitBpeError(UserError):
    """A unit BPE that is damaged, or of other units."""


class UnitBpe:
    """Tokens ``0..num_tokens-1`` for sequences of units ``0..num_units-1``."""

    def __init__(self, *, num_units: int, model: bytes) -> None:
        """``model``: sentencepiece's own serialised one.  Raises ``UnitBpeError`` unless every unit is a token of it."""
        self.num_units, self.model = num_units, model
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
            texts = [self._processor.id_to_piece(token) for token in range(UNKNOWN, self._processor.vocab_size())]
        except (RuntimeError, TypeError) as error:
            raise UnitBpeError("the unit BPE is damaged (sentencepiece cannot read it); fit it again") from error
        self.pieces = [tuple(ord(character) - FIRST_CHARACTER for character in text) for text in texts]  # units of every token
        alone = {piece[0] for piece in self.pieces if len(piece) == 1}
        if not all(0 <= unit < num_units for piece in self.pieces for unit in piece) or len(alone) != num_units:
            raise UnitBpeError(f"expected a unit BPE of {num_units} units, found one of {len(alone)}; fit it on these units")
        if self.decode(self.encode(range(num_units))) != list(range(num_units)):
            raise UnitBpeError("the unit BPE is damaged (it does not decode what it encodes); fit it again")

    @classmethod
    def from_text(cls, text: str, *, num_units: int) -> UnitBpe:
        """The inverse of ``text``."""
        try:
            model = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as error:
            raise UnitBpeError(f"the unit BPE is damaged ({error}); fit it again") from error
        return cls(num_units=num_units, model=model)

    @property
    def text(self) -> str:
        """The model as a settings file holds it: base64."""
        return base64.b64encode(self.model).decode("ascii")

    @cached_property
    def sha256(self) -> str:
        """Of the model, by which two are told apart."""
        return sha256(self.model).hexdigest()

    @property
    def num_tokens(self) -> int:
        return len(self.pieces)

    @cached_property
    def longest(self) -> int:
        """Units of the longest token."""
        return max(map(len, self.pieces))

    def encode(self, units: Iterable[int]) -> list[int]:
        """Units, one a frame -> tokens."""
        return [token - UNKNOWN for token in self._processor.encode(_characters(units))]

    def decode(self, tokens: Iterable[int]) -> list[int]:
        """The inverse: tokens -> units, one a frame."""
        return [unit for token in tokens for unit in self.pieces[token]]

    def encode_settled(self, units: Sequence[int]) -> tuple[list[int], list[int]]:
        """The beginning of an utterance -> tokens of all but its edge, and the units of the edge.

        Whatever follows may join what stands last with itself: the token that reaches over the edge begins up to
        ``longest - 1`` units before it.  So tokens that end later than that are not kept, and a model draws them anew,
        among those that say the same units.
        """
        tokens, kept = self.encode(units), 0
        for place, token in enumerate(tokens):
            if kept + len(self.pieces[token]) > len(units) - self.longest + 1:
                return tokens[:place], list(units[kept:])
            kept += len(self.pieces[token])
        return tokens, []

    def agreeing(self, units: Sequence[int]) -> list[int]:
        """Tokens that may come next where ``units`` must be said: beginnings of them, and what begins with all of them."""
        wanted = tuple(units)
        return [token for token, piece in enumerate(self.pieces) if all(ours == due for ours, due in zip(piece, wanted, strict=False))]


def fit_unit_bpe(sequences: Iterable[Sequence[int]], *, num_units: int, vocab_size: int) -> UnitBpe:
    """Learn ``vocab_size`` number of tokens, single units included, from utterances' units; the same for the same utterances."""
    if not 1 <= num_units <= MOST_UNITS:
        raise UnitBpeError(f"expected 1 to {MOST_UNITS} units, found {num_units}; use a tokenizer with fewer")
    if vocab_size <= num_units:
        raise UnitBpeError(
            f"expected a vocabulary of more tokens than the {num_units} units, which are tokens too, found {vocab_size}; raise --vocab-size"
        )
    written, every_unit = io.BytesIO(), ([unit] for unit in range(num_units))  # those too that no utterance holds
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=map(_characters, chain(sequences, every_unit)), model_writer=written, model_type="bpe",
            vocab_size=vocab_size + UNKNOWN, character_coverage=1.0, max_sentencepiece_length=LONGEST_TOKEN,
            # Units are no text: nothing is a space, a number or a script.
            normalization_rule_name="identity", add_dummy_prefix=False, remove_extra_whitespaces=False,
            split_by_unicode_script=False, split_by_number=False, split_by_whitespace=False,
            max_sentence_length=1 << 24, num_threads=1, unk_id=0, bos_id=-1, eos_id=-1, pad_id=-1, minloglevel=2,
        )  # fmt: skip
    except RuntimeError as error:
        raise UnitBpeError(
            f"expected utterances from which {vocab_size} tokens can be made, found too few or too short ones "
            f"({' '.join(str(error).split())[-100:]}); lower --vocab-size or give more"
        ) from error
    return UnitBpe(num_units=num_units, model=written.getvalue())


def _characters(units: Iterable[int]) -> str:
    return "".join(chr(FIRST_CHARACTER + unit) for unit in units)
