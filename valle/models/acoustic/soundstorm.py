"""The acoustic model ``soundstorm``: every level of all frames in a few parallel passes (Borsos et al. 2023)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from valle.models.acoustic.base import AcousticModel, AcousticRequest, pad_codes
from valle.models.acoustic.windows import PromptedWindow, prompted_windows
from valle.models.config import AudioLMConfig
from valle.models.soundstorm import SoundStormLM
from valle.models.stage import Stage
from valle.modules.masks import valid_mask


class SoundStorm(AcousticModel):
    """``SoundStormLM`` over windows that keep the prompt in sight."""

    name = "soundstorm"
    stage_types = (SoundStormLM,)
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
            windows.append(list(prompted_windows(len(prompt), frames, window=length, periods=self.config.periods)))
        for part in range(max(map(len, windows), default=0)):
            self._fill(rows, {row: spans[part] for row, spans in enumerate(windows) if part < len(spans)}, request, part)
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
