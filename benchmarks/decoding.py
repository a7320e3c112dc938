"""Cached decoding beside its peer: tokens a second of our engine and of ``transformers``' Llama with its static cache.

Both decode the same number of tokens of the same vocabulary with the same number of layers, width and heads, and as
many weights in the feed-forward (Llama's is gated, so its inner width is two thirds), float32, temperature 1.  Llama
runs in the leanest loop that its static cache allows, without the overhead of ``generate()``.  The two take turns, and
what is reported is the median over pairs, so that a busy machine slows both.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from valle.decoding.sampling import Sampling
from valle.models import AudioLM

VOCABULARY = 1024
SHAPES = ((256, 4), (512, 8))
BATCHES = (1, 8)
FIRST, LAST, SPAN = 150, 650, 50  # positions between which is decoded, and how many are timed at each end


@dataclass(frozen=True)
class Shape:
    """One line of the table."""

    d_model: int
    num_layers: int
    batch: int

    @property
    def name(self) -> str:
        return f"{self.d_model}x{self.num_layers}"

    @property
    def nhead(self) -> int:
        return self.d_model // 64


def our_decoder(shape: Shape) -> Callable[[int, int], list[float]]:
    """``decode(prompt_length, num_new)`` of the coarse stage -> the moment of every token."""
    model = AudioLM(
        d_model=shape.d_model, nhead=shape.nhead, num_layers=shape.num_layers, num_quantizers=1, codebook_size=VOCABULARY, dropout=0.0
    ).eval()  # fmt: skip
    moments: list[float] = []
    model.coarse.head.register_forward_hook(lambda *_: moments.append(time.perf_counter()))

    def decode(prompt_length: int, num_new: int) -> list[float]:
        moments.clear()
        codes = torch.zeros(shape.batch, prompt_length, 1, dtype=torch.int64)
        model.coarse.generate(
            list(codes), num_frames=[prompt_length + num_new] * shape.batch, units=None,
            sampling=Sampling(), seeds=list(range(shape.batch)), window=2 * LAST,
        )  # fmt: skip
        return list(moments)

    return decode


def llama_decoder(shape: Shape) -> Callable[[int, int], list[float]]:
    """The same of ``LlamaForCausalLM`` with ``StaticCache``."""
    from transformers import LlamaConfig, LlamaForCausalLM, StaticCache

    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=shape.d_model, intermediate_size=8 * shape.d_model // 3, num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.nhead, max_position_embeddings=2 * LAST, attn_implementation="sdpa",
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()

    @torch.inference_mode()
    def decode(prompt_length: int, num_new: int) -> list[float]:
        moments = []
        cache = StaticCache(config=config, max_cache_len=prompt_length + num_new)
        tokens = torch.zeros(shape.batch, prompt_length, dtype=torch.int64)
        for index in range(num_new):
            positions = torch.arange(tokens.shape[1]) if index == 0 else torch.tensor([prompt_length + index - 1])
            output = model(tokens, past_key_values=cache, position_ids=positions[None], use_cache=True, logits_to_keep=1)
            moments.append(time.perf_counter())
            tokens = torch.multinomial(torch.softmax(output.logits[:, -1], -1), 1)
        return moments

    return decode


def rate(moments: list[float], batch: int) -> float:
    """Tokens a second between the first and the last moment."""
    return batch * (len(moments) - 1) / (moments[-1] - moments[0])


def measure(shape: Shape, *, pairs: int) -> dict[str, Any]:
    """Decode from position ``FIRST`` to ``LAST`` by turns, ``pairs`` times; the prompt's own pass is not counted."""
    torch.manual_seed(0)
    ours, llama = our_decoder(shape), llama_decoder(shape)
    for decode in (ours, llama):
        decode(FIRST, 8)
    runs = [(ours(FIRST, LAST - FIRST), llama(FIRST, LAST - FIRST)) for _ in range(pairs)]
    rates = [(rate(mine, shape.batch), rate(theirs, shape.batch)) for mine, theirs in runs]
    ends = [(rate(mine[:SPAN], shape.batch), rate(mine[-SPAN:], shape.batch)) for mine, _ in runs]
    ratios = [mine / theirs for mine, theirs in rates]
    return {
        "name": shape.name,
        "batch": shape.batch,
        "ours_tokens_per_s": round(statistics.median(mine for mine, _ in rates), 1),
        "llama_tokens_per_s": round(statistics.median(theirs for _, theirs in rates), 1),
        "ratio": round(statistics.median(ratios), 3),
        "spread": [round(min(ratios), 3), round(max(ratios), 3)],
        f"at_{FIRST}": round(statistics.median(first for first, _ in ends), 1),
        f"at_{LAST}": round(statistics.median(last for _, last in ends), 1),
        "flatness": round(statistics.median(last / first for first, last in ends), 3),
        "pairs": pairs,
        "threads": torch.get_num_threads(),
        "machine": machine(),
    }


def machine() -> str:
    """Processor and torch, as far as they say."""
    model = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    return f"{model}, {os.cpu_count()} cores, torch {torch.__version__}"


def bench_decoding(*, pairs: int = 5, threads: int = 1) -> list[dict[str, Any]]:
    """Every shape and batch size, on ``threads`` threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return [measure(Shape(width, layers, batch), pairs=pairs) for width, layers in SHAPES for batch in BATCHES]
    finally:
        torch.set_num_threads(before)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    for line in bench_decoding(pairs=arguments.pairs, threads=arguments.threads):
        print(json.dumps(line))
