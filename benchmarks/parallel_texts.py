"""Texts that a joint-lm writes of parallel sentences: word errors, exact sentences, BLEU, with intervals and controls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from lhotse.cut import Cut
from sacrebleu.metrics.bleu import BLEU

from valle.audio import Waveform
from valle.corpora.cut_audio import read_cut
from valle.corpora.manifests import read_cuts
from valle.errors import UserError
from valle.evaluation.voices import derangement
from valle.inference.text_speech import Answer, TextSpeech
from valle.measures.intervals import Estimate, bootstrap_ratio, paired_difference, share_of
from valle.measures.words import edit_distance, words_of_speech

ROWS = 16  # recordings or texts that are asked at a time


@dataclass(frozen=True)
class Spoken:
    """A recording of a sentence, and the sentence in another language."""

    cut: Cut
    text: str
    language: str
    target: str  # the other language
    translation: str
    translated_id: str  # the cut that says the translation
    voice: str
    is_new: bool  # whether no part of training has this voice

    def sound(self) -> tuple[Waveform, int]:
        return read_cut(self.cut)


def spoken_sentences(path: Path) -> list[Spoken]:
    """Recordings of ``path`` whose sentence stands there in another language too, a row for each other language."""
    found = []
    for cut in read_cuts(path):
        supervision = cut.supervisions[0]
        custom = supervision.custom or {}
        for target, other in sorted(custom.get("translations", {}).items()):
            found.append(Spoken(
                cut, supervision.text or "", supervision.language or "", target, other["text"], other["id"],
                str(supervision.speaker), not custom.get("voice_is_in_train", False),
            ))  # fmt: skip
    if len(found) < 2:
        raise UserError(f"expected sentences with their translations in {path}, found {len(found)}; prepare egs/espeak_text")
    return found


def text_figures(model: TextSpeech, tasks: Sequence[str], spoken: Sequence[Spoken]) -> dict[str, Any]:
    """The figures of each of ``tasks``, and by how much a chain translates better than one step does."""
    found: dict[str, Any] = {}
    exact: dict[str, Estimate] = {}
    for task in tasks:
        answers = answered(model, task, spoken)
        if task == "ASR":
            found[task] = transcripts(spoken, [answer.text for answer in answers])
            continue
        figures = {"translations": translations(spoken, [answer.text for answer in answers])}
        if "ASR" in task:
            figures["transcripts"] = transcripts(spoken, [answer.transcript for answer in answers])
        found[task] = figures if len(figures) > 1 else figures["translations"]
        exact[task] = share_of([same(answer.text, one.translation) for answer, one in zip(answers, spoken, strict=True)])
    direct, chain = exact.get("AST"), exact.get("ASR+AST+S2ST")
    if direct and chain and direct.items and chain.items:
        found["chain_above_direct"] = plain(paired_difference(direct.items, chain.items))
    return found


def answered(model: TextSpeech, task: str, spoken: Sequence[Spoken]) -> list[Answer]:
    """What the model answers to every recording, or to its text for ``MT`` and ``TTS``."""
    answers: list[Answer] = []
    for rows in batches(spoken):
        first = rows[0]
        if task in ("MT", "TTS"):
            answers += model.answer_text(task, [row.text for row in rows], source=first.language, target=first.target, seed=len(answers))
            continue
        sounds = [row.sound() for row in rows]
        [rate] = {rate for _, rate in sounds}
        answers += model.answer_audio(
            task, [wav for wav, _ in sounds], rate, language=first.language, target=first.target, seed=len(answers)
        )  # fmt: skip
    return answers


def batches(spoken: Sequence[Spoken]) -> Iterator[list[Spoken]]:
    """Neighbours of one pair of languages, a few at a time."""
    for _, rows in groupby(spoken, key=lambda one: (one.language, one.target)):
        waiting = list(rows)
        for start in range(0, len(waiting), ROWS):
            yield waiting[start : start + ROWS]


def transcripts(spoken: Sequence[Spoken], texts: Sequence[str]) -> dict[str, Any]:
    """Word errors by kind of voice and by language; ``other_sentences``: of the answers to others, as a control."""
    order = derangement(len(texts), seed=0)
    found = {"other_sentences": plain(errors([one.text for one in spoken], [texts[place] for place in order]))}
    for name, rows in kinds(spoken).items():
        found[name] = plain(errors([spoken[row].text for row in rows], [texts[row] for row in rows]))
    return found


def translations(spoken: Sequence[Spoken], texts: Sequence[str]) -> dict[str, Any]:
    """The share of sentences that are right to the letter, and BLEU with sacrebleu's bootstrap, by pair of languages."""
    found: dict[str, Any] = {}
    for name, rows in kinds(spoken).items():
        wanted, given = [spoken[row].translation for row in rows], [texts[row] for row in rows]
        found[name] = {
            "exact": plain(share_of([same(text, right) for text, right in zip(given, wanted, strict=True)])),
            "bleu": bleu(given, wanted),
        }
    order = derangement(len(texts), seed=0)
    found["other_sentences"] = {"bleu": bleu([texts[place] for place in order], [one.translation for one in spoken])}
    return found


def kinds(spoken: Sequence[Spoken]) -> dict[str, list[int]]:
    """Rows by kind of voice, and by language and target."""
    found: dict[str, list[int]] = {"trained voices": [], "new voices": []}
    for row, one in enumerate(spoken):
        found["new voices" if one.is_new else "trained voices"].append(row)
        found.setdefault(f"{one.language} to {one.target}", []).append(row)
    return {name: rows for name, rows in found.items() if len(rows) > 1}


def errors(wanted: Sequence[str], given: Sequence[str], *, capped: bool = False) -> Estimate:
    """Word errors over words; ``capped``: no sentence counts as more than wholly wrong, as one would in which a recogniser loops."""
    pairs = [(words_of_speech(text), words_of_speech(right)) for text, right in zip(given, wanted, strict=True)]
    wrong = [edit_distance(*pair) for pair in pairs]
    if capped:
        wrong = [min(count, len(right)) for count, (_, right) in zip(wrong, pairs, strict=True)]
    return bootstrap_ratio(wrong, [len(right) for _, right in pairs])


def same(text: str, right: str) -> bool:
    """Equal but for capitals, accents and marks."""
    return words_of_speech(text) == words_of_speech(right)


def bleu(given: Sequence[str], wanted: Sequence[str]) -> dict[str, float]:
    """BLEU of whole lines, marks and capitals included, with the interval of sacrebleu's 1000 resamples."""
    score = BLEU().corpus_score(list(given), [list(wanted)], n_bootstrap=1000)
    mean, reach = float(score.score), float(getattr(score, "_ci", 0.0))
    return {"mean": round(mean, 2), "low": round(mean - reach, 2), "high": round(mean + reach, 2), "count": len(given)}


def plain(estimate: Estimate) -> dict[str, float]:
    values = {"mean": estimate.mean, "low": estimate.low, "high": estimate.high}
    return {**{name: round(value, 4) for name, value in values.items()}, "count": estimate.count}
