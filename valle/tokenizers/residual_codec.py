"""What our own codecs share: audio to vectors at frame rate, a residual quantizer, vectors to audio."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from valle.modules.masks import valid_mask
from valle.modules.rvq import Quantized, ResidualVQ
from valle.tokenizers.base import AcousticTokenizer


class ResidualCodec(AcousticTokenizer):
    """A codec that can be trained; ``T_f = ceil(samples / hop_length)`` frames."""

    quantizer: ResidualVQ

    @abstractmethod
    def analyse(self, wav: Tensor, frames: Tensor) -> Tensor:
        """``wav (B, T)``, ``frames (B,)`` of each row -> latent vectors ``(B, T_f, D)`` before quantization, fp32."""

    @abstractmethod
    def synthesise(self, vectors: Tensor, frames: Tensor) -> Tensor:
        """Quantized vectors ``(B, T_f, D)``, ``frames (B,)`` -> wav ``(B, T_f * hop_length)``, fp32."""

    @property
    def sound_context(self) -> tuple[int, int]:
        """Samples before and after a frame's own on whose codes its sound depends."""
        return self.left_context, self.right_context

    @abstractmethod
    def encoder_parameters(self) -> list[nn.Parameter]:
        """Those on which codes depend, beside the codebooks."""

    def condition(self, latent: Tensor, denoise: Tensor | None) -> Tensor:
        """``latent (B, T_f, D)`` as the quantizer gets it; ``denoise (B,)`` bool is for codecs that can remove noise."""
        assert denoise is None
        return latent

    def codebook_vectors(self) -> Tensor:
        return torch.stack([codebook.embedding for codebook in self.quantizer.codebooks])

    @torch.no_grad()
    def encode(self, wav: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return self._encode(wav, lengths, None)

    @torch.no_grad()
    def decode(self, codes: Tensor, lengths: Tensor) -> Tensor:
        wav = self.synthesise(self.quantizer.decode(codes), lengths)
        return wav * valid_mask(lengths * self.hop_length, wav.shape[1])

    def reconstruct(self, wav: Tensor, *, revive: bool = False, denoise: Tensor | None = None) -> tuple[Tensor, Quantized]:
        """The training pass on full clips: ``wav (B, T)``, T a multiple of the hop -> wav ``(B, T)`` and the quantizer's view."""
        quantized, frames = self.quantize(wav, revive=revive, denoise=denoise)
        return self.synthesise(quantized.vectors, frames), quantized

    def quantize(self, wav: Tensor, *, revive: bool = False, denoise: Tensor | None = None) -> tuple[Quantized, Tensor]:
        """The first half of it: what the quantizer makes of ``wav (B, T)``, and the frames ``(B,)`` of each row."""
        frames = torch.full((wav.shape[0],), wav.shape[1] // self.hop_length, device=wav.device)
        latent = self.condition(self.analyse(wav, frames), denoise)
        with torch.autocast(wav.device.type, enabled=False):
            return self.quantizer(latent, valid_mask(frames, latent.shape[1]), revive=revive), frames

    def _encode(self, wav: Tensor, lengths: Tensor, denoise: Tensor | None) -> tuple[Tensor, Tensor]:
        frames = torch.div(lengths + self.hop_length - 1, self.hop_length, rounding_mode="floor")
        wav = wav * valid_mask(lengths, wav.shape[1])
        latent = self.condition(self.analyse(wav, frames), denoise)
        codes = self._codes(latent)
        return codes * valid_mask(frames, codes.shape[1])[..., None], frames

    def _codes(self, latent: Tensor) -> Tensor:
        """In fp32 also under autocast: the nearest of many codes is no matter for half the digits."""
        with torch.autocast(latent.device.type, enabled=False):
            return self.quantizer.encode(latent)
