"""Tokenized cuts that training cannot read."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import yaml
from bad_house import Case
from damage import MINE, Make, copied, info, lines, raw, truncated


def _tokens(given: str, damage: Make, *says: str, late: bool = False) -> Case:
    """``late``: found while training reads its batches, when the run's folder is there."""
    return Case(
        given=f"tokenized cuts: {given}",
        program="trainer_audiolm",
        flags=MINE,
        make=copied(damage),
        says=says,
        leaves=("exp",) if late else (),
    )


CUTS = "tokenized/cuts_train.jsonl.gz"


def _overlap(data: Path) -> None:
    shutil.copy(data / CUTS, data / "tokenized" / "cuts_dev.jsonl.gz")


TOKENIZED = [
    Case(
        given="a `--manifest-dir` that is not there",
        program="trainer_audiolm",
        flags=MINE,
        says=("data/tokenized, found no info.json", "./prepare.sh"),
    ),
    _tokens("info.json is no JSON", lambda data: (data / "tokenized" / "info.json").write_text("{"), "info.json is damaged"),
    _tokens("info.json is not UTF-8", lambda data: (data / "tokenized" / "info.json").write_bytes(b"\xff"), "info.json is damaged"),
    _tokens("info.json is a list", lambda data: (data / "tokenized" / "info.json").write_text("[]"), "info.json is damaged"),
    _tokens("info.json lacks its tokenizers", info(lambda info: info.pop("tokenizers")), "info.json is damaged"),
    _tokens(
        "info.json with a size that is a word",
        info(lambda info: info["tokenizers"]["acoustic"].update(codebook_size="x")),
        "info.json is damaged",
    ),
    _tokens("info.json with a timeline of another kind", info(lambda info: info.update(timeline=[1])), "info.json is damaged"),
    _tokens("no cuts_train.jsonl.gz", lambda data: (data / CUTS).unlink(), "cuts_train.jsonl.gz", "stage 4"),
    _tokens(
        "no cuts_dev.jsonl.gz", lambda data: (data / "tokenized" / "cuts_dev.jsonl.gz").unlink(), "cuts_dev.jsonl.gz", "stage 4", late=True
    ),
    _tokens("the manifest is cut short", truncated(CUTS), "cuts_train.jsonl.gz is damaged"),
    _tokens("the manifest is not packed", raw(CUTS, "{}\n", packed=False), "cuts_train.jsonl.gz is damaged"),
    _tokens("the manifest is empty (0 bytes)", raw(CUTS, b"", packed=False), "cuts_train.jsonl.gz"),
    _tokens("the manifest holds no JSON", raw(CUTS, "words\n"), "cuts_train.jsonl.gz is damaged"),
    _tokens("the manifest holds JSON of another kind", raw(CUTS, '{"id": "a", "type": "MonoCut"}\n' * 3), "cuts_train.jsonl.gz"),
    _tokens("the manifest holds lists", raw(CUTS, "[1, 2]\n" * 3), "cuts_train.jsonl.gz"),
    _tokens(
        "one line of the manifest is damaged",
        lambda data: raw(CUTS, gzip.decompress((data / CUTS).read_bytes()) + b'{"id": "x", ')(data),
        "cuts_train.jsonl.gz",
    ),
    _tokens("the manifest holds bytes that are not UTF-8", raw(CUTS, b'{"id": "\xff"}\n'), "cuts_train.jsonl.gz is damaged"),
    _tokens("train holds no cuts", raw(CUTS, ""), "training cuts", "found none", late=True),
    _tokens("dev holds no cuts", raw("tokenized/cuts_dev.jsonl.gz", ""), "dev cuts", "found none", late=True),
    _tokens("dev is train", _overlap, "dev cuts that training never sees", "train-000"),
    _tokens(
        "a cut without codes",
        lines(CUTS, lambda cuts: [cut["custom"].pop("codes") for cut in cuts]),
        "expected codes in cut",
        "./prepare.sh",
        late=True,
    ),
    _tokens(
        "cuts of other tokenizers",
        lines(CUTS, lambda cuts: [cut["custom"].update(tokenizers="a/b") for cut in cuts]),
        "'a/b'",
        "delete data/tokenized",
        late=True,
    ),
    _tokens(
        "the HDF5 file is missing",
        lambda data: ((data / "tokenized" / "train.h5").unlink(), _moved(data)),
        "train.h5 cannot be read",
        late=True,
    ),
    _tokens(
        "the HDF5 file is cut short",
        lambda data: (truncated("tokenized/train.h5")(data), _moved(data)),
        "train.h5 cannot be read",
        late=True,
    ),
    _tokens(
        "the HDF5 file is a text",
        lambda data: ((data / "tokenized" / "train.h5").write_text("words"), _moved(data)),
        "train.h5 cannot be read",
        late=True,
    ),
    _tokens(
        "an array is missing in the HDF5 file",
        lines(CUTS, lambda cuts: [cut["custom"]["codes"]["array"].update(storage_key="gone") for cut in cuts]),
        "cannot be read",
        late=True,
    ),
    _tokens(
        "arrays in a storage of an unknown kind",
        lines(CUTS, lambda cuts: [cut["custom"]["codes"]["array"].update(storage_type="pickle") for cut in cuts]),
        "in HDF5, found 'pickle'",
        late=True,
    ),
    _tokens(
        "tokens beyond the codebook",
        lines(CUTS, lambda cuts: [cut["custom"].update(units=cut["custom"]["codes"]) for cut in cuts]),
        "expected units in 0..11",
        late=True,
    ),
    _tokens(
        "arrays as a command to run",
        lines(
            CUTS, lambda cuts: [cut["custom"]["codes"]["array"].update(storage_type="kaldiio", storage_path="touch ran |") for cut in cuts]
        ),
        "'kaldiio'",
        late=True,
    ),
    _tokens(
        "the codec beside them is gone",
        lambda data: shutil.rmtree(data / "tokenizers" / "acoustic"),
        "tokenizer",
        "data/tokenizers/acoustic",
    ),
    _tokens("the codec beside them is another", lambda data: _other_codec(data), "were made by tiny-codec", "stage 3"),
]


def _moved(data: Path) -> None:
    """Let the cuts read the copy's arrays, not the good ones."""
    lines(
        CUTS,
        lambda cuts: [
            cut["custom"][name]["array"].update(storage_path=str(data / "tokenized" / "train.h5"))
            for cut in cuts
            for name in ("codes", "units")
        ],
    )(data)


def _other_codec(data: Path) -> None:
    path = data / "tokenizers" / "acoustic" / "config.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "name": "other"}))


CASES = TOKENIZED
