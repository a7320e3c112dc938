#!/usr/bin/env python3
"""How a rank of a training reads 1, 100 and 10,000 hours' worth of cuts, by simulation: manifests without sound or tokens.

  python -m benchmarks.scale          benchmarks/results/scale.json; about a quarter of an hour and 6 GB in a temporary folder
  python -m benchmarks.scale --fast   tiny sizes, to see that it works

A cut has the fields that stage 4 writes, and 12 s on average.  Of 1, 8 and 64 ranks, rank 0 and the last one are measured, each in
a process of its own without reading workers.  Tokens are not read: what is measured is which cuts make which batch, and parsing them.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS, ROOT, header, run_child, write_results

CUTS_AN_HOUR = 300
HOURS = (1, 100, 10_000)
RANKS = (1, 8, 64)
IN_ORDER_UP_TO = 100  # hours; more take minutes a rank that way
BATCHES = 100  # whose mean is the time of a batch
MAX_DURATION = 80.0
SHARD = 150  # cuts, half an hour, as stage 3 makes them


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fast", action="store_true", help="tiny sizes, for tests")
    parser.add_argument("--child", nargs="+", help="what a process of its own does: make FOLDER CUTS, or read FOLDER WAY RANK RANKS")
    parser.add_argument("--output", type=Path, default=RESULTS / "scale.json")
    options = parser.parse_args(arguments)
    if options.child:
        what, *values = options.child
        folder = Path(values[0])
        found = make(folder, int(values[1])) if what == "make" else read(folder, values[1], int(values[2]), int(values[3]))
        options.output.write_text(json.dumps(found))
        return
    started = time.monotonic()
    results = header(["python -m benchmarks.scale", *(["--fast"] if options.fast else [])])
    results.update(max_duration=MAX_DURATION, seconds_a_cut=3600 / CUTS_AN_HOUR, batches=BATCHES)
    results["corpora"] = [measure(hours, RANKS[:2] if options.fast else RANKS) for hours in ((1, 2) if options.fast else HOURS)]
    results["wall_seconds"] = round(time.monotonic() - started, 1)
    write_results(options.output, results)
    print(f"written: {options.output}")


def measure(hours: int, ranks: Sequence[int]) -> dict[str, Any]:
    """A corpus made, read by some ranks, and deleted."""
    with tempfile.TemporaryDirectory(prefix="scale-") as name:
        print(f"measuring: {hours} h", file=sys.stderr, flush=True)
        made, rows = child("make", name, hours * CUTS_AN_HOUR), []
        for size in ranks:
            for way in ("index", "in order") if hours <= IN_ORDER_UP_TO else ("index",):
                found = [child("read", name, way, rank, size) for rank in sorted({0, size - 1})]
                rows.append({"ranks": size, "way": way, **{key: [one[key] for one in found] for key in found[0]}})
        return {"hours": hours, "cuts": hours * CUTS_AN_HOUR, "made": made, "rows": rows}


def child(*words: object) -> dict[str, Any]:
    """What a process of its own found."""
    with tempfile.NamedTemporaryFile("r") as found:
        command = [sys.executable, "-m", "benchmarks.scale", "--output", found.name, "--child", *map(str, words)]
        run_child(command, cwd=ROOT, environment={"OMP_NUM_THREADS": "1"})
        values: dict[str, Any] = json.load(found)
    return values


def make(folder: Path, num_cuts: int) -> dict[str, Any]:
    """What stage 4 leaves of ``num_cuts`` cuts: shuffled and indexed, and packed as well where they are read in order."""
    from valle.corpora.manifests import write_lines
    from valle.tokenizing.cut_index import write_index
    from valle.tokenizing.shuffle import shuffled

    before, started = resident_mib(), time.perf_counter()
    lines = shuffled(cut_lines(num_cuts), num_lines=num_cuts, folder=folder)
    if num_cuts <= IN_ORDER_UP_TO * CUTS_AN_HOUR:
        kept = list(lines)
        write_lines((line for line, _ in kept), folder / "cuts_train.jsonl.gz")
        lines = iter(kept)
    index = write_index(lines, folder, "train")
    return {
        "seconds": round(time.perf_counter() - started, 2), "own_mib": round(peak_mib() - before, 1),
        "lines_mib": round(index.lines_path.stat().st_size / 2**20, 1), "table_mib": round(index.table_path.stat().st_size / 2**20, 2),
    }  # fmt: skip


def cut_lines(count: int) -> Iterator[tuple[str, int]]:
    """Cuts as stage 4 writes them, with the numbers of their shards."""
    from lhotse import MonoCut, Recording, SupervisionSegment
    from lhotse.array import Array, TemporalArray
    from lhotse.audio import AudioSource

    arrays = {
        name: Array(storage_type="numpy_hdf5", storage_path="", storage_key="", shape=shape)
        for name, shape in (("units", [0]), ("codes", [0, 8]))
    }
    steps = {"units": 0.04, "codes": 0.02}
    fields = {name: TemporalArray(array=stored, temporal_dim=0, frame_shift=steps[name], start=0.0) for name, stored in arrays.items()}
    source = AudioSource(type="file", channels=[0], source="")
    recording = Recording(id="", sources=[source], sampling_rate=16000, num_samples=1, duration=1.0)
    said = SupervisionSegment(id="", recording_id="", start=0.0, duration=1.0, speaker="")
    custom = {**fields, "tokenizers": "0123456789ab/0123456789ab"}
    cut = MonoCut(id="", start=0.0, duration=1.0, channel=0, recording=recording, supervisions=[said], custom=custom).to_dict()
    recording, said, custom = cut["recording"], cut["supervisions"][0], cut["custom"]
    rng = random.Random(0)
    for number in range(count):  # one cut's fields, filled in: lhotse's objects would take minutes
        seconds, shard, place = round(rng.uniform(4, 20), 2), number // SHARD, number % SHARD
        name = f"speaker-{number // 400:06d}-{number % 400:04d}"
        cut.update(id=name, duration=seconds)
        recording.update(id=name, num_samples=round(seconds * 16000), duration=seconds)
        recording["sources"][0]["source"] = f"download/audio/{name}.flac"
        said.update(id=name, recording_id=name, duration=seconds, speaker=name[:14])
        for stream, rate in (("units", 25), ("codes", 50)):
            stored = custom[stream]["array"]
            stored.update(storage_path=f"data/tokenized/shards/train-{shard:05d}.h5", storage_key=f"{place:05d}-{stream}")
            stored["shape"][0] = round(rate * seconds)
        yield json.dumps(cut), shard


def read(folder: Path, way: str, rank: int, ranks: int) -> dict[str, Any]:
    """One rank: the first batch, those after it, and one in the middle of the epoch, as of a run that goes on."""
    from valle.data.dataset import CropSettings, TokenDataset
    from valle.data.indexed import indexed_batches, plan_of
    from valle.data.loader import SamplerSettings, epoch_batches
    from valle.timeline import Grid, Timeline
    from valle.tokenizers.base import TokenizerIdentity
    from valle.tokenizing.cut_index import find_index
    from valle.tokenizing.token_manifests import TokenManifests

    class Counted(TokenDataset):
        """How many cuts a batch holds, without their tokens."""

        def __getitem__(self, cuts: Any) -> Any:
            return len(list(cuts))

    settings = SamplerSettings(
        max_duration=MAX_DURATION, num_buckets=10, buffer_size=2000, shuffle_buffer_size=4000, drop_last=False, min_cut=0.5, max_cut=60.0,
        seed=42,
    )  # fmt: skip
    seconds = {"semantic": 30.0, "coarse": 10.0, "fine": 3.0}
    crops = CropSettings(collate={stage: lambda _: {} for stage in seconds}, seconds=seconds, num_quantizers=8, seed=42)
    identity = TokenizerIdentity("acoustic", "codec", "0" * 64, 16000, 320, 8, 1024, 0, 0)
    timeline = Timeline(codes=Grid(16000, 320), units=Grid(16000, 640))
    manifests = TokenManifests(folder=folder, timeline=timeline, acoustic=identity, semantic=identity, statistics={})
    dataset = Counted(manifests, crops, epoch=1)

    def begin(skip: int) -> Iterator[Any]:
        common: dict[str, Any] = {"epoch": 1, "skip": skip, "rank": rank, "world_size": ranks, "num_workers": 0}
        if way == "in order":
            return epoch_batches(manifests.cuts("train"), dataset, settings, **common)
        index = find_index(folder, "train")
        assert index is not None
        return indexed_batches(index, dataset, settings, **common)

    before, begun = resident_mib(), time.perf_counter()
    manifests.refuse_overlap()  # as every process of a training does
    started = time.perf_counter()
    batches = begin(0)
    next(batches)
    first = time.perf_counter()
    count = sum(1 for _ in islice(batches, BATCHES))
    after = time.perf_counter()
    own = peak_mib() - before
    index = find_index(folder, "train")
    assert index is not None
    steps = plan_of(index, settings, longest=30.0, epoch=1, rank=rank, world_size=ranks).num_steps
    again = time.perf_counter()
    next(begin(steps // 2), None)
    return {
        "check_s": round(started - begun, 3), "first_batch_s": round(first - started, 3),
        "batch_ms": round(1000 * (after - first) / max(count, 1), 2),
        "own_mib": round(own, 1), "peak_mib": round(before + own, 1), "resume_s": round(time.perf_counter() - again, 3), "steps": steps,
    }  # fmt: skip


def resident_mib() -> float:
    from valle.memory import resident_bytes

    return resident_bytes() / 2**20


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


if __name__ == "__main__":
    main()
