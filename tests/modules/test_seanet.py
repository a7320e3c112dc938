"""SEANet: nothing from the future, and a stream equals a batch."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from valle.modules.seanet import CausalChain, DenoiseFiLM, SEANetDecoder, SEANetEncoder

STRIDES = (2, 3)
HOP = 6


def encoder() -> SEANetEncoder:
    torch.manual_seed(0)
    return SEANetEncoder(channels=2, dim=5, strides=STRIDES).double()


def decoder() -> SEANetDecoder:
    torch.manual_seed(0)
    return SEANetDecoder(channels=2, dim=5, strides=STRIDES).double()


def depends_on(chain: CausalChain, x: Tensor, index: int) -> tuple[int, int]:
    """First and last input that changes output ``index``."""
    x = x.requires_grad_()
    (gradient,) = torch.autograd.grad(chain(x)[:, index].square().sum(), x)
    touched = gradient.abs().sum((0, 2)).nonzero()
    return int(touched[0]), int(touched[-1])


@pytest.mark.parametrize("frame", [70, 75])
def test_a_frame_of_the_encoder_reads_its_own_samples_and_as_many_before_as_stated(frame: int) -> None:
    first, last = depends_on(encoder(), torch.randn(1, 80 * HOP, 1, dtype=torch.float64), frame)
    assert last == (frame + 1) * HOP - 1 == encoder().latest(frame)
    assert first == encoder().earliest(frame) > 0


@pytest.mark.parametrize("sample", range(60 * HOP, 61 * HOP))
def test_a_sample_of_the_decoder_reads_its_own_frame_and_as_many_before_as_stated(sample: int) -> None:
    first, last = depends_on(decoder(), torch.randn(1, 70, 5, dtype=torch.float64), sample)
    assert last == sample // HOP == decoder().latest(sample)
    assert first == decoder().earliest(sample) > 0


def test_what_comes_later_changes_nothing() -> None:
    wav = torch.randn(1, 20 * HOP, 1, dtype=torch.float64)
    other = torch.cat([wav[:, : 12 * HOP], torch.randn(1, 8 * HOP, 1, dtype=torch.float64)], 1)
    assert torch.equal(encoder()(wav)[:, :12], encoder()(other)[:, :12])
    assert not torch.equal(encoder()(wav)[:, 12:], encoder()(other)[:, 12:])


def test_the_encoder_gives_a_frame_a_hop_and_the_decoder_a_hop_a_frame() -> None:
    latent = encoder()(torch.randn(2, 7 * HOP, 1, dtype=torch.float64))
    assert latent.shape == (2, 7, 5)
    assert decoder()(latent).shape == (2, 7 * HOP, 1)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_pieces_of_any_size_give_what_the_whole_gives(sizes: list[int]) -> None:
    for chain, unit, channels in ((encoder(), HOP, 1), (decoder(), 1, 5)):
        whole = torch.randn(2, sum(sizes) * unit, channels, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        state, pieces = chain.start(whole), []
        for piece in whole.split([size * unit for size in sizes], 1):
            out, state = chain.step(piece, state)
            pieces.append(out)
        torch.testing.assert_close(torch.cat(pieces, 1), chain(whole), rtol=0, atol=1e-12)


def test_rows_of_a_stream_can_start_anew_apart() -> None:
    chain, wav = encoder(), torch.randn(2, 6 * HOP, 1, dtype=torch.float64)
    _, state = chain.step(wav, chain.start(wav))
    alone, _ = chain.step(wav[:1], type(state)(tuple(past[:1] for past in state.pasts)))
    torch.testing.assert_close(alone, chain.step(wav, state)[0][:1], rtol=0, atol=1e-12)


def test_denoising_may_change_on_the_way() -> None:
    torch.manual_seed(0)
    film, x = DenoiseFiLM(4), torch.randn(2, 6, 4)
    off, on = film(x, torch.tensor([False, False])), film(x, torch.tensor([True, True]))
    assert not torch.allclose(off, on)
    switched = film(x, torch.arange(6).ge(3).expand(2, 6))
    assert torch.equal(switched[:, :3], off[:, :3]) and torch.equal(switched[:, 3:], on[:, 3:])


@pytest.mark.parametrize("kind", [SEANetEncoder, SEANetDecoder])
def test_bfloat16_gives_what_float32_gives_but_for_the_last_digits(kind: type[SEANetEncoder | SEANetDecoder]) -> None:
    """oneDNN's convolutions with a stride of 4 between 16 channels do not, where the processor has AMX, as in a small codec here."""
    torch.manual_seed(0)
    chain = kind(channels=8, dim=16, strides=(2, 4, 5, 8))
    x = torch.randn(2, 1600, 1) if kind is SEANetEncoder else torch.randn(2, 5, 16)
    found = []
    for low in (False, True):
        chain.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
            out = chain(x).float()
        (out * torch.linspace(0, 1, out.numel()).view_as(out)).sum().backward()
        found.append([out.detach(), *(parameter.grad.clone() for parameter in chain.parameters())])
    for exact, low in zip(*found, strict=True):
        assert float((low - exact).norm()) < 0.1 * float(exact.norm())
