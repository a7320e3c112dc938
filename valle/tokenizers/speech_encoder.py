"""The encoder that HuBERT and the wav2vec family share: a front end, positions, transformer blocks (Hsu et al. 2021, Baevski et al. 2020).

Its hidden states are the same for a clip alone and in a padded batch.  With a reach on both sides, or causal, they are an
exact local function of the audio, whose extent ``receptive_field`` says.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from valle.errors import UserError
from valle.modules.masks import valid_mask
from valle.modules.product_quantizer import Bottleneck, QuantizerConfig
from valle.modules.transformer import Attend, Transformer, TransformerConfig
from valle.tokenizers.front_ends import FRAME_HOP, MelFrontEnd, WaveFrontEnd


@dataclass(frozen=True)
class SpeechEncoderConfig:
    """Sizes; a frame is 20 ms.  ``left_reach`` and ``right_reach`` bound what a block's attention sees, in frames; None: everything."""

    front_end: Literal["mel", "wave"] = "mel"
    sample_rate: int = 16000
    num_mels: int = 80
    wave_channels: int = 512
    d_model: int = 256
    nhead: int = 4
    num_layers: int = 6
    dim_feedforward: int = 1024
    dropout: float = 0.0
    positional_kernel: int = 15  # frames under the convolution that tells positions; 0 leaves them to the rotary attention
    positional_groups: int = 16
    causal: bool = False
    left_reach: int | None = None
    right_reach: int | None = None
    bottleneck: QuantizerConfig | None = None  # of an encoder that was trained behind a quantizer (vq-wav2vec)

    def __post_init__(self) -> None:
        if isinstance(self.bottleneck, dict):  # from a file
            object.__setattr__(self, "bottleneck", QuantizerConfig(**self.bottleneck))
        if self.sample_rate != 16000:
            raise UserError(f"speech encoders hear 16000 Hz, found a sample rate of {self.sample_rate} Hz")
        if self.front_end not in ("mel", "wave"):
            raise UserError(f"expected the front end mel or wave, found {self.front_end!r}")
        if self.positional_kernel and self.positional_kernel % 2 == 0:
            raise UserError(f"expected an odd positional kernel, or 0 for none, found {self.positional_kernel}")
        if self.positional_kernel and self.d_model % self.positional_groups:
            raise UserError(f"expected a width that {self.positional_groups} positional groups divide, found {self.d_model}")
        for name in ("left_reach", "right_reach"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise UserError(f"expected {name} of 0 frames or more, or none for no bound, found {value}")


def front_end_of(config: SpeechEncoderConfig) -> MelFrontEnd | WaveFrontEnd:
    """What hears the waveform."""
    if config.front_end == "mel":
        return MelFrontEnd(sample_rate=config.sample_rate, num_mels=config.num_mels, causal=config.causal)
    return WaveFrontEnd(channels=config.wave_channels, causal=config.causal)


def whole_frames(wav: Tensor, lengths: Tensor) -> Tensor:
    """``wav (B, T)``, silent past ``lengths (B,)`` and up to a multiple of 320 samples."""
    return F.pad(wav * valid_mask(lengths, wav.shape[1]), (0, -wav.shape[1] % FRAME_HOP))


class SpeechEncoder(nn.Module):
    """``wav (B, T)`` -> hidden states ``(B, ceil(T / 320), D)`` of any layer: 0 is the blocks' input, n the output of block n.

    With a bottleneck, the blocks hear the front end's frames through it, as they did in training.
    """

    def __init__(self, config: SpeechEncoderConfig) -> None:
        super().__init__()
        self.config, self.hop_length = config, FRAME_HOP
        self.voice_change = 0.0  # in training, how far every row's voice is changed before it is heard
        self.front_end = front_end_of(config)
        self.bottleneck = Bottleneck(config.bottleneck, self.front_end.size) if config.bottleneck else None
        self.project = nn.Linear(self.front_end.size, config.d_model)
        self.input_norm = nn.LayerNorm(config.d_model)
        self.positions: nn.Conv1d | None = None
        if config.positional_kernel:
            self.positions = nn.Conv1d(config.d_model, config.d_model, config.positional_kernel, groups=config.positional_groups)
        self.transformer = Transformer(
            TransformerConfig(
                d_model=config.d_model, nhead=config.nhead, num_layers=config.num_layers, dim_feedforward=config.dim_feedforward,
                dropout=config.dropout,
            )
        )  # fmt: skip

    def forward(self, wav: Tensor, lengths: Tensor, *, layer: int) -> Tensor:
        """Hidden states of ``layer``; no later block is run.  ``lengths (B,)`` samples; frames past them mean nothing."""
        frames = self.num_frames(lengths)
        heard = self.hear(wav, lengths)
        if self.bottleneck is not None:
            heard = self.bottleneck(heard)
        for state in self.states(self.embed(heard), frames, last=layer):
            hidden = state
        return hidden

    def hear(self, wav: Tensor, lengths: Tensor) -> Tensor:
        """The front end's frames ``(B, ceil(T / 320), size)``; samples past ``lengths`` count as silence."""
        wav = whole_frames(wav, lengths)
        if self.training and self.voice_change and isinstance(self.front_end, MelFrontEnd):
            return self.front_end(wav, voice_change=self.voice_change)
        return self.front_end(wav)

    def embed(self, heard: Tensor) -> Tensor:
        """Frames at the blocks' width; where training masks, it replaces these."""
        return self.input_norm(self.project(heard))

    def states(self, x: Tensor, frames: Tensor, *, last: int | None = None) -> Iterator[Tensor]:
        """From embedded frames ``x (B, S, D)``, ``frames (B,)``: the states of layers 0, 1, ..., ``last``, one at a time."""
        config = self.config
        last = config.num_layers if last is None else last
        if not 0 <= last <= config.num_layers:
            raise UserError(f"expected a layer within 0..{config.num_layers}, found {last}")
        x = x * valid_mask(frames, x.shape[1])[..., None]
        if self.positions is not None:
            side = config.positional_kernel - 1
            around = (side, 0) if config.causal else (side // 2, side // 2)
            x = x + F.gelu(self.positions(F.pad(x.transpose(1, 2), around))).transpose(1, 2)
        x = F.dropout(x, config.dropout, self.training)
        yield x
        attend = self._attend(frames, x.shape[1])
        rotary = self.transformer.rotary(torch.arange(x.shape[1], device=x.device), x.dtype)
        for block in list(self.transformer.blocks)[:last]:
            x = block(x, rotary, attend, None, None)
            yield x

    def context(self, x: Tensor, frames: Tensor) -> Tensor:
        """Embedded frames ``(B, S, D)`` through all blocks and the final norm, as the losses' heads take it."""
        for state in self.states(x, frames):
            x = state
        return self.finish(x)

    def finish(self, x: Tensor) -> Tensor:
        """The final norm."""
        return self.transformer.final_norm(x, None)  # type: ignore[misc]

    def num_frames(self, lengths: Tensor) -> Tensor:
        """``lengths (B,)`` samples -> frames, the last partly silence."""
        return torch.div(lengths + self.hop_length - 1, self.hop_length, rounding_mode="floor")

    def receptive_field(self, layer: int) -> tuple[int | None, int | None]:
        """Samples before and after a frame's own on which its state at ``layer`` depends; None where nothing bounds them."""
        config = self.config
        side = max(0, config.positional_kernel - 1)
        before, after = (side, 0) if config.causal else (side // 2, side // 2)
        right_reach = 0 if config.causal else config.right_reach
        left, right = (
            None if reach is None and layer else (steps + layer * (reach or 0)) * self.hop_length + edge
            for reach, steps, edge in ((config.left_reach, before, self.front_end.left), (right_reach, after, self.front_end.right))
        )
        return left, right

    def _attend(self, frames: Tensor, size: int) -> Attend:
        config = self.config
        right = 0 if config.causal else config.right_reach
        if config.left_reach is None and right is None:
            return Attend.freely(frames, size)
        if config.left_reach is None and right == 0:
            return Attend.causally()
        position = torch.arange(size, device=frames.device)
        ahead = position - position[:, None]  # (S, S) of a key, from its query
        near = torch.ones_like(ahead, dtype=torch.bool)
        if right is not None:
            near &= ahead <= right
        if config.left_reach is not None:
            near &= ahead >= -config.left_reach
        mask = near & valid_mask(frames, size)[:, None] | (ahead == 0)  # itself too, or a query past the end would see nothing
        return Attend(causal=False, mask=mask[:, None])
