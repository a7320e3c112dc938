#!/usr/bin/env python3
"""How many units stay the same when audio is encoded in windows, by how much of what is around a window is heard with it.

  python -m benchmarks.window_context --exp-dirs exp/hubert-1 exp/unlimited

Runs of ``bin/trainer_speech_encoder.py``: what attention sees is bounded (``--left-reach 32 --right-reach 4``, the recipe's choice), or
is not.  Units of windows of 1 s are compared with those of the same clips at once, under the same clusters.  A bounded encoder
is measured a second time with its bounds lifted: the same weights, attention that sees everything.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import RESULTS, header, write_results
from valle.audio import Waveform
from valle.data.speech_crops import SpeechCorpus
from valle.models.checkpoint import choose_checkpoint
from valle.tokenizers.hubert import HubertConfig, HubertTokenizer, hubert_from_encoder
from valle.tokenizers.kmeans_fit import fit_kmeans
from valle.tokenizers.speech_encoder import SpeechEncoder
from valle.training.speech_encoder_fit import load_encoder

WINDOW = 50  # units of 20 ms
CONTEXTS = ((0, 0), (25, 5), (50, 10), (100, 25), (200, 50), (400, 100))  # units to the left and to the right
AT_ONCE = 10**6


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exp-dirs", type=Path, nargs="+", required=True, help="runs of trainer_speech_encoder.py")
    parser.add_argument("--layer", type=int, default=4)
    parser.add_argument("--num-units", type=int, default=200)
    parser.add_argument("--manifest", type=Path, default=Path("data/manifests/cuts_dev.jsonl.gz"))
    parser.add_argument("--num-clips", type=int, default=6)
    parser.add_argument("--clip-seconds", type=float, default=30.0, help="of utterances one after another")
    parser.add_argument("--output", type=Path, default=RESULTS / "window_context.json")
    options = parser.parse_args(arguments)
    clips = clips_of(options.manifest, number=options.num_clips, seconds=options.clip_seconds)
    results = header(["python -m benchmarks.window_context", "--exp-dirs", *map(str, options.exp_dirs)])
    results.update(
        layer=options.layer, num_units=options.num_units, window_seconds=WINDOW * 0.02, clip_seconds=options.clip_seconds,
        num_clips=len(clips),
        encoders=[row for path in options.exp_dirs for row in measure(path, clips, options.layer, options.num_units)],
    )  # fmt: skip
    write_results(options.output, results)
    for encoder in results["encoders"]:
        for row in encoder["contexts"]:
            print(f"{encoder['attention']}: {row['left_seconds']:g} s before, {row['right_seconds']:g} s after: {row['same']:.2%}")
    print(f"written: {options.output}")


@torch.no_grad()
def measure(exp_dir: Path, clips: Sequence[Waveform], layer: int, num_units: int) -> list[dict[str, Any]]:
    """The encoder of a run as it is, and with its bounds lifted where it has any."""
    encoder = load_encoder(exp_dir)
    steps = choose_checkpoint(exp_dir, epoch=0, avg=1)["counters"]["step"]
    named = {"exp_dir": str(exp_dir), "steps": steps}
    if encoder.config.left_reach is None and encoder.config.right_reach is None:
        return [{**named, "attention": "unbounded", **same_units(encoder, clips, layer, num_units)}]
    free = SpeechEncoder(replace(encoder.config, left_reach=None, right_reach=None)).eval()
    free.load_state_dict(encoder.state_dict())
    return [
        {**named, "attention": "bounded", **same_units(encoder, clips, layer, num_units)},
        {**named, "attention": "bounded, lifted", **same_units(free, clips, layer, num_units)},
    ]


def same_units(encoder: SpeechEncoder, clips: Sequence[Waveform], layer: int, num_units: int) -> dict[str, Any]:
    """The share of units that are those of the clips at once, for every context."""
    at_once = hubert_from_encoder(encoder, HubertConfig(num_units=num_units, window=AT_ONCE, left=0, right=0), layer=layer)
    states = np.concatenate([at_once.hidden(*batch_of_one(clip))[0].numpy() for clip in clips])
    fit = fit_kmeans(states, num_units, seed=0, seconds_per_frame=at_once.hop_length / at_once.sample_rate)
    at_once.take_clusters(fit)
    expected = units_of(at_once, clips)
    rows = []
    for left, right in CONTEXTS:
        tokenizer = hubert_from_encoder(encoder, replace(at_once.settings, window=WINDOW, left=left, right=right), layer=layer)
        tokenizer.take_clusters(fit)
        step = tokenizer.hop_length / tokenizer.sample_rate
        same = float((units_of(tokenizer, clips) == expected).double().mean())
        rows.append({"left_seconds": round(left * step, 3), "right_seconds": round(right * step, 3), "same": same})
    return {"units": len(expected), "contexts": rows}


def units_of(tokenizer: HubertTokenizer, clips: Sequence[Waveform]) -> torch.Tensor:
    return torch.cat([tokenizer.encode(*batch_of_one(clip))[0][0] for clip in clips])


def batch_of_one(clip: Waveform) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(clip)[None], torch.tensor([len(clip)])


def clips_of(manifest: Path, *, number: int, seconds: float) -> list[Waveform]:
    """Utterances of a manifest in its order, cut into clips of one length."""
    corpus = SpeechCorpus.read([manifest], frame=Fraction(1, 50), min_seconds=0.1)
    size, clips, held = round(seconds * 16000), list[Waveform](), np.zeros(0, np.float32)
    for wav in corpus.waveforms(sample_rate=16000):
        held = np.concatenate([held, wav])
        while len(held) >= size and len(clips) < number:
            clips.append(held[:size])
            held = held[size:]
        if len(clips) == number:
            break
    return clips


if __name__ == "__main__":
    main()
