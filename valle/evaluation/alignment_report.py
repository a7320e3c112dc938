"""How good the aligner's times are: against exact ones on synthetic voices that it has not heard, and against controls on recordings.

Nobody knows the exact times of recordings.  Three things are measured there instead: whether an utterance fits its own text better than
another's of about as many phones; how much MFCC units, which know nothing of any text, tell of the phones at those times (PNMI), beside
the same for times that were guessed without listening and for texts of other utterances; and how far a round moves boundaries.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from lhotse.cut import Cut
from numpy.typing import NDArray

from valle.corpora.pronunciation import Pronouncer, SpokenWord
from valle.evaluation.align_phones import Heard, align_heard, hear, mean, text_of, timed_cut
from valle.evaluation.unit_corpus import EncodedCorpus, encode_cuts, phones_of
from valle.evaluation.unit_report import purity_of
from valle.measures.forced_alignment import frame_labels, spread
from valle.measures.intervals import bootstrap_mean, share
from valle.models.phone_aligner import STEP, Aligned, AlignedPhone, PhoneAligner
from valle.tokenizers.registry import load_semantic

NEAR = 0.02  # seconds within which a boundary counts as found
JUDGE = "mfcc-kmeans"
DEFINITIONS = {
    "boundary_ms": "distance of a phone's begin from the exact one, without each utterance's first: median, 90th percentile, share within "
    "20 ms; frames: share of frames of 10 ms whose phone or pause is right; both with bootstrap intervals over utterances",
    "even, mean_durations": "controls that do not listen: phones spread over the utterance evenly, or by their mean durations",
    "words": "the same of words' begins where phones come from the text by the aligner's accent, whatever accent the voice has",
    "own_better": "share of utterances whose own text scores better than the text of another utterance, of about as many phones",
    "pnmi": f"share of the phones' entropy that units of {JUDGE} tell, which know nothing of texts, at the times given",
}

Times = list[tuple[str, float, float]]  # (phone, begin, end)


@dataclass(frozen=True)
class Rivals:
    """An utterance that was aligned to its own text and to another's."""

    heard: Heard
    own: Aligned
    other: Aligned


def timed_report(aligner: PhoneAligner, cuts: Sequence[Cut], pronouncer: Pronouncer) -> dict[str, Any]:
    """Against exact times: of phones, where the phones are given; and of words, where only the text is."""
    durations: dict[str, list[float]] = defaultdict(list)
    for cut in cuts:
        for symbol, begin, end in phones_of(cut):
            durations[symbol].append(end - begin)
    typical = {symbol: mean(values) for symbol, values in durations.items()}
    systems: dict[str, list[tuple[Times, Times, float]]] = defaultdict(list)
    words: list[NDArray[np.float64]] = []
    for cut in cuts:
        exact = phones_of(cut)
        heard = hear(aligner, cut, words_with_phones(cut))
        aligned = align_heard(aligner, heard)
        if aligned is not None:
            systems["aligned"].append((times_of(aligned), exact, cut.duration))
        systems["even"].append((guessed(exact, cut.duration), exact, cut.duration))
        systems["mean_durations"].append((guessed(exact, cut.duration, typical), exact, cut.duration))
        words.append(word_errors(aligner, cut, replace(heard, words=pronouncer.pronounce(text_of(cut)))))
    some = [errors for errors in words if len(errors)]
    return {
        "utterances": len(cuts), "minutes": sum(cut.duration for cut in cuts) / 60,
        "voices": len({supervision.speaker for cut in cuts for supervision in cut.supervisions}),
        **{name: compared(rows) for name, rows in systems.items()},
        "words": {**boundary_figures(some), "utterances": len(some)} if some else {"left_out": "no text is said in the same words"},
    }  # fmt: skip


def words_with_phones(cut: Cut) -> list[SpokenWord]:
    """The words that the manifest times, each with the phones that begin within it."""
    words = sorted((item for each in cut.supervisions for item in (each.alignment or {}).get("word", [])), key=lambda item: item.start)
    phones: list[list[str]] = [[] for _ in words] or [[]]
    starts = [item.start for item in words] or [0.0]
    for symbol, begin, end in phones_of(cut):
        phones[max(0, int(np.searchsorted(starts, (begin + end) / 2)) - 1)].append(symbol)
    names = [item.symbol for item in words] or [""]
    return [SpokenWord(name, tuple(symbols)) for name, symbols in zip(names, phones, strict=True) if symbols]


def word_errors(aligner: PhoneAligner, cut: Cut, heard: Heard) -> NDArray[np.float64]:
    """Seconds between words' begins and the exact ones; none where the text is said in other words than the manifest times."""
    exact = sorted((item.start, item.symbol) for each in cut.supervisions for item in (each.alignment or {}).get("word", []))
    aligned = align_heard(aligner, heard)
    if aligned is None:
        return np.zeros(0)
    begins: dict[int, float] = {}
    for phone in aligned.phones:
        begins.setdefault(phone.word, phone.begin)
    found = [
        (name, begins[number] if place == 0 else None)  # of words that eSpeak says as one, the first has a time
        for number, word in enumerate(heard.words)
        for place, name in enumerate(word.text.split())
    ]
    if [name for name, _ in found] != [name for _, name in exact]:
        return np.zeros(0)
    errors = [begin - start for (start, _), (_, begin) in list(zip(exact, found, strict=True))[1:] if begin is not None]
    return np.abs(np.array(errors))


def times_of(aligned: Aligned) -> Times:
    return [(phone.symbol, phone.begin, phone.end) for phone in aligned.phones]


def guessed(phones: Times, seconds: float, typical: dict[str, float] | None = None) -> Times:
    """The same phones spread over the utterance without listening."""
    weights = [1.0 if typical is None else typical[symbol] for symbol, _, _ in phones]
    return [(symbol, *span) for (symbol, _, _), span in zip(phones, spread(weights, 0.0, seconds), strict=True)]


def compared(rows: Sequence[tuple[Times, Times, float]]) -> dict[str, Any]:
    """Times against exact ones of the same phones, utterance by utterance."""
    errors, right = [], []
    for found, exact, seconds in rows:
        errors.append(np.abs([one[1] - other[1] for one, other in zip(found, exact, strict=True)])[1:])
        names = sorted({symbol for symbol, _, _ in exact})
        one, other = (
            frame_labels(
                [(names.index(symbol), begin, end) for symbol, begin, end in times], num_frames=int(seconds / STEP), step=STEP, none=-1
            )
            for times in (found, exact)
        )
        right.append(float((one == other).mean()))
    return {**boundary_figures(errors), "frames": bootstrap_mean(right).to_dict()}


def boundary_figures(errors: Sequence[NDArray[np.float64]]) -> dict[str, Any]:
    """Of distances in seconds, an array an utterance."""
    every = np.concatenate([*errors, np.zeros(0)])
    if not len(every):
        return {"boundaries": 0}
    return {
        "boundaries": len(every), "median_ms": float(1000 * np.median(every)), "p90_ms": float(1000 * np.quantile(every, 0.9)),
        "within_20_ms": bootstrap_mean([float((each <= NEAR).mean()) for each in errors if len(each)]).to_dict(),
    }  # fmt: skip


def rivals(aligner: PhoneAligner, heard: Sequence[Heard]) -> list[Rivals]:
    """Every utterance with its own text and with that of the other utterance whose number of phones is nearest."""
    sizes = np.array([sum(map(len, each.symbols)) for each in heard])
    found = []
    for index, each in enumerate(heard):
        others = [number for number in range(len(heard)) if text_of(heard[number].cut) != text_of(each.cut)]
        if not others:
            continue
        other = min(others, key=lambda number: (abs(int(sizes[number] - sizes[index])), number))
        posteriors = aligner.posteriors(each.mels)
        own, wrong = (aligner.align(posteriors, symbols) for symbols in (each.symbols, heard[other].symbols))
        if own is not None and wrong is not None:
            found.append(Rivals(each, own, wrong))
    return found


def real_report(found: Sequence[Rivals], *, before: Sequence[Aligned | None] = (), units: EncodedCorpus | None = None) -> dict[str, Any]:
    """Own texts against others', and PNMI of units at the times found and at guesses; ``before`` are the times of the round before."""
    margins = [each.own.score - each.other.score for each in found]
    result: dict[str, Any] = {
        "utterances": len(found), "minutes": sum(each.heard.cut.duration for each in found) / 60,
        "own_better": share(sum(margin > 0 for margin in margins), len(margins)).to_dict(),
        "score_own": bootstrap_mean([each.own.score for each in found]).to_dict(),
        "score_other": bootstrap_mean([each.other.score for each in found]).to_dict(),
        "smallest_margin": min(margins, default=float("nan")),
        "lowest_own": min((each.own.score for each in found), default=float("nan")),
        "highest_other": max((each.other.score for each in found), default=float("nan")),
        "confidence_own": mean([phone.confidence for each in found for phone in each.own.phones]),
        "confidence_other": mean([phone.confidence for each in found for phone in each.other.phones]),
    }  # fmt: skip
    moved = [
        np.abs([one.begin - other.begin for one, other in zip(each.own.phones, old.phones, strict=True)])
        for each, old in zip(found, before, strict=False)
        if old is not None
    ]
    paused = 1 - sum(phone.end - phone.begin for each in found for phone in each.own.phones) / sum(
        each.heard.cut.duration for each in found
    )
    result["pause_share"] = paused
    if moved:
        result["moved_since_the_round_before"] = boundary_figures(moved)
    if units is not None:
        result["pnmi"] = {name: purity_of(replace(units, cuts=cuts)) for name, cuts in retimed(found).items()}
    return result


def retimed(found: Sequence[Rivals]) -> dict[str, list[Cut]]:
    """The same cuts under the times found, under those of another text, and under guesses."""
    durations: dict[str, list[float]] = defaultdict(list)
    for each in found:
        for phone in each.own.phones:
            durations[phone.symbol].append(phone.end - phone.begin)
    typical = {symbol: mean(values) for symbol, values in durations.items()}

    def guess(each: Rivals, means: dict[str, float] | None) -> Cut:
        times = guessed(times_of(each.own), each.heard.cut.duration, means)
        phones = [replace(phone, begin=begin, end=end) for phone, (_, begin, end) in zip(each.own.phones, times, strict=True)]
        return timed_cut(each.heard.cut, each.heard.words, Aligned(phones, 0.0))

    def other(each: Rivals) -> Cut:
        phones = [AlignedPhone(0, *time, 0.0) for time in times_of(each.other)]
        return timed_cut(each.heard.cut, [SpokenWord("", ())], Aligned(phones, 0.0))

    return {
        "aligned": [timed_cut(each.heard.cut, each.heard.words, each.own) for each in found],
        "mean_durations": [guess(each, typical) for each in found],
        "even": [guess(each, None) for each in found],
        "other_text": [other(each) for each in found],
    }


def rounds_report(
    aligner_dir: Path, rounds: int, *, timed: Sequence[Cut], recordings: Sequence[Cut], pronouncer: Pronouncer
) -> dict[str, Any]:
    """Every round on the same cuts."""
    tokenizer = load_semantic(JUDGE)
    rows, before, units = [], list[tuple[str, Aligned]](), None
    texts = [pronouncer.pronounce(text_of(cut)) for cut in recordings]
    for number in range(rounds + 1):
        aligner, training = PhoneAligner.load(aligner_dir / f"round-{number}")
        heard = [hear(aligner, cut, words) for cut, words in zip(recordings, texts, strict=True)]
        found = rivals(aligner, heard)
        if units is None or [each.heard.cut.id for each in found] != [cut.id for cut in units.cuts]:
            units = encode_cuts(tokenizer, [each.heard.cut for each in found], with_features=False)
        old = dict(before)
        real = real_report(found, before=[old.get(each.heard.cut.id) for each in found], units=units)
        before = [(each.heard.cut.id, each.own) for each in found]
        rows.append({"round": number, "training": training, "timed": timed_report(aligner, timed, pronouncer), "recordings": real})
    return {"definitions": DEFINITIONS, "accent": pronouncer.accent, "rounds": rows}
