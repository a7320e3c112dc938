"""DAC and Mimi: small random models in the released formats; transformers' own passes are the twins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tiny_pretrained import DAC_RATES, check_codes_in_a_padded_batch, tiny_dac, tiny_mimi

from valle.tokenizers import dac as dac_module
from valle.tokenizers.catalogue import find_entry
from valle.tokenizers.dac import Dac, _package_name, load_dac
from valle.tokenizers.mimi import Mimi
from valle.tokenizers.pretrained import PretrainedError
from valle.tokenizers.pretrained_codec import PretrainedCodec
from valle.tokenizers.registry import load_acoustic, load_tokenizer, save_tokenizer, tokenizer_from_state, tokenizer_to_state

NAMES = [*DAC_RATES, "mimi"]


def released(name: str, **changes: Any) -> Any:
    return tiny_mimi(**changes) if name == "mimi" else tiny_dac(name, **changes)


def tiny_codec(name: str, **changes: Any) -> PretrainedCodec:
    entry = find_entry(name)
    assert entry is not None
    kind = Mimi if name == "mimi" else Dac
    return kind(released(name, **changes), name=name, num_codebooks=entry.num_codebooks).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def codecs() -> dict[str, PretrainedCodec]:
    return {name: tiny_codec(name) for name in NAMES}


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def noise(samples: int, seed: int = 1) -> torch.Tensor:
    return 0.3 * torch.randn(1, samples, generator=torch.Generator().manual_seed(seed))


def latents(codec: PretrainedCodec, wav: torch.Tensor) -> torch.Tensor:
    """What codes are chosen from, ``(1, D, T_f)``."""
    encoded = codec.model.encoder(wav[:, None])
    return encoded.latents if codec.name == "mimi" else encoded


def test_a_released_folder_gives_the_codes_and_the_sound_of_the_released_model(name: str, tmp_path: Path) -> None:
    model = released(name)
    model.save_pretrained(tmp_path)
    codec, entry = load_acoustic(f"{name}={tmp_path}"), find_entry(name)
    assert entry is not None and codec.num_codebooks == entry.num_codebooks
    assert (codec.sample_rate, codec.hop_length) == (entry.sample_rate, entry.hop_length)
    wav = noise(12 * codec.hop_length)
    codes, lengths = codec.encode(wav, torch.tensor([wav.shape[1]]))
    with torch.no_grad():
        theirs = model.encode(wav[:, None]).audio_codes
        sound = model.decode(audio_codes=theirs).audio_values.reshape(1, -1)
    assert codes.shape == (1, 12, entry.num_codebooks) and lengths.tolist() == [12] and len(codes.unique()) > 8
    assert torch.equal(codes, theirs.transpose(1, 2))
    ours = codec.decode(codes, lengths)
    assert ours.shape == wav.shape and sound.shape[1] == wav.shape[1] - (8 if name in ("dac-16khz", "dac-24khz") else 0)
    # Where DAC's decoder ends short of the last frame, ours goes on, and the last convolutions hear it.
    heard = sound.shape[1] - (600 if sound.shape[1] < wav.shape[1] else 0)
    torch.testing.assert_close(ours[:, :heard], sound[:, :heard], rtol=1e-4, atol=1e-5)
    assert sound.std() > 0.01


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    samples=st.one_of(st.integers(1, 9000), st.sampled_from([319, 320, 321, 511, 512, 513, 1919, 1920, 1921])), name=st.sampled_from(NAMES)
)
def test_frames_are_counted_exactly(codecs: dict[str, PretrainedCodec], samples: int, name: str) -> None:
    codec = codecs[name]
    codes, lengths = codec.encode(noise(samples), torch.tensor([samples]))
    frames = -(-samples // codec.hop_length)
    assert codes.shape == (1, frames, codec.num_codebooks) and lengths.tolist() == [frames] == [codec.num_tokens(samples)]
    assert codec.decode(codes[..., :3], lengths).shape == (1, frames * codec.hop_length)


def test_codes_alone_equal_codes_in_a_padded_batch(name: str, codecs: dict[str, PretrainedCodec]) -> None:
    codec, hop = codecs[name], codecs[name].hop_length
    clips = [noise(samples, seed) for seed, samples in enumerate((6 * hop + 7, 14 * hop, 2 * hop - 1))]
    check_codes_in_a_padded_batch(codec, clips)


def test_the_stated_contexts_are_what_a_frame_depends_on(name: str) -> None:
    codec = tiny_codec(name).double()
    hop = codec.hop_length
    frames = 2 * -(-codec.left_context // hop) + 3
    wav = noise(frames * hop).double().requires_grad_(True)
    place = frames // 2
    (gradient,) = torch.autograd.grad(latents(codec, wav)[0, :, place].square().sum(), wav)
    heard = gradient[0].nonzero()
    assert place * hop - int(heard.min()) == codec.left_context
    assert int(heard.max()) - ((place + 1) * hop - 1) == codec.right_context
    assert codec.right_context == 0 or name != "mimi"


def test_the_released_sizes_state_these_contexts() -> None:
    from transformers import MimiConfig

    from valle.tokenizers.mimi import _memory

    assert dac_module._reach([2, 4, 5, 8]) == (2501, 2493) and dac_module._reach([2, 4, 8, 8]) == (3733, 3733)
    assert 79 < _memory(MimiConfig()) / 24000 < 81


@pytest.mark.parametrize("name", DAC_RATES)
def test_windows_change_no_code_and_no_sound(name: str) -> None:
    codec = tiny_codec(name).double()
    wav = noise(90 * codec.hop_length + 5).double()
    length = torch.tensor([wav.shape[1]])
    results = []
    for window in (None, 20):
        codec.window = window
        codes, frames = codec.encode(wav, length)
        results.append((codes, codec.decode(codes, frames)))
    assert torch.equal(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["dac-16khz", "dac-44khz"])
def test_windows_change_nothing_from_which_codes_are_chosen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Codes forgive much; here they are the latents themselves, to eight digits."""
    codec = tiny_codec(name).double()
    monkeypatch.setattr(codec, "_encode", lambda clip: (1e8 * codec.model.encoder(clip)[0, : codec.num_codebooks]).round().long())
    wav, found = noise(70 * codec.hop_length).double(), []
    for window in (None, 20):
        codec.window = window
        found.append(codec.encode(wav, torch.tensor([wav.shape[1]]))[0])
    assert found[0].abs().max() > 1e6 and (found[0] - found[1]).abs().max() <= 1


def test_mimi_in_pieces_has_the_latents_and_the_sound_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over more than its attention remembers; codes forgive much, so here they are the latents themselves, to eight digits."""
    codec = tiny_codec("mimi", sliding_window=10).double()
    wav = noise(37 * codec.hop_length).double()
    codes, frames = codec.encode(wav, torch.tensor([wav.shape[1]]))
    sound = codec.decode(codes, frames)
    codec.decode_window = 4
    torch.testing.assert_close(codec.decode(codes, frames), sound, rtol=1e-9, atol=1e-9)
    with torch.no_grad():
        whole = (1e8 * latents(codec, wav)[0]).round().long()
    monkeypatch.setattr(codec.model.quantizer, "encode", lambda latent, _: (1e8 * latent).round().long().transpose(0, 1))
    found, state = [], None
    for piece in wav.split([3 * codec.hop_length, codec.hop_length, *[11 * codec.hop_length] * 3], 1):
        codes, state = codec.encode_piece(piece, state)
        found.append(codes[0].T)
    assert whole.abs().max() > 1e6 and (torch.cat(found, 1) - whole).abs().max() <= 1


def test_a_windows_context_is_no_longer_than_it_must_be() -> None:
    codec = tiny_codec("dac-16khz").double()
    codes, frames = codec.encode(noise(90 * 320).double(), torch.tensor([90 * 320]))
    whole = codec.decode(codes, frames)
    codec.window, codec.sound_reach = 20, codec.sound_reach - 3
    assert not torch.allclose(codec.decode(codes, frames), whole, rtol=1e-9, atol=1e-9)


def test_codes_stand_for_vectors_whose_sum_is_decoded(name: str, codecs: dict[str, PretrainedCodec]) -> None:
    codec = codecs[name]
    vectors = codec.codebook_vectors()
    codes, _ = codec.encode(noise(8 * codec.hop_length), torch.tensor([8 * codec.hop_length]))
    summed = torch.stack([vectors[level][codes[0, :, level]] for level in range(codec.num_codebooks)]).sum(0)  # (T_f, D)
    levels = codes.transpose(1, 2)
    theirs = codec.model.quantizer.decode(levels) if name == "mimi" else codec.model.quantizer.from_codes(levels)[0]
    torch.testing.assert_close(summed, theirs[0].T, rtol=1e-4, atol=1e-4)


def test_saving_in_our_format_keeps_the_identity(name: str, codecs: dict[str, PretrainedCodec], tmp_path: Path) -> None:
    codec = codecs[name]
    save_tokenizer(codec, tmp_path)
    wav, length = noise(7 * codec.hop_length), torch.tensor([7 * codec.hop_length])
    for again in (load_tokenizer(str(tmp_path)), load_tokenizer(f"{name}={tmp_path}"), tokenizer_from_state(tokenizer_to_state(codec))):
        assert again.identity == codec.identity and torch.equal(again.encode(wav, length)[0], codec.encode(wav, length)[0])
    assert tiny_codec(name, seed=5).identity.sha256 != codec.identity.sha256


def test_mimi_forgets_the_codebooks_of_other_weights() -> None:
    codec, other = tiny_codec("mimi"), tiny_codec("mimi", seed=5)
    wav, length = noise(1920 * 6), torch.tensor([1920 * 6])
    codec.encode(wav, length)
    codec.load_state_dict(other.state_dict())
    assert torch.equal(codec.encode(wav, length)[0], other.encode(wav, length)[0])
    assert codec.double().codebook_vectors().dtype == torch.float64


def package_state(model: Any) -> dict[str, Any]:
    """As the package ``descript-audio-codec`` writes it: settings, and weights split into magnitude and direction."""
    weights = {}
    for key, tensor in model.state_dict().items():
        theirs = _package_name(key)
        if key.endswith("weight") and tensor.dim() == 3:
            magnitude = torch.linalg.vector_norm(tensor, dim=(1, 2), keepdim=True)
            weights |= {f"{theirs}_g": magnitude, f"{theirs}_v": 3 * tensor}
        else:
            weights[theirs] = tensor
    config = model.config
    settings = {
        "encoder_dim": config.encoder_hidden_size, "encoder_rates": config.downsampling_ratios, "latent_dim": None,
        "decoder_dim": config.decoder_hidden_size, "decoder_rates": config.upsampling_ratios, "n_codebooks": config.n_codebooks,
        "codebook_size": config.codebook_size, "codebook_dim": config.codebook_dim, "quantizer_dropout": 0.5,
        "sample_rate": config.sampling_rate,
    }  # fmt: skip
    return {"state_dict": weights, "metadata": {"kwargs": settings}}


PACKAGE_NAMES = {
    "encoder.conv1.bias": "encoder.block.0.bias",
    "encoder.block.0.res_unit1.snake1.alpha": "encoder.block.1.block.0.block.0.alpha",
    "encoder.block.3.res_unit3.conv2.bias": "encoder.block.4.block.2.block.3.bias",
    "encoder.block.1.conv1.bias": "encoder.block.2.block.4.bias",
    "encoder.snake1.alpha": "encoder.block.5.alpha",
    "encoder.conv2.bias": "encoder.block.6.bias",
    "decoder.block.0.conv_t1.bias": "decoder.model.1.block.1.bias",
    "decoder.block.2.res_unit1.conv1.bias": "decoder.model.3.block.2.block.1.bias",
    "decoder.conv2.bias": "decoder.model.6.bias",
    "quantizer.quantizers.3.in_proj.bias": "quantizer.quantizers.3.in_proj.bias",
}


def test_the_packages_file_gives_the_same_model(tmp_path: Path) -> None:
    model, path = tiny_dac("dac-16khz"), tmp_path / "weights_16khz_8kbps_0.0.5.pth"
    assert {key: _package_name(key) for key in PACKAGE_NAMES} == PACKAGE_NAMES
    state = package_state(model)
    torch.save(state, path)
    codec = load_dac("dac-16khz", path)
    for key, tensor in codec.model.state_dict().items():
        torch.testing.assert_close(tensor, model.state_dict()[key])
    with pytest.raises(PretrainedError, match="expected 32 codebooks in dac-24khz, found 12; is it another model"):
        load_dac("dac-24khz", path)
    state["state_dict"].pop("decoder.model.1.block.1.weight_g")
    torch.save(state, path)
    with pytest.raises(PretrainedError, match=r"found no decoder.model.1.block.1.weight that fits"):
        load_dac("dac-16khz", path)
    torch.save({"state_dict": {}}, path)
    with pytest.raises(PretrainedError, match="expected settings and weights"):
        load_dac("dac-16khz", path)


@pytest.mark.parametrize("damage", ["nowhere", "empty", "a file", "bad weights", "weights missing", "another rate", "another size"])
def test_a_folder_that_does_not_hold_the_model_is_refused(tmp_path: Path, damage: str, name: str) -> None:
    folder = tmp_path / "released"
    if damage != "nowhere":
        folder.mkdir()
    if damage not in ("nowhere", "empty"):
        levels = "num_quantizers" if name == "mimi" else "n_codebooks"
        changes = {
            "another rate": {"sampling_rate": 48000, **({"frame_rate": 25.0} if name == "mimi" else {})},
            "another size": {levels: 5},
        }
        released(name, **changes.get(damage, {})).save_pretrained(folder)
    weights = folder / "model.safetensors"
    if damage == "bad weights":
        weights.write_bytes(weights.read_bytes()[:500])
    elif damage == "weights missing":
        tensors = load_file(weights)
        lost = sorted(key for key in tensors if key.startswith("decoder."))[0]
        del tensors[lost]
        save_file(tensors, weights, {"format": "pt"})
    place = weights if damage == "a file" and name == "mimi" else folder / "config.json" if damage == "a file" else folder
    with pytest.raises(PretrainedError) as refused:
        load_tokenizer(f"{name}={place}")
    assert "\n" not in str(refused.value) and str(refused.value).startswith("expected ")
    assert name in str(refused.value) or damage == "a file"


def test_without_a_network_the_message_says_what_to_put_where(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(PretrainedError) as refused:
        load_tokenizer(name)
    hub = find_entry(name).hub  # type: ignore[union-attr]
    assert f"put config.json and model.safetensors of {hub} into a folder and name it: {name}=FOLDER" in str(refused.value)


def test_a_models_settings_are_plain_values(name: str, codecs: dict[str, PretrainedCodec]) -> None:
    assert json.loads(json.dumps(codecs[name].config())) == codecs[name].config()
