"""The acoustic model ``soundstorm``: every level of all frames in a few parallel passes (Borsos et al. 2023)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain, repeat

import torch
from torch import Tensor

from valle.models.acoustic.base import AcousticModel, AcousticRequest, LiveRequest, in_groups, pad_codes
from valle.models.acoustic.growing import GrowingFrames
from valle.models.acoustic.windows import PromptedWindow, prompted_window, prompted_windows
from valle.models.config import AudioLMConfig
from valle.models.soundstorm import SoundStormLM
from valle.models.stage import Stage
from valle.modules.masks import valid_mask


class SoundStorm(AcousticModel):
    """``SoundStormLM`` over windows that keep the prompt in sight."""

    name = "soundstorm"
    stage_types = (SoundStormLM,)
    looks_ahead = True
    adds_up = False  # a loss under random masks is no part of a joint

    def __init__(self, config: AudioLMConfig, stages: Mapping[str, Stage]) -> None:
        super().__init__(config, stages)
        stage = stages[SoundStormLM.name]
        assert isinstance(stage, SoundStormLM)
        self.stage = stage

    @torch.inference_mode()
    def generate(self, request: AcousticRequest) -> list[Tensor]:
        """Where a row's windows fall depends on its own prompt and length alone; the rows' n-th windows are one batch."""
        self.refuse_guidance(request)
        self.refuse_too_few_units(request)
        rows, windows = [], []
        for prompt, frames in zip(request.prompt_codes, request.num_frames, strict=True):
            codes = prompt.new_zeros(frames, self.config.num_quantizers)
            codes[: len(prompt)] = prompt[:, : self.config.num_quantizers]
            rows.append(codes)
            length = request.window_of(self.stage)
            windows.append(list(prompted_windows(
                len(prompt), frames, window=length, periods=self.config.periods, block=request.block,
                first_blocks=request.first_blocks,
            )))  # fmt: skip
        for part in range(max(map(len, windows), default=0)):
            all_rows = [(row, spans[part]) for row, spans in enumerate(windows) if part < len(spans)]
            for some in in_groups(all_rows, request.at_once, length=lambda span: span[1].known + span[1].stop - span[1].first):
                self._fill(rows, dict(some), request, part)
        return rows

    def _fill(self, rows: list[Tensor], windows: Mapping[int, PromptedWindow], request: AcousticRequest, part: int) -> None:
        """One window of some rows, by row number, in place."""
        codes, lengths = pad_codes([window.of(rows[row]) for row, window in windows.items()])
        units, unit_lengths = None, None
        if request.units is not None:
            periods = self.config.periods
            units, unit_lengths = pad_codes([window.units_of(request.units[row], periods) for row, window in windows.items()])
        known = torch.tensor([window.known for window in windows.values()], device=codes.device)
        filled = self.stage.generate(
            codes, lengths=lengths, known=valid_mask(known, codes.shape[1]), sampling=request.sampling_of(self.stage),
            seeds=[request.seeds[row] + 1_000_003 * part for row in windows], units=units, unit_lengths=unit_lengths,
        )  # fmt: skip
        for (row, window), ours in zip(windows.items(), filled, strict=True):
            rows[row][window.first : window.stop] = ours[window.known : window.known + window.stop - window.first]

    @torch.inference_mode()
    def stream(self, request: LiveRequest) -> Iterator[Tensor]:
        """Block by block, as soon as the units of a block are there; without blocks, all at once."""
        if request.block is None:
            yield from super().stream(request)
            return
        prompt, periods = request.prompt_codes[:, : self.config.num_quantizers], self.config.periods
        units = None if request.units is None else request.units.reader()
        prompt_units = None if units is None else units.of_frames(0, len(prompt))
        filled, part, blocks = len(prompt), 0, chain(request.first_blocks, repeat(request.block))
        frames = GrowingFrames(prompt, iter(()))
        while True:
            window = prompted_window(filled, len(prompt), window=request.window_of(self.stage), periods=periods, block=next(blocks))
            there = request.num_frames if units is None else min(request.num_frames, units.num_frames(window.stop))
            window = replace(window, stop=min(window.stop, there))
            if window.stop <= filled:
                return
            given = frames.between(window.start, filled)
            codes = torch.cat([prompt[: window.prompt], given, given.new_zeros(window.stop - filled, given.shape[1])])
            said, said_length = None, None
            if units is not None and prompt_units is not None:
                kept = prompt_units[periods.units_of_frames(0, window.prompt)]
                said = torch.cat([kept, units.of_frames(window.start, window.stop)])[None]
                said_length = torch.tensor([said.shape[1]], device=codes.device)
                units.forget(periods.unit_of_frame(window.start))
            known = torch.arange(len(codes), device=codes.device) < window.known
            [codes] = self.stage.generate(
                codes[None], lengths=torch.tensor([len(codes)], device=codes.device), known=known[None],
                sampling=request.sampling_of(self.stage), seeds=[request.seed + 1_000_003 * part], units=said, unit_lengths=said_length,
            )  # fmt: skip
            frames.add(codes[window.known :])
            yield codes[window.known :]
            filled, part = window.stop, part + 1
