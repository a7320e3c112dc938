"""SoundStream as a tokenizer: exact in time, the same alone, in a batch, in a stream and after saving."""

from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor

from valle.errors import UserError
from valle.tokenizers.registry import load_acoustic, save_tokenizer
from valle.tokenizers.soundstream import SoundStream, SoundStreamConfig, SoundStreamState

HOP = 12
EGS = Path(__file__).parents[2] / "egs"


def tiny(**fields: object) -> SoundStream:
    torch.manual_seed(0)
    sizes = {"strides": (3, 4), "channels": 2, "dim": 6, "num_codebooks": 3, "codebook_size": 32}
    codec = SoundStream(SoundStreamConfig(**{**sizes, **fields})).eval()  # type: ignore[arg-type]
    codec.quantizer.start_from(codec.analyse(torch.randn(4, 40 * HOP) * 0.3, torch.full((4,), 40)).flatten(0, 1).detach())
    return codec


def noise(samples: int, *, rows: int = 1, seed: int = 1) -> Tensor:
    return torch.randn(rows, samples, generator=torch.Generator().manual_seed(seed)) * 0.3


def encode(codec: SoundStream, wav: Tensor, **options: bool) -> Tensor:
    return codec.encode(wav, torch.full((len(wav),), wav.shape[1]), **options)[0]


@pytest.mark.parametrize("samples", [1, HOP - 1, HOP, HOP + 1, 10 * HOP])
def test_a_frame_for_every_hop_begun(samples: int) -> None:
    codec = tiny()
    codes, lengths = codec.encode(noise(samples), torch.tensor([samples]))
    assert codes.shape == (1, codec.num_tokens(samples), 3) and lengths.tolist() == [codec.num_tokens(samples)]
    assert codec.decode(codes, lengths).shape == (1, codec.num_tokens(samples) * HOP)


def test_a_code_reads_its_own_frame_and_the_stated_context() -> None:
    codec, frame = tiny(), 60
    wav = noise(70 * HOP).requires_grad_()
    (gradient,) = torch.autograd.grad(codec.analyse(wav, torch.tensor([70]))[:, frame].square().sum(), wav)
    touched = gradient[0].nonzero()[:, 0]
    assert int(touched[0]) == frame * HOP - codec.encoder_reach
    assert int(touched[-1]) == (frame + 1) * HOP - 1
    assert codec.right_context == 0


def test_sound_reads_its_own_frame_and_frames_within_the_left_context() -> None:
    codec, frame = tiny(), 50
    vectors = torch.randn(1, 60, 6, requires_grad=True)
    wav = codec.synthesise(vectors, torch.tensor([60]))
    (gradient,) = torch.autograd.grad(wav[:, frame * HOP : (frame + 1) * HOP].square().sum(), vectors)
    touched = gradient[0].abs().sum(1).nonzero()[:, 0]
    assert int(touched[-1]) == frame
    assert (frame - int(touched[0])) * HOP == codec.decoder_reach <= codec.left_context


def test_codes_are_the_same_alone_in_a_batch_and_with_more_to_come() -> None:
    codec, long, short = tiny(), 30 * HOP, 17 * HOP + 5
    wav = torch.zeros(2, long)
    wav[0], wav[1, :short] = noise(long, seed=2)[0], noise(short)[0]
    padded = wav.clone()
    padded[1, short:] = 9  # what lies past the end is no audio
    codes, lengths = codec.encode(padded, torch.tensor([long, short]))
    alone = encode(codec, noise(short))
    assert torch.equal(codes[1, :18], alone[0]) and lengths.tolist() == [30, 18]
    assert torch.equal(codes[0, :17], encode(codec, wav[:1, : 17 * HOP])[0])
    assert not codes[1, 18:].any()
    sound = codec.decode(codes, lengths)
    torch.testing.assert_close(sound[1, : 18 * HOP], codec.decode(alone, torch.tensor([18]))[0])
    assert not sound[1, 18 * HOP :].any()


def test_a_stream_gives_the_codes_and_the_sound_of_the_whole() -> None:
    codec, wav = tiny(), noise(20 * HOP, rows=2)
    whole = encode(codec, wav)
    coder: SoundStreamState | None = None
    player: SoundStreamState | None = None
    codes, sound = [], []
    for piece in wav.split([HOP, 5 * HOP, 2 * HOP, 12 * HOP], 1):
        fresh, coder = codec.encode_piece(piece, coder)
        played, player = codec.decode_piece(fresh, player)
        codes.append(fresh)
        sound.append(played)
    assert torch.equal(torch.cat(codes, 1), whole)
    torch.testing.assert_close(torch.cat(sound, 1), codec.decode(whole, torch.tensor([20, 20])), rtol=0, atol=1e-5)


def test_the_codes_of_a_stream_are_chosen_in_full_precision_whatever_the_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    codec = tiny()
    latent = codec.analyse(noise(400 * HOP), torch.tensor([400])).detach()
    exact = codec.quantizer.encode(latent)
    monkeypatch.setattr(codec.encoder, "step", lambda wav, chain: (latent, chain))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not torch.equal(codec.quantizer.encode(latent), exact)  # what a lower precision would choose
        assert torch.equal(codec.encode_piece(noise(400 * HOP))[0], exact)


def test_first_codebooks_alone_decode_as_fewer_bits() -> None:
    codec, wav = tiny(), noise(20 * HOP)
    codes = encode(codec, wav)
    assert codec.decode(codes[..., :1], torch.tensor([20])).shape == (1, 20 * HOP)
    latent = codec.analyse(wav, torch.tensor([20])).detach()
    errors = [float((codec.quantizer.decode(codes[..., :levels]) - latent).square().mean()) for levels in (1, 2, 3)]
    assert errors == sorted(errors, reverse=True)


def test_noise_is_left_out_only_by_codecs_that_learned_it() -> None:
    codec, wav = tiny(denoise=True), noise(40 * HOP)
    assert codec.film is not None
    torch.nn.init.normal_(codec.film.modulation.weight)
    assert not torch.equal(encode(codec, wav), encode(codec, wav, denoise=True))
    assert torch.equal(encode(codec, wav, denoise=True), codec.encode_piece(wav, denoise=True)[0])
    with pytest.raises(UserError, match="--denoise true"):
        encode(tiny(), wav, denoise=True)


@pytest.mark.parametrize("denoise", [False, True])
def test_a_saved_codec_is_the_same_tokenizer(denoise: bool, tmp_path: Path) -> None:
    codec, wav = tiny(denoise=denoise), noise(9 * HOP)
    save_tokenizer(codec, tmp_path / "codec")
    loaded = load_acoustic(str(tmp_path / "codec"))
    assert loaded.identity == codec.identity
    assert torch.equal(loaded.encode(wav, torch.tensor([9 * HOP]))[0], encode(codec, wav))


def test_a_gain_is_taken_on_the_way_in_and_back_on_the_way_out_of_clips_and_streams() -> None:
    plain, loud, wav = tiny(), tiny(gain=4.0), noise(9 * HOP)
    loud.load_state_dict(plain.state_dict())
    codes = encode(plain, 4 * wav)
    assert torch.equal(encode(loud, wav), codes) and torch.equal(loud.encode_piece(wav)[0], codes)
    expected = plain.decode(codes, torch.tensor([9])) / 4
    torch.testing.assert_close(loud.decode(codes, torch.tensor([9])), expected)
    torch.testing.assert_close(loud.decode_piece(codes)[0], expected)
    assert "gain" not in plain.config() and loud.config()["gain"] == 4.0


def test_the_papers_sizes_give_fifty_frames_a_second_at_16_khz() -> None:
    config = SoundStreamConfig()
    codec = SoundStream(config)
    assert codec.sample_rate / codec.hop_length == 50
    assert 8e6 < sum(parameter.numel() for parameter in codec.parameters()) < 12e6


@pytest.mark.parametrize("strides", [(), (2, 0)])
def test_strides_that_cannot_be_are_refused(strides: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="strides"):
        tiny(strides=strides)


@pytest.mark.parametrize("gain", [0.0, float("nan")])
def test_a_gain_that_cannot_be_is_refused(gain: float) -> None:
    with pytest.raises(UserError, match="expected a gain above 0, found"):
        tiny(gain=gain)


@pytest.mark.parametrize(("file", "rate", "hop"), [("16khz", 16000, 320), ("24khz", 24000, 320), ("piano", 32000, 640)])
def test_presets_state_their_grid(file: str, rate: int, hop: int) -> None:
    (path,) = EGS.glob(f"*/conf/soundstream_{file}.yaml")
    settings = yaml.safe_load(path.read_text())
    assert settings["codec"] == "soundstream" and settings["sample_rate"] == rate
    assert torch.tensor(settings["strides"]).prod() == hop
