"""Unit sequences that cannot be learned or spoken."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from bad_house import TRAIN, Case, copy

from valle.data.fit_unit_bpe import UnitBpeOptions, fit

BPE = f"{TRAIN} --unit-sequence bpe --unit-bpe bpe.json"
FIT = "--manifest-dir good/data/tokenized --output bpe.json"


def _fitted(change: Callable[[dict[str, Any]], object] = lambda values: None) -> Callable[[Path], object]:
    """A file of byte pairs that fits the good tokens, and then is changed."""

    def make(folder: Path) -> None:
        path = folder / "bpe.json"
        fit(UnitBpeOptions(manifest_dir=folder / "good" / "data" / "tokenized", output=path, vocab_size=20))
        values = json.loads(path.read_text(encoding="utf-8"))
        change(values)
        path.write_text(json.dumps(values), encoding="utf-8")

    return make


def _released(**changes: object) -> Callable[[Path], object]:
    """A released model whose settings say something else."""

    def make(folder: Path) -> None:
        path = copy("model", "model")(folder) / "config.yaml"
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        config["model"].update(changes)
        path.write_text(yaml.safe_dump(config), encoding="utf-8")

    return make


def _train(given: str, flags: str, *says: str, make: Callable[[Path], object] = lambda folder: None) -> Case:
    return Case(given=given, program="trainer_audiolm", flags=flags, says=says, make=make)


def _infer(given: str, *says: str, make: Callable[[Path], object]) -> Case:
    return Case(given=given, program="infer", flags="--audio-prompts good/a.wav --output-dir out --model model", says=says, make=make)


CASES = [
    *(
        Case(given=f"`fit_unit_bpe.py {flags}`", program="fit_unit_bpe", flags=f"{FIT} {flags}", says=says)
        for flags, says in (
            ("--vocab-size 12", ("more tokens than the 12 units", "raise --vocab-size")),
            ("--vocab-size 100000", ("100000 tokens can be made", "lower --vocab-size")),
            ("--fit-hours 0", ("--fit-hours", "0")),
            ("--manifest-dir nowhere", ("nowhere", "./prepare.sh")),
        )
    ),
    _train("`trainer_audiolm.py --unit-sequence words`", f"{TRAIN} --unit-sequence words", "--unit-sequence", "frames, runs, bpe"),
    _train("`trainer_audiolm.py --longest-run 0`", f"{TRAIN} --longest-run 0", "--longest-run", "0"),
    _train("`--unit-sequence bpe` without a file of byte pairs", BPE, "bpe.json, found nothing there", "fit_unit_bpe.py"),
    _train("`--unit-bpe` that is no JSON", BPE, "bpe.json", make=lambda folder: (folder / "bpe.json").write_text("pairs")),
    _train(
        "`--unit-bpe` that is cut short", BPE, "bpe.json", "damaged", make=_fitted(lambda values: values.update(model=values["model"][:80]))
    ),
    _train("`--unit-bpe` that has changed", BPE, "has changed", make=_fitted(lambda values: values.update(sha256="0" * 64))),
    _train(
        "`--unit-bpe` of another tokenizer's units", BPE, "tiny-units", "fit_unit_bpe.py",
        make=_fitted(lambda values: values.update(semantic={"name": "others", "sha256": "0" * 64})),
    ),
    _train("`--unit-bpe` that is a model without byte pairs", f"{BPE.rpartition(' ')[0]} good/model", "a unit BPE in good/model"),
    _infer(
        "a released model whose settings ask for runs that it has not learned", "weights do not fit", make=_released(unit_sequence="runs")
    ),
    _infer("a released model without the byte pairs that it speaks", "a unit BPE and its hash", make=_released(unit_sequence="bpe")),
    _infer(
        "a released model whose byte pairs are damaged", "unit BPE is damaged",
        make=_released(unit_sequence="bpe", unit_bpe_model="AAAA", unit_bpe_sha256="0" * 64),
    ),
]  # fmt: skip
