"""The catalogue says of a tokenizer what the tokenizer says of itself, and where its weights are."""

from __future__ import annotations

from pathlib import Path

import pytest

from valle.tokenizers.catalogue import CATALOGUE, CatalogueEntry, Weights, bundled_names, find_entry
from valle.tokenizers.registry import BUNDLED, known_names, load_tokenizer


@pytest.mark.parametrize("name", bundled_names())
def test_an_entry_says_what_the_bundled_tokenizer_itself_says(name: str) -> None:
    entry, identity = find_entry(name), load_tokenizer(name).identity
    assert entry is not None and entry.weights is Weights.BUNDLED and entry.advice == ""
    assert (entry.kind, entry.grid, entry.num_codebooks, entry.codebook_size) == (
        identity.kind, identity.grid, identity.num_codebooks, identity.codebook_size,
    )  # fmt: skip


def test_every_known_name_has_one_entry() -> None:
    names = [entry.name for entry in CATALOGUE]
    assert sorted(names) == sorted(known_names()) and len(set(names)) == len(names)
    assert set(BUNDLED) == set(bundled_names())


def test_weights_are_here_once_every_file_is_in_the_hubs_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    entry = CatalogueEntry(
        name="a", kind="acoustic", sample_rate=24000, hop_length=320, num_codebooks=8, codebook_size=1024, licence="MIT", hub="some/model",
    )  # fmt: skip
    assert entry.weights is Weights.TO_BE_FETCHED
    assert entry.advice == "config.json and model.safetensors of some/model into a folder, then --tokenizer a=FOLDER"
    repository = tmp_path / "models--some--model"
    snapshot = repository / "snapshots" / "1234"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("1234")
    (snapshot / "config.json").write_text("{}")
    assert entry.weights is Weights.TO_BE_FETCHED
    (snapshot / "model.safetensors").write_bytes(b"")
    assert entry.weights is Weights.HERE and entry.advice == ""


def test_the_bitrate_is_that_of_all_codebooks_or_unknown_before_the_fit() -> None:
    assert {entry.name: entry.bits_per_second for entry in CATALOGUE}["valle-16khz"] == 3200
    unfitted = CatalogueEntry(name="h", kind="semantic", sample_rate=16000, hop_length=320, codebook_size=None, licence="MIT", hub="a/b")
    assert unfitted.bits_per_second is None
