"""Ways to damage what `prepare.sh` leaves."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from bad_house import TRAIN, Case, copy
from safetensors.torch import load_file, save_file

Make = Callable[[Path], object]
MINE = TRAIN.replace("good/data/tokenized", "data/tokenized")


def copied(damage: Make) -> Make:
    """A copy of the good `data/`, damaged."""

    def make(folder: Path) -> None:
        copy("data", "data")(folder)
        damage(folder / "data")

    return make


def lines(name: str, change: Callable[[list[dict[str, Any]]], object]) -> Make:
    """The cuts of a manifest, changed."""

    def make(data: Path) -> None:
        path = data / name
        with gzip.open(path, "rt") as stream:
            cuts = [json.loads(line) for line in stream]
        change(cuts)
        with gzip.open(path, "wt") as stream:
            stream.writelines(json.dumps(cut) + "\n" for cut in cuts)

    return make


def raw(name: str, content: bytes | str, *, packed: bool = True) -> Make:
    def make(data: Path) -> None:
        whole = content.encode() if isinstance(content, str) else content
        (data / name).write_bytes(gzip.compress(whole) if packed else whole)

    return make


def truncated(name: str, keep: float = 0.5) -> Make:
    return lambda data: (data / name).write_bytes((data / name).read_bytes()[: int((data / name).stat().st_size * keep)])


def info(change: Callable[[dict[str, Any]], object]) -> Make:
    def make(data: Path) -> None:
        path = data / "tokenized" / "info.json"
        info = json.loads(path.read_text())
        change(info)
        path.write_text(json.dumps(info))

    return make


def mistake(given: str, program: str, flags: str, *says: str, make: Make = lambda folder: None, leaves: tuple[str, ...] = ()) -> Case:
    return Case(given=given, program=program, flags=flags, make=make, says=says, leaves=leaves)


class Payload:
    """Makes the file `ran` when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, ("ran", "w")


def save(value: object, **options: Any) -> Make:
    return lambda folder: torch.save(value, folder / "c.pt", **options)


def edit_config(change: Callable[[dict[str, Any]], object], path: str = "config.yaml") -> Make:
    def make(model: Path) -> None:
        config = yaml.safe_load((model / path).read_text())
        change(config)
        (model / path).write_text(yaml.safe_dump(config))

    return make


def shorten(name: str) -> Make:
    return lambda model: (model / name).write_bytes((model / name).read_bytes()[:-100])


def edit_weights(change: Callable[[dict[str, torch.Tensor]], object], path: str = "model.safetensors") -> Make:
    def make(model: Path) -> None:
        weights = load_file(model / path)
        change(weights)
        save_file(weights, model / path)

    return make


def first_is_nan(weights: dict[str, torch.Tensor]) -> None:
    weights[sorted(weights)[0]].view(-1)[0] = float("nan")
