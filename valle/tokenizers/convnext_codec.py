"""The bundled codec's design: STFT in, ConvNeXt at frame rate, residual VQ, ConvNeXt, ISTFT out.

After Vocos (Siuzdak 2023) for the decoder and its inverse-STFT head, with the mirror image as encoder and
SoundStream's quantizer between them.  Everything runs at the frame rate, which makes it fast on a CPU, but for the refiner behind the
decoder of codecs that have one, which runs at the rate of spectra.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from valle.errors import UserError
from valle.modules.convnext import KERNEL_SIZE, ConvNeXt
from valle.modules.masks import valid_mask
from valle.modules.rvq import ResidualVQ
from valle.modules.spectral_refiner import SpectralRefiner
from valle.timeline import ceil_division
from valle.tokenizers.residual_codec import ResidualCodec

FLOOR = 1e-5  # of magnitudes


@dataclass(frozen=True)
class ConvNeXtCodecConfig:
    """Sizes of the codec; samples for ``hop_length`` and ``n_fft``.

    A code frame of ``hop_length`` holds ``stft_frames`` spectra, each of a window of ``n_fft`` samples.  With ``refine_blocks``, so many
    blocks behind the decoder correct its spectra.
    """

    name: str = "valle-16khz"
    sample_rate: int = 16000
    hop_length: int = 320
    n_fft: int = 1280
    stft_frames: int = 1
    dim: int = 256
    num_blocks: int = 6
    refine_blocks: int = 0
    lookahead: int = 1
    vq_dim: int = 32
    num_codebooks: int = 8
    codebook_size: int = 256

    def __post_init__(self) -> None:
        for name in ("sample_rate", "hop_length", "n_fft", "stft_frames", "dim", "num_blocks", "vq_dim", "num_codebooks", "codebook_size"):
            if not getattr(self, name) > 0:
                raise UserError(f"expected {name} above 0 for the codec {self.name}, found {getattr(self, name)}; change its settings")
        if self.refine_blocks < 0:
            raise UserError(
                f"expected refine_blocks of 0 or more for the codec {self.name}, found {self.refine_blocks}; change its settings"
            )
        if self.hop_length % self.stft_frames or self.n_fft % self.stft_hop or (self.n_fft - self.stft_hop) % 2:
            raise UserError(
                f"expected n_fft of a multiple of hop_length / stft_frames, an even number of samples longer, for the codec {self.name}, "
                f"found {self.n_fft} and {self.hop_length} / {self.stft_frames}; change its settings"
            )
        if not 0 <= self.lookahead < KERNEL_SIZE:
            raise UserError(
                f"expected lookahead of 0 to {KERNEL_SIZE - 1} for the codec {self.name}, found {self.lookahead}; change its settings"
            )

    @property
    def stft_hop(self) -> int:
        """Samples from one spectrum to the next."""
        return self.hop_length // self.stft_frames


class ConvNeXtCodec(ResidualCodec):
    """A codec of about 5.6 M parameters at its default sizes; ``T_f = ceil(samples / hop_length)`` frames."""

    window: Tensor

    def __init__(self, config: ConvNeXtCodecConfig) -> None:
        super().__init__()
        self.settings = config
        self.name = config.name
        self.sample_rate, self.hop_length = config.sample_rate, config.hop_length
        self.num_codebooks, self.codebook_size = config.num_codebooks, config.codebook_size
        bins = config.stft_frames * (config.n_fft // 2 + 1)
        self.register_buffer("window", torch.hann_window(config.n_fft), persistent=False)
        self.encoder_input = nn.Linear(3 * bins, config.dim)
        self.encoder = ConvNeXt(config.dim, config.num_blocks, lookahead=config.lookahead)
        self.encoder_output = nn.Linear(config.dim, config.vq_dim)
        self.quantizer = ResidualVQ(config.vq_dim, num_codebooks=config.num_codebooks, codebook_size=config.codebook_size)
        self.decoder_input = nn.Linear(config.vq_dim, config.dim)
        self.decoder = ConvNeXt(config.dim, config.num_blocks, lookahead=config.lookahead)
        self.decoder_output = nn.Linear(config.dim, 2 * bins)
        self.refiner: SpectralRefiner | None = None
        if config.refine_blocks:
            self.refiner = SpectralRefiner(config.n_fft // 2 + 1, config.dim, config.refine_blocks)
        self.left_context = config.hop_length * self.encoder.lookback + (config.n_fft - config.stft_hop) // 2
        self.right_context = config.hop_length * self.encoder.lookahead + (config.n_fft - config.stft_hop) // 2

    @property
    def sound_context(self) -> tuple[int, int]:
        if self.refiner is None:
            return super().sound_context
        again = 2 * (self.settings.n_fft - self.settings.stft_hop) // 2  # the sound's window, then the refined spectrum's
        before, after = (self.settings.stft_hop * reach + again for reach in (self.refiner.lookback, self.refiner.lookahead))
        return self.left_context + before, self.right_context + after

    def config(self) -> dict[str, Any]:
        sizes = asdict(self.settings)
        if sizes["stft_frames"] == 1:  # codecs from before there was a choice keep their identity
            del sizes["stft_frames"]
        if not sizes["refine_blocks"]:
            del sizes["refine_blocks"]
        return {"type": "convnext", **sizes}

    def encoder_parameters(self) -> list[nn.Parameter]:
        return [parameter for part in (self.encoder_input, self.encoder, self.encoder_output) for parameter in part.parameters()]

    def analyse(self, wav: Tensor, frames: Tensor) -> Tensor:
        num_frames = ceil_division(wav.shape[1], self.hop_length)
        spectrum = self._stft(F.pad(wav.float(), (0, num_frames * self.hop_length - wav.shape[1])))
        spectrum = spectrum.view(len(wav), num_frames, -1)  # (B, T_f, stft_frames * bins) complex
        magnitude = spectrum.abs().clamp(min=FLOOR)
        compressed = spectrum * magnitude.pow(-0.7)  # magnitude ** 0.3, phase kept
        features = torch.cat([magnitude.log() / 3, compressed.real, compressed.imag], -1)
        mask = valid_mask(frames, num_frames)[..., None].float()
        return self.encoder_output(self.encoder(self.encoder_input(features), mask)).float()

    def synthesise(self, vectors: Tensor, frames: Tensor) -> Tensor:
        return self.sound_of(self.spectra(vectors, frames), frames)

    def spectra(self, vectors: Tensor, frames: Tensor) -> Tensor:
        """What the decoder writes: ``vectors (B, T_f, D)`` -> complex ``(B, T_f * stft_frames, bins)``, 0 past ``frames (B,)``."""
        mask = valid_mask(frames, vectors.shape[1])[..., None].float()
        log_magnitude, phase = self.decoder_output(self.decoder(self.decoder_input(vectors), mask)).float().chunk(2, -1)
        magnitude = log_magnitude.clamp(max=6).exp() * mask
        return torch.polar(magnitude, phase).view(len(vectors), vectors.shape[1] * self.settings.stft_frames, -1)

    def sound_of(self, spectra: Tensor, frames: Tensor) -> Tensor:
        """``spectra`` of :meth:`spectra` -> wav ``(B, T_f * hop_length)``, refined where the codec has a refiner."""
        mask = valid_mask(frames * self.settings.stft_frames, spectra.shape[1])[..., None].float()
        wav = self._istft(spectra, mask)
        if self.refiner is None:
            return wav
        heard = self._stft(wav * valid_mask(frames * self.hop_length, wav.shape[1]))
        return self._istft(self.refiner(heard, spectra.abs().clamp(min=FLOOR).log(), mask), mask)

    def inconsistency(self, spectra: Tensor) -> Tensor:
        """How far full-length ``spectra (B, N, bins)`` are from those of any sound, as a share of their size, ``(B,)``.

        The L1 distance to :meth:`heard`.  Spectra at the clip's edges, whose windows reach past it, are left out.
        """
        edge = self.settings.n_fft // self.settings.stft_hop
        inside = slice(edge, max(edge + 1, spectra.shape[1] - edge))
        distance = (self.heard(spectra) - spectra)[:, inside].abs().mean((1, 2))
        return distance / spectra[:, inside].abs().mean((1, 2)).clamp(min=FLOOR)

    def heard(self, spectra: Tensor) -> Tensor:
        """The STFT of the sound that full-length ``spectra (B, N, bins)`` make: themselves if any sound has them (Griffin and Lim 1984)."""
        return self._stft(self._istft(spectra, torch.ones_like(spectra[..., :1], dtype=torch.float32)))

    def _stft(self, wav: Tensor) -> Tensor:
        """``wav (B, T)``, T a multiple of the hop -> ``(B, T / stft_hop, bins)``; a spectrum is centred on the middle of its own hop."""
        size, hop = self.settings.n_fft, self.settings.stft_hop
        padded = F.pad(wav, ((size - hop) // 2,) * 2)
        return torch.fft.rfft(padded.unfold(1, size, hop) * self.window)

    def _istft(self, spectrum: Tensor, mask: Tensor) -> Tensor:
        """``(B, N, bins)`` complex -> ``(B, N * stft_hop)`` by overlap-add, divided by the summed squared windows.

        Only windows in ``mask (B, N, 1)`` count, or the end of a clip would be softer in a padded batch.
        """
        size = self.settings.n_fft
        frames = torch.fft.irfft(spectrum, n=size) * self.window  # (B, N, size)
        total = self._overlap_add(frames)
        weight = self._overlap_add(self.window.square() * mask)
        edge = (size - self.settings.stft_hop) // 2
        return (total / weight.clamp(min=1e-3))[:, edge : total.shape[1] - edge]

    def _overlap_add(self, frames: Tensor) -> Tensor:
        """``(B, N, size)`` -> ``(B, (N - 1) * hop + size)``; the size must be a multiple of the STFT's hop."""
        batch, length, size = frames.shape
        hop = self.settings.stft_hop
        parts = frames.view(batch, length, size // hop, hop)
        out = frames.new_zeros(batch, length + size // hop - 1, hop)
        for k in range(size // hop):
            out = out + F.pad(parts[:, :, k], (0, 0, k, size // hop - 1 - k))
        return out.flatten(1)
