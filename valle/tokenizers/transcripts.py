"""How a transcript becomes tokens of a text LM that reads speech, and comes back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from valle.tokenizers.text_pieces import TextTokenizer

LANGUAGE = "{language}"


@dataclass(frozen=True)
class Transcripts:
    """``text`` are the LM's pieces and ``ctc_text`` the encoder's; ``prompt`` is plain text that stands before every transcript.

    >>> transcripts = Transcripts(text, ctc_text, bos=1, prompt="[ASR {language}]")  # doctest: +SKIP
    >>> transcripts.before("English")  # doctest: +SKIP
    [1, 4, 9, 4, 40]
    """

    text: TextTokenizer
    ctc_text: TextTokenizer
    bos: int
    prompt: str = ""

    def before(self, language: str) -> list[int]:
        """BOS and the prompt's pieces, in which ``{language}`` stands for ``language``."""
        return [self.bos, *(self.text.encode(self.prompt.replace(LANGUAGE, language)) if self.prompt else ())]

    def written(self, pieces: Sequence[int]) -> str:
        """The text of the LM's pieces; rows of its table that are no piece of the tokenizer say nothing."""
        return self.text.decode([piece for piece in pieces if piece < self.text.num_pieces]).strip()

    def heard(self, pieces: Sequence[int]) -> str:
        """The text of CTC's pieces."""
        return self.ctc_text.decode(list(pieces)).strip()
