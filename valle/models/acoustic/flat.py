"""The acoustic model ``flat``: AudioLM's own, one code after another at all levels (Borsos et al. 2022, 3.2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from valle.errors import UserError
from valle.models.acoustic.base import AcousticModel, AcousticRequest, LiveRequest, with_prompts
from valle.models.acoustic.growing import GrowingFrames
from valle.models.coarse import CoarseLM
from valle.models.config import AudioLMConfig
from valle.models.flat import FlatCoarseLM, FlatFineLM
from valle.models.stage import Stage

CHUNKS_AT_ONCE = 32  # of fine codes; bounds the memory of their caches


class Flat(AcousticModel):
    """``FlatCoarseLM`` over the whole time, then ``FlatFineLM`` chunk by chunk, chunks that know nothing of each other as one batch."""

    name = "flat"
    stage_types = (FlatCoarseLM, FlatFineLM)

    def __init__(self, config: AudioLMConfig, stages: Mapping[str, Stage]) -> None:
        super().__init__(config, stages)
        coarse, fine = stages[CoarseLM.name], stages.get(FlatFineLM.name)
        assert isinstance(coarse, CoarseLM) and (fine is None or isinstance(fine, FlatFineLM))
        self.coarse, self.fine = coarse, fine

    @classmethod
    def types_for(cls, config: AudioLMConfig) -> tuple[type[Stage], ...]:
        if config.num_coarse != 1:
            raise UserError(f"--num-coarse {config.num_coarse} is not for the acoustic model flat: use --flat-coarse {config.num_coarse}")
        return cls.stage_types if config.flat_coarse_levels < config.num_quantizers else cls.stage_types[:1]

    @torch.inference_mode()
    def generate(self, request: AcousticRequest) -> list[Tensor]:
        self.refuse_guidance(request)
        self.refuse_too_few_units(request)
        coarse = self.coarse.generate(
            request.prompt_codes,
            num_frames=request.num_frames,
            units=request.units,
            sampling=request.sampling_of(self.coarse),
            seeds=request.seeds,
            window=request.window_of(self.coarse),
            at_once=request.at_once,
        )
        rows = with_prompts(coarse, request.prompt_codes, num_levels=self.config.num_quantizers)
        if self.fine is not None:
            self._fill(self.fine, rows, request)
        return rows

    def _fill(self, fine: FlatFineLM, rows: list[Tensor], request: AcousticRequest) -> None:
        """Fine levels after each row's prompt, in place; where a chunk lies depends on its row alone."""
        window = chunk_length(request.window_of(fine), request.block)
        chunks = [
            (row, start, stop)
            for row, prompt in enumerate(request.prompt_codes)
            for start, stop in chunks_to_fill(len(prompt), len(rows[row]), length=window)
        ]
        if not chunks:
            return
        filled = fine.generate(
            [rows[row][start:stop] for row, start, stop in chunks],
            known=[max(0, len(request.prompt_codes[row]) - start) for row, start, _ in chunks],
            sampling=request.sampling_of(fine),
            seeds=[request.seeds[row] + 1_000_003 * (start // window) for row, start, _ in chunks],
            at_once=CHUNKS_AT_ONCE,
        )
        for (row, start, stop), codes in zip(chunks, filled, strict=True):
            rows[row][start:stop] = codes

    @torch.inference_mode()
    def stream(self, request: LiveRequest) -> Iterator[Tensor]:
        """Coarse frames as they are drawn; with fine levels, a chunk once all its coarse codes are there, or with the row's last."""
        self.refuse_guidance(request)
        coarse = self.coarse.stream(
            request.prompt_codes,
            num_frames=request.num_frames,
            units=request.units,
            sampling=request.sampling_of(self.coarse),
            seed=request.seed,
            window=request.window_of(self.coarse),
            ahead=request.ahead.windows.get(self.coarse.name),
        )
        if self.fine is None:
            yield from coarse
            return
        prompt = request.prompt_codes[:, : self.config.num_quantizers]
        frames, filled = GrowingFrames(prompt, coarse), len(prompt)
        length = chunk_length(request.window_of(self.fine), request.block)
        while True:
            start = filled // length * length
            codes = frames.between(start, start + length)
            if start + len(codes) <= filled:
                return
            [codes] = self.fine.generate(
                [codes], known=[max(0, len(prompt) - start)], sampling=request.sampling_of(self.fine),
                seeds=[request.seed + 1_000_003 * (start // length)],
            )  # fmt: skip
            yield codes[filled - start :]
            filled = start + len(codes)


def chunk_length(trained: int, block: int | None) -> int:
    """Frames of a chunk: those that were trained, or fewer where blocks are asked for."""
    return trained if block is None else min(trained, block)


def chunks_to_fill(num_prompt: int, num_frames: int, *, length: int) -> Iterator[tuple[int, int]]:
    """Chunks ``(start, stop)`` of ``length`` frames, counted from the row's first, that hold frames ``num_prompt`` to ``num_frames``."""
    first = num_prompt // length * length
    for start in range(first, num_frames if num_frames > num_prompt else first, length):
        yield start, min(num_frames, start + length)
