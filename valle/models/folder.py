"""A model's folder: ``config.yaml`` and ``model.safetensors``, with or without tokenizers.  Nothing is unpickled."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from valle.errors import UserError
from valle.files import replacing
from valle.tokenizers.weights import nearest, packed, unpacked

CONFIG_FILE, WEIGHTS_FILE = "config.yaml", "model.safetensors"
WHOLE = frozenset({"model", "timeline", "trained_seconds"})  # keys of a folder that continues audio


class ReleasedModelError(UserError):
    """A released folder that is missing, damaged, or holds tokenizers of another model."""


def read_released_config(folder: Path) -> dict[str, Any]:
    """``config.yaml`` of a released folder."""
    config = read_model_config(folder)
    if config.keys() == {"model"} and isinstance(config["model"], dict):
        raise ReleasedModelError(
            f"expected a model with its tokenizers in {folder}, found an AudioLM without them; "
            "load it by AudioLM.from_pretrained, or name a folder that bin/export.py or Pipeline.save_pretrained wrote"
        )
    if not config.keys() >= WHOLE:
        path = folder / CONFIG_FILE
        raise ReleasedModelError(f"expected the keys model, timeline and trained_seconds in {path}; copy or export the model again")
    return config


def read_model_config(folder: Path) -> dict[str, Any]:
    """``config.yaml`` of a folder that holds at least the language models."""
    path = folder / CONFIG_FILE
    if not path.is_file() or not (folder / WEIGHTS_FILE).is_file():
        raise ReleasedModelError(
            f"expected a released model ({CONFIG_FILE} and {WEIGHTS_FILE}) in {folder}, found none; "
            "name such a folder, or a checkpoint with --checkpoint"
        )
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ReleasedModelError(f"{path} cannot be read ({' '.join(str(error).split())[:120]}); copy or export the model again") from error
    if not isinstance(config, dict) or "model" not in config:
        raise ReleasedModelError(f"expected the keys model, timeline and trained_seconds in {path}; copy or export the model again")
    return config


def read_released_weights(folder: Path) -> dict[str, Tensor]:
    """The weights of a model's folder, fp32."""
    read_model_config(folder)
    try:
        return {name: tensor.float() for name, tensor in unpacked(load_file(folder / WEIGHTS_FILE)).items()}
    except (SafetensorError, OSError) as error:
        raise ReleasedModelError(f"{folder / WEIGHTS_FILE} is damaged ({error}); copy or export the model again") from error


def write_model(folder: Path, config: Mapping[str, Any], weights: Mapping[str, Tensor], *, dtype: torch.dtype) -> None:
    """Both files, into a folder that is there; weights that ``dtype`` cannot hold are refused.

    In ``torch.int8`` matrices have eight bits and a scale a row, and all else is float16.
    """
    if dtype == torch.int8:
        stored = packed({name: nearest(tensor.detach().cpu()) for name, tensor in weights.items()})
    else:
        stored = {name: tensor.detach().cpu().to(dtype).contiguous() for name, tensor in weights.items()}
    broken = [name for name, tensor in stored.items() if not tensor.isfinite().all()]
    if broken:
        raise ReleasedModelError(f"the weights {broken[0]} are not finite as {dtype}; use an earlier checkpoint, or float32")
    save_file(stored, folder / WEIGHTS_FILE)
    (folder / CONFIG_FILE).write_text(yaml.safe_dump(dict(config), sort_keys=False), encoding="utf-8")


def smallest_dtype(weights: Mapping[str, Tensor]) -> torch.dtype:
    """float16 or int8 where it holds every weight as it is, else the weights' own."""
    own = next((tensor.dtype for tensor in weights.values()), torch.float32)
    if all(torch.equal(tensor.half().to(tensor.dtype), tensor) for tensor in weights.values()):
        return torch.float16
    return torch.int8 if all(torch.equal(nearest(tensor).to(tensor.dtype), tensor) for tensor in weights.values()) else own


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder that is renamed to ``folder`` at the end; an existing one is replaced."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(folder.with_name(f".{folder.name}.tmp"), ignore_errors=True)  # of a killed export
    with replacing(folder) as temporary:
        temporary.mkdir()
        yield temporary
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)  # whole at all times, but for the moment between two renames
    shutil.rmtree(old, ignore_errors=True)


def refuse_other_content(folder: Path) -> None:
    """Only nothing, an empty folder or an older model's folder is written over."""
    if folder.is_file():
        raise UserError(f"expected a folder for --output-dir, found the file {folder}; name another")
    if folder.is_dir() and any(folder.iterdir()):
        try:
            read_model_config(folder)
        except UserError as error:
            raise UserError(f"{folder} holds files that are not a released model; name another folder") from error
