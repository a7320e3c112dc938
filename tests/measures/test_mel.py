"""Distances of mel spectra that codecs learn by."""

import pytest
import torch

from valle.measures.mel import MultiScaleMel


def test_bands_count_alike_whatever_their_loudness() -> None:
    """Half as loud is half of each band away, whether the band is loud or soft; log spectra are ln 2 away."""
    mel, seconds = MultiScaleMel(16000), torch.arange(16000) / 16000
    loud, soft = (gain * torch.randn(16000, generator=torch.Generator().manual_seed(0)) for gain in (0.3, 0.03))
    for target in (loud, soft, 0.5 * torch.sin(2 * torch.pi * 440 * seconds) + loud):
        logs, shares = mel.each_and_shares(0.5 * target[None], target[None])
        assert shares.item() == pytest.approx(0.5, abs=0.03) and logs.item() == pytest.approx(0.693, abs=0.02)
        assert logs.equal(mel.each(0.5 * target[None], target[None]))
        assert [distance.item() for distance in mel.each_and_shares(target[None], target[None])] == [0, 0]


def test_bands_teach_the_output_alone_and_stay_finite_in_silence() -> None:
    mel = MultiScaleMel(16000)
    output, target = (0.1 * torch.randn(2, 4000, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    target[1] = 0
    output.requires_grad_(), target.requires_grad_()
    _, shares = mel.each_and_shares(output, target, windows=(256,))
    assert shares.shape == (2,)
    to_output, to_target = torch.autograd.grad(shares.sum(), (output, target), allow_unused=True)
    assert to_target is None and bool(torch.isfinite(to_output).all()) and bool(to_output[0].any())
