"""Released folders."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from bad_house import Case, copy
from damage import Payload, edit_config, edit_weights, first_is_nan, shorten

Make = Callable[[Path], object]
SPEAK = "--audio-prompts good/a.wav --output-dir out --prompt-seconds 1 --max-seconds 0.5"


def _released(given: str, damage: Make, *says: str) -> Case:
    def make(folder: Path) -> None:
        copy("model", "model")(folder)
        damage(folder / "model")

    return Case(given=f"a released folder {given}", program="infer", flags=f"{SPEAK} --model model", make=make, says=says)


def _longer_header(model: Path) -> None:
    """safetensors' own length field promises more than there is."""
    whole = bytearray((model / "model.safetensors").read_bytes())
    whole[:8] = (2**60).to_bytes(8, "little")
    (model / "model.safetensors").write_bytes(bytes(whole))


RELEASED = [
    Case(
        given="a released folder that is not there", program="infer", flags=f"{SPEAK} --model no", says=("expected a released model", "no")
    ),
    Case(given="a file for a released folder", program="infer", flags=f"{SPEAK} --model good/a.wav", says=("released model", "good/a.wav")),
    _released("without config.yaml", lambda model: (model / "config.yaml").unlink(), "expected a released model", "config.yaml"),
    _released("without model.safetensors", lambda model: (model / "model.safetensors").unlink(), "expected a released model"),
    _released("without its codec", lambda model: shutil.rmtree(model / "tokenizers" / "acoustic"), "acoustic tokenizer", "found nothing"),
    _released("without its units", lambda model: shutil.rmtree(model / "tokenizers" / "semantic"), "semantic tokenizer", "found nothing"),
    _released("whose config.yaml is no YAML", lambda model: (model / "config.yaml").write_text("model: ["), "model/config.yaml"),
    _released("whose config.yaml is not UTF-8", lambda model: (model / "config.yaml").write_bytes(b"model: \xff"), "model/config.yaml"),
    _released(
        "whose config.yaml would run code",
        lambda model: (model / "config.yaml").write_text("model: !!python/object/apply:os.mkdir [ran]"),
        "model/config.yaml",
    ),
    _released("whose config.yaml is a list", lambda model: (model / "config.yaml").write_text("- 1"), "expected the keys model, timeline"),
    _released("whose config.yaml lacks its timeline", edit_config(lambda c: c.pop("timeline")), "expected the keys model, timeline"),
    _released("whose timeline is a word", edit_config(lambda c: c.update(timeline="fast")), "timeline"),
    _released("whose sizes are of the wrong type", edit_config(lambda c: c["model"].update(d_model="wide")), "d_model of type int", "wide"),
    _released("whose sizes are a word", edit_config(lambda c: c.update(model="big")), "expected settings"),
    _released("with a size that is none", edit_config(lambda c: c["model"].update(d_modle=3)), "d_modle"),
    _released("whose sizes are other than its weights'", edit_config(lambda c: c["model"].update(d_model=64)), "do not fit", "64"),
    _released("whose sizes would fill the memory", edit_config(lambda c: c["model"].update(d_model=2**40)), "d_model of at most 1048576"),
    _released("whose number of layers is a million", edit_config(lambda c: c["model"].update(num_layers=10**6)), "at most 1000", "1000000"),
    _released("whose trained lengths are words", edit_config(lambda c: c["trained_seconds"].update(coarse="long")), "trained_seconds"),
    _released("whose identities are a list", edit_config(lambda c: c.update(identities=[1])), "identities"),
    _released(
        "with another tokenizer than it was trained on",
        edit_config(lambda c: c["identities"]["acoustic"].update(sha256="0" * 64)),
        "was trained on tokens of",
        "000000000000",
    ),
    _released("whose model.safetensors is cut short", shorten("model.safetensors"), "model.safetensors is damaged"),
    _released(
        "whose model.safetensors is a text",
        lambda model: (model / "model.safetensors").write_text("words " * 99),
        "model.safetensors is damaged",
    ),
    _released(
        "whose model.safetensors is a pickle that carries code",
        lambda model: (model / "model.safetensors").write_bytes(pickle.dumps(Payload())),
        "model.safetensors is damaged",
    ),
    _released("whose model.safetensors promises 2**60 bytes", _longer_header, "model.safetensors is damaged"),
    _released(
        "whose model.safetensors is empty", lambda model: (model / "model.safetensors").write_bytes(b""), "model.safetensors is damaged"
    ),
    _released("with a weight too many", edit_weights(lambda w: w.update(extra=torch.zeros(2))), "nothing for extra"),
    _released("with a weight missing", edit_weights(lambda w: w.pop(sorted(w)[0])), "found nothing"),
    _released("with a weight that is not a number", edit_weights(first_is_nan), "not finite"),
    _released(
        "whose codec's weights are cut short",
        shorten("tokenizers/acoustic/model.safetensors"),
        "model/tokenizers/acoustic",
        "cannot be read",
    ),
    _released(
        "whose codec's config.yaml is empty",
        lambda model: (model / "tokenizers" / "acoustic" / "config.yaml").write_text(""),
        "tokenizers/acoustic/config.yaml",
    ),
    _released(
        "whose codec's hop is a word", edit_config(lambda c: c.update(hop_length="x"), "tokenizers/acoustic/config.yaml"), "tiny-codec"
    ),
    _released(
        "whose codec's weights were changed",
        edit_weights(lambda w: w[sorted(w)[0]].add_(1), "tokenizers/acoustic/model.safetensors"),
        "was trained on tokens of",
    ),
    _released("whose codec's weights are not numbers", edit_weights(first_is_nan, "tokenizers/acoustic/model.safetensors"), "tokenizer"),
    _released(
        "whose units and codec are swapped",
        lambda model: (
            shutil.move(model / "tokenizers" / "acoustic", model / "x"),
            shutil.move(model / "tokenizers" / "semantic", model / "tokenizers" / "acoustic"),
            shutil.move(model / "x", model / "tokenizers" / "semantic"),
        ),
        "expected a codec",
    ),
]


CASES = RELEASED
