"""One sampler for every stage: temperature, top-k, top-p and repetition-aware, a random stream for each row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import index
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from valle.errors import UserError

NOISE_BLOCK = 64  # draws made at once a row
MOST_DRAFTS = 16  # tokens that a step drafts; what noise is kept for positions that may be drawn once more depends on it

DraftRule = Literal["exact", "ratio", "unverified"]


@dataclass(frozen=True)
class Drafts:
    """How many tokens a step drafts beside its own, and which of them are kept (see ``valle/decoding/multi_token.py``).

    ``exact``: those that would have been drawn without drafts, so the output is the same at the same seed.  ``ratio``: with
    probability min(1, p/q), which gives the same distribution, but other tokens.  ``unverified``: all, whatever the stage says of them.
    """

    tokens: int
    rule: DraftRule = "exact"

    def __post_init__(self) -> None:
        if not 1 <= self.tokens <= MOST_DRAFTS:
            raise UserError(f"a step drafts 1 to {MOST_DRAFTS} tokens, found {self.tokens}")
        if self.rule not in ("exact", "ratio", "unverified"):
            raise UserError(f"the rule for drafts must be exact, ratio or unverified, found {self.rule!r}")


@dataclass(frozen=True)
class Sampling:
    """How a token is drawn from logits.

    ``temperature`` 0 takes the likeliest.  ``top_k`` 0 and ``top_p`` 1 keep all.  ``repetition_window`` > 0 draws
    again from the whole distribution where the token made up more than ``repetition_ratio`` of the last that many
    frames (VALL-E 2, Chen et al. 2024, 3.3: window 10, ratio 0.1); of several tokens a frame each has its own, and one that
    lasts several frames counts as often.  ``guidance`` other than 1 draws from logits u + w (c - u), those without conditions and
    those with (Ho and Salimans 2022), for a stage that has learned both; 1 takes the latter alone.

    ``passes``: of a stage that fills each level in several passes (SoundStorm, Borsos et al. 2023, 3.3), the passes on each level;
    the last number is that of all further levels.

    >>> from valle import ContinueSettings, Sampling
    >>> ContinueSettings(sampling={"coarse": Sampling(top_p=0.95), "fine": Sampling(temperature=0)}).sampling["fine"].greedy
    True
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_window: int = 0
    repetition_ratio: float = 0.1
    passes: tuple[int, ...] = (16, 1)
    guidance: float = 1.0
    drafts: Drafts | None = None  # of a stage with draft heads; None draws one token a step

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise UserError(f"the temperature must be 0 (the likeliest token) or more, found {self.temperature}")
        if self.top_k < 0:
            raise UserError(f"top-k must be 0 (keep all) or more, found {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top-p must lie above 0 and at most 1 (keep all), found {self.top_p}")
        if self.repetition_window < 0 or not 0 < self.repetition_ratio <= 1:
            raise UserError(
                "the repetition window must be 0 (off) or more and its ratio in 0..1, "
                f"found {self.repetition_window} and {self.repetition_ratio}"
            )
        if not self.passes or min(self.passes) < 1:
            raise UserError(f"expected 1 pass or more on each level, found {', '.join(map(str, self.passes)) or 'none'}")
        if not 0 <= self.guidance < float("inf"):
            raise UserError(f"the guidance must be 1 (none) or another number from 0 (without conditions) on, found {self.guidance}")
        if self.is_guided and self.drafts is not None:
            raise UserError("guidance draws from two passes and drafts are checked against one; leave out the guidance or the drafts")

    @property
    def is_guided(self) -> bool:
        """Whether logits are those of two passes."""
        return self.guidance != 1

    @property
    def greedy(self) -> bool:
        """So cold that only the likeliest token is left; logits over less would overflow."""
        return self.temperature < 1e-6

    def passes_on(self, level: int) -> int:
        """Passes on ``level`` of a stage that fills each level in several."""
        return self.passes[min(level, len(self.passes) - 1)]


class TokenNoise(Protocol):
    """Where a draw takes its noise from."""

    def of_token(self, count: int) -> list[Tensor]:
        """The ``count`` vectors ``(B, size)`` of every row's token: all that one token of this stream ever takes."""
        ...


class RowNoise:
    """Exponential noise from one generator a row, so that a row's draws depend on its own seed alone.

    The likeliest of ``probability / noise`` is a draw from the distribution, without the host looking at it.
    """

    def __init__(
        self, seeds: list[int], size: int, device: torch.device, *, first: int = 0, drawn: DrawnNoise | None = None
    ) -> None:  # fmt: skip
        """``next`` begins with vector number ``first``; what is ``drawn`` already is taken from there."""
        self.rows = [_Blocks(seed, size) if drawn is None else drawn.take(seed, size) for seed in seeds]
        self.size, self.device = size, device
        self.block = torch.empty(len(seeds), NOISE_BLOCK, size, device=device)  # the block of every row that it drew from last
        self.held = [-1] * len(seeds)  # their numbers
        self.used = first  # vectors that ``next`` has given, or that nobody wanted

    def next(self) -> Tensor:
        """Fresh noise ``(B, size)``."""
        self.used += 1
        return self.at([self.used - 1] * len(self.rows))

    def take(self, count: int) -> Tensor:
        """The next ``count`` at once, ``(B, count, size)``; a longer take begins with the same numbers."""
        parts = list[Tensor]()
        while count:
            place = self.used % NOISE_BLOCK
            part = self.blocks_of([self.used] * len(self.rows))[:, place : place + count].clone()
            parts.append(part)
            self.used, count = self.used + part.shape[1], count - part.shape[1]
        return torch.cat(parts, 1)

    def of_token(self, count: int) -> list[Tensor]:
        return list(self.take(count).unbind(1))

    def at(self, numbers: Sequence[int]) -> Tensor:
        """Of each row the vector of that number in the order in which ``next`` gives them ``(B, size)``.

        Each row may go back by less than a block, which is as far as drafts reach.
        """
        block, places = self.blocks_of(numbers), [number % NOISE_BLOCK for number in numbers]
        if len(set(places)) == 1:
            return block[:, places[0]].clone()
        return block[torch.arange(len(places), device=self.device), torch.tensor(places, device=self.device)]

    def blocks_of(self, numbers: Sequence[int]) -> Tensor:
        """The blocks in which each row's vector of that number lies ``(B, NOISE_BLOCK, size)``, until others are asked for."""
        for row, number in enumerate(numbers):
            if number // NOISE_BLOCK != self.held[row]:
                self.held[row] = number // NOISE_BLOCK
                self.block[row] = self.rows[row].number(self.held[row])
        return self.block

    def restart(self, row: int, seed: int) -> None:
        """From now on, the noise of ``row`` is that of another ``seed``, from its first vector on."""
        self.rows[row], self.held[row] = _Blocks(seed, self.size), -1


class _Blocks:
    """The noise of one row, NOISE_BLOCK vectors at once, on the host."""

    def __init__(self, seed: int, size: int) -> None:
        self.generator, self.size = torch.Generator("cpu").manual_seed(index(seed) % 2**63), size
        self.blocks: list[Tensor] = []  # (NOISE_BLOCK, size) each: those that may still be asked for
        self.forgotten = 0  # blocks before these

    def number(self, number: int) -> Tensor:
        """Block ``number``; those that lie a whole one before it are dropped."""
        if number < self.forgotten:
            raise ValueError(f"the noise of block {number} is no longer kept; the first one that is is {self.forgotten}")
        self.draw(number + 1)
        useless = max(0, number - 1 - self.forgotten)
        del self.blocks[:useless]
        self.forgotten += useless
        return self.blocks[number - self.forgotten]

    def draw(self, count: int) -> None:
        """Have the first ``count`` blocks, less those that are dropped already."""
        while self.forgotten + len(self.blocks) < count:
            block = torch.empty(NOISE_BLOCK, self.size).exponential_(generator=self.generator)
            self.blocks.append(block.clamp_(min=1e-20))


class DrawnNoise:
    """The beginnings of rows' streams of noise, drawn before they are asked for: the same numbers, each taken once."""

    def __init__(self) -> None:
        self._rows: dict[tuple[int, int], _Blocks] = {}

    def draw(self, seed: int, size: int, count: int) -> None:
        """The first ``count`` vectors of the row ``seed``."""
        blocks = self._rows.setdefault((seed, size), _Blocks(seed, size))
        blocks.draw(-(-count // NOISE_BLOCK))

    def take(self, seed: int, size: int) -> _Blocks:
        """The stream of a row, from its first vector on."""
        return self._rows.pop((seed, size), None) or _Blocks(seed, size)


@dataclass(frozen=True)
class PlacedNoise:
    """A stream where every row stands at a token of its own: what its draws take depends on the token's number alone.

    So a token may be drawn again, or before it is known whether it counts, and rows may be at different ones.
    """

    stream: RowNoise
    places: Sequence[int]

    def of_token(self, count: int) -> list[Tensor]:
        return [self.stream.at([place * count + part for place in self.places]) for part in range(count)]


class Noise:
    """The noise of a request's rows, by size: draws of another kind beside the tokens' own have streams of their own."""

    def __init__(self, seeds: list[int], device: torch.device) -> None:
        self.seeds, self.device = seeds, device
        self.places: Sequence[int] = [0] * len(seeds)
        self._streams: dict[tuple[int, int], RowNoise] = {}

    def at(self, places: Sequence[int]) -> Noise:
        """The same noise where row ``b`` draws its token number ``places[b]``, counted from the first that it draws."""
        placed = Noise(self.seeds, self.device)
        placed.places, placed._streams = places, self._streams
        return placed

    def restart(self, row: int, seed: int) -> None:
        """A new row has taken the place of ``row``."""
        self.seeds[row] = seed
        for (_, salt), stream in self._streams.items():
            stream.restart(row, seed ^ salt)

    def of(self, size: int, *, salt: int = 0) -> TokenNoise:
        """Noise for distributions over ``size``; another ``salt`` is another stream."""
        return PlacedNoise(self.stream(size, salt=salt), self.places)

    def stream(self, size: int, *, salt: int = 0) -> RowNoise:
        """Where ``of`` takes it from."""
        if (size, salt) not in self._streams:
            self._streams[size, salt] = RowNoise([seed ^ salt for seed in self.seeds], size, self.device)
        return self._streams[size, salt]


def sample(logits: Tensor, sampling: Sampling, noise: TokenNoise, recent: Tensor | None = None) -> Tensor:
    """``logits (B, V)`` -> tokens ``(B,)`` int64; ``recent (B, K)`` are the tokens that repetition is judged by (-1 for none)."""
    if sampling.greedy:
        return logits.argmax(-1)
    probability = torch.softmax(logits.float() / sampling.temperature, -1)
    first, *second = noise.of_token(2 if sampling.repetition_window else 1)
    tokens = (keep_likely(probability, sampling) / first).argmax(-1)
    if sampling.repetition_window == 0:
        return tokens
    again = (probability / second[0]).argmax(-1)
    if recent is None:
        return tokens
    repeated = (recent == tokens[:, None]).sum(-1) > sampling.repetition_ratio * sampling.repetition_window
    return torch.where(repeated, again, tokens)


def distribution(logits: Tensor, sampling: Sampling, recent: Tensor | None = None) -> Tensor:
    """``logits (B, V)`` -> probabilities ``(B, V)`` float32 with which ``sample`` draws each token, repetitions drawn again included."""
    if sampling.greedy:
        return F.one_hot(logits.argmax(-1), logits.shape[-1]).float()
    probability = torch.softmax(logits.float() / sampling.temperature, -1)
    kept = keep_likely(probability, sampling)
    kept = kept / kept.sum(-1, keepdim=True)
    if sampling.repetition_window == 0 or recent is None:
        return kept
    counts = torch.zeros_like(kept, dtype=torch.int64).scatter_add(1, recent.clamp(min=0), (recent >= 0).long())
    repeated = counts > sampling.repetition_ratio * sampling.repetition_window
    again = (kept * repeated).sum(-1, keepdim=True)
    return kept.masked_fill(repeated, 0.0) + again * probability


def sample_all(logits: Tensor, sampling: Sampling, noise: TokenNoise) -> Tensor:
    """``logits (B, T, V)`` -> tokens ``(B, T)``, each position by itself: nothing is a repetition."""
    if sampling.greedy:
        return logits.argmax(-1)
    probability = torch.softmax(logits.float() / sampling.temperature, -1)
    kept = keep_likely(probability.flatten(0, 1), sampling).view(probability.shape)
    return (kept / torch.stack(noise.of_token(logits.shape[1]), 1)).argmax(-1)


def keep_likely(probability: Tensor, sampling: Sampling) -> Tensor:
    """``probability (B, V)`` with what top-k and top-p leave out set to 0, not renormalised."""
    if 0 < sampling.top_k < probability.shape[-1]:
        least = probability.topk(sampling.top_k).values[:, -1:]
        probability = torch.where(probability < least, 0.0, probability)
    if sampling.top_p < 1:
        ordered, order = probability.sort(descending=True)
        before = ordered.cumsum(-1) - ordered  # the mass that is likelier; the likeliest token always stays
        total = ordered.sum(-1, keepdim=True)
        dropped = torch.zeros_like(probability, dtype=torch.bool).scatter(-1, order, before >= sampling.top_p * total)
        probability = probability.masked_fill(dropped, 0.0)
    return probability
