"""The next turn's codes, frame by frame until its end is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from valle.decoding.drawing import Drawn, Known
from valle.decoding.engine import DecodingRequest, decode
from valle.decoding.sampling import Noise, Sampling, sample
from valle.decoding.seats import Seats
from valle.models.conversation import ConversationLM
from valle.models.conversation_turns import Positions
from valle.models.rq import LEVEL
from valle.modules.transformer import Attend


@dataclass(frozen=True)
class NextTurn:
    """A row: what stands before the turn's frames, and how many of them there are at least and at most."""

    prompt: Positions
    max_frames: int
    min_frames: int = 0
    seed: int = 0


def next_turns(model: ConversationLM, asked: Sequence[NextTurn], sampling: Sampling) -> list[Tensor]:
    """Codes ``(T_b, Q)`` of every turn.  A row depends on its own prompt and seed alone."""
    if not asked:
        return []
    device = model.transformer.device
    empty = torch.zeros(0, model.config.num_levels, dtype=torch.int64, device=device)
    request = DecodingRequest(
        prompts=[empty] * len(asked), max_new=[turn.max_frames for turn in asked], min_new=[turn.min_frames for turn in asked],
        seeds=[turn.seed for turn in asked], sampling=sampling, window=max(turn.max_frames for turn in asked) + 2,
    )  # fmt: skip
    with torch.inference_mode():
        return decode(_NextTurns(model, [turn.prompt for turn in asked]), request)


class _NextTurns:
    """ConversationLM as the engine sees it; a token is a frame, all levels of it, and what stands before the turn begins every window."""

    def __init__(self, model: ConversationLM, prompts: Sequence[Positions]) -> None:
        config = model.config
        self.model, self.transformer, self.end_token = model, model.transformer, config.end
        self.token_shape = (config.num_levels,)
        self.depth, self.table = model.depth_steps(len(prompts)), model.embed.table()
        device = self.table.device
        self.before = [
            model.inputs(torch.from_numpy(prompt.pieces).to(device), torch.from_numpy(prompt.codes).to(device)) for prompt in prompts
        ]

    def window_inputs(self, row: int, start: int, tokens: Tensor) -> Tensor:
        return torch.cat([self.before[row], self.model.embed(tokens, self.table).sum(-2)])

    def next_inputs(self, tokens: Tensor, positions: Tensor, seats: Seats) -> Tensor:
        inputs: Tensor = self.model.embed(tokens, self.table).sum(-2)
        return inputs

    def draw(self, hidden: Tensor, known: Known, sampling: Sampling, noise: Noise) -> Drawn:
        config = self.model.config
        first = self.model.head(hidden)
        first[:, config.end + 1 :] = -torch.inf
        early = known.too_early()
        if early is not None:
            first[early, config.end] = -torch.inf

        def choose(level: int, logits: Tensor) -> Tensor:
            recent = None
            if sampling.repetition_window:
                recent = replace(known, tokens=known.tokens[..., level]).recent(sampling.repetition_window)
            logits = logits if level == 0 else logits[:, : config.codebook_size]
            return sample(logits, sampling, noise.of(logits.shape[-1], salt=level * LEVEL), recent)

        code = choose(0, first)
        others = self.depth.run(hidden, code, lambda level, logits: choose(level + 1, logits))
        return Drawn(torch.stack([code, *others], -1)[:, None])

    def attend_window(self, lengths: Tensor, max_length: int) -> Attend:
        return Attend.causally()

    def window_start(self, num_tokens: int, window: int) -> int:
        return num_tokens - window // 2
