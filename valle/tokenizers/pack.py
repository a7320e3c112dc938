"""A smaller copy of a tokenizer, under a name of its own: another tokenizer, as its tokens differ here and there."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from valle.outputs import claim_outputs
from valle.tokenizers.base import TokenizerIdentity
from valle.tokenizers.registry import CONFIG_FILE, WEIGHTS_FILE, load_tokenizer, save_tokenizer, tokenizer_from_state, tokenizer_to_state
from valle.tokenizers.weights import rounded


@dataclass(frozen=True, kw_only=True)
class PackConfig:
    """What to copy, and how small."""

    tokenizer: str = field(metadata={"help": "a name of `tokenizer.py list`, NAME=FILE_OR_FOLDER, or a saved tokenizer's folder"})
    output_dir: Path = field(metadata={"help": "folder for the copy"})
    name: str = field(default="", metadata={"help": "name of the copy; default: the tokenizer's name"})
    dtype: Literal["int8", "float16"] = field(
        default="int8", metadata={"help": "format of weight matrices in the file, int8 with one scale per row; computed in float32"}
    )


def pack_tokenizer(config: PackConfig) -> TokenizerIdentity:
    """Write the copy and say what it is called."""
    outputs = claim_outputs(config.output_dir, [WEIGHTS_FILE, CONFIG_FILE], program="pack", inputs=_files_of(config.tokenizer))
    state = tokenizer_to_state(load_tokenizer(config.tokenizer))
    if config.name:
        state["config"]["name"] = config.name
    tokenizer = rounded(tokenizer_from_state(state), config.dtype)
    with outputs.being_written():
        save_tokenizer(tokenizer, config.output_dir)
    return tokenizer.identity


def _files_of(tokenizer: str) -> list[Path]:
    """What a tokenizer is read from, where it is given by a path."""
    path = Path(tokenizer.rpartition("=")[2])
    return [path, path / WEIGHTS_FILE, path / CONFIG_FILE]
