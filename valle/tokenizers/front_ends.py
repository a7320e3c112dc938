"""What a speech encoder hears of a waveform, one vector every 20 ms: log-mel bands for CPUs, learned convolutions for GPUs.

Both are local functions of the samples and know no statistics but fixed ones of the corpus, so that a frame is the same
alone, in a padded batch, and in a longer file.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from valle.measures.mel import hertz_to_mel, mel_filters, mel_to_hertz
from valle.modules.masks import valid_mask

MEL_HOP, MEL_WINDOW, MEL_STACK = 160, 400, 2  # samples at 16 kHz, and 10 ms frames to a vector
MEL_FLOOR = 1e-6
LOUDNESS_NATS, TILT_NATS = 1.4, 1.4  # of power, 6 dB: how far a changed voice's loudness and its highest band go at most
WAVE_LAYERS = ((10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2))  # (kernel, stride) of wav2vec 2.0 (Baevski et al. 2020, 4.2)
FRAME_HOP = 320  # samples from one vector to the next


class MelFrontEnd(nn.Module):
    """Log-mel energies of ``MEL_STACK`` frames of 10 ms side by side, standardised by the corpus's mean and deviation of each band."""

    mean: Tensor
    deviation: Tensor
    window: Tensor
    filters: Tensor

    def __init__(self, *, sample_rate: int, num_mels: int, causal: bool) -> None:
        super().__init__()
        self.size, self.sample_rate = MEL_STACK * num_mels, sample_rate
        self.register_buffer("window", torch.hann_window(MEL_WINDOW), persistent=False)
        self.register_buffer("filters", mel_filters(sample_rate, MEL_WINDOW, num_mels), persistent=False)
        self.register_buffer("mean", torch.zeros(num_mels))
        self.register_buffer("deviation", torch.ones(num_mels))
        around = MEL_WINDOW - MEL_HOP
        self.left, self.right = (around, 0) if causal else (around // 2, around // 2)

    def forward(self, wav: Tensor, *, voice_change: float = 0.0) -> Tensor:
        """``wav (B, n * FRAME_HOP)`` -> ``(B, n, size)``; silence stands past the ends.

        With ``voice_change`` each row sounds like someone else: see :meth:`as_another`.
        """
        mels = self.log_mels(wav)
        if voice_change:
            mels = self.as_another(mels, voice_change)
        standard = (mels - self.mean) / self.deviation
        return standard.unflatten(1, (-1, MEL_STACK)).flatten(2)

    def as_another(self, mels: Tensor, reach: float) -> Tensor:
        """``(B, n, num_mels)`` with each row's frequencies scaled by up to ``1 + reach`` either way, another loudness and another tilt.

        Vocal tract length perturbation (Jaitly and Hinton 2013), drawn from torch's generator.
        """
        stretch, loudness, tilt = (2 * torch.rand(3, len(mels), 1, device=mels.device) - 1).unbind()
        slope = torch.linspace(-1, 1, mels.shape[2], device=mels.device)
        colour = LOUDNESS_NATS * loudness + TILT_NATS * tilt * slope
        return (self.scaled(mels, (1 + reach) ** stretch[:, 0]) + colour[:, None]).clamp(min=math.log(MEL_FLOOR))

    def scaled(self, mels: Tensor, by: Tensor) -> Tensor:
        """``(B, n, num_mels)`` as if every frequency of row b were ``by[b]`` times as high, between the nearest two bands."""
        bands = mels.shape[2]
        step = hertz_to_mel(torch.tensor(self.sample_rate / 2)) / (bands + 1)
        hertz = mel_to_hertz(step * torch.arange(1, bands + 1, device=mels.device))
        source = (hertz_to_mel(hertz / by[:, None]) / step - 1).clamp(0, bands - 1)  # (B, bands): where each band comes from
        low = source.long()
        below, above = (mels.gather(2, index[:, None].expand_as(mels)) for index in (low, (low + 1).clamp(max=bands - 1)))
        return below + (above - below) * (source - low)[:, None]

    def log_mels(self, wav: Tensor) -> Tensor:
        """``(B, 2 n, num_mels)`` in nats, in fp32 also under autocast."""
        with torch.autocast(wav.device.type, enabled=False):
            frames = F.pad(wav.float(), (self.left, self.right)).unfold(1, MEL_WINDOW, MEL_HOP) * self.window
            return (torch.fft.rfft(frames).abs().square() @ self.filters).clamp(min=MEL_FLOOR).log()

    @torch.no_grad()
    def take_statistics(self, wav: Tensor, lengths: Tensor) -> None:
        """Mean and deviation of each band over the audio of ``wav (B, T)``, from now on fixed."""
        mels = self.log_mels(F.pad(wav, (0, -wav.shape[1] % FRAME_HOP)))
        valid = valid_mask(lengths // MEL_HOP, mels.shape[1])
        self.mean.copy_(mels[valid].mean(0))
        self.deviation.copy_(mels[valid].std(0) + 1e-2)


class WaveFrontEnd(nn.Module):
    """Seven strided convolutions over the waveform, each followed by a layer norm over channels.

    Not the group norm of HuBERT base, whose statistics run over the whole utterance and its padding.
    """

    scale: Tensor

    def __init__(self, *, channels: int, causal: bool) -> None:
        super().__init__()
        self.size = channels
        self.convolutions = nn.ModuleList(
            nn.Conv1d(channels if index else 1, channels, kernel, stride) for index, (kernel, stride) in enumerate(WAVE_LAYERS)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in WAVE_LAYERS)
        self.register_buffer("scale", torch.ones(()))
        extent = 1
        for kernel, stride in reversed(WAVE_LAYERS):
            extent = (extent - 1) * stride + kernel
        around = extent - FRAME_HOP
        self.left, self.right = (around, 0) if causal else (around // 2, around // 2)
        for convolution in self.convolutions:
            nn.init.kaiming_normal_(convolution.weight)  # type: ignore[arg-type]

    def forward(self, wav: Tensor) -> Tensor:
        """``wav (B, n * FRAME_HOP)`` -> ``(B, n, channels)``; silence stands past the ends."""
        x = F.pad(wav * self.scale, (self.left, self.right))[:, None]
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = F.gelu(norm(convolution(x).transpose(1, 2))).transpose(1, 2)
        return x.transpose(1, 2)

    @torch.no_grad()
    def take_statistics(self, wav: Tensor, lengths: Tensor) -> None:
        """The corpus's loudness, by which every waveform is divided from now on."""
        valid = valid_mask(lengths, wav.shape[1])
        self.scale.copy_(1 / wav[valid].square().mean().sqrt().clamp(min=1e-4))
