"""Models by their names on the Hugging Face hub: the files of a released folder are fetched, and no others."""

from __future__ import annotations

import re
from pathlib import Path

from valle.models.folder import CONFIG_FILE, WEIGHTS_FILE, ReleasedModelError, read_model_config
from valle.tokenizers.pretrained import unreadable

MODEL_FILES = (CONFIG_FILE, WEIGHTS_FILE)
TOKENIZER_FILES = tuple(f"tokenizers/{kind}/{name}" for kind in ("acoustic", "semantic") for name in MODEL_FILES)
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)


class HubError(ReleasedModelError):
    """A model that cannot be had from the hub, or not be put there."""


def find_model(name: str | Path, *, revision: str | None = None, with_tokenizers: bool = True) -> Path:
    """The folder ``name`` if there is one; else the hub's model ``org/name``, from the cache or the network.

    ``revision`` is a branch, tag or commit on the hub.  Raises ``HubError`` in one sentence that says which files go where.
    """
    folder = Path(name)
    if folder.exists() or not HUB_NAME.fullmatch(str(name)):
        return folder  # whose reader says what is wrong with it
    from huggingface_hub import snapshot_download

    wanted = [*MODEL_FILES, *(TOKENIZER_FILES if with_tokenizers else ())]
    try:
        folder = Path(snapshot_download(str(name), revision=revision, allow_patterns=wanted))
        read_model_config(folder)
    except ReleasedModelError as error:
        raise HubError(_not_found(str(name), f"without {' and '.join(MODEL_FILES)}, so no model of this package")) from error
    except unreadable() as error:
        raise HubError(_not_found(str(name), _reason(error))) from error
    return folder


def upload_model(folder: Path, name: str, *, private: bool = False, message: str = "Upload model", token: str | None = None) -> str:
    """Put the files of ``folder`` into the hub's model ``org/name``, which is made if it is not there -> its address."""
    if not HUB_NAME.fullmatch(name):
        raise HubError(f"expected a name on the hub (organisation/model), found {name!r}; give both parts")
    from huggingface_hub import HfApi

    api = HfApi(token=token, library_name="valle")
    try:
        address = api.create_repo(name, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=address.repo_id, folder_path=folder, allow_patterns=[*MODEL_FILES, *TOKENIZER_FILES], commit_message=message
        )
    except unreadable() as error:
        raise HubError(
            f"expected to write the model {name} to the hub, found no way to ({_reason(error)}); "
            "log in with `hf auth login`, check the name and the connection, or upload the folder of save_pretrained yourself"
        ) from error
    return str(address)


def _not_found(name: str, reason: str) -> str:
    return (
        f"expected a released model in the folder {name} or on the hub by that name, found no such folder, and the hub's is {reason}; "
        f"put {CONFIG_FILE} and {WEIGHTS_FILE} into a folder, with those of its tokenizers in tokenizers/acoustic and "
        "tokenizers/semantic below it, and name that folder"
    )


def _reason(error: Exception) -> str:
    """What a person can do something about, in a few words."""
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

    known = {
        GatedRepoError: "open to those alone whom its owner let in",
        RepositoryNotFoundError: "not there, or private to others than you",
        RevisionNotFoundError: "without that revision",
        LocalEntryNotFoundError: "out of reach (no connection) and not, or not whole, in the cache",
    }
    for kind, text in known.items():
        if isinstance(error, kind):
            return text
    return f"unreadable: {type(error).__name__}, {' '.join(str(error).split())[:160]}"
