"""Units of a released encoder, fitted by the program that fits all units."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_pipeline import checkpoint_state, tiny_released
from tiny_pretrained import tiny_released_encoder, write_released
from tiny_speech import babble

from valle.audio import write_wav
from valle.models.checkpoint import model_from_checkpoint
from valle.tokenizers.registry import TokenizerAwayError, load_semantic, load_tokenizer, save_tokenizer, tokenizer_to_checkpoint
from valle.training.fit_units import FitConfig, FitError, fit_tokenizer


@pytest.mark.parametrize(("name", "frames_per_unit"), [("hubert-base", 2), ("mert-95m", 1)])
def test_units_of_a_released_encoder_are_fitted_at_its_own_rate_and_kept_with_it(name: str, frames_per_unit: int, tmp_path: Path) -> None:
    released = write_released(name, tiny_released_encoder(name), tmp_path / "released")
    write_wav(tmp_path / "audio" / "a.wav", babble(12.0, seed=1), 16000)
    config = FitConfig(
        encoder=f"{name}={released}", layer=2, num_units=8, frames_per_unit=frames_per_unit, audio=[tmp_path / "audio"],
        output_dir=tmp_path / "units",
    )  # fmt: skip
    identity = fit_tokenizer(config)
    units = load_semantic(str(tmp_path / "units"))
    assert units.identity == identity and units.name == f"{name}-layer2-8" and units.hop_length == 320 * frames_per_unit
    wav = torch.from_numpy(babble(6.0, seed=2))[None]
    tokens, lengths = units.encode(wav, torch.tensor([wav.shape[1]]))
    counts = np.bincount(tokens[0, : lengths[0]].numpy(), minlength=8)
    assert (counts > 0).sum() >= 6 and counts.max() < 0.6 * counts.sum()


def test_an_unknown_encoder_is_refused_with_the_names_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(FitError, match=r"found 'hubert-small'; names are hubert-base, "):
        fit_tokenizer(FitConfig(encoder="hubert-small", layer=2, audio=[tmp_path], output_dir=tmp_path / "units"))


def test_a_checkpoint_whose_large_tokenizer_is_away_says_so_and_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = tiny_released()
    assert released.semantic is not None
    save_tokenizer(released.semantic, tmp_path / "units")
    monkeypatch.setattr("valle.tokenizers.registry.REFERENCE_BYTES", 10)
    state = checkpoint_state(released)
    state["tokenizers"]["semantic"] = tokenizer_to_checkpoint(load_tokenizer(str(tmp_path / "units")))
    loaded = model_from_checkpoint(state)[3]
    assert loaded is not None and loaded.identity == released.semantic.identity
    (tmp_path / "units").rename(tmp_path / "elsewhere")
    with pytest.raises(TokenizerAwayError, match=r"^expected the tokenizer .* found none there; put it back there"):
        model_from_checkpoint(state)
