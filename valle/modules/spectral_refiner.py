"""A network that hears a decoder's sound and corrects its spectrum, after deep Griffin-Lim iteration (Masuyama et al. 2019).

A decoder that writes magnitudes and phases writes a spectrum that no sound has: neighbouring windows contradict each other, and
the inverse STFT averages what they say.  The refiner gets the spectrum that is left after that, beside the magnitudes that were meant, and
answers with a change of magnitude and phase.  At the start that change is nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from valle.modules.convnext import ConvNeXt

FLOOR = 1e-5  # of magnitudes, under logarithm and power
COMPRESSION = 0.3  # of magnitudes, as a power
MOST_CHANGE = 3.0  # of a log magnitude, nats


class SpectralRefiner(nn.Module):
    """Spectra of one sound, ``bins`` each, to better ones; ``lookahead`` and ``lookback`` count spectra."""

    def __init__(self, bins: int, dim: int, num_blocks: int) -> None:
        super().__init__()
        self.input = nn.Linear(4 * bins, dim)
        self.blocks = ConvNeXt(dim, num_blocks)
        self.output = nn.Linear(dim, 2 * bins)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)
        self.lookahead, self.lookback = self.blocks.lookahead, self.blocks.lookback

    def forward(self, heard: Tensor, meant: Tensor, mask: Tensor) -> Tensor:
        """``heard (B, N, bins)`` complex, ``meant (B, N, bins)`` log magnitudes, ``mask (B, N, 1)`` -> ``(B, N, bins)`` complex."""
        magnitude = heard.abs().clamp(min=FLOOR)
        compressed = heard * magnitude.pow(COMPRESSION - 1)
        features = torch.cat([magnitude.log() / 3, compressed.real, compressed.imag, meant / 3], -1)
        change, turn = self.output(self.blocks(self.input(features), mask)).float().chunk(2, -1)
        return heard * torch.polar(change.clamp(-MOST_CHANGE, MOST_CHANGE).exp(), turn) * mask
