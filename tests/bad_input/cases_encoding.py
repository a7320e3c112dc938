"""Files and corpora that `tokenizer.py` is given to encode, decode or fit on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from bad_house import Case
from tiny_audio import write_sound

CODEC = "good/data/tokenizers/acoustic"
ENCODE = f"encode --tokenizer {CODEC} --output-dir out"
FIT = "fit --output-dir out"


def _case(given: str, flags: str, *says: str, make=lambda folder: None, leaves: tuple[str, ...] = ()) -> Case:
    return Case(given=given, program="tokenizer", flags=flags, make=make, says=says, leaves=leaves)


def _two_of_a_name(folder: Path) -> None:
    write_sound(folder / "one" / "a.wav", 0.3)
    write_sound(folder / "two" / "a.flac", 0.3)


def _codes(folder: Path, **changes: object) -> None:
    """Codes as another codec would leave them."""
    np.save(folder / "a.npy", np.zeros((5, 3), np.int16))
    identity = {
        "kind": "acoustic", "name": "other", "sha256": "0" * 64, "sample_rate": 16000, "hop_length": 320, "num_codebooks": 3,
        "codebook_size": 16, "left_context": 0, "right_context": 0,
    }  # fmt: skip
    described = {"tokenizer": {**identity, **changes}, "given": CODEC, "num_samples": 1600}
    (folder / "a.json").write_text(json.dumps(described))


CASES = [
    _case("`tokenizer.py` with an unknown command", "encodes", "expected a command (list, encode, decode, fit, corpus, pack)", "'encodes'"),
    _case("`tokenizer.py encode --outputdir ...`", "encode --outputdir x", "unknown flag --outputdir", "did you mean --output-dir"),
    _case("`tokenizer.py encode` without flags", "encode", "expected --tokenizer, --audio, --output-dir"),
    _case("`tokenizer.py encode` of a file that is not there", f"{ENCODE} --audio no.wav", "no.wav, found nothing there"),
    _case("`tokenizer.py encode` of a folder without audio", f"{ENCODE} --audio good/model", "good/model, found none"),
    _case(
        "`tokenizer.py encode` of two files of one name", f"{ENCODE} --audio one/a.wav two/a.flac", "both become a.npy", make=_two_of_a_name
    ),
    _case("`tokenizer.py encode` with more codebooks than there are", f"{ENCODE} --audio good/a.wav --num-quantizers 9", "within 1..3"),
    _case(
        "`tokenizer.py encode` with codebooks of units",
        "encode --tokenizer good/data/tokenizers/semantic --output-dir out --audio good/a.wav --num-quantizers 1",
        "is for codecs",
    ),
    _case(
        "`tokenizer.py decode` without what is said of the codes", "decode --codes a.npy --output-dir out", "expected a.json beside a.npy",
        make=lambda folder: np.save(folder / "a.npy", np.zeros((5, 3), np.int16)),
    ),
    _case(
        "`tokenizer.py decode` of another codec's codes",
        "decode --codes a.npy --output-dir out",
        "expected other (000000000000), which made a.npy",
        make=_codes,
    ),
    _case(
        "`tokenizer.py decode` of units", "decode --codes a.npy --output-dir out", "which no codec decodes",
        make=lambda folder: _codes(folder, kind="semantic"),
    ),
    _case("`tokenizer.py fit` on nothing", FIT, "expected --manifests or --audio to fit on, found neither"),
    _case("`tokenizer.py fit` on one unit", f"{FIT} --audio good/a.wav --num-units 1", "expected 2 or more units"),
    _case("`tokenizer.py fit` with an encoder and no layer", f"{FIT} --audio good/a.wav --encoder good", "give --layer"),
    _case("`tokenizer.py fit` with an encoder that is none", f"{FIT} --audio good/a.wav --encoder no --layer 1", "'no'", "hubert-base"),
    _case("`tokenizer.py fit` on too little audio", f"{FIT} --audio good/a.wav --num-units 100", "needs at least 1000 frames"),
    _case("`tokenizer.py fit` with frames below none", f"{FIT} --audio good/a.wav --frames-per-unit -1", "--frames-per-unit", "-1"),
    _case("`tokenizer.py pack` of a tokenizer that is none", "pack --tokenizer no --output-dir out", "found 'no'"),
    _case("`tokenizer.py pack` into an unknown format", "pack --tokenizer good --output-dir out --dtype int4", "int8 or float16"),
    _case("`tokenizer.py corpus` without manifests", "corpus --manifest-dir no", "expected cuts in no/cuts_train.jsonl.gz"),
    _case("`tokenizer.py corpus` with an unknown format", "corpus --format zarr", "expected hdf5, shar or memmap for --format"),
]  # fmt: skip
