#!/usr/bin/env python3
"""Tokenizers: what there are, audio into tokens, codes into audio, units fitted anew, whole corpora, and smaller files.

  python3 bin/tokenizer.py list
  python3 bin/tokenizer.py encode --tokenizer valle-convnext --audio a.wav b.flac --output-dir tokens
  python3 bin/tokenizer.py decode --codes tokens/a.npy --output-dir decoded
  python3 bin/tokenizer.py fit --encoder exp/hubert-2 --layer 4 --num-units 200 --manifests data/manifests/cuts_train.jsonl.gz \\
      --output-dir exp/units
  torchrun --nproc-per-node 8 bin/tokenizer.py corpus --manifest-dir data/manifests --acoustic encodec-24khz --semantic exp/units \\
      --format shar --output-dir data/tokenized
  python3 bin/tokenizer.py pack --tokenizer exp/units --dtype int8 --output-dir exp/small-units

`tokenizer.py COMMAND --help` lists a command's flags.
"""

from __future__ import annotations

from valle.errors import end_on_ctrl_c

if __name__ == "__main__":
    end_on_ctrl_c()  # also while what follows is imported

import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import Any

from valle.bin.terminal import progress_bar, say_changed, say_parts, say_speed
from valle.config import FlagError, parse_flags
from valle.errors import run_program
from valle.tokenizers.catalogue import COLUMNS, WHERE_TO_PUT, ListConfig, catalogue_rows
from valle.tokenizers.pack import PackConfig, pack_tokenizer
from valle.tokenizers.registry import WEIGHTS_FILE
from valle.tokenizing.encode_files import DecodeConfig, EncodeConfig, decode_files, encode_files
from valle.tokenizing.tokenize_corpus import CorpusConfig, tokenize_corpus
from valle.training.distributed import World, launch, pick_device
from valle.training.fit_units import FitConfig, fit_tokenizer

PATIENCE = timedelta(days=7)  # that processes wait for each other: the last has shards to make yet, or a model to fetch


def show_list(config: ListConfig) -> None:
    rows = [COLUMNS, *catalogue_rows(config.kind)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print("\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows))
    print(WHERE_TO_PUT)


def encode(config: EncodeConfig) -> None:
    start = monotonic()
    with progress_bar("encoding", "h") as progress:
        done = encode_files(config, progress=progress)
    for file in done.files:
        print(f"{file.path}: {' x '.join(map(str, file.shape))} tokens, {file.seconds:.2f} s")
    for line in done.left_out:
        print(f"left out: {line}")
    say_speed(sum(file.seconds for file in done.files), monotonic() - start)
    say_changed(config.dtype, done.changed)


def decode(config: DecodeConfig) -> None:
    with progress_bar("decoding", "files") as progress:
        files = decode_files(config, progress=progress)
    for file in files:
        print(f"{file.path}: {file.seconds:.2f} s of {' x '.join(map(str, file.shape))} codes")


def fit(config: FitConfig) -> None:
    launch(_fit, 1, 0, config, device=config.device, patience=PATIENCE)


def _fit(world: World, config: FitConfig) -> None:
    with progress_bar("hearing", "h" if config.manifests else "files", hidden=world.rank > 0) as progress:
        identity = fit_tokenizer(config, processes=world, device=pick_device(config.device, world), progress=progress)
    if world.is_first:
        print(f"{config.output_dir}: {identity}, {identity.codebook_size} units, {identity.grid.rate:g} a second")


def corpus(config: CorpusConfig) -> None:
    launch(_corpus, 1, 0, config, device=config.device, patience=PATIENCE)


def _corpus(world: World, config: CorpusConfig) -> None:
    start = monotonic()
    title = "tokens" if world.size == 1 else f"tokens, process 1 of {world.size}"
    with progress_bar(title, "h", hidden=world.rank > 0) as progress:
        parts = tokenize_corpus(config, processes=world, device=pick_device(config.device, world), progress=progress)
    if not world.is_first:
        return
    say_parts(parts, config.dtype)
    say_speed(sum(tokens.seconds for tokens in parts.values()), monotonic() - start)


def pack(config: PackConfig) -> None:
    print(f"{config.output_dir}: {pack_tokenizer(config)}, {(config.output_dir / WEIGHTS_FILE).stat().st_size / 1e6:.1f} MB")


COMMANDS: dict[str, tuple[type, Callable[[Any], None]]] = {
    "list": (ListConfig, show_list),
    "encode": (EncodeConfig, encode),
    "decode": (DecodeConfig, decode),
    "fit": (FitConfig, fit),
    "corpus": (CorpusConfig, corpus),
    "pack": (PackConfig, pack),
}


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help"):
        print(__doc__)
        return
    if name not in COMMANDS:
        raise FlagError(f"expected a command ({', '.join(COMMANDS)}), found {name!r}; --help explains them")
    settings, run = COMMANDS[name]
    run(parse_flags(settings, sys.argv[2:], prog=f"{Path(sys.argv[0]).name} {name}", usage=__doc__ or ""))


if __name__ == "__main__":
    run_program(main)
