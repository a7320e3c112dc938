"""What released codecs share: clips are encoded and decoded one by one, and long ones in windows where the model is local."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from valle.timeline import ceil_division
from valle.tokenizers.base import AcousticTokenizer


class PretrainedCodec(AcousticTokenizer):
    """A model of ``transformers`` behind the protocol; ``T_f = ceil(samples / hop_length)``.

    Clips go one by one, padded with silence to whole frames: the models know no masks, so that in a padded batch a clip's
    last frames would depend on its mates. With ``window`` frames at a time, each with all the context that a frame
    or its sound depends on, memory does not grow with the clip and nothing changes.
    """

    model: Any
    window: int | None = None  # frames; None: the whole clip at once
    sound_reach: int = 0  # frames on each side on which a frame's sound depends

    def __init__(self, model: nn.Module, *, name: str, sample_rate: int, hop_length: int, codebook_size: int, num_codebooks: int) -> None:
        super().__init__()
        self.model, self.name = model, name
        self.sample_rate, self.hop_length = sample_rate, hop_length
        self.codebook_size, self.num_codebooks = codebook_size, num_codebooks

    @abstractmethod
    def _encode(self, clip: Tensor) -> Tensor:
        """``clip (1, 1, T)`` of whole frames -> codes ``(Q, T_f)``."""

    @abstractmethod
    def _decode(self, codes: Tensor) -> Iterator[Tensor]:
        """Codes ``(Q, T_f)`` of the first Q codebooks -> ``(T_f * hop_length,)``, in pieces."""

    @torch.no_grad()
    def encode(self, wav: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        frames = torch.div(lengths + self.hop_length - 1, self.hop_length, rounding_mode="floor")
        codes = wav.new_zeros(len(wav), int(frames.max()), self.num_codebooks, dtype=torch.int64)
        left, right = (ceil_division(context, self.hop_length) for context in (self.left_context, self.right_context))
        for row, (length, count) in enumerate(zip(lengths.tolist(), frames.tolist(), strict=True)):
            clip = F.pad(wav[row, :length], (0, count * self.hop_length - length))
            for first, last in self._windows(count):
                start, stop = max(0, first - left), min(count, last + right)
                piece = self._encode(clip[None, None, start * self.hop_length : stop * self.hop_length])
                codes[row, first:last] = piece[:, first - start : last - start].T
        return codes, frames

    @torch.no_grad()
    def decode(self, codes: Tensor, lengths: Tensor) -> Tensor:
        hop = self.hop_length
        wav = next(self.model.parameters()).new_zeros(len(codes), codes.shape[1] * hop)
        for row, count in enumerate(lengths.tolist()):
            for first, last in self._windows(count):
                start, stop = max(0, first - self.sound_reach), min(count, last + self.sound_reach)
                place = start * hop  # of the piece in the row's sound
                for piece in self._decode(codes[row, start:stop].T):
                    own = piece[max(0, first * hop - place) : max(0, last * hop - place)]
                    begin = max(place, first * hop)
                    wav[row, begin : begin + len(own)] = own
                    place += len(piece)
        return wav

    def _windows(self, count: int) -> Iterator[tuple[int, int]]:
        step = self.window or max(1, count)
        for first in range(0, count, step):
            yield first, min(count, first + step)


def residual_reach(config: Any) -> int:
    """Steps, at a block's own rate, beside a step's own that the residual units of the block hear."""
    return sum((config.residual_kernel_size - 1) * config.dilation_growth_rate**layer for layer in range(config.num_residual_layers))


def encoder_reach(config: Any) -> int:
    """Samples beside its own that a step hears after the strided blocks, before what follows them."""
    reach, step = config.kernel_size - 1, 1
    for ratio in reversed(config.upsampling_ratios):
        reach += step * (residual_reach(config) + ratio)  # a strided kernel of twice the ratio exceeds a step by the ratio
        step *= ratio
    return reach


def decoder_reach(config: Any) -> int:
    """Steps beside its own, before the strided blocks, that a sample hears."""
    reach = config.last_kernel_size
    for ratio in reversed(config.upsampling_ratios):
        reach = ceil_division((reach + residual_reach(config)), ratio) + 1
    return reach
