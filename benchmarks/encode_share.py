#!/usr/bin/env python3
"""How much of the bare model's speed tokenising a corpus has: reading, resampling and storing beside encoding alone.

python -m benchmarks.encode_share            benchmarks/results/encode_share.json; four minutes on two cores
python -m benchmarks.encode_share --fast     the same path in tiny sizes, to see that it works; its figures say nothing

The same batches, by turns in one run: encoded from memory by as many threads, and tokenised from FLAC files to the
last shard.  The machine's other work slows both, so that only their ratio says something on a busy one.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from lhotse import Recording
from lhotse.cut import Cut

from benchmarks.common import RESULTS, figure, goal_lines, header, write_results
from valle.audio import read_audio, resample
from valle.corpora.manifests import read_cuts, write_cuts
from valle.corpora.report_reasons import PARTS
from valle.memory import give_memory_back
from valle.tokenizers.registry import BUNDLED_ACOUSTIC, BUNDLED_SEMANTIC, load_acoustic, load_semantic, save_tokenizer
from valle.tokenizing.encode_batches import AudioBatch, BatchTokenizer, batches_of_like_lengths
from valle.tokenizing.tokenize_cuts import TokenizeConfig, tokenize_cuts

SAMPLES = Path(__file__).resolve().parents[1] / "valle" / "assets" / "samples"
RATES = (16000, 24000)  # of the files: as both tokenizers take it, and resampled
GOAL = 0.9


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=RESULTS / "encode_share.json")
    parser.add_argument("--fast", action="store_true", help="tiny sizes, for tests")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--batch-seconds", type=float, default=60.0, help="seconds of padded audio in a batch")
    parser.add_argument("--num-workers", type=int, default=2, help="threads that read, and on a CPU as many that encode")
    options = parser.parse_args(arguments)
    size = {"num_cuts": 6, "repeats": 2} if options.fast else {"num_cuts": 200, "repeats": 5}
    results: dict[str, Any] = {**header(["python -m benchmarks.encode_share"]), "fast": options.fast}
    given = {"device": options.device, "batch_seconds": options.batch_seconds, "num_workers": options.num_workers}
    for rate in RATES:
        results[f"flac_{rate // 1000}khz"] = bench_encode_share(rate=rate, at_least=GOAL if rate == RATES[0] else None, **given, **size)
    results["encode_share_of_forward"] = results[f"flac_{RATES[0] // 1000}khz"]["share"]["value"]
    write_results(options.output, results)
    print("\n".join([*goal_lines(results), f"written: {options.output}"]))


def bench_encode_share(
    *,
    rate: int = RATES[0],
    at_least: float | None = GOAL,
    device: str = "cpu",
    batch_seconds: float = 60.0,
    num_workers: int = 2,
    num_cuts: int = 200,
    repeats: int = 5,
) -> dict[str, Any]:
    """``share``: seconds of encoding alone over seconds of tokenising, by both bundled tokenizers, of files at ``rate`` Hz."""
    codec, units = load_acoustic(BUNDLED_ACOUSTIC), load_semantic(BUNDLED_SEMANTIC)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seconds = write_corpus(folder, num_cuts, rate)
        for kind, tokenizer in (("acoustic", codec), ("semantic", units)):
            save_tokenizer(tokenizer, folder / "tokenizers" / kind)
        cuts = list(read_cuts(folder / "manifests" / "cuts_train.jsonl.gz"))
        with BatchTokenizer(codec, units, device=device, batch_seconds=batch_seconds, num_workers=num_workers) as tokenizer:
            batches = [
                tokenizer.read([cuts[index] for index in indexes])
                for indexes in batches_of_like_lengths([cut.duration for cut in cuts], batch_seconds)
            ]
            bare, whole = [], []
            for turn in range(repeats + 1):  # the first warms up
                bare.append(time_forward(tokenizer, batches, num_workers))
                config = TokenizeConfig(
                    manifest_dir=folder / "manifests", tokenizer_dir=folder / "tokenizers", output_dir=folder / f"out{turn}",
                    batch_seconds=batch_seconds, num_workers=num_workers, device=device,
                )  # fmt: skip
                whole.append(time_tokenising(config))
    pairs = list(zip(bare, whole, strict=True))[1:]
    return {
        "audio_seconds": round(seconds, 1),
        "batches": len(batches),
        "device": device,
        "threads": num_workers,
        "share": figure(
            [one.wall / other.wall for one, other in pairs], at_least=at_least, means="seconds of encoding alone over seconds of tokenising"
        ),
        "of_cpu_seconds": figure([one.cpu / other.cpu for one, other in pairs], means="the same of what the process used of all cores"),
        "forward_times_real_time": figure([seconds / one.wall for one, _ in pairs], digits=1),
        "tokenising_times_real_time": figure([seconds / other.wall for _, other in pairs], digits=1),
    }


def write_corpus(folder: Path, num_cuts: int, rate: int) -> float:
    """Train cuts of 3 to 12 s of the bundled recordings as FLAC, and one short cut of dev and of test; seconds in all."""
    speech = np.concatenate([resample(*read_audio(path), rate) for path in sorted(SAMPLES.glob("*.flac"))])
    rng = np.random.default_rng(0)
    lengths = {"train": rng.uniform(3, 12, num_cuts), "dev": np.array([0.1]), "test": np.array([0.1])}
    for part in PARTS:
        cuts: list[Cut] = []
        for number, length in enumerate(lengths[part]):
            path = folder / "audio" / f"{part}-{number}.flac"
            path.parent.mkdir(exist_ok=True)
            start = rng.integers(0, len(speech) - round(length * rate))
            soundfile.write(path, speech[start : start + round(length * rate)], rate)
            cuts.append(Recording.from_file(path).to_cut())
        write_cuts(cuts, folder / "manifests" / f"cuts_{part}.jsonl.gz")
    return float(sum(values.sum() for values in lengths.values()))


@dataclass(frozen=True)
class Spent:
    """Seconds by the clock, and of all cores by this process."""

    wall: float
    cpu: float


def time_forward(tokenizer: BatchTokenizer, batches: Sequence[AudioBatch], num_workers: int) -> Spent:
    """To encode what is in memory already."""
    give_memory_back()
    threads = num_workers if tokenizer.device.type == "cpu" else 1
    with ThreadPoolExecutor(threads) as pool:
        return _spent(lambda: list(pool.map(tokenizer.encode, batches)))


def time_tokenising(config: TokenizeConfig) -> Spent:
    """From loading the tokenizers to the last shard."""
    return _spent(lambda: tokenize_cuts(config))


def _spent(run: Callable[[], object]) -> Spent:
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return Spent(wall=time.perf_counter() - wall, cpu=time.process_time() - cpu)


if __name__ == "__main__":
    main()
