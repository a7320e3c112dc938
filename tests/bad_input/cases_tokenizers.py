"""Tokenizers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from bad_house import Case, copy
from damage import Payload, edit_config, edit_weights, save

Make = Callable[[Path], object]
SPEAK = "--audio-prompts good/a.wav --output-dir out --prompt-seconds 1 --max-seconds 0.5"


def _tokenizer(given: str, flags: str, *says: str, make: Make = lambda folder: None) -> Case:
    return Case(given=given, program="prepare_tokenizers", flags=f"--output-dir out {flags}", make=make, says=says)


def _encodec_folder(content: str) -> Make:
    def make(folder: Path) -> None:
        (folder / "enc").mkdir()
        (folder / "enc" / "config.json").write_text(content)

    return make


def _encodec_pickle(folder: Path) -> None:
    """A folder in transformers' format whose weights are a pickle."""
    _encodec_folder('{"model_type": "encodec"}')(folder)
    torch.save({"w": Payload()}, folder / "enc" / "pytorch_model.bin")


TOKENIZERS = [
    _tokenizer("a tokenizer of an unknown name", "--acoustic soundstream", "valle-16khz", "encodec-24khz", "'soundstream'"),
    _tokenizer("a tokenizer NAME=PATH of an unknown name", "--acoustic soundstream=good", "good"),
    _tokenizer("a tokenizer NAME=PATH whose path is not there", "--acoustic valle-16khz=no", "no"),
    _tokenizer(
        "EnCodec's weights in a folder that is not there", "--acoustic encodec-24khz=no", "encodec-24khz", "no, found nothing there"
    ),
    _tokenizer(
        "EnCodec's weights in an empty folder",
        "--acoustic encodec-24khz=enc",
        "encodec-24khz",
        "enc",
        make=lambda folder: (folder / "enc").mkdir(),
    ),
    _tokenizer("EnCodec's config.json that is no JSON", "--acoustic encodec-24khz=enc", "encodec-24khz", "enc", make=_encodec_folder("{")),
    _tokenizer(
        "EnCodec's weights as a pickle that carries code", "--acoustic encodec-24khz=enc", "encodec-24khz", "enc", make=_encodec_pickle
    ),
    _tokenizer("EnCodec's `.th` file that carries code", "--acoustic encodec-24khz=c.pt", "c.pt", make=save({"w": Payload()})),
    _tokenizer("DAC's weights where no folder is", "--acoustic dac-16khz=no", "dac-16khz", "no, found nothing there"),
    _tokenizer("Mimi's weights in an empty folder", "--acoustic mimi=mimi", "mimi=FOLDER", make=lambda folder: (folder / "mimi").mkdir()),
    _tokenizer("DAC's `.pth` file that carries code", "--acoustic dac-16khz=c.pt", "c.pt", make=save({"w": Payload()})),
    _tokenizer("a released encoder of which no units are fitted", "--semantic hubert-base", "bin/tokenizer.py fit --encoder hubert-base"),
    _tokenizer("a tokenizer's folder that holds none", "--acoustic good/recordings", "good/recordings", "found no config.yaml"),
    _tokenizer("units where a codec is asked for", "--acoustic mfcc-kmeans", "expected a codec, found mfcc-kmeans"),
    _tokenizer("a codec where units are asked for", "--semantic valle-16khz", "expected a tokenizer that makes units, found valle-16khz"),
    _tokenizer("`--semantic fit` without manifests", "--semantic fit --manifest-dir no", "no/cuts_train.jsonl.gz", "stage 1"),
    _tokenizer(
        "a saved tokenizer with a weight missing",
        "--acoustic tok",
        "do not fit",
        make=lambda folder: (copy("data/tokenizers/acoustic", "tok")(folder), edit_weights(lambda w: w.pop(sorted(w)[0]))(folder / "tok")),
    ),
    _tokenizer(
        "a saved tokenizer with an unknown setting",
        "--acoustic tok",
        "tiny-codec",
        "hops",
        make=lambda folder: (copy("data/tokenizers/acoustic", "tok")(folder), edit_config(lambda c: c.update(hops=3))(folder / "tok")),
    ),
    _tokenizer(
        "a saved tokenizer that would fill the memory",
        "--acoustic tok",
        "tiny-codec",
        make=lambda folder: (copy("data/tokenizers/acoustic", "tok")(folder), edit_config(lambda c: c.update(dim=2**40))(folder / "tok")),
    ),
    _tokenizer(
        "units and codes that never meet",
        "--acoustic good/data/tokenizers/acoustic --semantic tok",
        "only meet every",
        make=lambda folder: (
            copy("data/tokenizers/semantic", "tok")(folder),
            edit_config(lambda c: c.update(hop_length=656))(folder / "tok"),
        ),
    ),
]

CASES = TOKENIZERS
