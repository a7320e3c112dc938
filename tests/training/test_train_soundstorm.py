"""``--acoustic-model soundstorm`` through the one loop: trained, resumed, released, decoded."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import CODEBOOKS, CODES, tiny_soundstorm
from tiny_pipeline import recording
from tiny_training import differences, progress_of, tiny_manifests, tiny_options, train

from valle.config import parse_flags
from valle.crops import CroppedTokens
from valle.data.dataset import Batch
from valle.data.stage_batches import joined
from valle.decoding.sampling import Sampling
from valle.evaluation.curves import read_curves
from valle.inference.pipeline import ContinueSettings, Pipeline
from valle.inference.trained_model import trained_model
from valle.models import AudioLM, AudioLMConfig
from valle.models.audio_lm import count_parameters
from valle.models.soundstorm import SoundStormLM
from valle.models.stage import ExampleSettings
from valle.settings import fields_from_flags
from valle.training.muon import hidden_matrices
from valle.training.options import AudioLMOptions


def options(folder: Path, *, units: bool = True, **changes: object) -> AudioLMOptions:
    return tiny_options(
        tiny_manifests(folder / "tokens", units=units), folder / "exp", acoustic_model="soundstorm", soundstorm_seconds=2.0, **changes
    )


@pytest.mark.parametrize("units", [True, False])
def test_a_run_ends_in_a_model_that_continues_audio(tmp_path: Path, units: bool) -> None:
    """With units, and without them as for music; codes that follow from their units are learned better than by their frequencies."""
    ours = options(tmp_path, units=units, num_epochs=6 if units else 1, optimizer_name="AdamW", base_lr=0.01, visualize=not units)
    train(ours)
    summary = json.loads((ours.exp_dir / "summary.json").read_text())["soundstorm"]
    nats, unigram = summary["nll_per_codebook"], summary["unigram_nll_per_codebook"]
    assert summary["levels"] == [0, 1, 2] and np.isfinite(nats).all()
    assert not units or all(learned < 0.9 * guessed for learned, guessed in zip(nats, unigram, strict=True))
    assert set(read_curves(ours.exp_dir / "curves.jsonl")) >= {"soundstorm_0", "soundstorm_1", "soundstorm_2"}
    released = trained_model(checkpoint=None, exp_dir=ours.exp_dir, epoch=ours.num_epochs, avg=1, use_averaged_model=False)
    assert list(released.model.stages()) == (["semantic", "soundstorm"] if units else ["soundstorm"])
    Pipeline(released).save_pretrained(tmp_path / "released")
    pipeline = Pipeline.from_pretrained(tmp_path / "released")
    settings = ContinueSettings(max_seconds=3.0, min_seconds=3.0, prompt_seconds=1.0, sampling={"soundstorm": Sampling(passes=(4, 1))})
    first, again, other = pipeline.continue_audio([recording(1.5)] * 3, 16000, seed=[1, 1, 2], settings=settings)
    assert first.generated_seconds == pytest.approx(3.0, abs=0.05) and np.isfinite(first.wav).all()
    assert first.codes.equal(again.codes) and not first.codes.equal(other.codes)


def test_the_acoustic_models_first_stage_is_soundstorm(tmp_path: Path) -> None:
    assert options(tmp_path, train_stage="1").stages() == ("soundstorm",)


def test_a_run_in_two_parts_is_the_run_in_one(tmp_path: Path) -> None:
    whole = options(tmp_path, num_epochs=2)
    halves = replace(whole, exp_dir=tmp_path / "halves")
    expected = train(whole)
    train(replace(halves, num_epochs=1))
    assert differences(progress_of(train(halves)), progress_of(expected)) == []


def test_batches_of_several_lengths_are_joined_without_masks_in_the_padding() -> None:
    """``--soundstorm-batches 2``."""
    model = tiny_soundstorm()
    settings = ExampleSettings(model.config)
    batches = [Batch({"soundstorm": SoundStormLM.collate([clip(frames)], settings)}) for frames in (9, 4)]
    whole, parts = joined(batches, "soundstorm"), [model.soundstorm.loss(**batch["soundstorm"]) for batch in batches]
    assert whole["masked"].dtype == torch.bool and not whole["masked"][1, 4:].any()
    torch.testing.assert_close(model.soundstorm.loss(**whole).sum, parts[0].sum + parts[1].sum, rtol=1e-9, atol=1e-9)


def clip(frames: int) -> CroppedTokens:
    codes = np.random.default_rng(frames).integers(CODES, size=(frames, CODEBOOKS))
    return CroppedTokens(cut_id=str(frames), units=np.zeros(0, np.int64), codes=codes, starts=True, ends=True, seed=0, epoch=1)


def test_muon_moves_the_matrices_inside_the_conformer() -> None:
    """Of each of two blocks: two a feed-forward, two of attention, two of the convolution."""
    assert len(hidden_matrices(tiny_soundstorm().soundstorm)) == 2 * 8


def size_of(preset: str, **fields: object) -> tuple[AudioLMOptions, int]:
    """A preset's options, and the parameters of its acoustic stages with 200 units and 8 codebooks of ``codebook_size``."""
    found = parse_flags(AudioLMOptions, ["--preset", preset])
    config = AudioLMConfig(**{**fields_from_flags(AudioLMConfig, found), "num_units": 200, **fields})
    with torch.device("meta"):
        stages = AudioLM.from_config(config).acoustic_stages()
    return found, sum(count_parameters(stage) for stage in stages.values())


def test_the_preset_for_two_cores_has_the_parameters_of_small() -> None:
    ours, theirs = (size_of(preset, codebook_size=256)[1] for preset in ("soundstorm-small", "small"))
    assert abs(ours / theirs - 1) < 0.1


def test_the_preset_of_the_papers_size_is_the_papers() -> None:
    found, parameters = size_of("soundstorm", codebook_size=1024)
    assert (found.num_decoder_layers, found.nhead, found.decoder_dim, found.dim_feedforward) == (12, 16, 1024, 4096)
    assert (found.soundstorm_kernel, found.unit_window, found.seconds_of("soundstorm")) == (5, 0, 30)
    assert round(parameters / 1e6) == 307
