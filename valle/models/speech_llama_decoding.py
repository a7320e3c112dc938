"""What a speech-llama writes of what it hears: the likeliest text, one token or several verified ones a step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from valle.decoding.drawing import Drawn, Known, draw_token
from valle.decoding.engine import DecodingRequest
from valle.decoding.multi_token import decode_drafting
from valle.decoding.sampling import Drafts, Noise, Sampling
from valle.decoding.seats import Seats
from valle.errors import UserError
from valle.models.draft_heads import DraftingView
from valle.models.speech_llama import SpeechLlama
from valle.modules.transformer import Attend


def write_down(
    model: SpeechLlama, speech: Sequence[Tensor], prompts: Sequence[Sequence[int]], *, max_new: int, draft_tokens: int = 0
) -> list[list[int]]:
    """The likeliest pieces after embeddings of speech ``(A_b, D)`` (0 of them: after the prompt alone) and ``prompts``, BOS first.

    With ``draft_tokens`` the model's draft heads guess so many, and what it would have written itself is kept: the text is the same.
    LoRA must be merged.
    """
    if draft_tokens > model.num_drafts:
        raise UserError(
            f"--draft-tokens {draft_tokens} needs as many draft heads, found {model.num_drafts}; lower it, or train with --drafts"
        )
    if not speech:
        return []
    device = model.possible.device
    rows = [torch.tensor(list(prompt), device=device) for prompt in prompts]
    sampling = Sampling(temperature=0, drafts=Drafts(draft_tokens) if draft_tokens else None)
    request = DecodingRequest(
        prompts=rows, max_new=[max_new] * len(rows), seeds=[0] * len(rows), sampling=sampling,
        window=max(map(len, rows)) + max_new + 2,
    )  # fmt: skip
    return [row.tolist() for row in decode_drafting(_Transcripts(model, speech), request)]


class _Transcripts(DraftingView):
    """A speech-llama as the engine sees it: a window begins with the row's speech."""

    token_shape: tuple[int, ...] = ()
    tokens_a_frame = 1

    def __init__(self, model: SpeechLlama, speech: Sequence[Tensor]) -> None:
        self.model, self.speech = model, speech
        self.transformer, self.end_token = model.lm.transformer, model.config.eos

    def window_inputs(self, row: int, start: int, tokens: Tensor) -> Tensor:
        embedded: Tensor = self.model.embed(tokens)
        return torch.cat([self.speech[row], embedded])

    def next_inputs(self, tokens: Tensor, positions: Tensor, seats: Seats) -> Tensor:
        inputs: Tensor = self.model.embed(tokens)
        return inputs

    def scores(self, hidden: Tensor) -> Tensor:
        return self.model.scores(hidden)

    def possible(self, logits: Tensor, positions: Tensor) -> Tensor:
        return logits.masked_fill(~self.model.possible, -torch.inf)

    def draw(self, hidden: Tensor, known: Known, sampling: Sampling, noise: Noise) -> Drawn:
        return draw_token(self.scores(hidden), known, sampling, noise, end_token=self.end_token)

    def attend_window(self, lengths: Tensor, max_length: int) -> Attend:
        return Attend.causally()

    def window_start(self, num_tokens: int, window: int) -> int:
        return num_tokens - window // 2
