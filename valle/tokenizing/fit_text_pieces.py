"""Stage 2 of a corpus with transcripts: text pieces fitted on the texts of its training cuts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from valle.corpora.manifests import read_lines
from valle.outputs import PREPARE, claim_outputs
from valle.tokenizers.text_pieces import TextIdentity, TextTokenizerError, fit_text_pieces, load_text_tokenizer, save_text_tokenizer


@dataclass(frozen=True, kw_only=True)
class TextPiecesConfig:
    """Flags of ``bin/fit_text_pieces.py``."""

    text: str = field(default="fit", metadata={"help": "fit (on this corpus), or the folder of a text tokenizer or of a text model"})
    num_pieces: int = field(default=1000, metadata={"help": "pieces to fit at most, 256 bytes among them"})
    manifest_dir: Path = field(default=Path("data/manifests"), metadata={"help": "folder of cuts_train.jsonl.gz, to fit on"})
    output_dir: Path = field(default=Path("data/tokenizers"), metadata={"help": "where text/ goes"})


def prepare_text_pieces(config: TextPiecesConfig) -> TextIdentity:
    """Leave ``text/`` beside the other tokenizers."""
    outputs = claim_outputs(config.output_dir, ["text"], program=PREPARE)
    path = config.manifest_dir / "cuts_train.jsonl.gz"
    tokenizer = fit_text_pieces(_texts(path), num_pieces=config.num_pieces) if config.text == "fit" else load_text_tokenizer(config.text)
    with outputs.being_written():
        save_text_tokenizer(tokenizer, config.output_dir / "text")
    return tokenizer.identity


def _texts(path: Path) -> Iterator[str]:
    """Every training text, and the tags of the corpus's languages, which are text too."""
    languages: dict[str, None] = {}
    found = 0
    for line in read_lines(path):
        for supervision in json.loads(line).get("supervisions", []):
            if text := supervision.get("text"):
                found += 1
                yield text
                languages[supervision.get("language") or "English"] = None
    if not found:
        raise TextTokenizerError(f"expected cuts with texts in {path}, found none; use a corpus with transcripts")
    names = list(languages)
    for first in names:
        yield from (f"[{task} {first}]" for task in ("ASR", "TTS"))
        yield from (f"[{task} {first} {other}]" for task in ("MT", "AST", "S2ST", "ASR AST S2ST") for other in names if other != first)
