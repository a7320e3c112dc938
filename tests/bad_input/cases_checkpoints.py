"""Checkpoints."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from bad_house import TRAIN, Case
from damage import Payload, save
from tiny_pipeline import checkpoint_state, tiny_released

Make = Callable[[Path], object]
SPEAK = "--audio-prompts good/a.wav --output-dir out --prompt-seconds 1 --max-seconds 0.5"


def _state(change: Callable[[dict[str, Any]], object]) -> Make:
    """A checkpoint of the good model with one change."""

    def make(folder: Path) -> None:
        state = checkpoint_state(tiny_released())
        change(state)
        torch.save(state, folder / "c.pt")

    return make


def _cut(share: float) -> Make:
    def make(folder: Path) -> None:
        whole = (folder / "good" / "exp" / "epoch-1.pt").read_bytes()
        (folder / "c.pt").write_bytes(whole[: int(len(whole) * share)])

    return make


def _flipped(folder: Path) -> None:
    """One byte of a tensor changed on the disk: the archive's own sum tells."""
    whole = bytearray((folder / "good" / "exp" / "epoch-1.pt").read_bytes())
    whole[len(whole) // 2] ^= 255
    (folder / "c.pt").write_bytes(bytes(whole))


def _zip_of_something(folder: Path) -> None:
    with zipfile.ZipFile(folder / "c.pt", "w") as archive:
        archive.writestr("thesis.txt", "words")


def _plain_pickle(folder: Path) -> None:
    (folder / "c.pt").write_bytes(pickle.dumps({"model": Payload()}))


def _set(key: str, value: object) -> Callable[[dict[str, Any]], object]:
    return lambda state: state.__setitem__(key, value)


def _resized(state: dict[str, Any]) -> None:
    state["model"] = {name: torch.zeros(3, 3) for name in state["model"]}


def _broken_weights(state: dict[str, Any]) -> None:
    next(iter(state["model"].values())).view(-1)[0] = float("nan")


def _checkpoint(given: str, make: Make, *says: str) -> Case:
    return Case(given=f"a checkpoint {given}", program="infer", flags=f"{SPEAK} --checkpoint c.pt", make=make, says=says)


CHECKPOINTS = [
    _checkpoint("that is not there", lambda folder: None, "c.pt", "found no file"),
    _checkpoint("that is a folder", lambda folder: (folder / "c.pt").mkdir(), "c.pt", "checkpoint"),
    _checkpoint("that is empty", lambda folder: (folder / "c.pt").touch(), "c.pt", "damaged or not a checkpoint"),
    _checkpoint("that is a text", lambda folder: (folder / "c.pt").write_text("words"), "c.pt", "damaged or not a checkpoint"),
    _checkpoint("cut short at 30 %", _cut(0.3), "c.pt", "damaged or not a checkpoint"),
    _checkpoint("cut short at 99 %", _cut(0.99), "c.pt", "damaged or not a checkpoint"),
    _checkpoint("with a byte changed", _flipped, "c.pt", "damaged"),
    _checkpoint("that is another zip archive", _zip_of_something, "c.pt", "damaged or not a checkpoint"),
    _checkpoint("that carries code (torch's zip)", save({"model": {}, "payload": Payload()}), "c.pt", "could run code", "refused"),
    _checkpoint(
        "that carries code (torch's older format)",
        save({"model": Payload()}, _use_new_zipfile_serialization=False),
        "c.pt",
        "zip archive",
    ),
    _checkpoint("that carries code (a plain pickle)", _plain_pickle, "c.pt", "it is not a zip archive of torch"),
    _checkpoint("that is a pickled model, not its weights", save(torch.nn.Linear(2, 2)), "c.pt", "could run code", "refused"),
    _checkpoint("that is one tensor", save(torch.zeros(3)), "c.pt", "key 'model'"),
    _checkpoint("that is a list", save([1, 2]), "c.pt", "key 'model'"),
    _checkpoint("of another program", save({"state_dict": {}}), "c.pt", "key 'model'"),
    _checkpoint("of weights alone", save({"model": {"w": torch.zeros(3)}}), "without", "timeline", "tokenizers"),
    _checkpoint("whose `model` is no weights", _state(_set("model", 3)), "weights"),
    _checkpoint("whose `model` holds no tensors", _state(_set("model", {"a": "b"})), "weights"),
    _checkpoint("with another architecture's shapes", _state(_resized), "do not fit", "(3, 3)"),
    _checkpoint("with weights of other names", _state(_set("model", {"decoder.weight": torch.zeros(3)})), "do not fit"),
    _checkpoint("with a weight that is not a number", _state(_broken_weights), "not finite"),
    _checkpoint("whose sizes are other than its weights'", _state(_set("d_model", 64)), "do not fit"),
    _checkpoint("whose sizes make no model", _state(_set("nhead", 3)), "heads"),
    _checkpoint("whose sizes are of the wrong type", _state(_set("d_model", "wide")), "d_model"),
    _checkpoint("whose sizes would fill the memory", _state(_set("d_model", 2**40)), "d_model of at most 1048576"),
    _checkpoint("whose timeline is none", _state(_set("timeline", None)), "timeline"),
    _checkpoint("whose timeline is impossible", _state(_set("timeline", {"codes": [0, 0], "units": None})), "0 Hz"),
    _checkpoint("whose tokenizers are none", _state(_set("tokenizers", {})), "tokenizer"),
    _checkpoint(
        "whose tokenizer is of an unknown type", _state(lambda s: s["tokenizers"]["acoustic"]["config"].update(type="new")), "'new'"
    ),
    _checkpoint(
        "whose tokenizer has settings of the wrong type",
        _state(lambda s: s["tokenizers"]["acoustic"]["config"].update(dim="x")),
        "tiny-codec",
    ),
    _checkpoint(
        "whose tokenizer has lost its weights", _state(lambda s: s["tokenizers"]["acoustic"].update(tensors={})), "tiny-codec", "do not fit"
    ),
    _checkpoint(
        "whose tokenizers are swapped", _state(lambda s: s["tokenizers"].update(acoustic=s["tokenizers"]["semantic"])), "expected a codec"
    ),
    _checkpoint("without its units' tokenizer", _state(lambda s: s["tokenizers"].update(semantic=None)), "units", "none"),
    _checkpoint("whose trained length is no number", _state(_set("coarse_seconds", "long")), "coarse_seconds", "long"),
    _checkpoint("whose trained length is missing", _state(lambda s: s.pop("coarse_seconds")), "without coarse_seconds"),
    _checkpoint("whose trained length is endless", _state(_set("fine_seconds", float("inf"))), "fine stage", "inf"),
    _checkpoint("whose periods are other than its timeline's", _state(_set("frames_per_period", 4)), "period", "(1, 4)"),
    Case(
        given="a checkpoint's name with a slip",
        program="infer",
        flags=f"{SPEAK} --checkpoint good/exp/epoch-2.pt",
        says=("good/exp/epoch-2.pt", "beside it are epoch-1.pt"),
    ),
    Case(
        given="an `--exp-dir` without checkpoints",
        program="infer",
        flags=f"{SPEAK} --exp-dir empty",
        says=("best-valid-loss.pt", "train first"),
        make=lambda folder: (folder / "empty").mkdir(),
    ),
    Case(
        given="an `--exp-dir` that is not there",
        program="export",
        flags="--output-dir out --exp-dir no",
        says=("no/best-valid-loss.pt",),
    ),
    Case(
        given="`--epoch` that was not trained",
        program="export",
        flags="--output-dir out --exp-dir good/exp --epoch 9",
        says=("epoch-9.pt", "beside it are epoch-1.pt"),
    ),
    Case(
        given="`--avg` of more epochs than there are",
        program="export",
        flags="--output-dir out --exp-dir good/exp --epoch 1 --avg 5",
        says=("--avg",),
    ),
    Case(
        given="`--use-averaged-model` of a checkpoint that holds none",
        program="export",
        flags="--output-dir out --exp-dir good/exp --epoch 1 --use-averaged-model true",
        says=("no averaged model",),
    ),
    Case(
        given="weights that are not finite, to export",
        program="export",
        flags="--output-dir out --checkpoint c.pt",
        says=("not finite",),
        make=_state(_broken_weights),
    ),
    Case(
        given="`export.py` of a checkpoint that carries code",
        program="export",
        flags="--output-dir out --checkpoint c.pt",
        make=save({"model": Payload()}),
        says=("could run code",),
    ),
    Case(
        given="`--init-from` a checkpoint that carries code",
        program="trainer_audiolm",
        flags=f"{TRAIN} --init-from c.pt",
        make=save({"model": Payload()}),
        says=("could run code",),
    ),
    Case(
        given="`--init-from` a checkpoint of other sizes",
        program="trainer_audiolm",
        flags=f"{TRAIN} --init-from good/exp/epoch-1.pt",
        says=("no stage of good/exp/epoch-1.pt has the shape",),
    ),
    Case(
        given="`--init-from` nothing",
        program="trainer_audiolm",
        flags=f"{TRAIN} --init-from no",
        says=("no",),
    ),
    Case(
        given="`settings_of_model.py` of a checkpoint that carries code",
        program="settings_of_model",
        flags="--init-from c.pt --output out.yaml",
        make=save({"model": Payload()}),
        says=("could run code",),
    ),
    Case(
        given="`settings_of_model.py` of weights alone",
        program="settings_of_model",
        flags="--init-from c.pt --output out.yaml",
        make=save({"model": {}}),
        says=("c.pt", "found none of"),
    ),
    Case(
        given="`evaluate_audiolm.py` of a model of other tokenizers' sizes",
        program="evaluate_audiolm",
        flags=f"{TRAIN} --init-from c.pt --output out.json",
        make=_state(_set("num_quantizers", 5)),
        says=("--num-quantizers 5",),
    ),
]


CASES = CHECKPOINTS
