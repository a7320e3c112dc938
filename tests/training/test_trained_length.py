"""What a stage was trained on is what it has really seen, and windows slide there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import tiny_model
from tiny_training import Run, tiny_loop, tiny_manifests, tiny_options, train

from valle.inference.trained_model import released_from_checkpoint
from valle.models.audio_lm import AudioLM
from valle.models.checkpoint import load_checkpoint, model_from_checkpoint
from valle.models.released import load_released, save_released
from valle.training.audio_lm_task import AudioLMTask

LONG = {"semantic_seconds": 30.0, "coarse_seconds": 10.0, "fine_seconds": 1.0}


def longest_cut(manifests: Path) -> float:
    return max(cut.duration for cut in AudioLMTask(tiny_options(manifests, Path("none"))).manifests.cuts("train"))


def test_the_trained_length_is_the_longest_crop_that_was_seen(manifests: Path, tmp_path: Path) -> None:
    """Crops of 30 s were said of a corpus of 3 s, and windows slid where nothing had been learned."""
    state = train(tiny_options(manifests, tmp_path / "exp", num_epochs=1, **LONG))
    longest = longest_cut(manifests)
    assert state["trained_seconds"] == {"semantic": longest, "coarse": longest, "fine": 1.0}
    best = released_from_checkpoint(load_checkpoint(tmp_path / "exp" / "best-valid-loss.pt"))
    assert best.trained_seconds == state["trained_seconds"]
    save_released(best, tmp_path / "model")
    loaded = load_released(tmp_path / "model")
    assert loaded.trained_seconds == state["trained_seconds"]
    frames = round(longest * 50)
    assert loaded.model.config.trained_frames == {"semantic": frames, "coarse": frames, "fine": 50}


def test_what_a_stage_saw_before_counts_too(manifests: Path, unbroken: Run, tmp_path: Path) -> None:
    short = tiny_manifests(tmp_path / "short", shortest=0.8, longest=0.8)
    changes = {"init_from": unbroken.exp_dir / "epoch-2.pt", "num_epochs": 1, "train_stage": "coarse"}
    state = train(tiny_options(short, tmp_path / "exp", **changes))
    assert state["trained_seconds"] == unbroken.state["trained_seconds"]
    assert state["trained_seconds"]["coarse"] == 2.0


def test_a_run_that_goes_on_remembers_what_it_saw(manifests: Path, tmp_path: Path) -> None:
    whole = train(tiny_options(manifests, tmp_path / "whole", num_epochs=1, **LONG))
    tiny_loop(tiny_options(manifests, tmp_path / "cut", num_epochs=1, max_steps=3, **LONG)).run()
    assert train(tiny_options(manifests, tmp_path / "cut", num_epochs=1, **LONG))["trained_seconds"] == whole["trained_seconds"]


def test_an_older_checkpoint_says_what_was_asked_for(unbroken: Run) -> None:
    names = ("trained_seconds", "trained_frames")
    state = {name: value for name, value in unbroken.state.items() if name not in names}
    assert released_from_checkpoint(state).trained_seconds == {"semantic": 30.0, "coarse": 2.0, "fine": 1.0}
    assert model_from_checkpoint(state)[0].config.trained_frames is None


def test_inference_slides_at_the_trained_length() -> None:
    fields = {**vars(tiny_model(num_units=None).config)}
    unknown = tiny_model(num_units=None)
    known = AudioLM(**{**fields, "trained_frames": {"coarse": 8, "fine": 6}}).eval()
    known.load_state_dict(unknown.state_dict())
    x, lengths = torch.arange(24).view(1, 8, 3) % 5, torch.tensor([8])

    def longest_of(model: AudioLM) -> int:
        seen: list[int] = []
        handle = model.coarse.transformer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape[1]))
        model.inference(x, lengths, 20)
        handle.remove()
        return len(seen)

    assert longest_of(unknown) == 1 < longest_of(known)
    same = unknown.inference(x, lengths, 20, window=8)
    assert same.shape == known.inference(x, lengths, 20).shape
    assert torch.equal(same[..., :1], known.inference(x, lengths, 20)[..., :1])


@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.int32, torch.tensor])
def test_a_seed_of_any_integer_type_draws_the_same(kind: type) -> None:
    model = tiny_model(num_units=None)
    x, lengths = torch.arange(24).view(1, 8, 3) % 5, torch.tensor([8])
    assert torch.equal(model.inference(x, lengths, 5, seed=kind(3)), model.inference(x, lengths, 5, seed=3))
