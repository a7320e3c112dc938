"""A voice as one vector: what the prompt's codes have in common, added to every frame that is to sound like it.

VALL-E gives the voice by the prompt's frames alone, which a stage must attend to and which a window that slides leaves behind; one
vector beside each frame stays.  It is pooled as in speaker encoders: a layer for each frame, the mean over time, a layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from valle.crops import CroppedTokens, pad, place_elsewhere
from valle.models.config import AudioLMConfig
from valle.models.dropping import dropped
from valle.modules.masks import valid_mask


class PooledVoice(nn.Module):
    """Codes of all levels, in no order of time -> one vector a row; a learned vector for a row without any."""

    def __init__(self, config: AudioLMConfig) -> None:
        super().__init__()
        self.num_levels, self.codebook_size = config.num_quantizers, config.codebook_size
        width = max(1, config.d_model // 4)
        self.embed = nn.Embedding(self.num_levels * self.codebook_size, width)
        nn.init.normal_(self.embed.weight, std=self.num_levels**-0.5)
        self.frame = nn.Linear(width, width)
        self.project = nn.Linear(width, config.d_model)
        self.nobody = nn.Parameter(torch.zeros(config.d_model))

    def forward(self, codes: Tensor, lengths: Tensor) -> Tensor:
        """``codes (B, T, Q)``, ``lengths (B,)`` of 0 or more frames -> ``(B, D)``."""
        valid = valid_mask(lengths, codes.shape[1])[..., None]  # (B, T, 1)
        offsets = torch.arange(self.num_levels, device=codes.device) * self.codebook_size
        x = self.embed(torch.where(valid, codes[..., : self.num_levels], 0) + offsets).sum(2)  # (B, T, D / 4)
        pooled = (F.gelu(self.frame(x)) * valid).sum(1) / lengths.clamp(min=1)[:, None]
        return torch.where((lengths > 0)[:, None], self.project(pooled), self.nobody)

    def of_rows(self, rows: Sequence[Tensor]) -> Tensor:
        """Codes ``(T_b, Q)`` of every row -> ``(B, D)``."""
        lengths = torch.tensor([len(row) for row in rows], device=self.nobody.device)
        return self(pad_sequence(list(rows), batch_first=True), lengths)


def voice_of(crop: CroppedTokens, config: AudioLMConfig, *, first_target: int) -> NDArray[np.int64]:
    """Codes ``(T_v, Q)`` from which the voice of a crop is pooled: a segment of the utterance that shows no target.

    ``first_target`` is the frame of the crop from which on all are targets.  The segment lasts up to half of the crop and lies
    wherever in the utterance it fits; empty where it fits nowhere or is left out.
    """
    if dropped(crop, config).voice:
        return crop.codes[:0]
    assert crop.whole is not None, "the dataset keeps the whole utterance beside its crops"
    total, first, stop = len(crop.whole.codes), crop.first_frame + first_target, crop.first_frame + len(crop.codes)
    room = max(first, total - stop)
    length = min(room, 1 + int(crop.chance("voice length") * len(crop.codes) / 2))
    if length == 0:
        return crop.codes[:0]
    start = place_elsewhere(total, first=first, stop=stop, length=length, chance=crop.chance("voice"))
    return crop.whole.codes[start : start + length]


def give_up_beginning(crop: CroppedTokens, config: AudioLMConfig) -> CroppedTokens:
    """A crop that is nearly all of its utterance without its first periods, up to half of them, which are left for the voice.

    A crop beside which the utterance has a quarter as much, one of a single period and one whose voice is left out stay as they are.
    """
    periods, frames = config.periods, len(crop.codes)
    assert crop.whole is not None
    beside = max(crop.first_frame, len(crop.whole.codes) - crop.first_frame - frames)
    if 4 * beside >= frames or frames < 2 * periods.frames or dropped(crop, config).voice:
        return crop
    start = periods.whole_frames(1 + int(crop.chance("voice length") * (frames // 2 - periods.frames)))
    units = crop.units[periods.units_of_frames(start, frames)]
    return replace(crop, units=units, codes=crop.codes[start:], first_frame=crop.first_frame + start, starts=False)


def voice_tensors(voices: Sequence[NDArray[np.int64]]) -> dict[str, Tensor]:
    """``voice (B, T_v, Q)`` and ``voice_lengths (B,)`` of a batch."""
    codes, lengths = pad(voices)
    return {"voice": codes, "voice_lengths": lengths}
