"""Units fitted on one's own audio, by a command's settings."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_audio import write_sound
from tiny_speech import babble, tiny_encoder, write_spoken
from tiny_training import in_processes

from valle.audio import write_wav
from valle.errors import UserError
from valle.models.checkpoint import plain, save_checkpoint
from valle.models.speech_objectives import HubertObjective
from valle.tokenizers.hubert import HubertTokenizer
from valle.tokenizers.mfcc import MfccKMeans
from valle.tokenizers.registry import load_semantic
from valle.training.distributed import World
from valle.training.fit_units import FitConfig, FitError, fit_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Speech of three voices in a manifest and in files, and a run of the trainer's as far as its encoder goes."""
    top = tmp_path_factory.mktemp("fit")
    write_spoken(top / "cuts_train.jsonl.gz", num_cuts=12, seed=0)
    for number in range(3):
        write_wav(top / "audio" / f"{number}.wav", babble(4.0, seed=number), 16000)
    encoder = tiny_encoder()
    state = {"model": HubertObjective(encoder, [4]).state_dict(), "encoder": plain(vars(encoder.config))}
    save_checkpoint(top / "exp" / "best-valid-loss.pt", state)
    return top


def test_mfcc_units_are_fitted_on_a_manifest_and_saved_whole(folder: Path) -> None:
    config = FitConfig(manifests=[folder / "cuts_train.jsonl.gz"], num_units=20, output_dir=folder / "mfcc", name="mine")
    identity = fit_tokenizer(config)
    tokenizer = load_semantic(str(folder / "mfcc"))
    assert isinstance(tokenizer, MfccKMeans) and tokenizer.identity == identity and (tokenizer.name, tokenizer.num_units) == ("mine", 20)
    assert fit_tokenizer(config) == identity  # and the same again
    assert tokenizer.hop_length == 640
    assert fit_tokenizer(replace(config, frames_per_unit=1, output_dir=folder / "mfcc-50hz")).hop_length == 320


def test_an_encoders_units_are_fitted_on_files_of_any_rate(folder: Path, tmp_path: Path) -> None:
    write_sound(tmp_path / "more" / "a.flac", 1.0, rate=44100)
    config = FitConfig(
        encoder=str(folder / "exp"), layer=2, num_units=20, audio=[folder / "audio", tmp_path / "more"], output_dir=tmp_path / "units",
        device="cpu",
    )  # fmt: skip
    identity = fit_tokenizer(config)
    tokenizer = load_semantic(str(tmp_path / "units"))
    assert isinstance(tokenizer, HubertTokenizer) and tokenizer.identity == identity and tokenizer.name == "exp-layer2-20"
    wav = torch.from_numpy(babble(2.0, seed=9))[None]
    units, _ = tokenizer.encode(wav, torch.tensor([wav.shape[1]]))
    assert len(np.unique(units.numpy())) > 5


def fit_here(world: World, config: FitConfig) -> None:
    identity = fit_tokenizer(config, processes=world)
    assert len({str(other) for other in world.gather(str(identity))}) == 1


def test_two_processes_fit_one_tokenizer_on_the_audio_of_both(folder: Path, tmp_path: Path) -> None:
    config = FitConfig(manifests=[folder / "cuts_train.jsonl.gz"], num_units=20, output_dir=tmp_path / "two")
    assert in_processes(fit_here, config, size=2) == [0, 0]
    assert load_semantic(str(tmp_path / "two")).num_units == 20


def test_an_encoder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FitError, match=r"expected mfcc, the exp-dir .*, found 'nowhere'; names are hubert-base"):
        fit_tokenizer(FitConfig(encoder="nowhere", layer=1, audio=[tmp_path], output_dir=tmp_path / "out"))


def test_the_encoder_of_units_is_clustered_anew_at_a_lower_layer(folder: Path, tmp_path: Path) -> None:
    first = FitConfig(
        encoder=str(folder / "exp"), layer=2, num_units=20, audio=[folder / "audio"], output_dir=tmp_path / "units", device="cpu"
    )
    fit_tokenizer(first)
    manifests = {"manifests": [folder / "cuts_train.jsonl.gz"], "device": "cpu"}
    fit_tokenizer(
        FitConfig(encoder=str(tmp_path / "units"), layer=1, num_units=10, frames_per_unit=2, output_dir=tmp_path / "anew", **manifests)
    )
    before, anew = load_semantic(str(tmp_path / "units")), load_semantic(str(tmp_path / "anew"))
    assert isinstance(anew, HubertTokenizer) and (anew.num_units, anew.hop_length) == (10, 2 * before.hop_length)
    own, old = anew.encoder.state_dict(), before.encoder.state_dict()
    assert own.keys() < old.keys() and all(torch.equal(own[name], old[name]) for name in own)
    with pytest.raises(UserError, match=r"a layer within 1\.\.2"):
        fit_tokenizer(FitConfig(encoder=str(tmp_path / "units"), layer=3, output_dir=tmp_path / "other", **manifests))
    with pytest.raises(FitError, match="units of an encoder that was trained here after --encoder, found mfcc-kmeans"):
        fit_tokenizer(FitConfig(encoder="mfcc-kmeans", layer=1, output_dir=tmp_path / "other", **manifests))


def test_units_of_a_changed_voice_stay_the_same_more_often_where_clusters_are_whitened_by_it(folder: Path, tmp_path: Path) -> None:
    settings = {"encoder": str(folder / "exp"), "layer": 2, "num_units": 10, "device": "cpu", "manifests": [folder / "cuts_train.jsonl.gz"]}
    fit_tokenizer(FitConfig(output_dir=tmp_path / "plain", **settings))
    identity = fit_tokenizer(FitConfig(output_dir=tmp_path / "whitened", voice_change=0.3, **settings))
    plain_units, whitened = (load_semantic(str(tmp_path / name)) for name in ("plain", "whitened"))
    assert isinstance(plain_units, HubertTokenizer) and isinstance(whitened, HubertTokenizer)
    assert whitened.identity == identity and whitened.config()["voice_whitened"] and "voice_whitened" not in plain_units.config()
    wav = torch.from_numpy(np.concatenate([babble(4.0, seed=seed) for seed in range(5)]))[None]
    length = torch.tensor([wav.shape[1]])
    features = whitened.features(wav, length)
    units, _ = whitened.encode(wav, length)
    assert torch.equal(units, torch.cdist(features, whitened.centroids[None]).argmin(-1))
    moved = {}
    for name, tokenizer in (("plain", plain_units), ("whitened", whitened)):
        before = tokenizer.features(wav, length)
        tokenizer.encoder.training, tokenizer.encoder.voice_change = True, 0.3
        torch.manual_seed(0)
        after = tokenizer.features(wav, length)
        moved[name] = float((after - before).square().sum() / (before - before.mean(1)).square().sum())
    assert moved["whitened"] < 0.9 * moved["plain"]  # of all that features vary, a change of voice is less


@pytest.mark.parametrize(
    ("changes", "told"), [({"encoder": "mfcc"}, "layers of encoders that were trained here"), ({"voice_change": 0.7}, "0..0.5")]
)
def test_a_change_of_voice_that_does_not_fit_is_refused(changes: dict[str, object], told: str, folder: Path, tmp_path: Path) -> None:
    settings = {
        "encoder": str(folder / "exp"),
        "layer": 1,
        "voice_change": 0.2,
        "audio": [folder / "audio"],
        "output_dir": tmp_path / "units",
    }
    with pytest.raises(FitError, match=re.escape(told)):
        FitConfig(**{**settings, **changes})  # type: ignore[arg-type]
