"""The suite of what the model knows of language: is a word likelier than a non-word, a sentence that agrees than one that does not?

Items are pairs of recordings (``bin/make_language_suites.py``, ZeroSpeech 2021's, SALMon's); a figure is the share of pairs whose right
recording the model finds likelier.  Controls are given the same pairs: the shorter recording, a model that has learned nothing, trigrams.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from math import isnan
from pathlib import Path

from valle.corpora.manifests import read_cuts
from valle.evaluation.figures import Figure
from valle.evaluation.language.accuracy import Score, accuracy, chance_interval, scored_pairs
from valle.evaluation.language.items import Pair, Side
from valle.evaluation.language.load import load_pairs
from valle.evaluation.language.make import LanguageItemOptions, make_language_items
from valle.evaluation.language.scores import ALL, SCORES, UNITS, UNTRAINED, WINDOW_SECONDS, PairScorer, ScoredRecording
from valle.evaluation.score import scored_stages
from valle.evaluation.suite_words import choose_lexicon
from valle.evaluation.suites import SuiteResult, SuiteSettings, part_of
from valle.evaluation.unit_corpus import choose_cuts, encode_cuts
from valle.measures.ngrams import Trigram
from valle.progress import TitledProgress

SCORED = "language-scores.jsonl"  # in the folder of suites
TRIGRAM_SECONDS = 300.0  # of train audio, on whose units the trigram is fitted
SHORTER, WORDS, PHONEMES = "shorter", "word trigram", "phoneme trigram"

_ABOUT = {
    "wuggy": ("syn_wuggy", "How often a word is likelier than a non-word of the same phonemes."),
    "blimp": ("syn_blimp", "How often a sentence whose words agree is likelier than one whose words do not."),
    "cloze": ("syn_cloze", "How often the ending that belongs to a text is likelier than another text's."),
    "salmon": ("syn_salmon", "How often a recording that stays the same is likelier than one that changes midway."),
    "swuggy": ("swuggy", "How often a word of ZeroSpeech 2021's sWUGGY is likelier than its non-word."),
    "sblimp": ("sblimp", "How often a grammatical sentence of ZeroSpeech 2021's sBLIMP is likelier than its ungrammatical twin."),
    "salmon_original": ("salmon", "How often SALMon's right recording is likelier than its wrong one."),
}
_BY_SOUND = ("salmon", "salmon_original")  # suites about how it sounds: scored by all stages, and by the group
_CROSSED = ("wuggy", "blimp", "cloze", "salmon")  # made here: what knows nothing must stand at one half
_HOW = {
    "sum": "log-likelihood of all tokens, summed", "mean": "log-likelihood of all tokens, by the token",
    "window": f"log-likelihood by the token over {WINDOW_SECONDS:g} s from where the two differ",
    "gain": "log-likelihood from where the two differ on, given what comes before, minus without it",
}  # fmt: skip


def language_suite(settings: SuiteSettings, progress: TitledProgress) -> SuiteResult:
    """Accuracies of every suite that has items, by four scores, each with its controls."""
    folders = list(settings.language_items)
    if not folders:
        made = _made_on_the_spot(settings, progress)
        if made is None:
            return SuiteResult(left_out=["language: no items; the corpus is not the embedded one, so name folders of items as "
                                         "--language-items (bin/make_language_suites.py makes some)"])  # fmt: skip
        folders = [made]
    stages = scored_stages(settings.pipeline)
    if not stages:
        return SuiteResult(left_out=["language: no stage of the model predicts one token after another"])
    pairs = [pair for folder in folders for pair in load_pairs(folder, max_items=settings.max_items)]
    texts = _train_texts(settings)
    scorer = PairScorer(
        settings.pipeline, stages=stages, trigram=_unit_trigram(settings),
        remembered=None if settings.work_dir is None else settings.work_dir / SCORED, mark=settings.model_mark,
    )  # fmt: skip
    recordings = scorer.score([side for pair in pairs for side in pair.sides], progress=partial(progress, "language"))
    words = Trigram(texts) if texts else None
    result = SuiteResult()
    if words is None:
        result.left_out.append("word trigram: the corpus's train part has no texts")
    for suite, about in _ABOUT.items():
        of_suite = [pair for pair in pairs if pair.suite == suite]
        if of_suite:
            judge = _Judge(suite, *about, stages=stages, recordings=recordings, words=words, corpus=_corpus(folders), seed=settings.seed)
            for name, group in _groups(suite, of_suite):
                judge.put(result, name, group)
    return result


class _Judge:
    """Figures of one suite."""

    def __init__(
        self,
        suite: str,
        prefix: str,
        meaning: str,
        *,
        stages: Sequence[str],
        recordings: Mapping[Path, ScoredRecording],
        words: Trigram | None,
        corpus: str,
        seed: int,
    ) -> None:
        self.suite, self.prefix, self.meaning, self.stages = suite, prefix, meaning, stages
        self.recordings, self.words, self.corpus, self.seed = recordings, words, corpus, seed
        self.system = ALL if suite in _BY_SOUND or stages[0] != "semantic" else stages[0]

    def put(self, result: SuiteResult, group: str, pairs: Sequence[Pair]) -> None:
        """The figures of some pairs: the sum as ``syn_wuggy``, the others as ``syn_wuggy_mean`` and so on."""
        name = f"{self.prefix}_{group}" if group else self.prefix
        by_score = {score: accuracy(pairs, self._by(self.system, score), seed=self.seed) for score in SCORES}
        for score, estimate in by_score.items():
            if estimate.count == 0:
                continue
            own = name if score == "sum" else f"{name}_{score}"
            controls = self._controls(pairs, score)
            wrong = self._refused(pairs, score) if self.suite in _CROSSED else []
            result.left_out += [f"{own}: not valid, {reason}" for reason in wrong]
            others = {f"by {other}": value.mean for other, value in by_score.items() if other != score and value.count}
            result.figures[own] = Figure.of(
                estimate, corpus=f"{self.corpus}; {scored_pairs(pairs, self._by(self.system, score))} pairs in {estimate.count} blocks",
                unit="%", controls={**controls, **(others if score == "sum" else {})}, is_control=score != "sum",
                definition=f"{_HOW[score]}; {'all stages' if self.system == ALL else f'{self.system} stage'}; ties count one half",
                meaning=f"{'Not valid: ' + '; '.join(wrong) + '. ' if wrong else ''}{self.meaning}",
            )  # fmt: skip

    def _controls(self, pairs: Sequence[Pair], score: str) -> dict[str, float]:
        asked: dict[str, Score] = {SHORTER: self._shorter, UNTRAINED: self._by(f"{UNTRAINED} {self.system}", score)}
        if len(self.stages) > 1:
            asked |= {f"{stage} stage": self._by(stage, score) for stage in self.stages if stage != self.system}
        asked |= {UNITS: self._by(UNITS, score), WORDS: self._by_words, PHONEMES: self._by_phonemes}
        found = {name: accuracy(pairs, ask, seed=self.seed) for name, ask in asked.items()}
        return {**{name: estimate.mean for name, estimate in found.items() if estimate.count}, "chance": 0.5}

    def _refused(self, pairs: Sequence[Pair], score: str) -> list[str]:
        """Why a figure means nothing: a control that knows nothing is not within chance's interval."""
        reasons = []
        asked: dict[str, tuple[str, Score]] = {
            SHORTER: ("the shorter recording", self._shorter),
            UNTRAINED: ("a model that has learned nothing", self._by(f"{UNTRAINED} {self.system}", score)),
        }
        for name, ask in asked.values():
            count, share = scored_pairs(pairs, ask), accuracy(pairs, ask).mean
            low, high = chance_interval(count)
            if not isnan(share) and not low <= share <= high:
                reasons.append(f"{name} is right in {100 * share:.1f} % of {count} pairs, outside {100 * low:.1f} to {100 * high:.1f} %")
        return reasons

    def _by(self, system: str, score: str) -> Score:
        return lambda side: self.recordings[side.audio].scores.get(system, {}).get(score)

    def _shorter(self, side: Side) -> float:
        return -self.recordings[side.audio].seconds

    def _by_words(self, side: Side) -> float | None:
        if self.words is None or self.suite not in ("blimp", "cloze"):
            return None
        return -self.words.nats(side.symbols)

    def _by_phonemes(self, side: Side) -> float | None:
        return None if side.trigram_nats is None else -side.trigram_nats


def _groups(suite: str, pairs: Sequence[Pair]) -> Iterator[tuple[str, list[Pair]]]:
    """All pairs together, where they ask one thing; words by whether they were heard in training; every group."""
    names = dict.fromkeys(pair.group for pair in pairs)
    if suite not in _BY_SOUND:
        yield "", list(pairs)
    if suite == "wuggy":
        for half in ("in_vocabulary", "withheld"):
            yield half, [pair for pair in pairs if pair.group.startswith(half)]
    for name in names:
        yield name, [pair for pair in pairs if pair.group == name]


def _made_on_the_spot(settings: SuiteSettings, progress: TitledProgress) -> Path | None:
    """Items beside the report, where the corpus is the embedded one."""
    texts = [" ".join(said.text for said in cut.supervisions if said.text) for cut in read_cuts(part_of(settings))]
    lexicon = choose_lexicon(None, texts[:100])
    if settings.work_dir is None or lexicon is None:
        return None
    folder = settings.work_dir.parent / "language-items"
    make_language_items(
        LanguageItemOptions(output_dir=folder, max_items=settings.max_items), progress=partial(progress, "making language items")
    )
    return folder


def _unit_trigram(settings: SuiteSettings) -> Trigram | None:
    """Fitted on units of the train part, their repeats removed; None without units or without train audio."""
    tokenizer, manifest = settings.pipeline.semantic, part_of(settings, "train")
    if tokenizer is None or not manifest.is_file() or not any(True for _ in read_cuts(manifest)):
        return None
    cuts = choose_cuts(manifest, max_seconds=TRIGRAM_SECONDS, unseen_voices=False)
    units = encode_cuts(tokenizer, cuts, with_features=False).units
    return Trigram([row[[True, *(row[1:] != row[:-1])]].tolist() for row in units if len(row)])


def _train_texts(settings: SuiteSettings) -> list[list[str]]:
    """Words and marks of the train part's texts, sentence marks apart."""
    manifest = part_of(settings, "train")
    if not manifest.is_file():
        return []
    spoken = (said.text for cut in read_cuts(manifest) for said in cut.supervisions if said.text)
    return [text.replace(".", " .").replace("?", " ?").replace(",", " ,").split() for text in spoken]


def _corpus(folders: Sequence[Path]) -> str:
    return ", ".join(folder.resolve().name for folder in folders)
