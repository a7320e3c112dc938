"""Frames for a model that reads no units: of released encoders by name, and of unit tokenizers; kept in a checkpoint as they are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_pretrained import tiny_released_encoder, write_released
from tiny_speech import babble

from valle.errors import UserError
from valle.tokenizers.frames import expect_frames, frame_ms, frames_of, load_frames
from valle.tokenizers.registry import expect_semantic, tokenizer_from_state, tokenizer_to_checkpoint


@pytest.mark.parametrize("name", ["hubert-base", "whisper-base"])
def test_a_layer_of_a_released_encoder_gives_frames_that_a_checkpoint_keeps(name: str, tmp_path: Path) -> None:
    folder = write_released(name, tiny_released_encoder(name), tmp_path / name)
    tokenizer = load_frames(f"{name}={folder}", layer=2)
    wav, lengths = torch.from_numpy(babble(1.0, seed=1))[None], torch.tensor([16000])
    states, frames = frames_of(tokenizer, wav, lengths)
    assert (frame_ms(tokenizer), frames.tolist()) == (20, [50]) and states.shape == (1, 50, len(tokenizer.mean))
    torch.testing.assert_close(states, tokenizer.hidden(wav, lengths), msg="of which nothing was fitted")
    again = expect_frames(expect_semantic(tokenizer_from_state(tokenizer_to_checkpoint(tokenizer))))
    assert again.identity == tokenizer.identity
    torch.testing.assert_close(frames_of(again, wav, lengths)[0], states)


def test_the_bundled_units_give_the_features_that_they_are_clusters_of() -> None:
    tokenizer = load_frames("bundled", layer=1)
    wav, lengths = torch.from_numpy(babble(0.5, seed=2))[None], torch.tensor([8000])
    states, frames = frames_of(tokenizer, wav, lengths)
    units, counts = tokenizer.encode(wav, lengths)
    assert frames.tolist() == counts.tolist()
    assert torch.equal((states[0][:, None] - tokenizer.centroids).square().sum(-1).argmin(-1), units[0])


def test_what_is_no_unit_tokenizer_is_refused() -> None:
    for name in ("valle-convnext", "nobody"):
        with pytest.raises(UserError, match="expected"):
            load_frames(name, layer=1)
