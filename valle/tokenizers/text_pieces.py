"""Text to pieces and back: sentencepiece (Kudo and Richardson 2018) fitted on a corpus, or the tokenizer of a released text model.

Pieces are numbered ``0..num_pieces-1``.  What was never seen is spelled by its bytes, so every text has pieces and comes back as it was.
"""

from __future__ import annotations

import hashlib
import io
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import sentencepiece
import torch
import yaml
from torch import Tensor

from valle.errors import UserError
from valle.files import replacing

CONFIG_FILE = "config.yaml"


class TextTokenizerError(UserError):
    """A text tokenizer that cannot be found, read or fitted."""


@dataclass(frozen=True)
class TextIdentity:
    """Which tokenizer made pieces of a text: models and folders agree only if their identities are equal.  Text has no grid."""

    name: str
    sha256: str  # of its type and its model
    num_pieces: int
    kind: str = "text"

    def __str__(self) -> str:
        return f"{self.name} ({self.sha256[:12]})"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class TextTokenizer(ABC):
    """What every text tokenizer offers; ``content`` is its model's file, whole."""

    type: ClassVar[str]
    file_name: ClassVar[str]

    def __init__(self, *, name: str, content: bytes) -> None:
        self.name, self.content = name, content

    @property
    @abstractmethod
    def num_pieces(self) -> int: ...

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """The pieces of a text, no specials among them."""

    @abstractmethod
    def decode(self, pieces: Sequence[int]) -> str:
        """The inverse."""

    @property
    def identity(self) -> TextIdentity:
        return TextIdentity(
            name=self.name, sha256=hashlib.sha256(self.type.encode() + b"\0" + self.content).hexdigest(), num_pieces=self.num_pieces
        )

    def config(self) -> dict[str, Any]:
        """Plain values, as a checkpoint and ``config.yaml`` hold them."""
        return {"type": self.type, "name": self.name}


class SentencePieces(TextTokenizer):
    """sentencepiece's own serialised model."""

    type, file_name = "sentencepiece", "pieces.model"

    def __init__(self, *, name: str, content: bytes) -> None:
        super().__init__(name=name, content=content)
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=content)
        except (RuntimeError, TypeError) as error:
            raise TextTokenizerError(f"the text pieces {name!r} are damaged (sentencepiece cannot read them); fit them again") from error

    @property
    def num_pieces(self) -> int:
        size: int = self._processor.vocab_size()
        return size

    def encode(self, text: str) -> list[int]:
        pieces: list[int] = self._processor.encode(text)
        return pieces

    def decode(self, pieces: Sequence[int]) -> str:
        text: str = self._processor.decode([int(piece) for piece in pieces])
        return text


class ReleasedPieces(TextTokenizer):
    """The ``tokenizer.json`` of a text model from the Hugging Face hub: data alone, nothing of it is run."""

    type, file_name = "tokenizer.json", "tokenizer.json"

    def __init__(self, *, name: str, content: bytes) -> None:
        super().__init__(name=name, content=content)
        from tokenizers import Tokenizer  # here, since it comes with transformers and few need it

        try:
            self._tokenizer = Tokenizer.from_str(content.decode("utf-8"))
        except Exception as error:  # the library raises nothing more special
            raise TextTokenizerError(f"expected a tokenizer.json of {name!r}, found what cannot be read; download it again") from error

    @property
    def num_pieces(self) -> int:
        size: int = self._tokenizer.get_vocab_size(with_added_tokens=True)
        return size

    def encode(self, text: str) -> list[int]:
        pieces: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return pieces

    def decode(self, pieces: Sequence[int]) -> str:
        text: str = self._tokenizer.decode([int(piece) for piece in pieces])
        return text


TEXT_TOKENIZERS: dict[str, type[TextTokenizer]] = {kind.type: kind for kind in (SentencePieces, ReleasedPieces)}


def fit_text_pieces(texts: Iterable[str], *, num_pieces: int, name: str = "text-pieces") -> SentencePieces:
    """Fit ``num_pieces`` unigram pieces (256 bytes among them) on ``texts``; the same for the same texts."""
    if num_pieces < 300:
        raise TextTokenizerError(f"expected 300 text pieces or more, of which bytes take 256, found {num_pieces}; raise --num-pieces")
    written = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts), model_writer=written, model_type="unigram", vocab_size=num_pieces, hard_vocab_limit=False,
            character_coverage=1.0, byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
            num_threads=1, unk_id=0, bos_id=-1, eos_id=-1, pad_id=-1, minloglevel=2, max_sentence_length=1 << 16,
        )  # fmt: skip
    except RuntimeError as error:
        reason = " ".join(str(error).split())[-120:]
        raise TextTokenizerError(
            f"expected texts of which {num_pieces} pieces can be made, found too few ({reason}); give more text"
        ) from error
    return SentencePieces(name=name, content=written.getvalue())


def save_text_tokenizer(tokenizer: TextTokenizer, folder: Path) -> None:
    """Write ``config.yaml`` and the model's file; each under a temporary name, then renamed."""
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / tokenizer.file_name) as temporary:
        temporary.write_bytes(tokenizer.content)
    with replacing(folder / CONFIG_FILE) as temporary:
        temporary.write_text(yaml.safe_dump(tokenizer.config()), encoding="utf-8")


def load_text_tokenizer(folder: str | Path) -> TextTokenizer:
    """A saved text tokenizer, ``NAME=FOLDER`` or its folder, or the folder of a text model from the hub, with a ``tokenizer.json``."""
    name, _, path = str(folder).rpartition("=")
    place = Path(path)
    if (place / CONFIG_FILE).is_file():
        try:
            config = yaml.safe_load((place / CONFIG_FILE).read_text(encoding="utf-8"))
            kind = TEXT_TOKENIZERS[config["type"]]
            found = kind(name=str(config["name"]), content=(place / kind.file_name).read_bytes())
        except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, FileNotFoundError) as error:
            raise TextTokenizerError(
                f"expected a text tokenizer in {place}, found one that is damaged ({' '.join(str(error).split())[:80]}); fit it again"
            ) from error
        if name and found.name != name:
            raise TextTokenizerError(f"expected the text tokenizer {name} in {place}, found {found.name}; give the folder alone")
        return found
    if (place / ReleasedPieces.file_name).is_file():
        return ReleasedPieces(name=name or place.name, content=(place / ReleasedPieces.file_name).read_bytes())
    raise TextTokenizerError(
        f"expected a text tokenizer (config.yaml, or a tokenizer.json) in {place}, found none; run stage 2 of egs/espeak_text/prepare.sh, "
        "or name the folder of a text model"
    )


def text_tokenizer_to_state(tokenizer: TextTokenizer) -> dict[str, Any]:
    """``{"config": plain values, "tensors": {"content": bytes}}``, fit for a checkpoint that is read with ``weights_only=True``."""
    content = torch.frombuffer(bytearray(tokenizer.content), dtype=torch.uint8)
    return {"config": tokenizer.config(), "tensors": {"content": content}}


def text_tokenizer_from_state(state: Any) -> TextTokenizer:
    """The inverse of ``text_tokenizer_to_state``: the same identity."""
    try:
        kind, content = TEXT_TOKENIZERS[state["config"]["type"]], state["tensors"]["content"]
        assert isinstance(content, Tensor)
        return kind(name=str(state["config"]["name"]), content=content.numpy().tobytes())
    except (KeyError, TypeError, AssertionError) as error:
        raise TextTokenizerError("expected a text tokenizer in the checkpoint, found something else; use another checkpoint") from error
