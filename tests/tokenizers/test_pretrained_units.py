"""Released encoders: small random models in the released formats; transformers' own extractors and passes are the twins."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tiny_pretrained import ENCODER_TYPES, Payload, base_model, rate_of, tiny_released_encoder, write_released

from valle.errors import UserError
from valle.tokenizers.catalogue import find_entry
from valle.tokenizers.kmeans_fit import fit_kmeans
from valle.tokenizers.pretrained import PretrainedError
from valle.tokenizers.pretrained_front_ends import StackedFbank, normalised
from valle.tokenizers.pretrained_units import ENCODERS, PretrainedUnits
from valle.tokenizers.registry import (
    TokenizerAwayError,
    TokenizerError,
    load_semantic,
    load_tokenizer,
    load_unfitted,
    save_tokenizer,
    tokenizer_from_state,
    tokenizer_to_checkpoint,
    tokenizer_to_state,
)

KINDS = ["hubert-base", "hubert-large", "wavlm-base-plus", "w2v-bert-2.0", "mert-95m", "whisper-base"]  # every front end and norm once
WINDOWS = {"window": 10, "left": 20, "right": 5}


def noise(samples: int, seed: int = 1) -> torch.Tensor:
    """Bursts of noise about a level that is not zero."""
    generator = torch.Generator().manual_seed(seed)
    loudness = torch.rand(1, samples // 800 + 1, generator=generator).repeat_interleave(800, 1)[:, :samples]
    return loudness * torch.randn(1, samples, generator=generator).clamp(-3, 3) / 4 + 0.05


def lengths_of(wav: torch.Tensor) -> torch.Tensor:
    return torch.full((len(wav),), wav.shape[1])


def fitted(tokenizer: PretrainedUnits) -> PretrainedUnits:
    frames = tokenizer.hidden(noise(320 * 400), torch.tensor([320 * 400]))[0].numpy()
    tokenizer.take_clusters(fit_kmeans(frames, tokenizer.num_units, seed=0, seconds_per_frame=0.02))
    return tokenizer


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("released")
    return {name: write_released(name, tiny_released_encoder(name), root / name) for name in ENCODERS}


@pytest.fixture(scope="module")
def tokenizers(folders: dict[str, Path]) -> dict[str, PretrainedUnits]:
    return {name: fitted(load_unfitted(f"{name}={folders[name]}", layer=2, num_units=20, **WINDOWS)) for name in KINDS}


def heard_by_the_released(name: str, wav: np.ndarray) -> dict[str, torch.Tensor]:
    """What the released feature extractor makes of ``wav (T,)``."""
    if name == "w2v-bert-2.0":
        extractor = transformers.SeamlessM4TFeatureExtractor()
        return {"input_features": extractor(wav, sampling_rate=16000, return_tensors="pt")["input_features"]}
    extractor = transformers.Wav2Vec2FeatureExtractor(sampling_rate=rate_of(name))
    return {"input_values": extractor(wav, sampling_rate=rate_of(name), return_tensors="pt")["input_values"]}


@pytest.mark.parametrize("name", [name for name in ENCODERS if not name.startswith("whisper")])
@pytest.mark.parametrize("layer", [1, 3, 4])
def test_states_are_those_of_the_released_model_at_that_layer(name: str, layer: int, folders: dict[str, Path]) -> None:
    """At once; counted from 1, before the last norm of models that have one."""
    tokenizer = load_unfitted(f"{name}={folders[name]}", layer=layer, num_units=20, window=1000)
    hop, model = tokenizer.hop_length, base_model(tiny_released_encoder(name))
    wav = noise(40 * hop + tokenizer.overhang)
    with torch.no_grad():
        theirs = model(**heard_by_the_released(name, wav[0].numpy()), output_hidden_states=True).hidden_states[layer]
        ours = tokenizer.states(wav, lengths_of(wav), lengths_of(wav))
    assert ours.shape == theirs.shape == (1, 40, 16) and theirs.std() > 0.1
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("layer", [1, 3, 4])
def test_states_of_whisper_are_those_of_what_is_heard_without_silence_to_30_s(layer: int, folders: dict[str, Path]) -> None:
    """The released model takes one length alone: here one that was made for 40 states. Its extractor mirrors the sound at both ends."""
    tokenizer = load_unfitted(f"whisper-base={folders['whisper-base']}", layer=layer, num_units=20, window=1000)
    model = tiny_released_encoder("whisper-base").model.encoder
    model.layer_norm = torch.nn.Identity()
    model.config.max_source_positions = 40
    model.embed_positions = torch.nn.Embedding.from_pretrained(model.embed_positions.weight.data[:40])
    wav = noise(40 * 320)
    wav[:, :200] = wav[:, -200:] = 0
    extractor = transformers.WhisperFeatureExtractor()
    mels = torch.from_numpy(extractor._np_extract_fbank_features(wav.numpy(), "cpu"))
    heard = torch.cat([wav, torch.zeros(1, tokenizer.overhang)], 1)
    with torch.no_grad():
        theirs = model(mels, output_hidden_states=True).hidden_states[layer]
        ours = tokenizer.states(heard, lengths_of(heard), lengths_of(wav))
    assert ours.shape == theirs.shape == (1, 40, 16) and theirs.std() > 0.1
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["hubert-base", "wav2vec2-large", "mert-330m"])
def test_weights_in_the_older_file_and_names_are_the_same(name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    old = write_released(name, tiny_released_encoder(name), tmp_path, old=True)
    assert not list(old.glob("*.safetensors"))
    states = [load_unfitted(f"{name}={folder}", layer=2, num_units=20).state_dict() for folder in (old, folders[name])]
    assert states[0].keys() == states[1].keys() and all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_layers_above_the_wanted_one_are_neither_kept_nor_computed(folders: dict[str, Path]) -> None:
    for name in KINDS:
        sizes = [
            sum(weight.numel() for weight in load_unfitted(f"{name}={folders[name]}", layer=n, num_units=2).parameters()) for n in (1, 2, 4)
        ]
        assert sizes[0] < sizes[1] < sizes[2] and sizes[2] - sizes[1] == pytest.approx(2 * (sizes[1] - sizes[0]), rel=0.05)
        tokenizer = load_unfitted(f"{name}={folders[name]}", layer=2, num_units=2)
        assert len(getattr(tokenizer.encoder, "encoder", tokenizer.encoder).layers) == 2 and not [
            key for key in tokenizer.state_dict() if "encoder.layers.2" in key or "masked" in key
        ]


@pytest.mark.parametrize("name", KINDS)
def test_units_alone_equal_units_in_a_padded_batch(name: str, tokenizers: dict[str, PretrainedUnits]) -> None:
    """HuBERT base's group norm, and all means and variances, would otherwise run over the padding."""
    tokenizer = tokenizers[name]
    clips = [noise(samples, seed) for seed, samples in enumerate((7000, 24000, 15001))]
    padded = torch.full((3, 26000), 0.5)
    for row, clip in zip(padded, clips, strict=True):
        row[: clip.shape[1]] = clip[0]
    counted = torch.tensor([clip.shape[1] for clip in clips])
    units, counts = tokenizer.encode(padded, counted)
    hidden = tokenizer.hidden(padded, counted)
    assert units.shape == (3, 82) and len(units.unique()) > 5
    for index, clip in enumerate(clips):
        alone, count = tokenizer.encode(clip, lengths_of(clip))
        assert counts[index] == count[0] == tokenizer.num_tokens(clip.shape[1])
        torch.testing.assert_close(hidden[index, : count[0]], tokenizer.hidden(clip, lengths_of(clip))[0], rtol=1e-4, atol=1e-4)
        assert torch.equal(units[index, : count[0]], alone[0]) and not units[index, count[0] :].any()


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    samples=st.one_of(st.integers(1, 6000), st.sampled_from([1, 79, 80, 319, 320, 321, 399, 400, 639, 640])), name=st.sampled_from(KINDS)
)
def test_units_are_counted_exactly(tokenizers: dict[str, PretrainedUnits], samples: int, name: str) -> None:
    """Three seconds have 150 units, not 149."""
    tokenizer = tokenizers[name]
    units, counts = tokenizer.encode(noise(samples), torch.tensor([samples]))
    assert counts.tolist() == [-(-samples // 320)] == [tokenizer.num_tokens(samples)] and units.shape == (1, counts[0])
    assert tokenizer.hidden(noise(samples), torch.tensor([samples])).isfinite().all()


@settings(max_examples=8, deadline=None, derandomize=True)
@given(cut=st.integers(4000, 28000), name=st.sampled_from(KINDS))
def test_a_prompt_has_the_states_of_the_whole_file_up_to_the_right_context(
    tokenizers: dict[str, PretrainedUnits], cut: int, name: str
) -> None:
    tokenizer, whole = tokenizers[name], noise(30000)
    kept = tokenizer.settled(cut)
    assert kept >= (cut - tokenizer.right_context) // 320 - tokenizer.settings.window
    prompt, full = (tokenizer.hidden(wav, lengths_of(wav))[0, :kept] for wav in (whole[:, :cut], whole))
    torch.testing.assert_close(prompt, full, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("place", [70, 79])  # the first of a window hears most of what follows, the last most of what was before
@pytest.mark.parametrize("name", KINDS)
def test_a_unit_depends_on_nothing_beyond_its_stated_context(name: str, place: int, tokenizers: dict[str, PretrainedUnits]) -> None:
    tokenizer, wav = tokenizers[name], noise(320 * 130)
    left, right = place * 320 - tokenizer.left_context, (place + 1) * 320 + tokenizer.right_context
    other = noise(320 * 130, seed=9) * 3
    other[:, left:right] = wav[:, left:right]
    heard, changed = (tokenizer.hidden(version, lengths_of(wav))[0, place] for version in (wav, other))
    torch.testing.assert_close(heard, changed, rtol=1e-3, atol=1e-3)
    edge = left if place == 79 else right - 1
    other[:, max(0, edge - 200) : edge + 200] = 2.0
    assert not torch.allclose(tokenizer.hidden(other, lengths_of(wav))[0, place], heard, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", KINDS)
def test_a_saved_tokenizer_is_the_same_one(name: str, tokenizers: dict[str, PretrainedUnits], tmp_path: Path) -> None:
    tokenizer, wav = tokenizers[name], noise(16000)
    save_tokenizer(tokenizer, tmp_path)
    for again in (
        load_semantic(f"{tokenizer.name}={tmp_path}"),
        load_semantic(str(tmp_path)),
        tokenizer_from_state(tokenizer_to_state(tokenizer)),
    ):
        assert again.identity == tokenizer.identity
        assert torch.equal(again.encode(wav, lengths_of(wav))[0], tokenizer.encode(wav, lengths_of(wav))[0])
    assert json.loads(json.dumps(tokenizer.config())) == tokenizer.config()


def test_the_hash_follows_encoder_layer_clusters_and_windows(folders: dict[str, Path], tmp_path: Path) -> None:
    source = f"hubert-base={folders['hubert-base']}"
    other = write_released("hubert-base", tiny_released_encoder("hubert-base", seed=4), tmp_path)
    made = [
        load_unfitted(source, layer=2, num_units=20),
        load_unfitted(source, layer=1, num_units=20),
        load_unfitted(source, layer=2, num_units=21),
        load_unfitted(source, layer=2, num_units=20, right=30),
        load_unfitted(source, layer=2, num_units=20, frames_per_unit=2),
        load_unfitted(f"hubert-base={other}", layer=2, num_units=20),
        fitted(load_unfitted(source, layer=2, num_units=20)),
    ]
    assert len({tokenizer.identity.sha256 for tokenizer in made}) == 7
    assert load_unfitted(source, layer=2, num_units=20).identity == made[0].identity
    assert made[4].hop_length == 640 and made[4].hidden(noise(6400), torch.tensor([6400])).shape == (1, 10, 16)


@given(samples=st.integers(400, 4000), silence=st.integers(0, 1000))
@settings(max_examples=10, deadline=None, derandomize=True)
def test_the_waveform_is_normalised_as_the_released_extractor_does_but_over_no_padding(samples: int, silence: int) -> None:
    wav = noise(samples)
    theirs = heard_by_the_released("hubert-base", wav[0].numpy())["input_values"]
    padded = torch.cat([wav, torch.zeros(1, silence)], 1)
    ours = normalised(padded, samples)
    torch.testing.assert_close(ours[:, :samples], theirs, rtol=1e-4, atol=1e-4)
    assert not ours[:, samples:].any()


def test_mel_bands_are_those_of_the_released_extractor_and_know_no_padding() -> None:
    bands, wav = StackedFbank(), noise(320 * 50 + 240)
    theirs = heard_by_the_released("w2v-bert-2.0", wav[0].numpy())["input_features"]
    torch.testing.assert_close(bands(wav, wav.shape[1]), theirs, rtol=2e-3, atol=2e-3)
    padded = torch.cat([wav, torch.zeros(1, 3200)], 1)
    ours = bands(padded, wav.shape[1])
    torch.testing.assert_close(ours[:, :50], theirs, rtol=2e-3, atol=2e-3)
    assert not ours[:, 52:].any()


def test_a_model_that_does_not_normalise_hears_the_waveform_as_it_is(folders: dict[str, Path], tmp_path: Path) -> None:
    write_released("hubert-large", tiny_released_encoder("hubert-large"), tmp_path)
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "do_normalize": False}))
    plain = load_unfitted(f"hubert-large={tmp_path}", layer=2, num_units=2, window=1000)
    wav = noise(40 * 320 + 80)
    with torch.no_grad():
        theirs = tiny_released_encoder("hubert-large")(wav, output_hidden_states=True).hidden_states[2]
    torch.testing.assert_close(plain.states(wav, lengths_of(wav), lengths_of(wav)), theirs, rtol=1e-3, atol=1e-3)


def test_an_encoder_without_clusters_is_no_tokenizer_yet(folders: dict[str, Path]) -> None:
    for name in ("hubert-base", f"hubert-base={folders['hubert-base']}"):
        with pytest.raises(TokenizerError, match=rf"no clusters are fitted; fit them with `bin/tokenizer.py fit --encoder {name}`"):
            load_tokenizer(name)
    with pytest.raises(TokenizerError, match="expected the name of a released encoder"):
        load_unfitted("mimi", layer=1, num_units=2)
    with pytest.raises(UserError, match=r"expected a layer of hubert-base within 1..4, found 5"):
        load_unfitted(f"hubert-base={folders['hubert-base']}", layer=5, num_units=2)


DAMAGE = [
    "nowhere",
    "no settings",
    "no extractor",
    "bad settings",
    "another family",
    "weights missing",
    "another rate",
    "a constant-Q front end",
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_folder_that_does_not_hold_the_model_is_refused(tmp_path: Path, damage: str) -> None:
    folder, changes = tmp_path / "released", {}
    if damage == "another rate":
        changes = {"conv_stride": [5, 2, 2, 2, 2, 2, 1]}
    if damage != "nowhere":
        write_released("mert-95m", tiny_released_encoder("mert-95m", **changes), folder, **{
            "bad settings": {"hidden_size": "wide"},
            "another family": {"model_type": "data2vec-audio"},
            "a constant-Q front end": {"feature_extractor_cqt": True},
        }.get(damage, {}))  # fmt: skip
    if damage in ("no settings", "no extractor"):
        (folder / ("config.json" if damage == "no settings" else "preprocessor_config.json")).unlink()
    elif damage == "weights missing":
        tensors = load_file(folder / "model.safetensors")
        del tensors["encoder.layers.1.attention.k_proj.weight"]
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(PretrainedError, match=r"^expected ") as refused:
        load_unfitted(f"mert-95m={folder}", layer=2, num_units=20)
    assert "\n" not in str(refused.value)
    if damage == "a constant-Q front end":
        assert "a constant-Q transform" in str(refused.value)


def test_nothing_is_ever_unpickled(tmp_path: Path) -> None:
    folder = write_released("hubert-base", tiny_released_encoder("hubert-base"), tmp_path / "released", old=True)
    for write in (
        lambda path: path.write_bytes(pickle.dumps(Payload(tmp_path / "run"))),
        lambda path: torch.save([Payload(tmp_path / "run")], path),
    ):
        write(folder / "pytorch_model.bin")
        with pytest.raises(PretrainedError, match=r"^expected "):
            load_unfitted(f"hubert-base={folder}", layer=2, num_units=20)
    assert not (tmp_path / "run").exists()


def test_without_a_network_the_message_says_what_to_put_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    for name in ENCODERS:
        entry = find_entry(name)
        assert entry is not None and entry.sample_rate == rate_of(name) and entry.codebook_size is None
        with pytest.raises(PretrainedError) as refused:
            load_unfitted(name, layer=2, num_units=20)
        words = f"put {' and '.join(entry.files)} of {entry.hub} into a folder and name it: {name}=FOLDER"
        assert words in str(refused.value) and "preprocessor_config.json" in words


def test_every_family_is_tested(tokenizers: dict[str, Any]) -> None:
    assert ENCODER_TYPES.keys() == ENCODERS.keys()


def test_a_checkpoint_names_the_folder_of_a_large_tokenizer_and_checks_its_hash(
    tokenizers: dict[str, PretrainedUnits], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = tokenizers["hubert-base"]
    save_tokenizer(tokenizer, tmp_path / "recipe" / "units")
    monkeypatch.chdir(tmp_path / "recipe")
    loaded = load_tokenizer("units")
    assert "tensors" in tokenizer_to_checkpoint(loaded)  # small
    monkeypatch.setattr("valle.tokenizers.registry.REFERENCE_BYTES", 1000)
    assert "tensors" in tokenizer_to_checkpoint(tokenizer)  # of no folder
    torch.save(tokenizer_to_checkpoint(loaded), tmp_path / "checkpoint.pt")
    assert (tmp_path / "checkpoint.pt").stat().st_size < 10_000 < (tmp_path / "recipe" / "units" / "model.safetensors").stat().st_size
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert tokenizer_from_state(state).identity == tokenizer.identity
    monkeypatch.chdir(tmp_path)  # elsewhere on the same machine
    assert tokenizer_from_state(state).identity == tokenizer.identity
    (tmp_path / "recipe").rename(tmp_path / "moved")
    with pytest.raises(TokenizerAwayError, match=r"expected the tokenizer hubert-base-layer2-20 \(\w+\) in units, .* found none there"):
        tokenizer_from_state(state)
    monkeypatch.chdir(tmp_path / "moved")
    assert tokenizer_from_state(state).identity == tokenizer.identity
    save_tokenizer(tokenizers["hubert-large"], tmp_path / "moved" / "units")
    with pytest.raises(TokenizerAwayError, match=r"found hubert-large-layer2-20 \(\w+\); put it back there"):
        tokenizer_from_state(state)
    for reference in ({}, {"folders": [], "sha256": "0"}, 3):
        with pytest.raises(TokenizerError, match="expected the folder and the hash"):
            tokenizer_from_state({**state, "reference": reference})


def test_a_long_file_is_encoded_a_few_windows_at_a_time(tokenizers: dict[str, PretrainedUnits]) -> None:
    tokenizer, sizes = tokenizers["hubert-base"], []
    hook = tokenizer.encoder.feature_extractor.register_forward_pre_hook(lambda module, inputs: sizes.append(inputs[0].numel()))
    tokenizer.encode(noise(40 * 16000), torch.tensor([40 * 16000]))
    hook.remove()
    assert sum(sizes) > 40 * 16000 and max(sizes) <= 15.1 * 16000
