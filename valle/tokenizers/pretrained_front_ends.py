"""What released encoders hear: the waveform, or stacked mel bands, normalised as their feature extractors do it.

Those normalise by the statistics of the utterance. Here it is those of the audio in a window, never of the padding, so that a
unit depends on a stated stretch of audio.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from valle.timeline import ceil_division

EPSILON = 1e-7  # of the extractors


def normalised(wav: Tensor, heard: int) -> Tensor:
    """``wav (B, T)``, of which ``heard`` samples are audio, at mean 0 and variance 1 over these; silence after them."""
    audio = wav[:, :heard]
    audio = (audio - audio.mean(1, keepdim=True)) / (audio.var(1, keepdim=True, correction=0) + EPSILON).sqrt()
    return torch.cat([audio, wav[:, heard:]], 1)


class WhisperMels(nn.Module):
    """Log-mel bands of 16 kHz every 10 ms over 25, as Whisper hears them (Radford et al. 2022, 2.2): 8 decades below the loudest."""

    sample_rate, size, frame_hop, stack = 16000, 400, 160, 2
    window: Tensor
    filters: Tensor

    def __init__(self, num_mels: int) -> None:
        from transformers.audio_utils import mel_filter_bank

        super().__init__()
        filters = mel_filter_bank(self.size // 2 + 1, num_mels, 0.0, 8000.0, self.sample_rate, norm="slaney", mel_scale="slaney")
        self.register_buffer("filters", torch.from_numpy(filters).float(), persistent=False)
        self.register_buffer("window", torch.hann_window(self.size), persistent=False)

    @property
    def overhang(self) -> int:
        """Samples that a pair of frames hears past its own: frames are centred."""
        return self.size // 2 - self.frame_hop

    def forward(self, wav: Tensor, heard: int) -> Tensor:
        """``wav (B, T)``, of which ``heard`` samples are audio -> ``(B, 2 n, num_mels)``; silence stands before the first sample."""
        padded = nn.functional.pad(wav, (self.size // 2, 0))
        spectrum = torch.fft.rfft(padded.unfold(-1, self.size, self.frame_hop) * self.window)
        bands = (spectrum.abs().square() @ self.filters).clamp(min=1e-10).log10()
        bands = bands[:, : bands.shape[1] // self.stack * self.stack]
        loudest = bands[:, : max(1, ceil_division(heard, self.frame_hop))].amax((1, 2), keepdim=True)
        return (bands.maximum(loudest - 8.0) + 4.0) / 4.0


class StackedFbank(nn.Module):
    """Kaldi's log-mel bands of 16 kHz, every 10 ms over 25, in pairs: 160 numbers every 20 ms, as w2v-BERT 2.0 hears them."""

    sample_rate, frame_length, frame_hop, num_mels, stack = 16000, 400, 160, 80, 2
    window: Tensor
    filters: Tensor

    def __init__(self) -> None:
        from transformers.audio_utils import mel_filter_bank, window_function

        super().__init__()
        filters = mel_filter_bank(
            num_frequency_bins=257, num_mel_filters=self.num_mels, min_frequency=20, max_frequency=8000, sampling_rate=self.sample_rate,
            norm=None, mel_scale="kaldi", triangularize_in_mel_space=True,
        )  # fmt: skip
        self.register_buffer("filters", torch.from_numpy(filters).float(), persistent=False)
        window = window_function(self.frame_length, "povey", periodic=False)
        self.register_buffer("window", torch.from_numpy(window).float(), persistent=False)

    @property
    def overhang(self) -> int:
        """Samples that a pair of frames hears past its own."""
        return self.frame_length + (self.stack - 1) * self.frame_hop - self.stack * self.frame_hop

    def forward(self, wav: Tensor, heard: int) -> Tensor:
        """``wav (B, T)``, of which ``heard`` samples are audio -> ``(B, T_f, 160)``, each band at mean 0 and variance 1.

        The statistics are those of the frames of audio alone, or of all that hear some where fewer than two are; frames of
        padding alone are 0, which is the mean.
        """
        bands = self._bands(wav)  # (B, F, 80)
        whole = (heard - self.frame_length) // self.frame_hop + 1
        some = min(bands.shape[1], ceil_division(heard, self.frame_hop))
        counted = bands[:, : whole if whole >= 2 else max(2, some)]
        bands = (bands - counted.mean(1, keepdim=True)) / (counted.var(1, keepdim=True) + EPSILON).sqrt()
        bands[:, some:] = 0
        return bands.unflatten(1, (-1, self.stack)).flatten(2)

    def _bands(self, wav: Tensor) -> Tensor:
        frames = (wav * 2**15).unfold(1, self.frame_length, self.frame_hop)
        frames = frames - frames.mean(-1, keepdim=True)
        before = torch.cat([frames[..., :1], frames[..., :-1]], -1)
        spectrum = torch.fft.rfft((frames - 0.97 * before) * self.window, 512)
        return (spectrum.abs().square() @ self.filters).clamp(min=torch.finfo(torch.float32).eps).log()
