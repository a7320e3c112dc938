"""Sound in pieces has the tokens of the whole, whatever the pieces, and no more of it is held than tokens to come depend on."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_audio import sound, write_sound
from tiny_pipeline import tiny_codec, tiny_kmeans
from tiny_speech import babble, tiny_hubert
from tiny_training import in_processes
from torch import Tensor
from transformers import EncodecConfig, EncodecModel

from valle.audio import audio_info, read_audio
from valle.errors import UserError
from valle.memory import give_memory_back, peak_memory_gib
from valle.tokenizers.base import AcousticTokenizer, SemanticTokenizer
from valle.tokenizers.encodec import Encodec
from valle.tokenizers.soundstream import SoundStream, SoundStreamConfig
from valle.tokenizers.stream import SampleStream, TokenStream, decode_pieces, encode_file, encode_pieces
from valle.training.distributed import World

SECONDS = 4.0


def soundstream() -> SoundStream:
    torch.manual_seed(0)
    config = SoundStreamConfig(strides=(8, 8), channels=2, dim=4, num_codebooks=2, codebook_size=16)
    return SoundStream(config).eval().requires_grad_(False)


def encodec() -> Encodec:
    torch.manual_seed(0)
    sizes = {
        "num_filters": 2,
        "hidden_size": 4,
        "codebook_dim": 4,
        "codebook_size": 16,
        "upsampling_ratios": [8, 5],
        "sampling_rate": 16000,
    }
    model = EncodecModel(EncodecConfig(**sizes)).eval()
    with torch.no_grad():
        latent = model.encoder(torch.from_numpy(babble(1.0, seed=4))[None, None])[0]  # (D, T)
        centre, spread = latent.mean(1), latent.std(1)
        for layer in model.quantizer.layers:  # which are zeros at first, so that all codes would be the same
            layer.codebook.embed.copy_(centre + spread * torch.randn_like(layer.codebook.embed))
            centre = torch.zeros_like(centre)
    return Encodec(model, name="tiny-encodec", num_codebooks=2).eval()


KINDS: dict[str, Callable[[], AcousticTokenizer | SemanticTokenizer]] = {
    "mfcc": tiny_kmeans,
    "mfcc at 50 Hz": lambda: tiny_kmeans(hop_length=320),
    "causal hubert": lambda: tiny_hubert(causal=True),
    "causal hubert on the waveform": lambda: tiny_hubert(causal=True, front_end="wave"),
    "causal hubert, bounded": lambda: tiny_hubert(left_reach=8, causal=True),
    "bounded hubert": lambda: tiny_hubert(left_reach=8, right_reach=2),
    "bounded hubert at 25 Hz": lambda: tiny_hubert(left_reach=8, right_reach=2, frames_per_unit=2),
    "hubert bounded ahead": lambda: tiny_hubert(right_reach=2),
    "hubert bounded behind": lambda: tiny_hubert(left_reach=8),
    "hubert that hears everything": tiny_hubert,
    "convnext": tiny_codec,
    "soundstream": soundstream,
    "encodec": encodec,
}
WINDOW = 10  # units, of those that hear everything on one side at least
HOLDS_ALL = {"encodec"}  # whose frames depend on all before them


@cache
def made(kind: str) -> tuple[AcousticTokenizer | SemanticTokenizer, Tensor, Tensor]:
    """A tokenizer, a sound, and its tokens."""
    tokenizer = KINDS[kind]()
    wav = torch.from_numpy(babble(SECONDS, seed=3))
    whole = encode(tokenizer, wav)
    assert len(whole.unique(dim=0)) > 1  # else anything would equal it
    return tokenizer, wav, whole


def encode(tokenizer: AcousticTokenizer | SemanticTokenizer, wav: Tensor) -> Tensor:
    return tokenizer.encode(wav[None], torch.tensor([len(wav)]))[0][0]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    sizes=st.lists(st.one_of(st.integers(0, 700), st.integers(1000, 30000)), min_size=1, max_size=12),
    rest=st.integers(0, 3),
)
def test_tokens_in_pieces_equal_those_of_the_whole(kind: str, sizes: list[int], rest: int) -> None:
    tokenizer, wav, _ = made(kind)
    wav = wav[: sum(sizes) + rest * 317]
    stream, tokens = TokenStream(tokenizer), []
    for size in sizes:
        tokens.append(stream.push(wav[:size]))
        wav = wav[size:]
    tokens.append(stream.flush(wav) if rest else stream.flush())
    whole = made(kind)[1][: sum(sizes) + rest * 317]
    expected = encode(tokenizer, whole) if len(whole) else tokens[0][:0]
    assert torch.equal(torch.cat(tokens), expected) and tokens[0].dtype == torch.int64


@pytest.mark.parametrize("kind", sorted(set(KINDS) - HOLDS_ALL))
def test_tokens_come_as_soon_as_their_right_context_and_little_sound_is_held(kind: str) -> None:
    tokenizer, wav, whole = made(kind)
    stream, given, held = TokenStream(tokenizer), 0, 0.0
    for start in range(0, len(wav), 480):
        tokens, end = stream.push(wav[start : start + 480]), min(start + 480, len(wav))
        assert torch.equal(tokens, whole[given : given + len(tokens)])
        given += len(tokens)
        assert given >= (end - tokenizer.right_context) // tokenizer.hop_length
        held = max(held, stream.held_seconds)
    most = tokenizer.left_context + tokenizer.right_context + (WINDOW + 1) * tokenizer.hop_length + 480
    assert held <= most / tokenizer.sample_rate < SECONDS / 2
    assert given + len(stream.flush()) == len(whole) and stream.held_seconds == 0


def test_what_needs_all_of_the_sound_keeps_pieces_of_its_own() -> None:
    tokenizer, wav, whole = made("encodec")
    stream, microphone = TokenStream(tokenizer), torch.zeros(5000)  # which is written over with every piece
    for start in range(0, 60000, 5000):
        microphone.copy_(wav[start : start + 5000])
        assert stream.push(microphone).shape == (0, tokenizer.num_codebooks)
        assert stream.held_seconds == (start + 5000) / tokenizer.sample_rate
    assert torch.equal(stream.flush(wav[60000:]), whole) and stream.held_seconds == 0


@pytest.mark.parametrize("kind", ["causal hubert", "causal hubert on the waveform", "causal hubert, bounded", "soundstream"])
def test_causal_tokens_come_with_the_last_sample_of_their_frame(kind: str) -> None:
    tokenizer, wav, _ = made(kind)
    stream, hop = TokenStream(tokenizer), tokenizer.hop_length
    assert len(stream.push(wav[: hop - 1])) == 0 and len(stream.push(wav[hop - 1 : hop])) == 1
    assert len(stream.push(wav[hop : 5 * hop + 7])) == 4


@pytest.mark.parametrize("kind", ["bounded hubert", "hubert that hears everything", "mfcc", "soundstream"])
def test_no_sound_that_follows_changes_a_token_that_was_given(kind: str) -> None:
    tokenizer, wav, whole = made(kind)
    for end in (20001, 31234):
        stream = TokenStream(tokenizer)
        tokens = stream.push(wav[:end])
        other = torch.cat([wav[:end], torch.rand(9000, generator=torch.Generator().manual_seed(1)) - 0.5])
        assert torch.equal(tokens, encode(tokenizer, other)[: len(tokens)]) and len(tokens) > 20
        assert torch.equal(tokens, whole[: len(tokens)])


def test_a_stream_is_used_again_after_its_end() -> None:
    tokenizer, wav, whole = made("bounded hubert")
    stream = TokenStream(tokenizer)
    for _ in range(2):
        assert torch.equal(torch.cat([stream.push(wav[:9999]), stream.flush(wav[9999:])]), whole)
    assert stream.flush().shape == (0,)


@pytest.mark.parametrize("kind", ["bounded hubert", "hubert that hears everything", "convnext", "encodec"])
def test_a_short_sound_is_encoded_once_and_a_long_one_piece_by_piece(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer, wav, whole = made(kind)
    sizes = []
    original = type(tokenizer).encode

    def counted(self: SemanticTokenizer, wav: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        sizes.append(wav.shape[1])
        return original(self, wav, lengths)

    monkeypatch.setattr(type(tokenizer), "encode", counted)
    assert torch.equal(encode_pieces(tokenizer, [wav.numpy()]), whole) and sizes == [64000]
    monkeypatch.setattr("valle.tokenizers.stream.PIECE_SECONDS", 0.5)
    assert torch.equal(encode_pieces(tokenizer, [wav.numpy()[start : start + 5000] for start in range(0, 64000, 5000)]), whole)
    assert (sizes[1:] == [64000]) if kind in HOLDS_ALL else max(sizes[1:]) < 32000


@pytest.mark.parametrize("rate", [16000, 22050])
def test_a_file_has_the_tokens_of_its_sound(rate: int, tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.wav", 3.1, rate=rate)
    wav = torch.from_numpy(read_audio(path, sample_rate=16000)[0])
    for kind in ("bounded hubert", "convnext"):
        tokenizer = made(kind)[0]
        assert torch.equal(encode_file(tokenizer, path), encode(tokenizer, wav))


@pytest.mark.parametrize("kind", ["convnext", "soundstream"])
def test_sound_decoded_in_pieces_is_that_of_all_codes(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    codec, _, codes = made(kind)
    assert isinstance(codec, AcousticTokenizer)
    whole = codec.decode(codes[None], torch.tensor([len(codes)]))[0]
    monkeypatch.setattr("valle.tokenizers.stream.PIECE_SECONDS", 0.6)
    pieces = list(decode_pieces(codec, codes))
    assert len(pieces) > 4
    torch.testing.assert_close(torch.cat(pieces), whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["convnext", "soundstream"])
@settings(deadline=None, max_examples=10)
@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=12), context=st.integers(0, 90))
def test_sound_of_codes_as_they_come_is_that_of_all_codes(kind: str, sizes: list[int], context: int) -> None:
    codec, _, codes = made(kind)
    assert isinstance(codec, AcousticTokenizer)
    whole = codec.decode(codes[None], torch.tensor([len(codes)]))[0]
    stream, rest, given_sound = SampleStream(codec, codes[:context]), codes[context:], []
    for size in sizes:
        given_sound.append(stream.push(rest[:size]))
        rest = rest[size:]
        assert stream.held_frames <= stream.frames_before + max(size, stream.frames_ahead) + stream.frames_ahead
    sound = torch.cat([*given_sound, stream.push(rest), stream.flush()])
    torch.testing.assert_close(sound, whole[context * codec.hop_length :], rtol=0, atol=1e-5)


def test_a_codec_that_needs_all_codes_before_is_refused() -> None:
    codec, _, codes = made("encodec")
    assert isinstance(codec, AcousticTokenizer)
    with pytest.raises(UserError, match="tiny-encodec makes sound of all codes from the first on"):
        SampleStream(codec, codes[:0])


def encode_and_leave_peaks(world: World, folder: Path, kind: str) -> None:
    """What this process has held at most, in MiB, after a file of each length."""
    tokenizer, peaks = KINDS[kind](), []
    for path in sorted(folder.glob("*.wav")):
        tokens = encode_file(tokenizer, path)
        assert len(tokens) == tokenizer.num_tokens(round(16000 * audio_info(path).seconds))
        give_memory_back()
        peaks.append(1024 * peak_memory_gib())
    (folder / "peaks").write_text(" ".join(map(str, peaks)))


@pytest.mark.parametrize("kind", ["bounded hubert", "convnext"])
def test_a_file_four_times_as_long_takes_no_more_memory(kind: str, tmp_path: Path) -> None:
    """Whole, the longer file's samples alone would be 42 MB at 44.1 kHz, and 15 MB at the tokenizer's rate."""
    speech = sound(15.0, rate=44100)
    for name, times in (("1", 4), ("2", 16)):
        soundfile.write(tmp_path / f"{name}.wav", np.tile(speech, times), 44100)
    assert in_processes(encode_and_leave_peaks, tmp_path, kind) == [0]
    short, long = map(float, (tmp_path / "peaks").read_text().split())
    assert long < short + 24  # what the allocator keeps differs by some from run to run
