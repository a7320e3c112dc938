"""A refiner behind the decoder: nothing at first, the same alone and in a batch, and in pieces of a stream."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_audio import sound

from valle.errors import UserError
from valle.tokenizers.convnext_codec import ConvNeXtCodec, ConvNeXtCodecConfig
from valle.tokenizers.registry import tokenizer_from_state, tokenizer_to_state
from valle.tokenizers.stream import SampleStream, decode_pieces, decoder_reach

RATE = 16000
SIZES: dict[str, Any] = {"dim": 16, "num_blocks": 2, "vq_dim": 4, "num_codebooks": 2, "codebook_size": 8, "stft_frames": 2, "n_fft": 640}


def codec(refine_blocks: int, *, is_trained: bool = True) -> ConvNeXtCodec:
    """Of random weights, the refiner's last layer too if it ``is_trained``."""
    torch.manual_seed(0)
    made = ConvNeXtCodec(ConvNeXtCodecConfig(refine_blocks=refine_blocks, **SIZES)).eval().requires_grad_(False)
    if refine_blocks and is_trained:
        assert made.refiner is not None
        made.refiner.output.weight.normal_(0, 0.1)
    return made


def codes(frames: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(8, (frames, 2), generator=torch.Generator().manual_seed(seed))


def test_a_new_refiner_changes_nothing_of_the_decoders_sound() -> None:
    given, length = codes(30)[None], torch.tensor([30])
    plain = codec(0)
    refined = codec(2, is_trained=False)
    refined.load_state_dict({**refined.state_dict(), **plain.state_dict()})
    wanted, found = plain.decode(given, length), refined.decode(given, length)
    inside = slice(640, -640)  # at the very ends windows reach past the sound
    assert torch.allclose(found[:, inside], wanted[:, inside], atol=1e-4) and wanted.abs().max() > 0.1
    changed = codec(2)
    changed.load_state_dict({**changed.state_dict(), **plain.state_dict()})
    assert not torch.allclose(changed.decode(given, length)[:, inside], wanted[:, inside], atol=1e-2)


def test_sound_is_the_same_alone_and_in_a_padded_batch() -> None:
    model = codec(2)
    long, short = codes(40), codes(25, seed=2)
    batch = torch.stack([long, torch.cat([short, codes(15, seed=3)])])
    together = model.decode(batch, torch.tensor([40, 25]))
    alone = model.decode(short[None], torch.tensor([25]))
    assert torch.allclose(together[1, : 25 * 320], alone[0], atol=1e-5) and not together[1, 25 * 320 :].any()


@pytest.mark.parametrize("refine_blocks", [0, 3])
def test_sound_in_pieces_is_the_sound_of_the_whole(refine_blocks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("valle.tokenizers.stream.PIECE_SECONDS", 0.8)
    model, given = codec(refine_blocks), codes(200)
    whole = model.decode(given[None], torch.tensor([200]))[0]
    assert torch.allclose(torch.cat(list(decode_pieces(model, given))), whole, atol=1e-5)
    stream = SampleStream(model, given[:0])
    pieces = [*(stream.push(piece) for piece in given.split(7)), stream.flush()]
    assert torch.allclose(torch.cat(pieces), whole, atol=1e-5)


def test_a_refiner_hears_further_than_the_decoder_alone_and_codes_no_further() -> None:
    plain, refined = codec(0), codec(3)
    assert (plain.left_context, plain.right_context) == (refined.left_context, refined.right_context)
    assert all(more > less for more, less in zip(decoder_reach(refined), decoder_reach(plain), strict=True))


def test_codecs_without_a_refiner_keep_their_identity_and_refined_ones_are_saved_with_it() -> None:
    assert "refine_blocks" not in codec(0).config()
    saved = tokenizer_from_state(tokenizer_to_state(codec(2)))
    assert isinstance(saved, ConvNeXtCodec) and saved.settings.refine_blocks == 2 and saved.identity == codec(2).identity
    with pytest.raises(UserError, match="refine_blocks of 0 or more"):
        ConvNeXtCodecConfig(refine_blocks=-1)


def test_spectra_of_a_sound_are_consistent_and_others_are_not() -> None:
    model = codec(0)
    spectra = model._stft(torch.from_numpy(sound(1.0))[None])
    assert float(model.inconsistency(spectra)) < 1e-3
    turned = spectra * torch.polar(torch.ones(spectra.shape), 6.28 * torch.rand(spectra.shape))
    assert float(model.inconsistency(turned)) > 0.5
