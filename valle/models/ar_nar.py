"""The acoustic model ``ar-nar``: coarse codes one after another, then every fine level at once (VALL-E, 4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from valle.decoding.sampling import Sampling
from valle.models.coarse import CoarseLM
from valle.models.fine import FineLM


@dataclass(frozen=True)
class AcousticRequest:
    """What any acoustic model is asked for: codes of ``num_frames`` frames a row that go on from its prompt's."""

    prompt_codes: Sequence[Tensor]  # (T_b, Q) each; T_b may be 0
    num_frames: Sequence[int]  # in all, prompt included
    seeds: Sequence[int]
    units: Sequence[Tensor] | None  # (T_u,) each, of the whole time
    coarse_sampling: Sampling = Sampling()
    fine_sampling: Sampling = Sampling()
    coarse_window: int = 500  # frames that were trained; longer requests slide
    fine_window: int = 150


class ArNar(nn.Module):
    """``CoarseLM`` and ``FineLM`` behind the common interface of acoustic models."""

    def __init__(self, coarse: CoarseLM, fine: FineLM | None, *, num_quantizers: int, frames_per_period: int, units_per_period: int) -> None:
        super().__init__()
        self.coarse, self.fine, self.num_quantizers = coarse, fine, num_quantizers
        self.frames_per_period, self.units_per_period = frames_per_period, units_per_period

    @torch.inference_mode()
    def generate(self, request: AcousticRequest) -> list[Tensor]:
        """Codes ``(num_frames_b, Q)`` int64 of every row; they begin with its prompt's."""
        coarse = self.coarse.generate(
            request.prompt_codes, num_frames=request.num_frames, units=request.units,
            sampling=request.coarse_sampling, seeds=request.seeds, window=request.coarse_window,
        )  # fmt: skip
        rows = []
        for prompt, levels in zip(request.prompt_codes, coarse, strict=True):
            codes = levels.new_zeros(len(levels), self.num_quantizers)
            codes[:, : levels.shape[1]] = levels
            codes[: len(prompt)] = prompt[:, : self.num_quantizers]
            rows.append(codes)
        if self.fine is None:
            return rows
        # Each row by itself: windows fall where its own prompt and length say, whatever its mates.
        return [self._fill(row, request, codes) for row, codes in enumerate(rows)]

    def _fill(self, row: int, request: AcousticRequest, codes: Tensor) -> Tensor:
        """Fine levels window by window; each window's prompt is the end of what is filled."""
        assert self.fine is not None
        period, window = self.frames_per_period, request.fine_window
        filled = len(request.prompt_codes[row])
        part = 0
        while filled < len(codes):
            context = min(filled, window // 2)
            start = (filled - context) // period * period
            stop = min(len(codes), start + max(window, period))
            units = None
            if request.units is not None:
                units = request.units[row][start // period * self.units_per_period : -(-stop // period) * self.units_per_period][None]
            codes[start:stop] = self.fine.generate(
                codes[None, start:stop],
                lengths=torch.tensor([stop - start], device=codes.device),
                prompt_lengths=torch.tensor([filled - start], device=codes.device),
                sampling=request.fine_sampling,
                seeds=[request.seeds[row] + 1_000_003 * part],
                units=units,
                unit_lengths=None if units is None else torch.tensor([units.shape[1]], device=codes.device),
            )[0]
            filled, part = stop, part + 1
        return codes


def pad_codes(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Codes ``(T_b, Q)`` of every row -> ``(B, T, Q)`` and lengths ``(B,)``."""
    lengths = torch.tensor([len(row) for row in rows], device=rows[0].device)
    return pad_sequence(list(rows), batch_first=True), lengths
