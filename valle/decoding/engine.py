"""Cached autoregressive decoding of ragged batches, for any model that offers ``Autoregressor``; an iterator over its steps.

A row's tokens depend on its own prompt and seed only: rows may have prompts of different lengths, begin and stop at
different times, and slide their windows at different steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from valle.decoding.drawing import Drawn, Known, first_numbers
from valle.decoding.read_ahead import ReadAhead
from valle.decoding.runs import Runs, runs_of
from valle.decoding.sampling import Noise, Sampling
from valle.decoding.seats import Seating, Seats
from valle.decoding.steps import choose_steps
from valle.errors import UserError
from valle.modules.transformer import Attend, LayerCache, Transformer

TOKENS_AT_ONCE = 1024  # for which a request that forgets has room, and as many that it keeps
NEVER = 2**40  # tokens before a row that has ended may end again
MOST_TOKENS_A_FRAME = 64  # which no stage passes; repetition is judged by so many tokens at most


class Autoregressor(Protocol):
    """What the engine asks of a model; tokens of a row are counted from its prompt's first.

    A token is a number, or several that belong together (``token_shape``): a unit and its duration, all codes of a frame.
    A model keeps nothing from step to step: whatever a draw depends on stands in its arguments.
    """

    transformer: Transformer

    @property
    def end_token(self) -> int | None:
        """A drawn one (of several numbers, the first) stops the row."""
        ...

    @property
    def token_shape(self) -> tuple[int, ...]:
        """() for plain numbers."""
        ...

    def window_inputs(self, row: int, start: int, tokens: Tensor) -> Tensor:
        """Inputs ``(S, D)`` of a window from token ``start`` on that holds ``tokens (n, *token_shape)``; the last predicts the next.

        ``row`` is the request's number of it.
        """
        ...

    def draw(self, hidden: Tensor, known: Known, sampling: Sampling, noise: Noise) -> Drawn:
        """``hidden (B, D)`` -> the next token of each of the rows ``known.seats``, or several."""
        ...

    def next_inputs(self, tokens: Tensor, positions: Tensor, seats: Seats) -> Tensor:
        """Inputs ``(B, D)`` made of ``tokens (B, *token_shape)``, tokens number ``positions (B,)`` just drawn of the rows ``seats``."""
        ...

    def attend_window(self, lengths: Tensor, max_length: int) -> Attend:
        """Who sees whom within a window of ``lengths (B,)`` inputs."""
        ...

    def window_start(self, num_tokens: int, window: int) -> int:
        """First token of the window that takes over when ``num_tokens`` are known."""
        ...


@dataclass(frozen=True)
class DecodingRequest:
    """Prompts and limits of a batch of rows."""

    prompts: Sequence[Tensor]  # (n_b, *token_shape) int64 each
    max_new: Sequence[int]  # tokens a row
    seeds: Sequence[int]
    sampling: Sampling
    window: int  # tokens after which a row's window slides: the length that was trained
    min_new: Sequence[int] | None = None  # tokens before which the end is not drawn
    forgets: bool = False  # tokens that no later step looks at are let go, so that memory does not grow with what is drawn
    at_once: int | None = None  # rows in the batch, the others wait until one ends; None: all
    together: int = 1  # 2: row r and row r + n, of 2 n, are drawn together, and count as one of ``at_once``
    ahead: ReadAhead | None = None  # what was read of the first window of a single row

    def __post_init__(self) -> None:
        if not len(self.prompts) == len(self.max_new) == len(self.seeds) == len(self.min_new or self.prompts):
            raise ValueError(f"expected limits and seeds for {len(self.prompts)} prompts, found {len(self.max_new)} and {len(self.seeds)}")
        if self.window < 2:
            raise ValueError(f"a window that slides by half must hold at least 2 tokens, found {self.window}")
        if self.at_once is not None and self.at_once < 1:
            raise ValueError(f"at least 1 row must be decoded at once, found {self.at_once}")
        if self.ahead is not None and len(self.prompts) != 1:
            raise ValueError(f"a window that was read ahead is that of a single row, found {len(self.prompts)}")


@dataclass(frozen=True)
class DecodedStep:
    """What one step added for good: at each place of the batch new tokens ``(n_b, *token_shape)``, without an end; 0 once it has ended."""

    new: Sequence[Tensor]
    ended: Sequence[bool]
    rows: Sequence[int]  # of the request, at these places; 0, 1, ... where all are decoded at once


class Decoder:
    """The state of one request: tokens so far, caches, and where every row stands in them, by its place in the batch.

    All places take every step; what a row draws after its end falls behind its stop and is cut off.  The host counts
    in integers and looks at the device once a step, for the end token, and not at all where there is none.
    """

    def __init__(self, model: Autoregressor, request: DecodingRequest) -> None:
        self.model, self.request, self.ahead = model, request, request.ahead
        self.device = model.transformer.device
        self.seating = Seating(request.max_new, at_once=request.at_once, together=request.together, device=self.device)
        self.batch = places = len(self.seating.seats.rows)
        self.known = [0] * places  # tokens a row, prompt included
        self.prompt_lengths, self.stop, self.limit = [0] * places, [0] * places, [0] * places  # ``stop``: known, less what follows an end
        self.ended, self.start = [False] * places, [0] * places
        self.min_new = None if request.min_new is None else [0] * places
        self.first = 0  # number of the first token that is kept
        most = max(request.max_new)
        longest = max(len(prompt) for prompt in request.prompts)
        self.tokens = self._new_tokens(longest + (min(most, TOKENS_AT_ONCE) if request.forgets else most) + 1)
        self.rows = torch.arange(places, device=self.device)
        self.position = torch.zeros(places, dtype=torch.int64, device=self.device)  # of the token to be drawn, as ``known``
        self.steps = choose_steps(model.transformer, places, max(most, sum(request.max_new) // places))
        self.filled = [0] * places  # cached positions a row
        self.slots = torch.zeros_like(self.position)  # the same on the device
        self.noise = Noise([request.seeds[row] for row in self.seating.seats.rows], self.device)
        self._sit(range(places))

    def _sit(self, places: Sequence[int]) -> None:
        """The rows that have just taken ``places`` begin with their prompts."""
        request = self.request
        for place in places:
            row = self.seating.seats.rows[place]
            prompt, new = request.prompts[row], request.max_new[row]
            known = self.known[place] = self.prompt_lengths[place] = self.stop[place] = len(prompt)
            self.limit[place], self.ended[place] = known + new, new <= 0
            self.start[place] = self.model.window_start(known, request.window) if known >= request.window else 0
            if self.min_new is not None and request.min_new is not None:
                self.min_new[place] = request.min_new[row]
            self.tokens[place, :known] = prompt
            self.position[place] = known

    def __iter__(self) -> Iterator[DecodedStep]:
        """Step by step until every row has ended or reached its limit; the prompts are read at the first."""
        model, hidden = self.model, self._prefill(range(self.batch))
        runs = runs_of(model, self.steps, self.request)
        while not self.is_done:
            drawn = None if runs is None else self._run(runs, hidden)
            if drawn is None:
                drawn = model.draw(hidden, self._seen(), self.request.sampling, self._noise())
            counts = list(drawn.counts) if drawn.counts is not None else [drawn.tokens.shape[1]] * self.batch
            self._write(drawn.tokens, counts)
            before, still = list(self.stop), sum(self.ended)
            self._count(drawn.tokens, counts)
            if sum(self.ended) > still:
                self._level_ended()
            yield self._decoded(before)
            if not self.is_done:
                self.position += drawn.fed
                hidden = self._advance(drawn.tokens[:, drawn.fed :], [count - drawn.fed for count in counts])

    def _run(self, runs: Runs, hidden: Tensor) -> Drawn | None:
        """A run of tokens of every row, as far as no row's end, limit or window comes in between; None where it would be one token."""
        rooms = [
            min(limit - known, self.request.window - (known - start))
            for limit, known, start, ended in zip(self.limit, self.known, self.start, self.ended, strict=True) if not ended
        ]  # fmt: skip
        numbers = [known - prompt for known, prompt in zip(self.known, self.prompt_lengths, strict=True)]
        least = self.min_new or [0] * self.batch
        early = [
            NEVER if ended else at_least - number for ended, at_least, number in zip(self.ended, least, numbers, strict=True)
        ]  # fmt: skip
        tokens = runs.draw(
            hidden, self.seating.seats, self._seen().recent(runs.window), rooms=rooms, early=early, numbers=numbers,
            positions=self.known, filled=self.filled, noise=self.noise,
        )  # fmt: skip
        if tokens is None:
            return None
        fed = tokens.shape[1] - 1
        self.filled = [filled + fed for filled in self.filled]
        self.slots += fed
        return Drawn(tokens, fed=fed)

    @property
    def is_done(self) -> bool:
        """All rows have ended, and none waits."""
        return all(self.ended) and not self.seating.waiting

    def _decoded(self, before: Sequence[int]) -> DecodedStep:
        """What has come since the rows stopped at ``before``."""
        new = [self._between(place, before[place], self.stop[place]) for place in range(self.batch)]
        return DecodedStep(new, list(self.ended), self.seating.seats.rows)

    def _seen(self, ahead: int = 0) -> Known:
        """What a draw may look at, ``ahead`` tokens after the next one."""
        position, counts = (self.position + ahead, [known + ahead for known in self.known]) if ahead else (self.position, self.known)
        return Known(self.tokens, position, counts, self.prompt_lengths, self.min_new, self.seating.seats, self.first)

    def _noise(self, ahead: int = 0) -> Noise:
        """The noise of every row's next token, or of one ``ahead``."""
        return self.noise.at([known - prompt + ahead for known, prompt in zip(self.known, self.prompt_lengths, strict=True)])

    def run(self) -> list[Tensor]:
        """Draw to the end -> new tokens of each row, without the end token."""
        found: dict[int, Tensor] = {}
        for step in self:
            assert self.first == 0, "of a request that forgets, the steps are all that there is"
            for place, (row, ended) in enumerate(zip(step.rows, step.ended, strict=True)):
                if ended and row not in found:
                    found[row] = self._between(place, self.prompt_lengths[place], self.stop[place]).clone()
        return [found.get(row, prompt[:0]) for row, prompt in enumerate(self.request.prompts)]

    def end_after(self, limit: int) -> None:
        """Between steps: the first row ends after ``limit`` tokens, prompt included, and others after as many new ones, if not before."""
        for row, prompt in enumerate(self.prompt_lengths):
            self.limit[row] = min(self.limit[row], prompt + limit - self.prompt_lengths[0])
            self.ended[row] = self.ended[row] or self.stop[row] >= self.limit[row]

    def _between(self, row: int, start: int, stop: int) -> Tensor:
        """A row's tokens number ``start`` to ``stop``."""
        return self.tokens[row, start - self.first : stop - self.first]

    def _new_tokens(self, length: int) -> Tensor:
        return torch.zeros(self.batch, length, *self.model.token_shape, dtype=torch.int64, device=self.device)

    def _write(self, tokens: Tensor, counts: Sequence[int]) -> None:
        """Put what was drawn where it belongs; what a row does not keep is written over by its next step."""
        number = tokens.shape[1]
        self._make_room(number)
        for place in range(number):
            self.tokens[self.rows, self.position + (place - self.first)] = tokens[:, place]
        assert all(1 <= count <= number for count in counts), "a step gives every row one token or more"

    def _make_room(self, number: int) -> None:
        """For as many tokens more a row."""
        missing = max(self.known) - self.first + number - self.tokens.shape[1]
        if missing > 0:
            more = max(missing, TOKENS_AT_ONCE) if self.request.forgets else missing
            self.tokens = torch.cat([self.tokens, self._new_tokens(more)], 1)

    def _forget(self) -> None:
        """Let go what lies before all windows, and before what repetition is judged by."""
        looked_back = max(TOKENS_AT_ONCE, MOST_TOKENS_A_FRAME * self.request.sampling.repetition_window)
        first = min(*self.start, min(self.known) - looked_back)
        if first > self.first:
            self.tokens, self.first = self.tokens[:, first - self.first :].clone(), first

    def _count(self, tokens: Tensor, counts: Sequence[int]) -> None:
        """Where every row stands after a step.  Not the likeliest token: only what was drawn may end a row."""
        ends = self._ends(tokens)
        for row, count in enumerate(counts):
            self.known[row] += count
            for place in range(count):
                if not self.ended[row]:
                    self.stop[row] += not ends[row][place]
                    self.ended[row] = ends[row][place] or self.stop[row] == self.limit[row]

    def _ends(self, tokens: Tensor) -> list[list[bool]]:
        if self.model.end_token is None:
            return [[False] * tokens.shape[1]] * self.batch
        ends: list[list[bool]] = first_numbers(tokens).eq(self.model.end_token).tolist()
        return ends

    def _advance(self, tokens: Tensor, counts: Sequence[int]) -> Tensor:
        """Hidden ``(B, D)`` of the next position: a cached step, or a window anew for rows that have filled theirs."""
        inputs = self._inputs(tokens)
        self.position += self._on_device(counts)
        step_is_needed = len(self._sliding()) < self.batch - sum(self.ended)
        hidden = self._keep(self._step(inputs), counts) if step_is_needed else torch.zeros_like(inputs[:, 0])
        return self._renew(hidden)

    def _renew(self, hidden: Tensor) -> Tensor:
        """``hidden (B, D)`` with that of rows whose windows slide, and of rows that take the places of others."""
        sliding = self._sliding()
        joining = self.seating.take(self.ended)
        self._sit(joining)
        for place in joining:
            self.noise.restart(place, self.request.seeds[self.seating.seats.rows[place]])
        return self._slide([*sliding, *joining], hidden)

    def _inputs(self, tokens: Tensor) -> Tensor:
        """``(B, n, D)`` of ``tokens (B, n, *token_shape)``, the rows' next ones."""
        places = range(tokens.shape[1])
        seats = self.seating.seats
        return torch.stack([self.model.next_inputs(tokens[:, place], self.position + place, seats) for place in places], 1)

    def _sliding(self) -> list[int]:
        """Rows that have filled their windows."""
        full = [known - start >= self.request.window for known, start in zip(self.known, self.start, strict=True)]
        return [row for row in range(self.batch) if full[row] and not self.ended[row]]

    def _slide(self, rows: Sequence[int], hidden: Tensor) -> Tensor:
        """``hidden (B, D)`` with that of new windows in ``rows``."""
        if rows:
            for row in rows:
                if self.known[row] - self.start[row] >= self.request.window:
                    self.start[row] = self.model.window_start(self.known[row], self.request.window)
            hidden[torch.tensor(rows, device=self.device)] = self._prefill(rows)
            if self.request.forgets:
                self._forget()
        return hidden

    def _on_device(self, counts: Sequence[int]) -> int | Tensor:
        return counts[0] if len(set(counts)) == 1 else torch.tensor(counts, device=self.device)

    def _prefill(self, rows: Sequence[int]) -> Tensor:
        """Run the windows of ``rows`` from their starts and cache them -> last hidden ``(len(rows), D)``."""
        of = self.seating.seats.rows
        inputs = [self.model.window_inputs(of[row], self.start[row], self._between(row, self.start[row], self.known[row])) for row in rows]
        remaining = max(limit - known for limit, known in zip(self.limit, self.known, strict=True))
        self.steps.reserve(max(map(len, inputs)) + min(self.request.window, remaining))
        hidden, caches = self._read(inputs)
        self.steps.write(rows, caches)
        for row, window in zip(rows, inputs, strict=True):
            self.filled[row] = len(window)
        self._level_ended()
        return hidden

    def _read(self, inputs: Sequence[Tensor]) -> tuple[Tensor, list[LayerCache]]:
        """Windows ``(S_b, D)`` -> hidden ``(b, D)`` of the last input of each, and their caches."""
        ahead, self.ahead = self.ahead, None
        if ahead is not None:
            [window] = inputs
            return ahead.read(window)[None], ahead.caches
        lengths = torch.tensor([len(row) for row in inputs], device=self.device)
        padded = pad_sequence(list(inputs), batch_first=True)  # (b, S, D)
        caches = self.model.transformer.new_caches(len(inputs), padded.shape[1])
        hidden = self.model.transformer(padded, self.model.attend_window(lengths, padded.shape[1]), caches=caches)
        return hidden[torch.arange(len(inputs), device=self.device), lengths - 1], caches

    def _level_ended(self) -> None:
        """Ended rows stand where one that goes on stands, so that they neither fill the cache nor break the common step."""
        place = next((filled for filled, ended in zip(self.filled, self.ended, strict=True) if not ended), 0)
        self.filled = [place if ended else filled for filled, ended in zip(self.filled, self.ended, strict=True)]
        self.slots = torch.tensor(self.filled, device=self.device)

    def _step(self, inputs: Tensor) -> Tensor:
        """Feed some inputs a row, ``(B, n, D)`` -> hidden ``(B, n, D)``; ``_keep`` says which of them stay."""
        self.steps.reserve(max(self.filled) + inputs.shape[1])
        return self.steps.step(inputs, self.filled, self.slots)

    def _keep(self, hidden: Tensor, counts: Sequence[int]) -> Tensor:
        """Of the inputs just fed, each row keeps the first ``counts`` -> hidden ``(B, D)`` of its last kept one.

        What a row does not keep lies in the cache behind its end, unseen, until its next step writes over it.
        """
        self.filled = [filled + count for filled, count in zip(self.filled, counts, strict=True)]
        kept = self._on_device(counts)
        self.slots += kept
        return hidden[:, kept - 1] if isinstance(kept, int) else hidden[self.rows, kept - 1]


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Without dropout, whatever mode the model is in; its mode is put back."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


@torch.inference_mode()
def decode(model: Autoregressor, request: DecodingRequest) -> list[Tensor]:
    """New tokens ``(n_b, *token_shape)`` int64 of every row: until a sampled end token (left out) or ``max_new`` exactly."""
    if request.sampling.drafts is not None:
        raise UserError("this stage has no draft heads, so it draws one token a step; leave out the drafts (--draft-tokens)")
    if not request.prompts or max(request.max_new) <= 0:
        return [prompt[:0] for prompt in request.prompts]
    with evaluating(model.transformer):
        return Decoder(model, request).run()
