"""Outputs of ``joint-lm``: one decoding for all links of a chain, in which each output holds tokens of its own kind alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from valle.decoding.drawing import Drawn, Known, draw_token
from valle.decoding.engine import Decoder, DecodingRequest
from valle.decoding.sampling import Noise, Sampling
from valle.decoding.seats import Seats
from valle.models.joint_lm import JointLM
from valle.models.joint_tasks import Kind
from valle.modules.transformer import Attend


@dataclass(frozen=True)
class Question:
    """A row: what stands before the outputs, and the kinds of those; ``max_new`` tokens at most, specials among them."""

    prompt: Sequence[int]
    gives: tuple[Kind, ...]
    max_new: int
    seed: int = 0


def answer(model: JointLM, questions: Sequence[Question], sampling: Mapping[Kind, Sampling]) -> list[list[list[int]]]:
    """The outputs of every row: text pieces, or units from 0, a list for each kind of ``gives`` (empty where the row ended before).

    ``sampling`` is that of text and that of units.  A row depends on its own question and seed alone.
    """
    if not questions:
        return []
    device = model.embed.weight.device
    view = _Outputs(model, [question.gives for question in questions], sampling)
    prompts = [torch.tensor(list(question.prompt), device=device) for question in questions]
    most = max(len(prompt) + question.max_new for prompt, question in zip(prompts, questions, strict=True))
    request = DecodingRequest(
        prompts=prompts, max_new=[question.max_new for question in questions], seeds=[question.seed for question in questions],
        sampling=sampling["text"], window=most + 2,
    )  # fmt: skip
    with torch.inference_mode():
        rows = Decoder(view, request).run()
    return [_split(model, row.tolist(), question.gives) for row, question in zip(rows, questions, strict=True)]


def _split(model: JointLM, tokens: list[int], gives: tuple[Kind, ...]) -> list[list[int]]:
    outputs: list[list[int]] = [[]]
    for token in tokens:
        if token == model.then:
            outputs.append([])
        else:
            outputs[-1].append(token - model.first_unit if token >= model.first_unit else token)
    return (outputs + [[]] * len(gives))[: len(gives)]


class _Outputs:
    """JointLM as the engine sees it; which tokens are possible follows from how many outputs a row has ended."""

    token_shape: tuple[int, ...] = ()

    def __init__(self, model: JointLM, gives: Sequence[tuple[Kind, ...]], sampling: Mapping[Kind, Sampling]) -> None:
        self.model, self.transformer, self.end_token, self.sampling = model, model.transformer, model.eos, sampling
        most = max(map(len, gives))
        device, size = model.embed.weight.device, model.vocabulary.size
        self.possible = torch.zeros(len(gives), most, size, dtype=torch.bool, device=device)  # (B, outputs, V)
        for row, kinds in enumerate(gives):
            for number, kind in enumerate(kinds):
                first, count = (0, model.config.num_pieces) if kind == "text" else (model.first_unit, model.config.num_units)
                self.possible[row, number, first : first + count] = True
                self.possible[row, number, model.eos if number == len(kinds) - 1 else model.then] = True
        self.speaks = torch.tensor([[kind == "units" for kind in (*kinds, *kinds[-1:] * most)][:most] for kinds in gives], device=device)
        self.kinds = {kind for kinds in gives for kind in kinds}

    def window_inputs(self, row: int, start: int, tokens: Tensor) -> Tensor:
        inputs: Tensor = self.model.embed(tokens)
        return inputs

    def next_inputs(self, tokens: Tensor, positions: Tensor, seats: Seats) -> Tensor:
        inputs: Tensor = self.model.embed(tokens)
        return inputs

    def draw(self, hidden: Tensor, known: Known, sampling: Sampling, noise: Noise) -> Drawn:
        rows = known.seats.index
        ended = known.new(known.numbers.eq(self.model.then).long()).sum(1).clamp(max=self.possible.shape[1] - 1)
        logits = self.model.scores(hidden).masked_fill(~self.possible[rows, ended], -torch.inf)
        drawn = {
            kind: draw_token(logits.clone(), known, self.sampling[kind], noise, end_token=self.end_token).tokens for kind in self.kinds
        }
        if len(drawn) == 1:
            return Drawn(next(iter(drawn.values())))
        return Drawn(torch.where(self.speaks[rows, ended][:, None], drawn["units"], drawn["text"]))

    def attend_window(self, lengths: Tensor, max_length: int) -> Attend:
        return Attend.causally()

    def window_start(self, num_tokens: int, window: int) -> int:
        return num_tokens - window // 2
