#!/usr/bin/env python3
"""What a codec keeps of real speech: STOI, PESQ, and the words that a public recogniser still hears, each with its interval.

  python -m benchmarks.sound_codec --codecs valle-convnext --whisper FOLDER \\
    --manifests egs/librispeech/data/manifests/cuts_dev.jsonl.gz egs/librispeech/data/manifests/cuts_test.jsonl.gz

The first codec is the one that the others are compared with.  Utterances are resampled together for all systems, so that what is hard
for all cancels.  A recogniser takes about 0.4 times real time for each system; with --heard what it heard is kept, and a run that was
interrupted goes on.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import RESULTS, header, write_results
from benchmarks.tokenizers import short_name
from valle.audio import Waveform, resample
from valle.config import parse_flags
from valle.corpora.cut_audio import read_cut
from valle.corpora.manifests import read_cuts
from valle.errors import UserError, run_program
from valle.evaluation.align_phones import text_of
from valle.evaluation.codec_report import DEFINITIONS, LONGEST_SECONDS, Recording, codec_scores, round_trips
from valle.evaluation.heard_words import HeardClip, word_errors
from valle.evaluation.recogniser import Heard, Recogniser, Segment, whisper_recogniser
from valle.files import write_text
from valle.measures.intervals import Estimate, bootstrap, bootstrap_mean, ratio
from valle.tokenizers.base import AcousticTokenizer
from valle.tokenizers.registry import BUNDLED_ACOUSTIC, load_acoustic

ORIGINAL = "the recording itself"
MEASURES = ("stoi", "pesq", "mel_l1")
LEAST_STOI, LEAST_PESQ, MOST_TIMES, MOST_KBPS = 0.92, 2.2, 1.3, 3.2  # the goals, for all codebooks of the last codec


@dataclass(frozen=True, kw_only=True)
class SoundCodecOptions:
    """Which codecs, on what, heard by whom."""

    manifests: list[Path] = field(metadata={"help": "cuts with transcripts that no codec was trained on"})
    codecs: list[str] = field(default_factory=lambda: [BUNDLED_ACOUSTIC], metadata={"help": "names or folders; the first is compared with"})
    codebooks: list[int] = field(default_factory=lambda: [4, 8], metadata={"help": "numbers of codebooks to decode with"})
    whisper: str = field(default="", metadata={"help": "a Whisper model's folder or name in the hub's cache; none: no words"})
    max_utterances: int = field(default=0, metadata={"help": "the first so many alone; 0: all"})
    heard: Path | None = field(default=None, metadata={"help": "file that keeps what was heard between runs"})
    title: str = field(default="LibriSpeech test-other", metadata={"help": "what these utterances are called"})
    output: Path = field(default=RESULTS / "sound_codec.json", metadata={"help": "where the figures go"})


@dataclass(frozen=True)
class Utterance:
    """One that was recorded, and what was said in it."""

    name: str
    wav: Waveform  # (T,)
    sample_rate: int
    text: str


class Ear:
    """A recogniser that remembers what it has heard, by system and utterance."""

    def __init__(self, recogniser: Recogniser, kept: Path | None) -> None:
        self.recogniser, self._kept = recogniser, kept
        self._heard: dict[str, list[dict[str, Any]]] = {}
        if kept is not None and kept.is_file():
            self._heard = json.loads(kept.read_text(encoding="utf-8"))

    def hear(self, system: str, utterance: Utterance, wav: Waveform, rate: int) -> HeardClip:
        key = f"{self.recogniser.name}/{system}/{utterance.name}"
        if key not in self._heard:
            self._heard[key] = [asdict(segment) for segment in self.recogniser.hear(wav, rate).segments]
            if self._kept is not None:
                write_text(self._kept, json.dumps(self._heard) + "\n")
        return HeardClip(utterance.name, len(wav) / rate, Heard(tuple(Segment(**segment) for segment in self._heard[key])))


def bench_sound_codec(options: SoundCodecOptions, command: Sequence[str]) -> Path:
    """Write the figures; returns where they are."""
    if not options.codecs or not options.codebooks:
        raise UserError("expected --codecs and --codebooks to measure, found none; name some, or leave the flags out")
    started = header(command)
    utterances = read_utterances(options.manifests, options.max_utterances)
    ear = Ear(whisper_recogniser(options.whisper), options.heard) if options.whisper else None
    original = _row(ORIGINAL, None, None, {})
    texts = [utterance.text for utterance in utterances]
    plain: Estimate | None = None
    if ear is not None:
        plain = word_errors([ear.hear(ORIGINAL, item, item.wav, item.sample_rate) for item in utterances], texts)
        original["word_error"] = plain.to_dict()
    rows: list[dict[str, Any]] = []
    base: dict[str, dict[str, list[float]]] = {}
    for name in options.codecs:
        codec = load_acoustic(name)
        scores = scores_of(codec, utterances, options.codebooks)
        base = base or scores
        for count in sorted(options.codebooks):
            row = _row(short_name(name), count, kbps(codec, count), scores[str(count)])
            if name != options.codecs[0]:
                row["more_than_first"] = {
                    measure: _difference(base[str(count)], scores[str(count)], measure) for measure in row["measures"]
                }
            if ear is not None and plain is not None:
                errors = word_errors([heard_after(ear, codec, item, count) for item in utterances], texts)
                row["word_error"], row["times_original"] = errors.to_dict(), times(errors, plain).to_dict()
            rows.append(row)
    write_results(options.output, {
        **started, "title": options.title, "utterances": len(utterances),
        "minutes": sum(len(item.wav) / item.sample_rate for item in utterances) / 60,
        "recogniser": "" if ear is None else ear.recogniser.name,
        "definitions": {**{measure: DEFINITIONS[measure] for measure in MEASURES},
                        "word_error": "edits over the words said, greedy decoding, all that was heard",
                        "times_original": "word error after the codec over that of the recording, by the paired bootstrap over utterances"},
        "original": original, "rows": rows, "codec": goals_of_row(rows[-1]),
    })  # fmt: skip
    return options.output


def read_utterances(manifests: Sequence[Path], most: int = 0) -> list[Utterance]:
    """Every cut with its transcript."""
    cuts = [cut for path in manifests for cut in read_cuts(path)]
    return [Utterance(cut.id, *read_cut(cut), text_of(cut)) for cut in (cuts[:most] if most else cuts)]


def scores_of(codec: AcousticTokenizer, utterances: Sequence[Utterance], codebooks: Sequence[int]) -> dict[str, dict[str, list[float]]]:
    """STOI, PESQ and mel distance of every utterance, by number of codebooks; of its first 15 s, as in the other tables."""
    recordings = [Recording(item.wav[: int(LONGEST_SECONDS * item.sample_rate)], item.sample_rate, item.name) for item in utterances]
    found = codec_scores(codec, recordings, total=len(recordings), codebooks=codebooks)
    if found.left_out:
        raise UserError(f"expected utterances of half a second or more, found {found.left_out} shorter ones; leave them out")
    return {name: {measure: of[measure] for measure in MEASURES if measure in of} for name, of in found.systems.items() if name.isdigit()}


def heard_after(ear: Ear, codec: AcousticTokenizer, utterance: Utterance, count: int) -> HeardClip:
    """What is heard of the whole utterance after ``count`` codebooks."""
    wav = resample(utterance.wav, utterance.sample_rate, codec.sample_rate)
    _, outputs = round_trips(codec, wav, [count])
    return ear.hear(f"{codec.identity}/{count}", utterance, outputs[str(count)], codec.sample_rate)


def times(errors: Estimate, plain: Estimate) -> Estimate:
    """Word error over word error, of the same utterances with the same words."""
    assert errors.items is not None and plain.items is not None
    return bootstrap(lambda drawn: ratio(errors.items.parts, plain.items.parts, drawn), errors.count)  # type: ignore[union-attr]


def kbps(codec: AcousticTokenizer, count: int) -> float:
    return float(count * np.log2(codec.codebook_size) * codec.sample_rate / codec.hop_length / 1000)


def goals_of_row(row: dict[str, Any]) -> dict[str, Any]:
    """What is asked for of the codec, and whether it is reached; of a measure that was not taken (PESQ is an extra), nothing."""
    values = {name: measure["mean"] for name, measure in row["measures"].items()} | {"kbps": row["kbps"]}
    if "times_original" in row:
        values["times_original"] = row["times_original"]["mean"]
    goals: dict[str, Any] = {}
    for name, goal in {"stoi": LEAST_STOI, "pesq": LEAST_PESQ}.items():
        if name in values:
            goals[name] = {"value": round(values[name], 4), "goal": f"at least {goal:g}", "met": values[name] >= goal}
    for name, goal in {"times_original": MOST_TIMES, "kbps": MOST_KBPS}.items():
        if name in values:
            goals[name] = {"value": round(values[name], 4), "goal": f"at most {goal:g}", "met": values[name] <= goal}
    return goals


def _row(name: str, count: int | None, rate: float | None, scores: dict[str, list[float]]) -> dict[str, Any]:
    measures = {measure: bootstrap_mean(values).to_dict() for measure, values in scores.items()}
    return {"name": name, "codebooks": count, "kbps": rate, "measures": measures}


def _difference(one: dict[str, list[float]], other: dict[str, list[float]], measure: str) -> dict[str, float | int]:
    return bootstrap_mean([after - before for before, after in zip(one[measure], other[measure], strict=True)]).to_dict()


def main(arguments: Sequence[str] | None = None) -> None:
    words = sys.argv[1:] if arguments is None else list(arguments)
    torch.set_num_threads(1)
    options = parse_flags(SoundCodecOptions, words, usage=__doc__ or "")
    told = list(words)
    if "--heard" in told:  # which changes no figure
        del told[told.index("--heard") : told.index("--heard") + 2]
    print(f"written: {bench_sound_codec(options, ['python -m benchmarks.sound_codec', *told])}")


if __name__ == "__main__":
    run_program(main)
