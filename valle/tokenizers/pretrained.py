"""Models that others released, in the format of ``transformers``: a folder, or a name on the hub, becomes a torch module.

Nothing is unpickled and no code that comes with a model is run: weights are safetensors, or a file of tensors alone.
"""

from __future__ import annotations

import json
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError

from valle.errors import UserError
from valle.tokenizers.catalogue import CatalogueEntry, find_entry

SETTINGS_FILE, WEIGHTS_FILE, OLD_WEIGHTS_FILE = "config.json", "model.safetensors", "pytorch_model.bin"
SAFE_FILES = [SETTINGS_FILE, "preprocessor_config.json", WEIGHTS_FILE, f"{WEIGHTS_FILE}.index.json", "model-*.safetensors"]


class PretrainedError(UserError):
    """Released weights that cannot be had or used."""


def unreadable() -> tuple[type[Exception], ...]:
    """What reading a damaged or absent model raises, in ``transformers`` and on the way to the hub."""
    from huggingface_hub.errors import HfHubHTTPError, StrictDataclassError

    # Among the bases is the error of the library that fetches, whose name depends on the version.
    unreachable = tuple(base for base in HfHubHTTPError.__bases__ if issubclass(base, Exception))
    known = (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, EOFError, SafetensorError, UnpicklingError)
    return (*known, StrictDataclassError, *unreachable)


def entry_of(name: str) -> CatalogueEntry:
    entry = find_entry(name)
    if entry is None or entry.hub is None:
        raise PretrainedError(f"expected the name of a released model, found {name!r}; list them with bin/tokenizer.py list")
    return entry


def released_folder(name: str, path: Path | None) -> Path:
    """``path`` if it is a folder; without one, the hub's files of the model ``name``, from the cache or the network."""
    entry = entry_of(name)
    assert entry.hub is not None
    if path is not None:
        if not path.exists():
            raise PretrainedError(
                f"expected the weights of {name} in {path}, found nothing there; name a folder with {' and '.join(entry.files)}"
            )
        if not path.is_dir():
            raise PretrainedError(f"expected the folder of {name}, found the file {path}; name its folder: {name}={path.parent}")
        return path
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(entry.hub, allow_patterns=SAFE_FILES))
        if not any(folder.glob("*.safetensors")):
            folder = Path(snapshot_download(entry.hub, allow_patterns=[*SAFE_FILES, OLD_WEIGHTS_FILE]))
    except unreadable() as error:
        raise _not_found(entry, None, error) from error
    return folder


def read_json(path: Path) -> dict[str, Any]:
    """A released model's settings; ``PretrainedError`` unless they are there and an object."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PretrainedError(f"expected settings in {path}, found none that can be read; get {path.name} again") from error
    if not isinstance(values, dict):
        raise PretrainedError(f"expected settings in {path}, found {type(values).__name__}; get {path.name} again")
    return values


def load_model(model_class: Any, name: str, path: Path | None, *, config: Any = None, within: str = "") -> Any:
    """``model_class`` of ``transformers`` with the released weights, fp32; ``config`` stands for the folder's own settings.

    ``within``: a pattern of what stands before the names of a part of the released model, where ``model_class`` is that part.
    """
    entry, folder = entry_of(name), released_folder(name, path)
    safe = any(folder.glob("*.safetensors")) or not (folder / OLD_WEIGHTS_FILE).is_file()
    try:
        model, found = model_class.from_pretrained(
            str(folder), config=config, use_safetensors=safe, weights_only=True, dtype=torch.float32, output_loading_info=True,
            local_files_only=True, key_mapping={within: ""} if within else None,
        )  # fmt: skip
    except unreadable() as error:
        raise _not_found(entry, path, error) from error
    lacking = sorted(found["missing_keys"])
    if lacking:  # which transformers fills with random numbers
        raise PretrainedError(f"expected all weights of {name} in {path or entry.hub}, found no {lacking[0]}; is it another model?")
    return model.eval().requires_grad_(False)


def read_tensors(path: Path, package: str) -> Any:
    """What a ``.th`` or ``.pth`` file of ``package`` holds: tensors and plain values alone, or ``PretrainedError``."""
    try:
        return torch.load(path, weights_only=True, map_location="cpu")
    except unreadable() as error:
        raise PretrainedError(
            f"expected {path} to be a file of weights alone, as the package {package} has them, found what cannot be read as such "
            f"({type(error).__name__}); get it again"
        ) from error


def check_grid(name: str, path: Path | None, *, sample_rate: int, hop_length: int) -> None:
    """Refuses a model of another rate than that of its name."""
    entry = entry_of(name)
    if (sample_rate, hop_length) != (entry.sample_rate, entry.hop_length):
        raise PretrainedError(
            f"expected {name} to hear {entry.sample_rate} Hz in steps of {entry.hop_length} samples, found {sample_rate} Hz and "
            f"{hop_length} in {path or entry.hub}; is it another model?"
        )


def architecture(config: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """The named settings of a ``transformers`` configuration as plain values, to be hashed and to build the same model from."""
    return {name: _plain(getattr(config, name)) for name in names}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _not_found(entry: CatalogueEntry, path: Path | None, error: Exception) -> PretrainedError:
    where = f"in {path}" if path else f"from the hub ({entry.hub})"
    return PretrainedError(
        f"expected the weights of {entry.name} {where}, found none that can be read; put {' and '.join(entry.files)} of {entry.hub} "
        f"into a folder and name it: {entry.name}=FOLDER ({type(error).__name__})"
    )
