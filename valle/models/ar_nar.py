"""The acoustic model ``ar-nar``: coarse codes one after another, then every fine level at once (VALL-E, 4.1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from valle.decoding.sampling import Sampling
from valle.models.coarse import CoarseLM
from valle.models.fine import FineLM
from valle.timeline import ceil_division


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

    def __post_init__(self) -> None:
        rows, units = len(self.prompt_codes), self.prompt_codes if self.units is None else self.units
        if not rows == len(self.num_frames) == len(self.seeds) == len(units):
            raise ValueError(
                f"expected a length, a seed and units for each of {rows} prompts, "
                f"found {len(self.num_frames)} lengths, {len(self.seeds)} seeds and units of {len(units)} rows"
            )
        for prompt, frames in zip(self.prompt_codes, self.num_frames, strict=True):
            if frames < len(prompt):
                raise ValueError(f"num_frames counts the prompt too: expected at least its {len(prompt)} frames, found {frames}")


class ArNar(nn.Module):
    """``CoarseLM`` and ``FineLM`` behind the common interface of acoustic models."""

    def __init__(
        self, coarse: CoarseLM, fine: FineLM | None, *, num_quantizers: int, frames_per_period: int, units_per_period: int
    ) -> None:
        super().__init__()
        self.coarse, self.fine, self.num_quantizers = coarse, fine, num_quantizers
        self.frames_per_period, self.units_per_period = frames_per_period, units_per_period

    @torch.inference_mode()
    def generate(self, request: AcousticRequest) -> list[Tensor]:
        """Codes ``(num_frames_b, Q)`` int64 of every row; they begin with its prompt's."""
        for row, frames in enumerate(request.num_frames):
            needed = (frames - 1) * self.units_per_period // self.frames_per_period + 1 if frames else 0  # one under every frame
            if request.units is not None and len(request.units[row]) < needed:
                raise ValueError(f"{frames} frames need {needed} units, found {len(request.units[row])}")
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
        if self.fine is not None:
            self._fill(rows, request)
        return rows

    def _fill(self, rows: list[Tensor], request: AcousticRequest) -> None:
        """Fine levels window by window, in place; a window's prompt is the end of what is filled.

        Where a row's windows fall depends on its own prompt and length alone; the rows' n-th windows are one batch.
        """
        assert self.fine is not None
        windows = [
            list(fine_windows(len(prompt), len(codes), window=request.fine_window, period=self.frames_per_period))
            for prompt, codes in zip(request.prompt_codes, rows, strict=True)
        ]
        for part in range(max((len(row) for row in windows), default=0)):
            batch = [(row, *spans[part]) for row, spans in enumerate(windows) if part < len(spans)]
            codes, lengths = pad_codes([rows[row][start:stop] for row, start, _, stop in batch])
            units, unit_lengths = self._units_of(batch, request)
            filled = self.fine.generate(
                codes, lengths=lengths, prompt_lengths=torch.tensor([first - start for _, start, first, _ in batch], device=codes.device),
                sampling=request.fine_sampling, seeds=[request.seeds[row] + 1_000_003 * part for row, *_ in batch],
                units=units, unit_lengths=unit_lengths,
            )  # fmt: skip
            for (row, start, _, stop), ours in zip(batch, filled, strict=True):
                rows[row][start:stop] = ours[: stop - start]

    def _units_of(self, batch: list[tuple[int, int, int, int]], request: AcousticRequest) -> tuple[Tensor | None, Tensor | None]:
        if request.units is None:
            return None, None
        period, per_period = self.frames_per_period, self.units_per_period
        return pad_codes(
            [request.units[row][start // period * per_period : ceil_division(stop, period) * per_period] for row, start, _, stop in batch]
        )


def fine_windows(num_prompt: int, num_frames: int, *, window: int, period: int) -> Iterator[tuple[int, int, int]]:
    """Windows ``(start, first new frame, stop)`` that fill frames ``num_prompt`` to ``num_frames``, each beginning at a whole period.

    At most half of a window is context that is filled already.
    """
    window = max(window, 2 * period)  # its half holds a whole period
    filled = num_prompt
    while filled < num_frames:
        start = ceil_division(max(0, filled - window // 2), period) * period
        stop = min(num_frames, start + window)
        yield start, filled, stop
        filled = stop


def pad_codes(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Codes ``(T_b, Q)`` or units ``(T_b,)`` of every row -> ``(B, T, ...)`` and lengths ``(B,)``."""
    lengths = torch.tensor([len(row) for row in rows], device=rows[0].device)
    return pad_sequence(list(rows), batch_first=True), lengths
