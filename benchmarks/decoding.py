"""Cached decoding beside its peer: tokens a second of our engine with torch's step and of ``transformers``' Llama with its static cache.

The native step, other peers and what reading the weights takes stand in ``benchmarks.engines``.

Both decode the same number of tokens of the same vocabulary with the same number of layers, width and heads, and as
many weights in the feed-forward (Llama's is gated, so its inner width is two thirds), float32, temperature 1, one
thread.  Llama runs in the leanest loop that its static cache allows, without the overhead of ``generate()``.  The two
take turns, and what is reported is the median over pairs, so that a busy machine slows both.

A static cache costs the same at every position, the room that is still empty included; ours costs what is filled, so it
is slower at the end than at the beginning: ``end_over_beginning``.  In a batch, reading the cache is most of the work and
no float32 cache can be flat; ``flat_but_for_reading`` leaves out what torch's own attention takes to read the keys and values
that came in between, and shows whether anything else grows.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

from benchmarks.common import figure
from valle.decoding.sampling import Sampling
from valle.models import AudioLM
from valle.modules.transformer import Engine

VOCABULARY = 1024
HEAD_SIZE = 64


@dataclass(frozen=True)
class Shape:
    """One line of the table."""

    d_model: int
    num_layers: int
    batch: int

    @property
    def name(self) -> str:
        return f"{self.d_model}x{self.num_layers}, batch {self.batch}"

    @property
    def nhead(self) -> int:
        return self.d_model // HEAD_SIZE


@dataclass(frozen=True)
class Span:
    """Positions between which is decoded, and how many are timed at each end."""

    first: int = 150
    last: int = 650
    ends: int = 50


SHAPES = tuple(Shape(width, layers, batch) for width, layers in ((256, 4), (512, 8)) for batch in (1, 8))
TINY_SHAPES = (Shape(64, 2, 1), Shape(64, 2, 2))

Decode = Callable[[int, int], list[float]]


def our_decoder(shape: Shape, span: Span, *, engine: Engine = "torch", dtype: str = "float32") -> Decode:
    """``decode(prompt_length, num_new)`` of the coarse stage -> the moment of every token."""
    model = AudioLM(
        d_model=shape.d_model, nhead=shape.nhead, num_layers=shape.num_layers, num_quantizers=1, codebook_size=VOCABULARY, dropout=0.0
    ).eval()  # fmt: skip
    if dtype == "bfloat16":
        model.bfloat16()
    stepping = model.coarse.transformer.stepping
    stepping.engine, stepping.weights = engine, "int8" if dtype == "int8" else "own"
    moments: list[float] = []
    # The native step draws many tokens in one call and does not call the head: of it, the ends of the prompt's pass and of all tokens.
    watched = model.coarse.head if engine == "torch" else model.coarse.transformer
    watched.register_forward_hook(lambda *_: moments.append(time.perf_counter()))

    def decode(prompt_length: int, num_new: int) -> list[float]:
        moments.clear()
        codes = torch.zeros(shape.batch, prompt_length, 1, dtype=torch.int64)
        model.coarse.generate(
            list(codes), num_frames=[prompt_length + num_new] * shape.batch, units=None,
            sampling=Sampling(), seeds=list(range(shape.batch)), window=2 * span.last,
        )  # fmt: skip
        return list(moments) if engine == "torch" else [*moments, *[time.perf_counter()] * (num_new - 1)]

    return decode


def llama(shape: Shape, span: Span) -> Any:
    """``LlamaForCausalLM`` with as many weights as our stack of that shape."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=shape.d_model, intermediate_size=8 * shape.d_model // 3, num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.nhead, max_position_embeddings=2 * span.last, attn_implementation="sdpa",
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def llama_decoder(shape: Shape, span: Span) -> Decode:
    """The same of ``LlamaForCausalLM`` with ``StaticCache``."""
    from transformers import StaticCache

    model = llama(shape, span)

    @torch.inference_mode()
    def decode(prompt_length: int, num_new: int) -> list[float]:
        moments = []
        cache = StaticCache(config=model.config, max_cache_len=prompt_length + num_new)
        tokens = torch.zeros(shape.batch, prompt_length, dtype=torch.int64)
        for index in range(num_new):
            positions = torch.arange(tokens.shape[1]) if index == 0 else torch.tensor([prompt_length + index - 1])
            output = model(tokens, past_key_values=cache, position_ids=positions[None], use_cache=True, logits_to_keep=1)
            moments.append(time.perf_counter())
            tokens = torch.multinomial(torch.softmax(output.logits[:, -1], -1), 1)
        return moments

    return decode


@torch.inference_mode()
def reading_seconds(shape: Shape, length: int, *, repeats: int = 5) -> float:
    """What one step's attention over ``length`` cached positions of all layers takes by itself."""
    caches = [torch.randn(2, shape.batch, shape.nhead, length, HEAD_SIZE) for _ in range(shape.num_layers)]
    query = torch.randn(shape.batch, shape.nhead, 1, HEAD_SIZE)
    seconds = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        for keys, values in caches:
            F.scaled_dot_product_attention(query, keys, values)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:])


def seconds_a_step(moments: list[float]) -> float:
    return (moments[-1] - moments[0]) / (len(moments) - 1)


def measure(shape: Shape, span: Span, *, pairs: int) -> dict[str, Any]:
    """Decode from one end of the span to the other by turns, ``pairs`` times; the prompt's own pass is not counted."""
    torch.manual_seed(0)
    ours, llama = our_decoder(shape, span), llama_decoder(shape, span)
    for decode in (ours, llama):
        decode(span.first, 8)
    rows = []
    for _ in range(pairs):
        mine, theirs = ours(span.first, span.last - span.first), llama(span.first, span.last - span.first)
        reading = reading_seconds(shape, span.last) - reading_seconds(shape, span.first)
        first, last = seconds_a_step(mine[: span.ends]), seconds_a_step(mine[-span.ends :])
        rows.append((seconds_a_step(mine), seconds_a_step(theirs), first, last, seconds_a_step(theirs[-span.ends :]), reading))
    return {
        "ours_tokens_per_s": figure([shape.batch / mine for mine, *_ in rows], digits=1),
        "llama_tokens_per_s": figure([shape.batch / theirs for _, theirs, *_ in rows], digits=1),
        "ours_over_llama": figure([theirs / mine for mine, theirs, *_ in rows], at_least=1.0),
        "ours_over_llama_at_the_end": figure([end / last for _, _, _, last, end, _ in rows], means=f"at {span.last} tokens alone"),
        f"tokens_per_s_at_{span.first}": figure([shape.batch / first for _, _, first, _, _, _ in rows], digits=1),
        f"tokens_per_s_at_{span.last}": figure([shape.batch / last for _, _, _, last, _, _ in rows], digits=1),
        "end_over_beginning": figure([first / last for _, _, first, last, _, _ in rows], at_least=0.8, means="their ratio"),
        "flat_but_for_reading": figure(
            [(last - reading) / first for _, _, first, last, _, reading in rows], at_most=1.15,
            means="seconds of a token at the end, less what reading the keys and values in between takes, over seconds at the beginning",
        ),
    }  # fmt: skip


def bench_decoding(*, fast: bool = False) -> dict[str, Any]:
    """Every shape and batch size, on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    span, pairs = (Span(10, 30, 8), 2) if fast else (Span(), 5)
    try:
        return {shape.name: measure(shape, span, pairs=pairs) for shape in (TINY_SHAPES if fast else SHAPES)}
    finally:
        torch.set_num_threads(before)


if __name__ == "__main__":
    print(json.dumps(bench_decoding(), indent=2))
