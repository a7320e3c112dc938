#!/usr/bin/env python3
"""What a speech-llama hears: word error of the text LM, of the encoder's CTC alone, and of the text LM that hears nothing.

  python -m benchmarks.speech_llama --models lora=exp/speech-llama frozen=exp/frozen \\
      --manifest egs/espeak_text/data/manifests/cuts_test.jsonl.gz

Cuts of voices that were trained on and of new ones count apart, with intervals.  Beside them how steadily pieces find their place in the
speech (Kendall's tau), and, of models with draft heads, how much faster the same text is written: plainly and by drafts in turns.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lhotse.cut import Cut

from benchmarks.common import RESULTS, figure, header, write_results
from valle.corpora.cut_audio import read_cut
from valle.corpora.manifests import read_cuts
from valle.errors import UserError
from valle.inference.transcriber import WAYS, Transcriber
from valle.measures.intervals import bootstrap_ratio
from valle.measures.monotony import monotony
from valle.measures.words import edit_distance, words_of_speech

TURNS = 5
TIMED_CUTS = 8


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", required=True, help="NAME=FOLDER of runs or released folders")
    parser.add_argument("--manifest", type=Path, required=True, help="cuts of test with transcripts")
    parser.add_argument("--num-cuts", type=int, default=400, help="cuts of each kind of voice, at most")
    parser.add_argument("--output", type=Path, default=RESULTS / "speech_llama.json")
    options = parser.parse_args(arguments)
    command = ["python -m benchmarks.speech_llama", *(sys.argv[1:] if arguments is None else arguments)]
    kinds = voices_apart(list(read_cuts(options.manifest)), most=options.num_cuts)
    results: dict[str, Any] = {**header(command), "models": {}}
    for entry in options.models:
        name, _, folder = entry.partition("=")
        results["models"][name] = judged(Transcriber.from_pretrained(folder), kinds)
        write_results(options.output, results)


def voices_apart(cuts: list[Cut], *, most: int) -> dict[str, list[Cut]]:
    """Cuts with transcripts, by whether their voice was trained on; all are ``new`` where the corpus does not say."""
    spoken = [cut for cut in cuts if cut.supervisions and cut.supervisions[0].text]
    kinds: dict[str, list[Cut]] = {"trained": [], "new": []}
    for cut in spoken:
        kinds["trained" if (cut.supervisions[0].custom or {}).get("voice_is_in_train") else "new"].append(cut)
    if not spoken:
        raise UserError("expected cuts with transcripts, found none; use the test part of a corpus with texts")
    return {kind: found[:most] for kind, found in kinds.items() if found}


def judged(transcriber: Transcriber, kinds: dict[str, list[Cut]]) -> dict[str, Any]:
    """Word errors by kind of voice and by what transcribes, the order of pieces, and what drafts save."""
    found: dict[str, Any] = {}
    for kind, cuts in kinds.items():
        ways = [way for way in WAYS if way == "text" or way in transcriber.released.learned]
        found[kind] = {way: word_error(transcriber, cuts, way) for way in ways}
        orders = [monotony(transcriber.similarity(*read_cut(cut), text=cut.supervisions[0].text)) for cut in cuts]
        found[kind]["order"] = round(float(np.mean(orders)), 3)
    if transcriber.model.num_drafts:
        found["drafts"] = drafting(transcriber, next(iter(kinds.values()))[:TIMED_CUTS])
    return found


def word_error(transcriber: Transcriber, cuts: Sequence[Cut], way: Any) -> dict[str, Any]:
    """Errors over words, with the interval over cuts."""
    errors, counts = [], []
    for cut in cuts:
        supervision = cut.supervisions[0]
        [text] = transcriber.transcribe(*read_cut(cut), language=supervision.language or "English", by=way)
        wanted = words_of_speech(supervision.text)
        errors.append(float(edit_distance(words_of_speech(text), wanted)))
        counts.append(float(len(wanted)))
    estimate = bootstrap_ratio(errors, counts)
    return {"word_error": round(estimate.mean, 4), "interval": [round(estimate.low, 4), round(estimate.high, 4)], "cuts": len(cuts)}


def drafting(transcriber: Transcriber, cuts: Sequence[Cut]) -> dict[str, Any]:
    """How many times as fast texts are written by 1, 2, ... drafts, in turns with no drafts, a recording at a time."""
    recordings = [read_cut(cut) for cut in cuts]
    numbers = range(transcriber.model.num_drafts + 1)
    seconds: dict[int, list[float]] = {number: [] for number in numbers}
    texts: dict[int, list[str]] = {}
    for turn in range(TURNS + 1):
        for number in numbers:
            start = time.perf_counter()
            texts[number] = [transcriber.transcribe(wav, rate, draft_tokens=number)[0] for wav, rate in recordings]
            if turn:  # the first warms up
                seconds[number].append(time.perf_counter() - start)
    ratios = {
        str(number): figure([plain / fast for plain, fast in zip(seconds[0], seconds[number], strict=True)])
        for number in numbers if number
    }  # fmt: skip
    is_equal = all(found == texts[0] for found in texts.values())
    return {"speedup": ratios, "texts_are_equal": is_equal, "seconds": round(statistics.median(seconds[0]), 3)}


if __name__ == "__main__":
    main()
