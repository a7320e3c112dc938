"""The acoustic model ``ar-nar``: coarse codes one after another, then every fine level at once (VALL-E, Wang et al. 2023, 4.1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from valle.models.acoustic.base import AcousticModel, AcousticRequest, LiveRequest, in_groups, pad_codes, with_prompts
from valle.models.acoustic.growing import GrowingFrames
from valle.models.acoustic.windows import fine_window, fine_windows
from valle.models.coarse import CoarseLM
from valle.models.config import AudioLMConfig
from valle.models.fine import FineLM
from valle.models.stage import Stage


class ArNar(AcousticModel):
    """``CoarseLM``, then ``FineLM`` where there are levels left for it."""

    name = "ar-nar"
    stage_types = (CoarseLM, FineLM)
    looks_ahead = True

    def __init__(self, config: AudioLMConfig, stages: Mapping[str, Stage]) -> None:
        super().__init__(config, stages)
        coarse, fine = stages[CoarseLM.name], stages.get(FineLM.name)
        assert isinstance(coarse, CoarseLM) and (fine is None or isinstance(fine, FineLM))
        self.coarse, self.fine = coarse, fine

    @classmethod
    def types_for(cls, config: AudioLMConfig) -> tuple[type[Stage], ...]:
        return cls.stage_types if config.has_fine else cls.stage_types[:1]

    @torch.inference_mode()
    def generate(self, request: AcousticRequest) -> list[Tensor]:
        self.refuse_too_few_units(request)
        self.refuse_guidance(request)
        coarse = self.coarse.generate(
            request.prompt_codes, num_frames=request.num_frames, units=request.units,
            sampling=request.sampling_of(self.coarse), seeds=request.seeds, window=request.window_of(self.coarse),
            voices=request.prompt_codes, at_once=request.at_once,
        )  # fmt: skip
        rows = with_prompts(coarse, request.prompt_codes, num_levels=self.config.num_quantizers)
        if self.fine is not None:
            self._fill(rows, request)
        return rows

    def _fill(self, rows: list[Tensor], request: AcousticRequest) -> None:
        """Fine levels window by window, in place; a window's prompt is the end of what is filled.

        Where a row's windows fall depends on its own prompt and length alone; the rows' n-th windows are one batch.
        """
        assert self.fine is not None
        windows = [
            list(fine_windows(
                len(prompt), len(codes), window=request.window_of(self.fine), periods=self.config.periods, block=request.block,
                first_blocks=request.first_blocks,
            ))
            for prompt, codes in zip(request.prompt_codes, rows, strict=True)
        ]
        for part in range(max((len(row) for row in windows), default=0)):
            all_rows = [(row, *spans[part]) for row, spans in enumerate(windows) if part < len(spans)]
            for batch in in_groups(all_rows, request.at_once, length=lambda span: span[3] - span[1]):
                self._fill_windows(rows, batch, request, part)

    def _fill_windows(self, rows: list[Tensor], batch: Sequence[tuple[int, int, int, int]], request: AcousticRequest, part: int) -> None:
        """The windows ``(row, start, first to fill, stop)``, each its row's number ``part``."""
        assert self.fine is not None
        codes, lengths = pad_codes([rows[row][start:stop] for row, start, _, stop in batch])
        units, unit_lengths = self._units_of(batch, request)
        filled = self.fine.generate(
            codes, lengths=lengths, prompt_lengths=torch.tensor([first - start for _, start, first, _ in batch], device=codes.device),
            sampling=request.sampling_of(self.fine), seeds=[request.seeds[row] + 1_000_003 * part for row, *_ in batch],
            units=units, unit_lengths=unit_lengths, voices=[request.prompt_codes[row] for row, *_ in batch],
        )  # fmt: skip
        for (row, start, _, stop), ours in zip(batch, filled, strict=True):
            rows[row][start:stop] = ours[: stop - start]

    def _units_of(self, batch: Sequence[tuple[int, int, int, int]], request: AcousticRequest) -> tuple[Tensor | None, Tensor | None]:
        if request.units is None:
            return None, None
        periods = self.config.periods
        return pad_codes([request.units[row][periods.units_of_frames(start, stop)] for row, start, _, stop in batch])

    @torch.inference_mode()
    def stream(self, request: LiveRequest) -> Iterator[Tensor]:
        """A coarse frame at a time; with fine levels, a block as soon as its coarse codes are there.

        A block's context are the frames before it, at most half of the fine stage's window.
        """
        self.refuse_guidance(request)
        fine, units = self.fine, None if request.units is None or self.fine is None else request.units.reader()
        coarse = self.coarse.stream(
            request.prompt_codes, num_frames=request.num_frames, units=request.units, sampling=request.sampling_of(self.coarse),
            seed=request.seed, window=request.window_of(self.coarse), voice=request.prompt_codes,
            ahead=request.ahead.windows.get(self.coarse.name),
        )  # fmt: skip
        if fine is None:
            yield from coarse
            return
        prompt = request.prompt_codes[:, : self.config.num_quantizers]
        frames = GrowingFrames(prompt, coarse)
        filled, part, blocks = len(prompt), 0, request.blocks()
        while True:
            start, stop = fine_window(filled, window=request.window_of(fine), periods=self.config.periods, block=next(blocks))
            codes = frames.between(start, stop)
            stop = start + len(codes)
            if stop <= filled:
                return
            said, said_length = None, None
            if units is not None:
                said = units.of_frames(start, stop)[None]
                said_length = torch.tensor([said.shape[1]], device=codes.device)
                units.forget(self.config.periods.unit_of_frame(start))
            [codes] = fine.generate(
                codes[None], lengths=torch.tensor([len(codes)], device=codes.device),
                prompt_lengths=torch.tensor([filled - start], device=codes.device), sampling=request.sampling_of(fine),
                seeds=[request.seed + 1_000_003 * part], units=said, unit_lengths=said_length, voices=[request.prompt_codes],
                drawn=request.ahead.noise,
            )  # fmt: skip
            frames.replace(start, codes)
            yield codes[filled - start :]
            filled, part = stop, part + 1
