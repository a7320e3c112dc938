"""Plain names for the rows of benchmark tables: a result's path of keys, as words that a reader knows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.memory import HOURS, TIMES

SMALL, LARGE = f"{60 * HOURS:g} min", f"{HOURS * TIMES:g} h"
FEWEST, MOST = 150, 650  # positions between which benchmarks.decoding decodes

NAMES = (
    (r"stage_3/times_real_time", r"tokenizing (stage 3, two threads), times real time"),
    (r"codec/(en|de)code_times_real_time", r"codec \1coding (one thread), times real time"),
    (r"training/step/ours_seconds", r"training step, s"),
    (r"training/step/bare_seconds", r"training step of a bare PyTorch loop, s"),
    (r"training/step/targets_per_s", r"training targets per second"),
    (r"training/step/bare_over_ours", r"training speed over the bare loop's"),
    (r"training/padding/percent", r"padding in training batches, % of tokens"),
    (r"training/padding/examples_a_batch", r"cuts in a training batch"),
    (r"infer/batch (\d+)/rtf", r"work per second of new audio, \1 at once, s"),
    (r"decoding/(\d+)x(\d+)(.*)/ours_tokens_per_s", r"decoding, \2 layers of \1\3: tokens/s"),
    (r"decoding/(\d+)x(\d+)(.*)/llama_tokens_per_s", r"decoding, \2 layers of \1\3: tokens/s of Llama in transformers"),
    (r"decoding/(\d+)x(\d+)(.*)/ours_over_llama", r"decoding, \2 layers of \1\3: speed over Llama's"),
    (r"decoding/(\d+)x(\d+)(.*)/ours_over_llama_at_the_end", rf"decoding, \2 layers of \1\3: speed over Llama's at {MOST} tokens"),
    (r"decoding/(\d+)x(\d+)(.*)/tokens_per_s_at_(\d+)", r"decoding, \2 layers of \1\3: tokens/s at \4 tokens"),
    (r"decoding/(\d+)x(\d+)(.*)/end_over_beginning", rf"decoding, \2 layers of \1\3: speed at {MOST} tokens over speed at {FEWEST}"),
    (
        r"decoding/(\d+)x(\d+)(.*)/flat_but_for_reading",
        rf"decoding, \2 layers of \1\3: growth of latency per token from {FEWEST} to {MOST} tokens, without the time to read the KV cache",
    ),
    (r"stages/stage_(\d)/1x_gib", rf"peak memory of stage \1, {SMALL} of speech, GiB"),
    (r"stages/stage_(\d)/\d+x_gib", rf"peak memory of stage \1, {LARGE} of speech, GiB"),
    (r"stages/stage_(\d)/growth", rf"peak memory of stage \1, {LARGE} over {SMALL}"),
    (r"infer/one_prompt/peak_gib", r"peak memory of `infer.py`, one prompt, GiB"),
    (r"infer/eight_at_once/peak_gib", r"peak memory of `infer.py`, eight prompts at once, GiB"),
    (r"infer/resynthesize_(\d+)_s/peak_gib", r"peak memory of `infer.py`, codec round trip of \1 s, GiB"),
    (r"decoding of ([\w-]+)/(\d+) s gib", r"`\1` decoding \2 s, GiB"),
    (r"decoding of ([\w-]+)/growth", r"`\1` decoding, the long file over the short one"),
    (r"([\w-]+)/(\d+) s gib", r"`\1` encoding \2 s, GiB"),
    (r"([\w-]+)/growth", r"`\1` encoding, the long file over the short one"),
    (r"([\w-]+), ([\w ]+)/(\d+) s gib", r"`\1` with \2 encoding \3 s, GiB"),
    (r"([\w-]+), ([\w ]+)/growth", r"`\1` with \2 encoding, the long file over the short one"),
    (r"(static|continuous)_tokens_per_s", r"\1 batches: tokens per second of processor time"),
    (r"continuous_over_static", r"continuous over static batches"),
    (r"suites/score", r"`bin/score.py`: processor time per second of audio, s"),
    (r"suites/(\w+)", r"suite `\1`: processor time per second of audio, s"),
    (r"pages/([\w-]+)", r"weight of the page `\1`, MiB"),
    (r"flac_(\d+)khz/share", r"FLAC at \1 kHz: time of the networks alone over time of tokenizing"),
    (r"flac_(\d+)khz/of_cpu_seconds", r"FLAC at \1 kHz: CPU time of the networks alone over CPU time of tokenizing"),
    (r"flac_(\d+)khz/forward_times_real_time", r"FLAC at \1 kHz: networks alone, times real time"),
    (r"flac_(\d+)khz/tokenising_times_real_time", r"FLAC at \1 kHz: tokenizing, times real time"),
)


def row_name(path: Sequence[str]) -> str:
    """What a reader sees for the keys that lead to a figure; raises ``ValueError`` where no name was given to it."""
    joined = "/".join(path)
    for pattern, name in NAMES:
        if match := re.fullmatch(pattern, joined):
            return match.expand(name)
    raise ValueError(f"expected a plain name for {joined} in benchmarks/row_names.py, found none; add one")


def figures_of(values: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every figure within the results of a benchmark, by its row's name, in order."""
    if isinstance(values, dict):
        if {"value", "spread"} <= values.keys():
            yield row_name(path), values
        else:
            for key, value in values.items():
                yield from figures_of(value, (*path, key))
