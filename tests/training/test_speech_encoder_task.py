"""Training speech encoders on the loop: targets at their frames, deterministic batches, resuming bit for bit, two processes."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lhotse import CutSet
from tiny_speech import write_spoken
from tiny_training import differences, in_processes

from valle.corpora.manifests import read_cuts
from valle.data.speech_crops import CropShape, SpeechCorpus, SpeechCrops, span_mask
from valle.errors import UserError
from valle.models.checkpoint import CheckpointError, load_checkpoint
from valle.tokenizers.hubert import HubertConfig
from valle.tokenizers.mfcc import MfccConfig, MfccKMeans
from valle.tokenizers.registry import load_semantic, save_tokenizer
from valle.training.distributed import World
from valle.training.errors import OtherRunError
from valle.training.loop import Loop
from valle.training.speech_encoder_fit import fit_hubert, load_encoder, per_cut_units_of, units_of
from valle.training.speech_encoder_options import OBJECTIVES, SpeechEncoderOptions
from valle.training.speech_encoder_task import SpeechEncoderTask
from valle.training.train_speech_encoder import train_speech_encoder

LEARNED = ("model", "optimizer", "scheduler", "grad_scaler", "sampler", "model_avg")
TINY: dict[str, Any] = {
    "encoder_dim": 16, "nhead": 2, "num_encoder_layers": 2, "batch_size": 3, "crop_seconds": 0.8, "batches_per_epoch": 3, "num_epochs": 2,
    "num_clusters": [6], "fit_hours": 0.01, "quantizer_codes": 6, "code_dim": 8, "num_negatives": 4, "prediction_steps": 3,
    "num_workers": 0,
    "optimizer_name": "AdamW", "base_lr": 0.003, "warmup_steps": 2, "dtype": "float32", "device": "cpu", "tensorboard": False,
    "save_every_n": 100, "valid_interval": 100, "average_period": 2, "log_interval": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spoken")
    write_spoken(folder / "cuts_train.jsonl.gz", num_cuts=6, seed=0)
    write_spoken(folder / "cuts_dev.jsonl.gz", num_cuts=2, seed=50)
    return folder


def options(corpus: Path, exp_dir: Path, **changes: Any) -> SpeechEncoderOptions:
    manifests = {"manifests": [corpus / "cuts_train.jsonl.gz"], "valid_manifest": corpus / "cuts_dev.jsonl.gz"}
    return SpeechEncoderOptions(**{**TINY, **manifests, "exp_dir": exp_dir, **changes})


def speech(corpus: Path) -> SpeechCorpus:
    return SpeechCorpus.read([corpus / "cuts_train.jsonl.gz"], frame=Fraction(1, 50), min_seconds=0.5)


def crops(corpus: Path, **changes: Any) -> SpeechCrops:
    shape = CropShape(sample_rate=16000, hop_length=320, frames=30, batch_size=4, mask_share=0.08, mask_span=5)
    found = speech(corpus)
    frames = np.arange(found.starts[-1], dtype=np.int16)[:, None]  # the number of each frame is its target
    return SpeechCrops(found, shape, **{"targets": frames, "num_batches": 5, "seed": 1, "epoch": 1, **changes})


def test_targets_lie_at_the_frames_that_are_heard(corpus: Path) -> None:
    dataset = crops(corpus)
    for index in range(5):
        batch = dataset[index]
        for wav, length, targets in zip(batch["wav"], batch["lengths"], batch["targets"], strict=True):
            first = int(targets[0])
            cut = int(np.searchsorted(dataset.corpus.starts, first, side="right")) - 1
            whole = dataset.corpus.audio(cut, first=0, count=80, sample_rate=16000)
            start = 320 * (first - int(dataset.corpus.starts[cut]))
            np.testing.assert_array_equal(wav[:length], whole[start : start + int(length)])
            assert targets[:, 0].tolist() == list(range(first, first + 30)) and length == 30 * 320


def test_a_cut_shorter_than_a_crop_is_taken_whole(corpus: Path) -> None:
    dataset = crops(corpus)
    dataset.shape = replace(dataset.shape, frames=500)
    batch = dataset[0]
    assert batch["wav"].shape == (4, 25600) and batch["lengths"].tolist() == [25600] * 4 and batch["mask"].shape == (4, 80)


def test_batches_are_a_function_of_seed_epoch_and_number(corpus: Path) -> None:
    first, again, later = crops(corpus)[2], crops(corpus)[2], crops(corpus, epoch=2)[2]
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["wav"], later["wav"]) and not torch.equal(first["mask"], later["mask"])


def test_audio_to_fit_on_is_a_share_of_the_cuts_and_all_of_them_without_one(corpus: Path) -> None:
    found = speech(corpus)
    every = list(found.waveforms(sample_rate=16000))
    assert len(every) == 6 and 0 < len(list(found.waveforms(sample_rate=16000, most_seconds=4.8))) < 6


@settings(max_examples=60, deadline=None, derandomize=True)
@given(frames=st.integers(1, 300), share=st.floats(0.001, 1), span=st.integers(1, 40), seed=st.integers(0, 99))
def test_masks_have_spans_and_leave_something_to_hear(frames: int, share: float, span: int, seed: int) -> None:
    mask = span_mask(frames, share=share, span=span, seed=seed)
    assert mask.shape == (frames,) and mask.any() and (frames == 1 or not mask.all())
    assert np.array_equal(mask, span_mask(frames, share=share, span=span, seed=seed))
    if share * frames <= 1 and frames >= 2 * span:
        assert mask.sum() == span


def test_a_mask_of_the_usual_settings_covers_about_half() -> None:
    assert np.mean([span_mask(200, share=0.08, span=10, seed=seed).mean() for seed in range(200)]) == pytest.approx(0.55, abs=0.04)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_run_that_was_stopped_goes_on_bit_for_bit(name: str, corpus: Path, tmp_path: Path) -> None:
    whole, parted = (options(corpus, tmp_path / kind, objective=name, dropout=0.1) for kind in ("whole", "parted"))
    train_speech_encoder(whole)
    train_speech_encoder(replace(parted, max_steps=4))
    assert (tmp_path / "parted" / "checkpoint-4.pt").is_file()
    train_speech_encoder(parted)
    left, right = (load_checkpoint(tmp_path / kind / "epoch-2.pt") for kind in ("whole", "parted"))
    assert [found for key in LEARNED for found in differences(left[key], right[key], key)] == []
    summary = json.loads((tmp_path / "whole" / "summary.json").read_text())
    assert summary["steps"] == 6 and summary[name]["valid_loss"] > 0


@pytest.mark.parametrize("name", OBJECTIVES)
def test_validation_is_the_same_at_every_call(name: str, corpus: Path, tmp_path: Path) -> None:
    run = options(corpus, tmp_path, objective=name)
    loop = Loop(SpeechEncoderTask(run), run, World())
    assert loop.evaluate() == loop.evaluate()


def test_two_processes_train_one_encoder_on_the_targets_of_one(corpus: Path, tmp_path: Path) -> None:
    together, alone = (options(corpus, tmp_path / kind, num_epochs=1) for kind in ("two", "one"))
    assert in_processes(_train, together, size=2) == [0, 0]
    assert load_checkpoint(together.exp_dir / "epoch-1.pt")["counters"]["step"] == 3
    SpeechEncoderTask(alone)
    for part in ("train", "valid"):
        left, right = (np.load(run.exp_dir / "targets" / f"{part}.npy") for run in (together, alone))
        np.testing.assert_array_equal(left, right)


def _train(world: World, run: SpeechEncoderOptions) -> None:
    Loop(SpeechEncoderTask(run, world), run, world).run()


def test_targets_are_the_units_of_each_cut_and_are_kept(corpus: Path, tmp_path: Path) -> None:
    task = SpeechEncoderTask(options(corpus, tmp_path))
    tokenizer = load_semantic(str(tmp_path / "targets" / "0"))
    assert task.targets is not None and tokenizer.identity.sha256 == task.targets.identities[0]
    for index, units in enumerate(units_of(tokenizer, task.corpus.waveforms(sample_rate=16000))):
        np.testing.assert_array_equal(task.targets.train[80 * index : 80 * (index + 1), 0], units)
    before = (tmp_path / "targets" / "train.npy").stat().st_mtime_ns
    SpeechEncoderTask(options(corpus, tmp_path))
    assert (tmp_path / "targets" / "train.npy").stat().st_mtime_ns == before


@pytest.mark.parametrize("world_size", [1, 2])
def test_cuts_are_encoded_by_their_length_and_stored_in_their_own_place(world_size: int, corpus: Path, tmp_path: Path) -> None:
    cuts = CutSet.from_cuts(
        cut.truncate(duration=seconds).with_id(f"cut-{seconds:g}")
        for cut, seconds in zip(read_cuts(corpus / "cuts_train.jsonl.gz"), (1.6, 0.7, 1.2, 0.6, 1.4, 0.9), strict=True)
    )
    cuts.to_file(tmp_path / "cuts.jsonl.gz")
    run = options(corpus, tmp_path / "run", manifests=[tmp_path / "cuts.jsonl.gz"])
    assert in_processes(_make_targets, run, size=world_size) == [0] * world_size
    task = SpeechEncoderTask(run)
    assert task.targets is not None
    assert [task.corpus.num_frames(index) for index in task.corpus.by_length(range(6))] == [30, 35, 45, 60, 70, 80]
    assert [len(wav) for wav in task.corpus.waveforms(sample_rate=16000)] == [320 * count for count in (30, 35, 45, 60, 70, 80)]
    tokenizer = load_semantic(str(run.exp_dir / "targets" / "0"))
    for index, (start, stop) in enumerate(pairwise(task.corpus.starts)):
        (units,) = units_of(tokenizer, [task.corpus.audio(index, first=0, count=int(stop - start), sample_rate=16000)])
        np.testing.assert_array_equal(task.targets.train[start:stop, 0], units[: stop - start])


def _make_targets(world: World, run: SpeechEncoderOptions) -> None:
    SpeechEncoderTask(run, world)


def test_targets_of_other_options_are_made_anew_before_the_first_checkpoint(corpus: Path, tmp_path: Path) -> None:
    SpeechEncoderTask(options(corpus, tmp_path, num_clusters=[4]))
    task = SpeechEncoderTask(options(corpus, tmp_path, num_clusters=[5]))
    assert task.targets is not None and task.targets.num_clusters == [5]
    assert task.targets.identities == [load_semantic(str(tmp_path / "targets" / "0")).identity.sha256]
    units = units_of(load_semantic(str(tmp_path / "targets" / "0")), task.corpus.waveforms(sample_rate=16000))
    np.testing.assert_array_equal(task.targets.train[:, 0], torch.cat(list(units)))


def test_a_given_tokenizer_makes_its_own_units_whatever_is_standardised(corpus: Path, tmp_path: Path) -> None:
    SpeechEncoderTask(options(corpus, tmp_path / "first"))
    given = str(tmp_path / "first" / "targets" / "0")
    task = SpeechEncoderTask(options(corpus, tmp_path / "second", standardise_targets="cut", targets_from=[given]))
    expected = torch.cat(list(units_of(load_semantic(given), task.corpus.waveforms(sample_rate=16000))))
    assert task.targets is not None
    np.testing.assert_array_equal(task.targets.train[:, 0], expected)


@pytest.mark.parametrize("source", ["mfcc", "an encoder"])
def test_targets_standardised_by_the_cut_do_not_hear_its_loudness(source: str, corpus: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = {}
    if source != "mfcc":
        train_speech_encoder(options(corpus, tmp_path / "first", num_epochs=1))
        changes = {"targets_from": [str(tmp_path / "first")], "target_layer": [1]}
    task = SpeechEncoderTask(options(corpus, tmp_path / "second", standardise_targets="cut", **changes))
    tokenizer = load_semantic(str(tmp_path / "second" / "targets" / "0"))
    assert tokenizer.name.endswith("-per-cut") and task.targets is not None
    waves = list(task.corpus.waveforms(sample_rate=16000))
    targets = torch.cat(list(per_cut_units_of(tokenizer, waves)))
    np.testing.assert_array_equal(task.targets.train[:, 0], targets)
    louder = torch.cat(list(per_cut_units_of(tokenizer, [2 * wav for wav in waves])))
    corpus_wide = [torch.cat(list(units_of(tokenizer, [gain * wav for wav in waves]))) for gain in (1, 2)]
    changed, changed_corpus_wide = float((louder != targets).float().mean()), float((corpus_wide[0] != corpus_wide[1]).float().mean())
    assert changed < 0.5 * changed_corpus_wide if source == "mfcc" else changed < 0.2


def test_a_second_iteration_learns_the_clusters_of_the_first_and_of_an_ensemble(corpus: Path, tmp_path: Path) -> None:
    first = options(corpus, tmp_path / "first", num_epochs=1)
    train_speech_encoder(first)
    sources = [str(first.exp_dir), "mfcc", str(first.exp_dir / "targets" / "0")]
    second = options(corpus, tmp_path / "second", targets_from=sources, target_layer=[1, 0, 0], num_clusters=[4, 5, 9], num_epochs=1)
    train_speech_encoder(second)
    state = load_checkpoint(second.exp_dir / "epoch-1.pt")
    assert [len(state["model"][f"heads.{index}.bias"]) for index in range(3)] == [4, 5, 6]
    identities = [load_semantic(str(second.exp_dir / "targets" / str(index))).identity.sha256 for index in range(3)]
    assert state["identities"] == {"targets": identities}
    assert identities[2] == load_semantic(str(first.exp_dir / "targets" / "0")).identity.sha256
    encoder = load_encoder(second.exp_dir)
    best = load_checkpoint(second.exp_dir / "best-valid-loss.pt")["model"]
    assert all(torch.equal(tensor, best[f"encoder.{name}"]) for name, tensor in encoder.state_dict().items())


def test_a_run_goes_on_from_another_ones_encoder_and_what_its_front_end_knows(corpus: Path, tmp_path: Path) -> None:
    first = options(corpus, tmp_path / "first", num_epochs=1)
    train_speech_encoder(first)
    given = load_encoder(first.exp_dir).state_dict()
    task = SpeechEncoderTask(options(corpus, tmp_path / "second", init_encoder=first.exp_dir, seed=5))
    assert all(torch.equal(tensor, given[name]) for name, tensor in task.encoder.state_dict().items())
    with pytest.raises(UserError, match=r"found d_model 16, .*; give the flags"):
        SpeechEncoderTask(options(corpus, tmp_path / "wider", init_encoder=first.exp_dir, encoder_dim=32))
    with pytest.raises(CheckpointError, match="expected a checkpoint"):
        SpeechEncoderTask(options(corpus, tmp_path / "none", init_encoder=corpus))


def test_a_fitted_tokenizer_repeats_and_uses_its_clusters(corpus: Path, tmp_path: Path) -> None:
    run = options(corpus, tmp_path, num_epochs=1)
    train_speech_encoder(run)
    config = HubertConfig(num_units=8, window=50, left=20, right=10)
    one, two = (fit_hubert(load_encoder(run.exp_dir), speech(corpus).waveforms(sample_rate=16000), config, layer=2, seed=3) for _ in (1, 2))
    assert one.identity == two.identity
    units = torch.cat(list(units_of(one, speech(corpus).waveforms(sample_rate=16000))))
    assert len(units.unique()) == 8


def test_the_front_end_is_standardised_by_the_corpus(corpus: Path, tmp_path: Path) -> None:
    task = SpeechEncoderTask(options(corpus, tmp_path, objective="wav2vec2"))
    heard = torch.cat([task.encoder.hear(batch["wav"], batch["lengths"]) for batch in task.validation_batches(World(), of_train=True)])
    assert abs(float(heard.mean())) < 0.1 and abs(float(heard.std()) - 1) < 0.1


def test_other_settings_or_targets_in_an_exp_dir_are_refused(corpus: Path, tmp_path: Path) -> None:
    train_speech_encoder(options(corpus, tmp_path, num_epochs=1))
    with pytest.raises(OtherRunError, match="--mask-span was 10, now 5"):
        train_speech_encoder(options(corpus, tmp_path, mask_span=5))
    other = MfccKMeans(MfccConfig(hop_length=320, frames_per_unit=2, num_units=6))
    other.centroids.normal_()
    save_tokenizer(other, tmp_path / "targets" / "0")
    with pytest.raises(OtherRunError, match="identities"):
        train_speech_encoder(options(corpus, tmp_path))


def test_mistakes_are_told(corpus: Path, tmp_path: Path) -> None:
    for changes, words in (
        ({"targets_from": ["mfcc", "mfcc"], "num_clusters": [4, 5, 6]}, "num-clusters for each of 2"),
        ({"targets_from": []}, "found none"),
        ({"num_clusters": [1]}, "within 2"),
        ({"mask_share": 0.0}, "mask-share must be above 0"),
        ({"quantizer_groups": 3}, "--code-dim"),
        ({"voice_change": 0.7}, "within 0..0.5"),
        ({"masked_weight": 0.0}, "above 0 and at most 1"),
        ({"voice_change": 0.1, "front_end": "wave"}, "for --front-end mel"),
        ({"manifests": []}, "expected manifests"),
    ):
        with pytest.raises(UserError, match=words):
            options(corpus, tmp_path, **changes)
    for changes, words in (
        ({"targets_from": ["nobody"]}, "expected a tokenizer's name"),
        ({"targets_from": ["mfcc-kmeans"]}, "expected targets at 50 Hz"),
        ({"targets_from": [str(corpus)]}, "after --target-layer"),
        ({"num_clusters": [500]}, "needs at least 5000 frames"),
        ({"valid_manifest": corpus / "none.jsonl.gz"}, "found nothing there"),
        ({"filter_min_duration": 9.0}, "expected cuts of at least 9 s"),
    ):
        with pytest.raises(UserError, match=words):
            SpeechEncoderTask(options(corpus, tmp_path / words.replace(" ", "-"), **changes))
    with pytest.raises(CheckpointError, match="expected a checkpoint"):
        SpeechEncoderTask(options(corpus, tmp_path / "layer", targets_from=[str(corpus)], target_layer=[2]))
