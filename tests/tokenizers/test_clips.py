"""Long clips in pieces have the tokens and the sound of the whole, and lower precision is a thing that one asks for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from tiny_audio import sound
from tiny_pipeline import tiny_codec, tiny_kmeans
from tiny_speech import tiny_hubert
from torch import Tensor

from valle.tokenizers import stream
from valle.tokenizers.base import AcousticTokenizer, SemanticTokenizer
from valle.tokenizers.soundstream import SoundStream, SoundStreamConfig
from valle.tokenizers.stream import decode_clip, encode_clip


def tiny_soundstream() -> SoundStream:
    torch.manual_seed(0)
    return SoundStream(SoundStreamConfig(name="s", channels=2, dim=8, strides=(2, 4, 5, 8), num_codebooks=2, codebook_size=8)).eval()


TOKENIZERS = {"convnext": tiny_codec, "soundstream": tiny_soundstream, "mfcc": tiny_kmeans, "hubert": tiny_hubert}


@pytest.fixture
def short_pieces(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(stream, "PIECE_SECONDS", 0.5)
    yield


def whole(tokenizer: AcousticTokenizer | SemanticTokenizer, wav: Tensor) -> Tensor:
    """The twin without pieces."""
    return tokenizer.encode(wav[None], torch.tensor([len(wav)]))[0][0]


@pytest.mark.parametrize("kind", list(TOKENIZERS))
def test_a_clip_in_pieces_has_the_tokens_of_the_whole(kind: str, short_pieces: None) -> None:
    tokenizer = TOKENIZERS[kind]()
    wav = torch.from_numpy(sound(4.33, rate=tokenizer.sample_rate, seed=3))
    torch.testing.assert_close(encode_clip(tokenizer, wav), whole(tokenizer, wav), rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["convnext", "soundstream"])
def test_codes_in_pieces_have_the_sound_of_the_whole(kind: str, short_pieces: None) -> None:
    codec = TOKENIZERS[kind]()
    codes = torch.randint(codec.codebook_size, (173, codec.num_codebooks), generator=torch.Generator().manual_seed(1))
    expected = codec.decode(codes[None], torch.tensor([len(codes)]))[0]
    torch.testing.assert_close(decode_clip(codec, codes), expected, rtol=0, atol=1e-5)


def test_no_piece_is_longer_than_its_share_and_its_context(short_pieces: None, monkeypatch: pytest.MonkeyPatch) -> None:
    codec = tiny_codec()
    lengths: list[int] = []
    encode = codec.encode
    monkeypatch.setattr(codec, "encode", lambda wav, given: (lengths.append(wav.shape[1]), encode(wav, given))[1])
    encode_clip(codec, torch.zeros(10 * codec.sample_rate))
    assert len(lengths) == 20 and max(lengths) <= 8000 + codec.left_context + codec.right_context + 2 * codec.hop_length


def test_hubert_runs_no_layer_above_the_one_it_uses() -> None:
    tokenizer = tiny_hubert(layer=2)
    assert len(tokenizer.encoder.transformer.blocks) == 2  # of the three that the encoder was trained with
    calls: list[int] = []
    for number, block in enumerate(tokenizer.encoder.transformer.blocks, 1):
        block.register_forward_hook(lambda *_, number=number: calls.append(number))
    tokenizer.encode(torch.zeros(1, 3200), torch.tensor([3200]))
    assert calls == [1, 2]


def test_units_stay_those_of_fp32_under_autocast_unless_the_tokenizer_itself_is_told() -> None:
    tokenizer = tiny_hubert()
    wav = torch.from_numpy(sound(3.0))[None]
    lengths = torch.tensor([wav.shape[1]])
    expected = tokenizer.hidden(wav, lengths)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(tokenizer.hidden(wav, lengths), expected)
    identity = tokenizer.identity
    tokenizer.precision = torch.bfloat16
    lower = tokenizer.hidden(wav, lengths)
    assert lower.dtype == torch.float32 and not torch.equal(lower, expected) and tokenizer.identity == identity
