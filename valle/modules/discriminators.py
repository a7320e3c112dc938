"""Networks that tell real audio from a codec's: SoundStream's two, EnCodec's and HiFi-GAN's.

Each gives, for every scale, logits (above zero: real) as the last layer leaves them, and what its layers saw.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

KINDS = ("stft", "waves", "msstft", "mpd")
GROUPS = {"soundstream": ("stft", "waves")}  # names for several at once
PUBLISHED_CHANNELS = {"stft": 32, "waves": 16, "msstft": 32, "mpd": 32}
MSSTFT_WINDOWS = (2048, 1024, 512, 256, 128)
MPD_PERIODS = (2, 3, 5, 7, 11)
INPUT_GAIN = 10.0  # brings speech, about 0.06 in size, near one: without it discriminators need many times the steps to see anything


class Judgement(NamedTuple):
    """What one discriminator makes of a batch."""

    logits: Tensor  # (B, ...)
    features: list[Tensor]  # (B, C, ...) of every layer but the last


class Discriminators(nn.Module):
    """All that judge together: ``wav (B, T)`` -> one judgement a scale."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, wav: Tensor) -> list[Judgement]:
        return [judgement for member in self.members for judgement in member(INPUT_GAIN * wav)]


class STFTDiscriminator(nn.Module):
    """SoundStream's (III-E): two-dimensional residual blocks over one complex STFT, down to one logit a step of time."""

    def __init__(self, *, channels: int = 32, window: int = 1024, hop: int = 256) -> None:
        super().__init__()
        self.spectrum = ComplexSTFT(window, hop)
        self.first = weight_norm(nn.Conv2d(2, channels, 7, padding=3))
        widths, bins = [1, 2, 4, 4, 8, 8, 16], window // 2
        blocks = []
        for index, (before, after) in enumerate(pairwise(widths)):
            stride = (1, 2) if index % 2 == 0 else (2, 2)
            blocks.append(_STFTBlock(before * channels, after * channels, stride))
            bins //= 2
        self.blocks = nn.ModuleList(blocks)
        self.last = weight_norm(nn.Conv2d(16 * channels, 1, (1, bins)))

    def forward(self, wav: Tensor) -> list[Judgement]:
        x = self.first(self.spectrum(wav)[..., :-1])  # (B, C, T, F); without Nyquist's bin, so that halving is even
        features = [x]
        for block in self.blocks:
            x = block(x)
            features.append(x)
        return [Judgement(self.last(F.elu(x)), features)]


class _STFTBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: tuple[int, int]) -> None:
        super().__init__()
        time, frequency = stride
        self.pad = (1, 1, 1, time)  # of frequency and time, so that strides divide them, rounding up
        self.same = weight_norm(nn.Conv2d(inputs, inputs, 3, padding=1))
        self.down = weight_norm(nn.Conv2d(inputs, outputs, (time + 2, frequency + 2), stride=stride))
        self.stride = stride
        self.skip = weight_norm(nn.Conv2d(inputs, outputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.down(F.pad(F.elu(self.same(F.elu(x))), self.pad))
        time, frequency = self.stride
        # Cut first: with a stride of its own and channels last, this convolution overruns memory on CPUs (torch 2.13).
        return hidden + self.skip(x[:, :, ::time, ::frequency])


class WaveDiscriminators(nn.Module):
    """MelGAN's (Kumar et al. 2019), in SoundStream at three rates: grouped convolutions that shorten by 256."""

    def __init__(self, *, channels: int = 16, num_scales: int = 3) -> None:
        super().__init__()
        self.scales = nn.ModuleList(_WaveScale(channels) for _ in range(num_scales))

    def forward(self, wav: Tensor) -> list[Judgement]:
        x, judgements = wav[:, None], []
        for index, scale in enumerate(self.scales):
            if index:
                x = F.avg_pool1d(x, 4, stride=2, padding=1, count_include_pad=False)
            judgements.append(scale(x))
        return judgements


class _WaveScale(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        top = 64 * channels
        convs = [nn.Conv1d(1, channels, 15, padding=7)]
        width = channels
        for _ in range(4):
            wider = min(4 * width, top)
            convs.append(nn.Conv1d(width, wider, 41, stride=4, padding=20, groups=max(1, width // 4)))
            width = wider
        convs.append(nn.Conv1d(width, width, 5, padding=2))
        self.convs = nn.ModuleList(weight_norm(conv) for conv in convs)
        self.last = weight_norm(nn.Conv1d(width, 1, 3, padding=1))

    def forward(self, x: Tensor) -> Judgement:
        return judged(x, self.convs, self.last, slope=0.2)


class MultiScaleSTFT(nn.Module):
    """EnCodec's (Defossez et al. 2022, 3.4): one stack of convolutions for each of several windows, dilated in time."""

    def __init__(self, *, channels: int = 32, windows: Sequence[int] = MSSTFT_WINDOWS) -> None:
        super().__init__()
        self.scales = nn.ModuleList(_STFTScale(channels, window) for window in windows)

    def forward(self, wav: Tensor) -> list[Judgement]:
        return [scale(wav) for scale in self.scales]


class _STFTScale(nn.Module):
    def __init__(self, channels: int, window: int) -> None:
        super().__init__()
        self.spectrum = ComplexSTFT(window, window // 4)
        convs = [nn.Conv2d(2, channels, (3, 9), padding=(1, 4))]
        for dilation in (1, 2, 4):
            convs.append(nn.Conv2d(channels, channels, (3, 9), stride=(1, 2), dilation=(dilation, 1), padding=(dilation, 4)))
        convs.append(nn.Conv2d(channels, channels, 3, padding=1))
        self.convs = nn.ModuleList(weight_norm(conv) for conv in convs)
        self.last = weight_norm(nn.Conv2d(channels, 1, 3, padding=1))

    def forward(self, wav: Tensor) -> Judgement:
        return judged(self.spectrum(wav), self.convs, self.last, slope=0.2)


class MultiPeriod(nn.Module):
    """HiFi-GAN's (Kong et al. 2020): the samples of each phase of a period, side by side."""

    def __init__(self, *, channels: int = 32, periods: Sequence[int] = MPD_PERIODS) -> None:
        super().__init__()
        self.scales = nn.ModuleList(_PeriodScale(channels, period) for period in periods)

    def forward(self, wav: Tensor) -> list[Judgement]:
        return [scale(wav) for scale in self.scales]


class _PeriodScale(nn.Module):
    def __init__(self, channels: int, period: int) -> None:
        super().__init__()
        self.period = period
        widths = [1, channels, 4 * channels, 16 * channels, 32 * channels]
        convs = [nn.Conv2d(before, after, (5, 1), stride=(3, 1), padding=(2, 0)) for before, after in pairwise(widths)]
        convs.append(nn.Conv2d(widths[-1], widths[-1], (5, 1), padding=(2, 0)))
        self.convs = nn.ModuleList(weight_norm(conv) for conv in convs)
        self.last = weight_norm(nn.Conv2d(widths[-1], 1, (3, 1), padding=(1, 0)))

    def forward(self, wav: Tensor) -> Judgement:
        x = F.pad(wav, (0, -wav.shape[1] % self.period)).view(len(wav), 1, -1, self.period)
        return judged(x, self.convs, self.last, slope=0.1)


def judged(x: Tensor, convs: nn.ModuleList, last: nn.Module, *, slope: float) -> Judgement:
    """A plain stack of convolutions with leaky ReLUs of ``slope``, whose outputs are the features."""
    features = []
    for conv in convs:
        x = F.leaky_relu(conv(x), slope)
        features.append(x)
    return Judgement(last(x), features)


class ComplexSTFT(nn.Module):
    """``wav (B, T)`` -> real and imaginary parts ``(B, 2, T / hop + 1, window / 2 + 1)``, of unit size for white noise of unit size."""

    window: Tensor

    def __init__(self, size: int, hop: int) -> None:
        super().__init__()
        self.size, self.hop = size, hop
        window = torch.hann_window(size)
        self.register_buffer("window", window / window.square().sum().sqrt(), persistent=False)

    def forward(self, wav: Tensor) -> Tensor:
        frames = F.pad(wav.to(self.window.dtype), (self.size // 2,) * 2).unfold(1, self.size, self.hop)
        return torch.view_as_real(torch.fft.rfft(frames * self.window)).permute(0, 3, 1, 2)


def kinds_of(name: str) -> tuple[str, ...]:
    """``soundstream``, ``msstft+mpd`` ... -> the kinds that are meant; raises ``ValueError`` for others."""
    kinds = tuple(kind for part in name.split("+") for kind in GROUPS.get(part, (part,)))
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or len(set(kinds)) < len(kinds):
        raise ValueError(unknown or kinds)
    return kinds


def build_discriminators(
    name: str, *, channels: int = 0, windows: Sequence[int] = MSSTFT_WINDOWS, periods: Sequence[int] = MPD_PERIODS
) -> Discriminators:
    """What ``name`` says; ``channels`` of the first layers (0: as published), ``windows`` of msstft, ``periods`` of mpd."""
    members: list[nn.Module] = []
    for kind in kinds_of(name):
        width = channels or PUBLISHED_CHANNELS[kind]
        if kind == "stft":
            members.append(STFTDiscriminator(channels=width))
        elif kind == "waves":
            members.append(WaveDiscriminators(channels=width))
        elif kind == "msstft":
            members.append(MultiScaleSTFT(channels=width, windows=windows))
        else:
            members.append(MultiPeriod(channels=width, periods=periods))
    return Discriminators(members)
