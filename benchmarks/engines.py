#!/usr/bin/env python3
"""Decoding engines side by side: the native step, torch's, transformers' Llama and CTranslate2, beside the floor that memory sets.

  python -m benchmarks.engines                            benchmarks/results/decoding.json
  python -m benchmarks.engines --fast                     the same path in tiny sizes, to see that it works; its figures say nothing
  python -m benchmarks.engines --sizes 256x4 --rounds 2

Every engine decodes some tokens after 150 and after 650 positions, by turns with the others and with the floor's reads, so that a busy
machine slows all; what is reported is the median over rounds.  ``tokens_per_s`` is that of the mean of both ends, since the time of a
step grows by what there is to attend to.  ``share_of_floor`` is the time to read the step's weights and a cache of 400 positions once
(``benchmarks.floor``), over the time of the step.

``acoustic`` has the processor time of ten seconds of codes by every acoustic model (``benchmarks.acoustic_speed``), and ``mtp`` repeats
the rows of ``multi_token.json`` beside the output, if it is there.  ``starts`` are whole processes that continue three seconds of speech by
ten with the bundled model: seconds from the start of the process to the first token and to the end, with an empty and with a filled kernel
cache.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from benchmarks import acoustic_speed
from benchmarks.common import RESULTS, ROOT, header, run_child, write_results
from benchmarks.ctranslate2_peer import ctranslate2_decoder
from benchmarks.decoding import VOCABULARY, Decode, Shape, Span, llama_decoder, our_decoder, seconds_a_step
from benchmarks.floor import Floor, bytes_of_step

SIZES = {"256x4": (256, 4), "512x8": (512, 8), "1024x12": (1024, 12)}
TINY = {"64x2": (64, 2)}
TINY_SHAPE = {"d_model": 64, "nhead": 2, "num_layers": 1, "dim_feedforward": 64}  # of acoustic models
ONE_ROW = ("1024x12",)  # eight rows of that take all engines together an hour


@dataclass(frozen=True)
class Contestant:
    """One row of the table."""

    engine: str  # native, torch, llama or ctranslate2
    dtype: str

    @property
    def package(self) -> str:
        """What must be installed for it."""
        return {"native": "numba", "torch": "torch", "llama": "transformers", "ctranslate2": "ctranslate2"}[self.engine]

    def decoder(self, shape: Shape, span: Span, threads: int) -> Decode:
        if self.engine == "llama":
            return llama_decoder(shape, span)
        if self.engine == "ctranslate2":
            return ctranslate2_decoder(shape, span, dtype=self.dtype, threads=threads)
        return our_decoder(shape, span, engine="native" if self.engine == "native" else "torch", dtype=self.dtype)


CONTESTANTS = (
    Contestant("native", "float32"),
    Contestant("native", "bfloat16"),
    Contestant("native", "int8"),
    Contestant("torch", "float32"),
    Contestant("torch", "bfloat16"),
    Contestant("llama", "float32"),
    Contestant("ctranslate2", "float32"),
    Contestant("ctranslate2", "int8"),
)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fast", action="store_true", help="tiny sizes, for tests")
    parser.add_argument("--sizes", nargs="*", choices=[*SIZES, *TINY], help="width x layers; all if not given")
    parser.add_argument("--rounds", type=int, default=5, help="how often every engine has its turn")
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2], help="two threads are tried with one row alone")
    parser.add_argument("--only", choices=("steps", "starts"), help="all but the whole processes, or these alone, into what is there")
    parser.add_argument("--output", type=Path, default=RESULTS / "decoding.json")
    options = parser.parse_args(arguments)
    sizes = options.sizes or (TINY if options.fast else SIZES)
    span, rounds = (Span(10, 30, 6), 1) if options.fast else (Span(), options.rounds)
    given = sys.argv[1:] if arguments is None else arguments
    command = ["python -m benchmarks.engines", *given]
    results: dict[str, Any] = {}
    if options.only == "starts":
        results = json.loads(options.output.read_text(encoding="utf-8"))
    else:
        results = {**header(command), "fast": options.fast, **steps(sizes, options.threads, span, rounds=rounds, fast=options.fast)}
        drafts = options.output.with_name("multi_token.json")
        if drafts.is_file():
            measured = json.loads(drafts.read_text(encoding="utf-8"))
            results |= {"mtp": measured["mtp"], "mtp_command": measured["command"]}
        write_results(options.output, results)  # processes that start and compile take as long again
    if options.only != "steps":
        rows = starts(seconds=0.5 if options.fast else 10.0, repeats=1 if options.fast else 3)
        results |= {"starts": rows, "starts_command": header(command)["command"]}
        write_results(options.output, results)
    print(f"written: {options.output}")


def steps(sizes: Iterable[str], threads: Sequence[int], span: Span, *, rounds: int, fast: bool) -> dict[str, Any]:
    """Rows of all engines at all sizes, the floors, and the acoustic models."""
    found: dict[str, Any] = {"rows": [], "floor": {}}
    for size in sizes:
        for number in threads:
            for batch in (1, 8) if number == 1 and size not in ONE_ROW else (1,):
                rows, passes = measure(Shape(*{**SIZES, **TINY}[size], batch), span, threads=number, rounds=rounds)
                found["rows"] += rows
                if (number, batch) == (1, 1):
                    found["floor"][size] = passes
    return {**found, "acoustic": acoustic_rows(fast)}


def measure(shape: Shape, span: Span, *, threads: int, rounds: int) -> tuple[list[dict[str, Any]], float]:
    """Rows of all contestants that are installed, and the passes a second over what a float32 step reads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    try:
        decoders = {one: one.decoder(shape, span, threads) for one in CONTESTANTS if _installed(one)}
        floors = {dtype: _floor(shape, span, dtype=dtype, threads=threads) for dtype in sorted({one.dtype for one in decoders})}
        seconds: dict[Contestant, tuple[list[float], list[float]]] = {one: ([], []) for one in decoders}
        for number in range(rounds + 1):
            for floor in floors.values():
                floor.measure(repeats=5)
            for one, decode in decoders.items():
                for length, measured in zip((span.first, span.last), seconds[one], strict=True):
                    moments = decode(length, span.ends if number else 4)
                    if number:  # the first round compiles and warms up
                        measured.append(seconds_a_step(moments))
    finally:
        torch.set_num_threads(before)
    rows = [_row(one, shape, threads, *seconds[one], floors[one.dtype].pass_seconds) for one in decoders]
    for row in rows:
        print(" ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    return rows, round(1 / floors["float32"].pass_seconds, 1)


def acoustic_rows(fast: bool) -> list[dict[str, Any]]:
    """Of every acoustic model, by one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return acoustic_speed.rows(seconds=0.2, rounds=1, shape=TINY_SHAPE) if fast else acoustic_speed.rows()
    finally:
        torch.set_num_threads(before)


def _installed(one: Contestant) -> bool:
    if find_spec(one.package) is not None:
        return True
    print(f"left out: {one.engine} {one.dtype}, as {one.package} is not installed", flush=True)
    return False


def _floor(shape: Shape, span: Span, *, dtype: str, threads: int) -> Floor:
    length = (span.first + span.last) // 2
    size = bytes_of_step(shape.d_model, shape.num_layers, vocabulary=VOCABULARY, batch=shape.batch, length=length, dtype=dtype)
    return Floor(size, threads)


def _row(one: Contestant, shape: Shape, threads: int, first: list[float], last: list[float], floor: float) -> dict[str, Any]:
    early, late = statistics.median(first), statistics.median(last)
    step = (early + late) / 2
    return {
        "engine": one.engine, "size": f"{shape.d_model}x{shape.num_layers}", "dtype": one.dtype, "threads": threads, "batch": shape.batch,
        "tokens_per_s": round(shape.batch / step, 1), "ms_at_150": round(1e3 * early, 3), "ms_at_650": round(1e3 * late, 3),
        "share_of_floor": round(floor / step, 5),
    }  # fmt: skip


def starts(*, seconds: float, repeats: int) -> list[dict[str, Any]]:
    """Whole processes: each engine with an empty kernel cache, then with what that left."""
    rows = []
    for engine in ("torch", "native", "auto"):
        if engine == "native" and find_spec("numba") is None:
            continue
        for number in range(repeats):
            with tempfile.TemporaryDirectory() as folder:
                if engine == "auto":  # as an earlier run of the native engine leaves it
                    _start("native", seconds, Path(folder))
                for cache in ("filled",) if engine == "auto" else ("empty", "filled"):
                    rows.append({"engine": engine, "kernel_cache": cache, "try": number + 1, **_start(engine, seconds, Path(folder))})
                    print(rows[-1], flush=True)
    return rows


def _start(engine: str, seconds: float, cache: Path) -> dict[str, Any]:
    output = cache / "seconds.json"
    program = f"from benchmarks.engines import continue_once; continue_once({engine!r}, {seconds}, {str(output)!r}, started={time.time()})"
    # From the shell's own folder for numba's cache, so that nothing of earlier runs is found.
    run_child([sys.executable, "-c", program], cwd=ROOT, environment={"NUMBA_CACHE_DIR": str(cache / "kernels")})
    measured: dict[str, Any] = json.loads(output.read_text())
    return measured


def continue_once(engine: Any, seconds: float, output: str, *, started: float) -> None:
    """Continue one prompt with the bundled model, and write when its first token and its end came."""
    from benchmarks.tokenizing import SAMPLES
    from valle.audio import read_audio
    from valle.inference.pipeline import ContinueSettings, Pipeline

    torch.set_num_threads(1)
    pipeline = Pipeline.from_pretrained(engine=engine)
    moments: list[float] = []
    pipeline.model.get_submodule("semantic.transformer").register_forward_hook(lambda *_: moments.append(time.time()))  # of the prompt
    wav, rate = read_audio(sorted(SAMPLES.glob("*.flac"))[0])
    pipeline.continue_audio(wav, rate, settings=ContinueSettings(prompt_seconds=3.0, max_seconds=seconds, min_seconds=seconds))
    measured = {"first_token_s": moments[0] - started, "total_s": time.time() - started}
    rounded = {name: round(value, 2) for name, value in measured.items()}
    Path(output).write_text(json.dumps({**rounded, "steps_taken_by": pipeline.steps_taken_by}))


if __name__ == "__main__":
    main()
