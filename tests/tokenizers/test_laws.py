"""What our own tokenizers promise: tokens are a local function of the audio, on an exact grid."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from valle.audio import read_audio
from valle.tokenizers.base import Tokenizer
from valle.tokenizers.convnext_codec import ConvNeXtCodec, ConvNeXtCodecConfig
from valle.tokenizers.mfcc import MfccConfig, MfccKMeans
from valle.tokenizers.registry import load_tokenizer, save_tokenizer, tokenizer_from_state, tokenizer_to_state

SAMPLES = sorted((Path(__file__).parents[2] / "valle" / "assets" / "samples").glob("*.flac"))


def codec(**changes: int) -> ConvNeXtCodec:
    torch.manual_seed(0)
    sizes = {"dim": 16, "num_blocks": 2, "vq_dim": 6, "num_codebooks": 4, "codebook_size": 32}
    tokenizer = ConvNeXtCodec(ConvNeXtCodecConfig(name="tiny", **{**sizes, **changes})).eval()
    wav = noise(320 * 60)
    latent = tokenizer.analyse(wav, torch.tensor([60]))[0].detach()
    tokenizer.quantizer.start_from(latent)
    return tokenizer


def units(**changes: int) -> MfccKMeans:
    torch.manual_seed(0)
    tokenizer = MfccKMeans(MfccConfig(num_units=30, **changes)).eval()
    features = tokenizer.mfcc(noise(16000 * 4), torch.tensor([64000]))[0]
    tokenizer.mean.copy_(features.mean(0))
    tokenizer.deviation.copy_(features.std(0))
    tokenizer.centroids.normal_()
    return tokenizer


def noise(samples: int, seed: int = 1) -> Tensor:
    """Bursts of noise, so that neighbouring frames differ."""
    generator = torch.Generator().manual_seed(seed)
    loudness = torch.rand(1, samples // 200 + 1, generator=generator).repeat_interleave(200, 1)[:, :samples]
    return loudness * torch.randn(1, samples, generator=generator).clamp(-3, 3) / 4


TOKENIZERS: dict[str, Callable[[], Tokenizer]] = {
    "codec": codec,
    "codec without lookahead": lambda: codec(lookahead=0),
    "codec with wide lookahead and narrow window": lambda: codec(lookahead=3, n_fft=640),
    "codec with two spectra a frame": lambda: codec(stft_frames=2, n_fft=320),
    "codec at 24 kHz": lambda: codec(sample_rate=24000),
    "bundled codec": lambda: load_tokenizer("valle-16khz"),
    "units at 25 Hz": units,
    "units at 50 Hz": lambda: units(hop_length=320, frames_per_unit=2),
    "bundled units": lambda: load_tokenizer("mfcc-kmeans"),
}


@pytest.fixture(scope="module", params=TOKENIZERS)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return TOKENIZERS[request.param]()


def sound(tokenizer: Tokenizer, tokens: int) -> Tensor:
    """Speech for a bundled tokenizer, else noise."""
    samples = tokens * tokenizer.hop_length
    if tokenizer.name not in ("valle-16khz", "mfcc-kmeans"):
        return noise(samples)
    wav, _ = read_audio(SAMPLES[0], sample_rate=16000)
    return torch.from_numpy(wav)[None, 8000 : 8000 + samples]


def before_tokens(tokenizer: Tokenizer, wav: Tensor) -> Tensor:
    """What tokens are chosen from, ``(1, T, D)``."""
    if isinstance(tokenizer, MfccKMeans):
        return tokenizer.features(wav, torch.tensor([wav.shape[1]]))
    assert isinstance(tokenizer, ConvNeXtCodec)
    return tokenizer.analyse(wav, torch.tensor([wav.shape[1] // tokenizer.hop_length]))


@settings(max_examples=15, deadline=None, derandomize=True)
@given(samples=st.one_of(st.integers(1, 2000), st.sampled_from([319, 320, 321, 640, 641, 48000])))
def test_there_is_a_token_for_every_hop_that_the_clip_reaches(tokenizer: Tokenizer, samples: int) -> None:
    """Three seconds have 75 units at 25 Hz and 150 codes at 50 Hz, not one less."""
    tokens, lengths = tokenizer.encode(noise(samples), torch.tensor([samples]))
    expected = -(-samples // tokenizer.hop_length)
    assert lengths.tolist() == [expected] and tokens.shape[:2] == (1, expected) == (1, tokenizer.num_tokens(samples))
    size = tokenizer.identity.codebook_size
    assert tokens.dtype == torch.int64 and tokens.min() >= 0 and tokens.max() < size


def test_tokens_alone_equal_tokens_in_a_padded_batch(tokenizer: Tokenizer) -> None:
    """Also where something stands in the padding."""
    hop = tokenizer.hop_length
    clips = [sound(tokenizer, 40)[:, :samples] for samples in (40 * hop, 17 * hop + 5, 3 * hop - 1, 1)]
    lengths = torch.tensor([clip.shape[1] for clip in clips])
    batch = torch.full((len(clips), 43 * hop), 0.7)
    for row, clip in zip(batch, clips, strict=True):
        row[: clip.shape[1]] = clip[0]
    tokens, counts = tokenizer.encode(batch, lengths)
    for index, clip in enumerate(clips):
        alone, count = tokenizer.encode(clip, lengths[index : index + 1])
        assert counts[index] == count[0] == alone.shape[1]
        assert torch.equal(tokens[index, : count[0]], alone[0])
        assert not tokens[index, count[0] :].any()


def test_a_prompts_tokens_equal_the_whole_clips_up_to_the_stated_right_context(tokenizer: Tokenizer) -> None:
    """Statistics of the utterance would change 15 % of a prompt's units."""
    whole, _ = tokenizer.encode(sound(tokenizer, 75), torch.tensor([75 * tokenizer.hop_length]))
    for count in (25, 50):
        length = count * tokenizer.hop_length
        prompt, _ = tokenizer.encode(sound(tokenizer, 75)[:, :length], torch.tensor([length]))
        safe = count - -(-tokenizer.right_context // tokenizer.hop_length)
        assert safe > 10 and torch.equal(prompt[:, :safe], whole[:, :safe])
    assert len(whole.unique()) > 5


def test_a_louder_neighbour_beyond_the_context_changes_no_token(tokenizer: Tokenizer) -> None:
    hop, wav = tokenizer.hop_length, sound(tokenizer, 75)
    middle = slice(40 * hop - tokenizer.left_context, 41 * hop + tokenizer.right_context)
    assert middle.start > 0 and middle.stop < 75 * hop
    other = noise(75 * hop, seed=9) * 3
    other[:, middle] = wav[:, middle]
    tokens, others = (tokenizer.encode(clip, torch.tensor([75 * hop]))[0] for clip in (wav, other))
    assert torch.equal(tokens[:, 40], others[:, 40]) and not torch.equal(tokens, others)


def test_the_stated_contexts_are_those_of_the_gradient(tokenizer: Tokenizer) -> None:
    """Neither less than a token depends on nor more; the window's first sample weighs nothing."""
    hop = tokenizer.hop_length
    wav = noise(75 * hop).requires_grad_(True)
    (gradient,) = torch.autograd.grad(before_tokens(tokenizer, wav)[0, 40].square().sum(), wav)
    reached = gradient[0].nonzero()[:, 0]
    left, right = 40 * hop - int(reached.min()), int(reached.max()) - (41 * hop - 1)
    assert tokenizer.left_context - 2 <= left <= tokenizer.left_context
    assert tokenizer.right_context - 2 <= right <= tokenizer.right_context


def test_saving_and_loading_keeps_the_identity_and_the_tokens(tokenizer: Tokenizer, tmp_path: Path) -> None:
    save_tokenizer(tokenizer, tmp_path / "saved")
    wav, lengths = sound(tokenizer, 30), torch.tensor([30 * tokenizer.hop_length])
    expected = tokenizer.encode(wav, lengths)[0]
    for again in (load_tokenizer(str(tmp_path / "saved")), tokenizer_from_state(tokenizer_to_state(tokenizer))):
        assert again.identity == tokenizer.identity and not again.training
        assert torch.equal(again.encode(wav, lengths)[0], expected)


def test_other_weights_or_settings_are_another_identity() -> None:
    """One name for all k-means models would load wrong centroids silently."""
    one, other, wider = units(), units(), units(num_mels=41)
    other.centroids[3, 4] += 1e-3
    assert len({tokenizer.identity.sha256 for tokenizer in (one, other, wider)}) == 3
    first, second = codec(), codec()
    second.quantizer.codebooks[3].embedding[0, 0] += 1e-3
    assert first.identity.sha256 == codec().identity.sha256 != second.identity.sha256


@pytest.mark.parametrize("name", ["codec", "codec with wide lookahead and narrow window", "bundled codec"])
def test_any_number_of_first_codebooks_decodes(name: str) -> None:
    tokenizer = TOKENIZERS[name]()
    assert isinstance(tokenizer, ConvNeXtCodec)
    wav, lengths = sound(tokenizer, 40), torch.tensor([40 * tokenizer.hop_length])
    codes, frames = tokenizer.encode(wav, lengths)
    outputs = [tokenizer.decode(codes[..., :levels], frames) for levels in range(1, tokenizer.num_codebooks + 1)]
    assert all(output.shape == wav.shape and output.isfinite().all() for output in outputs)
    latent = tokenizer.analyse(wav, frames)
    errors = [float((tokenizer.quantizer.decode(codes[..., :levels]) - latent).square().mean()) for levels in (1, 2, 4)]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("name", ["codec", "codec without lookahead", "bundled codec"])
def test_sound_alone_equals_sound_in_a_padded_batch(name: str) -> None:
    tokenizer = TOKENIZERS[name]()
    assert isinstance(tokenizer, ConvNeXtCodec)
    hop = tokenizer.hop_length
    codes = torch.randint(tokenizer.codebook_size, (3, 30, tokenizer.num_codebooks), generator=torch.Generator().manual_seed(3))
    lengths = torch.tensor([30, 12, 1])
    batch = tokenizer.decode(codes, lengths)
    assert batch.shape == (3, 30 * hop)
    for index, length in enumerate(lengths.tolist()):
        alone = tokenizer.decode(codes[index : index + 1, :length], lengths[index : index + 1])
        torch.testing.assert_close(batch[index, : length * hop], alone[0], atol=1e-5, rtol=1e-4)
        assert not batch[index, length * hop :].any()


def test_the_inverse_transform_gives_the_sound_back() -> None:
    for tokenizer in (codec(), codec(n_fft=640)):
        wav = noise(320 * 40)
        edge = tokenizer.settings.n_fft
        back = tokenizer._istft(tokenizer._stft(wav), torch.ones(1, 40, 1))
        torch.testing.assert_close(back[:, edge:-edge], wav[:, edge:-edge], atol=1e-5, rtol=1e-4)
