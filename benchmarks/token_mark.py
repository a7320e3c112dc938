#!/usr/bin/env python3
"""Could a mark live in the drawn codes?  How many codes are still there when sound made of them is encoded again, by level and by attack.

  python -m benchmarks.token_mark --corpus RECORDINGS --codec valle-convnext

A mark in tokens is a keyed half of the codes that drawing prefers, so that a share ``s`` of the codes lies in it instead of a half.
Whoever encodes the sound again finds the share ``1/2 + a (s - 1/2)``, where ``a`` is the share of codes that come back.  With n codes a
second that is ``2 a (s - 1/2) sqrt(n)`` standard deviations a second; here s is 0.75, which costs half a bit a code at most.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from math import sqrt
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import RESULTS, header, recordings, write_results
from valle.audio import read_audio, resample
from valle.evaluation.attacks import RATE, attacks
from valle.tokenizers.registry import load_tokenizer
from valle.tokenizers.stream import decode_clip, encode_clip

PREFERRED = 0.75
SECONDS = 6.0
ATTACKS = ("none", "mp3_64k", "opus_32k", "noise_20db")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="folder of speech")
    parser.add_argument("--codec", default="valle-convnext")
    parser.add_argument("--num-files", type=int, default=4)
    parser.add_argument("--output", type=Path, default=RESULTS / "token_mark.json")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    codec = load_tokenizer(options.codec).eval()
    paths = recordings(options.corpus)
    paths = paths[:: max(1, len(paths) // options.num_files)][: options.num_files]
    kept: dict[str, list[torch.Tensor]] = {name: [] for name in ATTACKS}
    for path in paths:
        drawn = encode_clip(codec, torch.from_numpy(read_audio(path, sample_rate=codec.sample_rate, duration=SECONDS)[0]))
        sound = resample(decode_clip(codec, drawn).numpy(), codec.sample_rate, RATE)
        for name, attack in attacks({}).items():
            if name in ATTACKS:
                again = encode_clip(codec, torch.from_numpy(resample(attack(sound), RATE, codec.sample_rate)))
                kept[name].append((again[: len(drawn)] == drawn[: len(again)]).float())
    command = f"python -m benchmarks.token_mark --corpus {options.corpus} --codec {options.codec}"
    rows = {name: _row(torch.cat(found), codec.sample_rate / codec.hop_length) for name, found in kept.items()}
    write_results(options.output, {**header([command]), "preferred_share": PREFERRED, "files": len(paths), "after": rows})
    print(rows)


def _row(kept: torch.Tensor, frames_a_second: float) -> dict[str, Any]:
    """Of whether codes ``(T, Q)`` came back."""
    shares = [round(float(share), 3) for share in kept.mean(0)]
    deviations = [2 * share * (PREFERRED - 0.5) * sqrt(frames_a_second) for share in shares]
    return {
        "codes_kept_by_level": shares,
        "deviations_a_second_by_level": [round(value, 2) for value in deviations],
        "deviations_a_second_all_levels": round(sqrt(sum(value**2 for value in deviations)), 2),  # levels weighed by what they keep
    }


if __name__ == "__main__":
    main()
