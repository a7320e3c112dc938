"""EnCodec: small random models in the released formats, read from folders and files, never from pickles."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_pretrained import Payload, check_codes_in_a_padded_batch
from transformers import EncodecConfig, EncodecModel

from valle.tokenizers.encodec import Encodec, _lookahead, load_encodec
from valle.tokenizers.pretrained import PretrainedError
from valle.tokenizers.registry import load_tokenizer, save_tokenizer

HOP = {"encodec-24khz": 320, "encodec-32khz": 640}


def tiny_model(name: str = "encodec-24khz", *, seed: int = 0, **changes: object) -> EncodecModel:
    """A model of the released architecture, few channels wide, with codebooks that use all of their codes."""
    torch.manual_seed(seed)
    causal = name == "encodec-24khz"
    rates = {"sampling_rate": 24000, "upsampling_ratios": [8, 5, 4, 2], "use_causal_conv": True, "target_bandwidths": [6.0]}
    if not causal:
        rates = {"sampling_rate": 32000, "upsampling_ratios": [8, 5, 4, 4], "use_causal_conv": False, "target_bandwidths": [2.2]}
    sizes = {**rates, "num_filters": 4, "hidden_size": 8, "codebook_dim": 8, "codebook_size": 32}
    model = EncodecModel(EncodecConfig(**{**sizes, **changes})).eval()
    with torch.no_grad():
        latent = model.encoder(torch.randn(1, 1, 100 * HOP[name]))[0, :, 20:]  # (D, T)
        centre, spread = latent.mean(1), latent.std(1)
        for layer in model.quantizer.layers:
            layer.codebook.embed.copy_(centre + spread * torch.randn_like(layer.codebook.embed))
            centre, spread = torch.zeros_like(centre), 0.7 * spread
    return model


@pytest.fixture(params=["encodec-24khz", "encodec-32khz"])
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def folder(name: str, tmp_path: Path) -> Path:
    tiny_model(name).save_pretrained(tmp_path / "released")
    return tmp_path / "released"


def noise(samples: int, seed: int = 1) -> torch.Tensor:
    return 0.3 * torch.randn(1, samples, generator=torch.Generator().manual_seed(seed))


def test_codes_and_sound_are_those_of_the_released_model(name: str, folder: Path) -> None:
    codec = load_tokenizer(f"{name}={folder}")
    assert isinstance(codec, Encodec)
    model, wav = tiny_model(name), noise(20 * HOP[name])
    codes, lengths = codec.encode(wav, torch.tensor([wav.shape[1]]))
    theirs = model.encode(wav[:, None]).audio_codes[0][:, : codec.num_codebooks]
    assert codes.shape == (1, 20, {"encodec-24khz": 8, "encodec-32khz": 4}[name]) and lengths.tolist() == [20]
    assert torch.equal(codes, theirs.transpose(1, 2)) and len(codes.unique()) > 16
    decoded = codec.decode(codes, lengths)
    torch.testing.assert_close(decoded, model.decode(theirs[None], [None]).audio_values[0])


@pytest.mark.parametrize(("samples", "frames"), [(1, 1), (320, 1), (321, 2), (6400, 20), (6401, 21)])
def test_frames_are_counted_exactly(samples: int, frames: int) -> None:
    codec = Encodec(tiny_model(), name="encodec-24khz", num_codebooks=2)
    codes, lengths = codec.encode(noise(samples), torch.tensor([samples]))
    assert codes.shape == (1, frames, 2) and lengths.tolist() == [frames] == [codec.num_tokens(samples)]
    assert codec.decode(codes, lengths).shape == (1, frames * 320)


def test_codes_alone_equal_codes_in_a_padded_batch(name: str) -> None:
    """The convolutions reflect a clip's end, so that in a padded batch its tail would depend on its mates."""
    codec, hop = Encodec(tiny_model(name), name=name, num_codebooks=3), HOP[name]
    clips = [noise(samples, seed) for seed, samples in enumerate((12 * hop + 7, 30 * hop, 5 * hop - 1))]
    check_codes_in_a_padded_batch(codec, clips)


def test_a_prompts_codes_equal_the_whole_clips_up_to_the_stated_right_context(name: str) -> None:
    codec, hop = Encodec(tiny_model(name), name=name, num_codebooks=4), HOP[name]
    wav = noise(60 * hop)
    whole, _ = codec.encode(wav, torch.tensor([60 * hop]))
    prompt, _ = codec.encode(wav[:, : 25 * hop], torch.tensor([25 * hop]))
    safe = 25 - -(-codec.right_context // hop)
    assert safe >= 21 and torch.equal(prompt[:, :safe], whole[:, :safe])
    if codec.right_context:
        assert not torch.equal(prompt[:, safe:], whole[:, safe:25])


def test_the_stated_right_context_is_what_a_frame_depends_on(name: str) -> None:
    model, hop = tiny_model(name), HOP[name]
    wav = noise(40 * hop)[None].requires_grad_(True)
    latent = model.encoder(wav)
    for frame in (8, 20, 30):
        (gradient,) = torch.autograd.grad(latent[0, :, frame].square().sum(), wav, retain_graph=True)
        last = int(gradient[0, 0].nonzero().max())
        stated = Encodec(model, name=name, num_codebooks=2).right_context
        assert last - ((frame + 1) * hop - 1) == stated
    assert _lookahead(tiny_model("encodec-32khz").config) == 2386


@pytest.mark.parametrize("frames", [60, 83])
def test_windows_change_neither_what_codes_are_chosen_from_nor_the_sound(name: str, frames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Codes forgive much; here they are the latents themselves, to eight digits."""
    codec = Encodec(tiny_model(name).double(), name=name, num_codebooks=4)
    wav = noise(frames * codec.hop_length).double()
    codes, lengths = codec.encode(wav, torch.tensor([wav.shape[1]]))
    sound = codec.decode(codes, lengths)
    monkeypatch.setattr(codec, "_quantize", lambda latent: (1e8 * latent[0, :4]).round().long())
    latents, _ = codec.encode(wav, torch.tensor([wav.shape[1]]))
    codec.lstm_window = 20
    found, _ = codec.encode(wav, torch.tensor([wav.shape[1]]))
    assert latents.abs().max() > 1e6 and (found - latents).abs().max() <= 1
    torch.testing.assert_close(codec.decode(codes, lengths), sound, rtol=1e-9, atol=1e-9)


def test_fewer_codebooks_decode_too(name: str) -> None:
    codec, hop = Encodec(tiny_model(name), name=name, num_codebooks=4), HOP[name]
    codes, lengths = codec.encode(noise(10 * hop), torch.tensor([10 * hop]))
    sounds = [codec.decode(codes[..., :levels], lengths) for levels in (1, 2, 4)]
    assert all(sound.shape == (1, 10 * hop) for sound in sounds) and not torch.equal(sounds[0], sounds[2])


def test_saving_in_our_format_keeps_the_identity(name: str, folder: Path, tmp_path: Path) -> None:
    codec = load_tokenizer(f"{name}={folder}")
    save_tokenizer(codec, tmp_path / "ours")
    again = load_tokenizer(str(tmp_path / "ours"))
    assert again.identity == codec.identity
    other = Encodec(tiny_model(name, seed=5), name=name, num_codebooks=codec.num_codebooks)
    assert other.identity.sha256 != codec.identity.sha256


def test_the_48_khz_protocol_is_refused(tmp_path: Path) -> None:
    stereo = tiny_model(audio_channels=1)
    stereo.config.audio_channels = 2
    for model in (stereo, tiny_model(normalize=True), tiny_model(chunk_length_s=1.0, overlap=0.01)):
        with pytest.raises(PretrainedError, match=r"stereo, scaled or chunked .* use encodec-24khz or encodec-32khz"):
            Encodec(model, name="encodec-48khz", num_codebooks=2)


def test_without_a_network_the_message_says_what_to_put_where(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(PretrainedError) as refused:
        load_tokenizer(name)
    hub = name.replace("encodec-", "facebook/encodec_")
    assert str(refused.value).startswith(
        f"expected the weights of {name} from the hub ({hub}), found none that can be read; "
        f"put config.json and model.safetensors of {hub} into a folder and name it: {name}=FOLDER"
    )
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "damage", ["nowhere", "empty", "no config", "bad config", "bad weights", "weights missing", "other widths", "few codebooks"]
)
def test_a_folder_that_does_not_hold_the_model_is_refused(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "released"
    if damage != "nowhere":
        folder.mkdir()
    if damage not in ("nowhere", "empty"):
        tiny_model(target_bandwidths=[1.5 if damage == "few codebooks" else 6.0]).save_pretrained(folder)
    weights = folder / "model.safetensors"
    if damage == "no config":
        (folder / "config.json").unlink()
    elif damage == "bad config":
        (folder / "config.json").write_text("{")
    elif damage == "bad weights":
        weights.write_bytes(weights.read_bytes()[:500])
    elif damage == "weights missing":
        tensors = load_file(weights)
        del tensors["decoder.layers.0.conv.bias"]
        save_file(tensors, weights, {"format": "pt"})
    elif damage == "other widths":
        other = tiny_model(num_filters=8)
        save_file({key: value.contiguous() for key, value in other.state_dict().items()}, weights, {"format": "pt"})
    with pytest.raises(PretrainedError) as refused:
        load_encodec("encodec-24khz", folder)
    assert "\n" not in str(refused.value) and str(refused.value).startswith("expected ")
    if damage == "weights missing":
        assert "decoder.layers.0.conv.bias" in str(refused.value)


def test_nothing_is_ever_unpickled(tmp_path: Path) -> None:
    folder = tmp_path / "released"
    tiny_model().save_pretrained(folder)
    (folder / "model.safetensors").unlink()
    for path in (folder / "pytorch_model.bin", tmp_path / "encodec_24khz.th"):
        path.write_bytes(pickle.dumps(Payload(tmp_path / "executed")))
    torch.save({"encoder": Payload(tmp_path / "executed")}, tmp_path / "zipped.th")
    for place in (folder, tmp_path / "encodec_24khz.th", tmp_path / "zipped.th"):
        with pytest.raises(PretrainedError, match=r"^expected "):
            load_encodec("encodec-24khz", place)
    assert not (tmp_path / "executed").exists()


PACKAGE_NAMES = {
    "encoder.layers.0.conv.bias": "encoder.model.0.conv.conv.bias",
    "encoder.layers.0.conv.parametrizations.weight.original0": "encoder.model.0.conv.conv.weight_g",
    "encoder.layers.0.conv.parametrizations.weight.original1": "encoder.model.0.conv.conv.weight_v",
    "encoder.layers.1.block.1.conv.bias": "encoder.model.1.block.1.conv.conv.bias",
    "encoder.layers.1.shortcut.conv.bias": "encoder.model.1.shortcut.conv.conv.bias",
    "encoder.layers.13.lstm.weight_ih_l0": "encoder.model.13.lstm.weight_ih_l0",
    "decoder.layers.3.conv.bias": "decoder.model.3.convtr.convtr.bias",
    "decoder.layers.3.conv.parametrizations.weight.original1": "decoder.model.3.convtr.convtr.weight_v",
    "quantizer.layers.31.codebook.embed": "quantizer.vq.layers.31._codebook.embed",
    "quantizer.layers.31.codebook.inited": "quantizer.vq.layers.31._codebook.inited",
}  # as the package's 24 kHz model lists them


def package_name(key: str) -> str:
    """The package's name of a tensor, built from its parts."""
    part, *rest = key.split(".")
    if part == "quantizer":
        return ".".join(["quantizer", "vq", "layers", rest[1], "_codebook", rest[3]])
    kind = "convtr" if part == "decoder" and rest[1] in ("3", "6", "9", "12") else "conv"
    rest = ["model", *rest[1:]]
    if "conv" in rest:
        place = rest.index("conv")
        rest[place : place + 1] = [kind, kind]
    if "parametrizations" in rest:
        rest[-3:] = ["weight_g" if rest[-1] == "original0" else "weight_v"]
    return ".".join([part, *rest])


@pytest.mark.slow
def test_the_packages_file_gives_the_same_model(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = EncodecModel(EncodecConfig()).eval()
    for layer in model.quantizer.layers:
        layer.codebook.embed.normal_()
    assert {key: package_name(key) for key in PACKAGE_NAMES} == PACKAGE_NAMES
    weights = {package_name(key): value for key, value in model.state_dict().items()}
    path = tmp_path / "encodec_24khz-d7cc33bc.th"
    torch.save(weights, path)
    codec = load_tokenizer(f"encodec-24khz={path}")
    assert codec.identity == Encodec(model, name="encodec-24khz", num_codebooks=8).identity
    with pytest.raises(PretrainedError, match="the package encodec holds no encodec-32khz"):
        load_encodec("encodec-32khz", path)
    weights.pop("decoder.model.3.convtr.convtr.bias")
    torch.save(weights, path)
    with pytest.raises(PretrainedError, match=r"expected the 252 tensors .* found 251, of which decoder.layers.3.conv.bias does not fit"):
        load_encodec("encodec-24khz", path)
