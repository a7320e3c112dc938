#!/usr/bin/env python3
"""How often the watermark is found in one second of sound, by what was done to it, at one false alarm in a thousand seconds.

  python -m benchmarks.watermark --corpus RECORDINGS/read --marked RECORDINGS/other --codecs valle-convnext

The threshold is the 99.9 % quantile of windows of 1 s, a quarter of a second apart, of recordings below ``--corpus``.  Recordings
below ``--marked``, of other speakers or generated and unmarked, are marked, attacked whole, then cropped to 1 s at places that have
nothing to do with the pattern.  ``pesq`` compares marked with unmarked sound.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import RESULTS, figure, header, recordings, write_results
from valle.audio import Waveform, read_audio
from valle.evaluation.attacks import RATE, Attack, attacks, codec_round_trip
from valle.evaluation.mark_windows import FALSE_ALARMS, crop_scores, window_scores
from valle.marks import find
from valle.marks.embed import Watermark
from valle.measures.intervals import share
from valle.tokenizers.base import AcousticTokenizer
from valle.tokenizers.registry import load_tokenizer

GOALS = {"mp3_64k": 0.95, "resample_8khz": 0.95, "noise_20db": 0.95}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="folder of speech without a mark, for the threshold")
    parser.add_argument("--marked", type=Path, required=True, help="folder of speech of others, which is marked here")
    parser.add_argument("--codecs", nargs="*", default=["valle-convnext"], help="names or folders of codecs for round trips")
    parser.add_argument("--num-windows", type=int, default=10000, help="without a mark, at least")
    parser.add_argument("--num-marked", type=int, default=24)
    parser.add_argument("--max-seconds", type=float, default=8.0, help="of each marked recording")
    parser.add_argument("--output", type=Path, default=RESULTS / "watermark.json")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    threshold, negatives = null(options.corpus, options.num_windows)
    codecs = {Path(name).name: load_tokenizer(name).eval() for name in options.codecs}
    paths = recordings(options.marked)
    paths = paths[:: max(1, len(paths) // options.num_marked)][: options.num_marked]
    clips = [read_audio(path, sample_rate=RATE, duration=options.max_seconds)[0] for path in paths]
    command = ["python -m benchmarks.watermark --corpus", str(options.corpus), "--marked", str(options.marked), "--codecs", *options.codecs]
    command += ["--num-marked", str(options.num_marked)]
    results: dict[str, Any] = {**header(command), "negatives": negatives, "pesq": quality(clips), "watermark_tpr": {}}
    for name, codec in codecs.items():
        results[f"pesq_cost_{name}"] = cost(clips, codec)
    for name, attack in attacks(codecs).items():
        results["watermark_tpr"][name] = found_after(attack, clips, threshold, goal=GOALS.get(name))
        print(name, results["watermark_tpr"][name], flush=True)
    write_results(options.output, results)
    print(f"written: {options.output}")


def null(folder: Path, least: int) -> tuple[float, dict[str, Any]]:
    """The threshold, and what it was drawn from."""
    windows, marked, files, seconds = list[float](), 0, 0, 0.0
    for path in recordings(folder):
        wav, _ = read_audio(path, sample_rate=RATE)
        windows += window_scores(wav)
        marked += find.find_watermark(wav).is_marked
        files, seconds = files + 1, seconds + len(wav) / RATE
        if len(windows) >= least:
            break
    threshold = float(np.quantile(windows, 1 - FALSE_ALARMS))
    return threshold, {
        "windows": len(windows), "overlapping": True, "seconds_of_sound": round(seconds), "files": files,
        "files_called_watermarked": marked,
        "threshold_z": round(threshold, 3), "false_alarms_a_second": FALSE_ALARMS, "mean_z": round(float(np.mean(windows)), 3),
        "largest_z": round(max(windows), 3), "speakers": len({path.parent.parent.name for path in recordings(folder)[:files]}),
    }  # fmt: skip


def found_after(attack: Attack, clips: Sequence[Waveform], threshold: float, *, goal: float | None) -> dict[str, Any]:
    """The share of crops of 1 s with a mark above the threshold, and of whole recordings that are called watermarked."""
    scores, whole, seconds = list[float](), list[bool](), list[float]()
    for clip in clips:
        attacked = attack(Watermark(RATE).next(clip))
        found = find.find_watermark(attacked)
        whole.append(found.is_marked)
        seconds.append(found.seconds)
        scores += crop_scores(attacked)
    estimate = share(sum(score > threshold for score in scores), len(scores))
    return {
        **figure([estimate.mean], at_least=goal), "low": round(estimate.low, 3), "high": round(estimate.high, 3), "windows": len(scores),
        "mean_z": round(float(np.mean(scores)), 2), "whole_recordings": round(float(np.mean(whole)), 3),
        "whole_seconds": round(float(np.mean(seconds)), 1),
    }  # fmt: skip


def quality(clips: Sequence[Waveform]) -> dict[str, Any]:
    """PESQ, wide band, of marked against unmarked sound."""
    from pesq import pesq

    scores = [float(pesq(RATE, clip, Watermark(RATE).next(clip), "wb")) for clip in clips]
    spread = {"lowest": round(min(scores), 3), "highest": round(max(scores), 3), "recordings": len(scores)}
    return {**figure([float(np.mean(scores))], at_least=4.3), **spread}


def cost(clips: Sequence[Waveform], codec: AcousticTokenizer) -> dict[str, Any]:
    """What the mark takes from the PESQ of codec speech against the recording itself: generated sound is codec sound too."""
    from pesq import pesq

    losses = []
    for clip in clips:
        again = codec_round_trip(codec, clip)
        losses.append(float(pesq(RATE, clip, again, "wb")) - float(pesq(RATE, clip, Watermark(RATE).next(again), "wb")))
    return {**figure([float(np.mean(losses))], at_most=0.1), "highest": round(max(losses), 3), "recordings": len(losses)}


if __name__ == "__main__":
    main()
