"""SoundStream (Zeghidour et al. 2021): SEANet, a residual quantizer, SEANet's mirror image; causal, and able to stream."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from valle.errors import UserError
from valle.modules.rvq import ResidualVQ
from valle.modules.seanet import DenoiseFiLM, SEANetDecoder, SEANetEncoder, StreamState
from valle.timeline import ceil_division
from valle.tokenizers.residual_codec import ResidualCodec


@dataclass(frozen=True)
class SoundStreamConfig:
    """Sizes; the defaults are the paper's, but for the strides, which give 50 Hz at 16 kHz as in AudioLM."""

    name: str = "soundstream-16khz"
    sample_rate: int = 16000  # Hz
    strides: tuple[int, ...] = (2, 4, 5, 8)  # their product is the hop, in samples
    channels: int = 32
    dim: int = 256
    num_codebooks: int = 8
    codebook_size: int = 1024
    denoise: bool = False  # whether it can be told to leave noise out
    gain: float = 1.0  # of samples on their way in, and divided by on their way out

    def __post_init__(self) -> None:
        object.__setattr__(self, "strides", tuple(self.strides))  # YAML has lists
        if not self.strides or any(stride < 1 for stride in self.strides):
            raise UserError(f"expected strides of 1 or more, found {list(self.strides)}; such as 2 4 5 8, whose product is the hop")
        for name in ("sample_rate", "channels", "dim", "num_codebooks", "codebook_size"):
            if getattr(self, name) < 1:
                raise UserError(f"expected {name} of 1 or more, found {getattr(self, name)}")
        if not self.gain > 0:
            raise UserError(f"expected a gain above 0, found {self.gain}")


@dataclass(frozen=True)
class SoundStreamState:
    """Where a stream stands: of the encoder while audio comes in, of the decoder while codes do."""

    chain: StreamState


class SoundStream(ResidualCodec):
    """No code depends on a sample after its own frame, and no sample on a later frame's codes."""

    def __init__(self, config: SoundStreamConfig) -> None:
        super().__init__()
        self.settings = config
        self.name = config.name
        self.sample_rate, self.hop_length = config.sample_rate, math.prod(config.strides)
        self.num_codebooks, self.codebook_size = config.num_codebooks, config.codebook_size
        self.encoder = SEANetEncoder(channels=config.channels, dim=config.dim, strides=config.strides)
        self.film = DenoiseFiLM(config.dim) if config.denoise else None
        self.quantizer = ResidualVQ(config.dim, num_codebooks=config.num_codebooks, codebook_size=config.codebook_size)
        self.decoder = SEANetDecoder(channels=config.channels, dim=config.dim, strides=config.strides)
        self.encoder_reach = -self.encoder.earliest(0)  # samples before a frame's own
        self.decoder_reach = -self.decoder.earliest(0) * self.hop_length
        self.left_context = max(self.encoder_reach, self.decoder_reach)  # whoever works in pieces needs it both ways
        self.right_context = self.encoder.latest(0) - (self.hop_length - 1)

    def config(self) -> dict[str, Any]:
        sizes = {**asdict(self.settings), "strides": list(self.settings.strides)}
        if sizes["gain"] == 1:  # codecs from before there was a choice keep their identity
            del sizes["gain"]
        return {"type": "soundstream", **sizes}

    def encoder_parameters(self) -> list[nn.Parameter]:
        return [*self.encoder.parameters(), *(self.film.parameters() if self.film is not None else ())]

    @torch.no_grad()
    def encode(self, wav: Tensor, lengths: Tensor, *, denoise: bool = False) -> tuple[Tensor, Tensor]:
        """As every codec; with ``denoise`` the codes are of the speech without its noise."""
        return self._encode(wav, lengths, self._denoise(denoise, wav))

    def analyse(self, wav: Tensor, frames: Tensor) -> Tensor:
        num_frames = ceil_division(wav.shape[1], self.hop_length)
        padded = F.pad(wav, (0, num_frames * self.hop_length - wav.shape[1]))
        return self.encoder(self.settings.gain * padded[..., None]).float()

    def condition(self, latent: Tensor, denoise: Tensor | None) -> Tensor:
        if self.film is None:
            return super().condition(latent, denoise)
        keep = torch.zeros(len(latent), dtype=torch.bool, device=latent.device)
        with torch.autocast(latent.device.type, enabled=False):
            return self.film(latent, keep if denoise is None else denoise)

    def synthesise(self, vectors: Tensor, frames: Tensor) -> Tensor:
        return self.decoder(vectors)[..., 0].float() / self.settings.gain

    @torch.no_grad()
    def encode_piece(self, wav: Tensor, state: SoundStreamState | None = None, *, denoise: bool = False) -> tuple[Tensor, SoundStreamState]:
        """The next ``wav (B, n * hop_length)`` of a stream -> codes ``(B, n, Q)`` and the state to go on from."""
        if wav.shape[1] % self.hop_length:
            raise ValueError(f"expected whole frames of {self.hop_length} samples, found {wav.shape[1]}")
        latent, chain = self.encoder.step(self.settings.gain * wav[..., None], state.chain if state else self.encoder.start(wav))
        return self._codes(self.condition(latent.float(), self._denoise(denoise, wav))), SoundStreamState(chain)

    @torch.no_grad()
    def decode_piece(self, codes: Tensor, state: SoundStreamState | None = None) -> tuple[Tensor, SoundStreamState]:
        """The next ``codes (B, n, Q)`` of a stream -> wav ``(B, n * hop_length)`` and the state to go on from."""
        vectors = self.quantizer.decode(codes)
        wav, chain = self.decoder.step(vectors, state.chain if state else self.decoder.start(vectors))
        return wav[..., 0].float() / self.settings.gain, SoundStreamState(chain)

    def _denoise(self, wanted: bool, wav: Tensor) -> Tensor | None:
        if not wanted:
            return None
        if self.film is None:
            raise UserError(f"expected a codec trained with --denoise true to remove noise, found {self.name}; encode without denoise")
        return torch.ones(len(wav), dtype=torch.bool, device=wav.device)
