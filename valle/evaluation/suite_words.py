"""Words in what a model generates, as a public recogniser hears them, beside real speech, its round trip and babble."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from functools import partial
from pathlib import Path
from typing import Literal

from valle.audio import Waveform
from valle.corpora import espeak_grammar
from valle.corpora.grammar_fragments import fragments
from valle.errors import UserError
from valle.evaluation.continuations import Continued, cut_audio, round_trip, shuffled_runs, speak_units, units_of
from valle.evaluation.figures import Figure
from valle.evaluation.heard_words import (
    Grammar,
    HeardClip,
    LexiconCounts,
    above_babble,
    character_errors,
    distinct_words,
    lexicon_counts,
    trigrams_allowed,
    trusted,
    word_errors,
    words_a_second,
)
from valle.evaluation.recogniser import Recogniser
from valle.evaluation.suite_memorised import ngram_result
from valle.evaluation.suites import SuiteResult, SuiteSettings
from valle.evaluation.systems import ACOUSTIC, BABBLE, CODEC, CONTINUATION, CONTROLS, DESCRIBED, REAL, SHORT
from valle.measures.diversity import self_bleu
from valle.measures.intervals import Estimate, bootstrap_mean
from valle.measures.words import words_of_speech
from valle.progress import Progress, TitledProgress

GUARDS = "greedy decoding; segments that the recogniser is unsure of, that compress too well, hold no speech or loop are not counted"


def words_figures(
    settings: SuiteSettings, recogniser: Recogniser, continued: Sequence[Continued], *, corpus: str, progress: TitledProgress
) -> SuiteResult:
    """Errors against the corpus's texts, where every prompt has one, and words of the lexicon, where there is one."""
    rate, texts, result = settings.pipeline.sample_rate, [_text(row) for row in continued], SuiteResult()
    sounds: dict[str, list[Waveform]] = {
        REAL: [row.real for row in continued], CODEC: [row.round_trip for row in continued],
        CONTINUATION: [row.generated for row in continued],
    }  # fmt: skip
    chosen = choose_lexicon(settings.lexicon, texts)
    if chosen is None:
        result.left_out.append("words_in_lexicon: the corpus's texts are not of the embedded grammar; name --lexicon FILE, a word a line")
    if not all(texts):
        result.left_out.append("wer: not every utterance has a text in the manifest")
    whole = [cut_audio(row.cut, rate) for row in continued]
    spoken = _spoken(settings, whole, progress=partial(progress, "speaking units"))
    judged = f"{corpus}; recogniser {recogniser.name}"
    hear = partial(_hear, recogniser, [row.cut.id for row in continued], rate, progress)
    heard = {name: hear(name, wavs) for name, wavs in spoken.items()}
    heard.update({name: hear(name, wavs) for name, wavs in sounds.items()})
    result.figures.update(word_figures(heard, corpus=judged))
    if chosen is not None:
        result.figures.update(lexicon_figures(heard, *chosen, corpus=judged))
    result.add(ngram_result(settings, heard, corpus=judged))
    if all(texts):
        heard[REAL] = hear("whole utterances", whole)
        heard[CODEC] = hear("their round trips", [round_trip(settings.pipeline, wav) for wav in whole])
        result.figures.update(error_figures({name: clips for name, clips in heard.items() if name != CONTINUATION}, texts, corpus=judged))
    return result


def error_figures(heard: Mapping[str, Sequence[HeardClip]], texts: Sequence[str], *, corpus: str) -> dict[str, Figure]:
    """Word and character errors of whole utterances whose ``texts`` are known, by system."""
    figures = {}
    for short, what, measure in (("wer", "word", word_errors), ("cer", "character", character_errors)):
        rates = {name: measure(clips, texts) for name, clips in heard.items()}
        for name, estimate in rates.items():
            label = "original" if name == REAL else SHORT[name]
            figures[f"{short}_{label}"] = Figure.of(
                estimate, names=[clip.name for clip in heard[name]], corpus=corpus, unit="%", better="lower", is_control=name in CONTROLS,
                controls={other: rate.mean for other, rate in rates.items() if other != name},
                definition=f"{what} edits over {what}s of the known text, whole utterances, numbers written out; nothing heard is left out",
                meaning=f"How many {what}s a recogniser gets wrong in {DESCRIBED[name]}.",
            )  # fmt: skip
    return figures


Measure = tuple[Mapping[str, Estimate], str, str, str]  # by system; unit, definition, meaning with a place for the system


def word_figures(heard: Mapping[str, Sequence[HeardClip]], *, corpus: str) -> dict[str, Figure]:
    """How many words are heard, how varied they are, and how sure the recogniser is, by system; needs no lexicon."""
    bleu = {name: bootstrap_mean(self_bleu([clip.heard.words for clip in clips])) for name, clips in heard.items()}
    measures: dict[str, Measure] = {
        "words_per_second": ({name: words_a_second(clips) for name, clips in heard.items()}, "words/s",
            f"heard words over the seconds of sound, silence and doubted sound included; {GUARDS}",
            "How many words a second are heard in {}."),
        "clips_trusted": ({name: trusted(clips) for name, clips in heard.items()}, "%",
            f"clips in which something is heard and nothing is doubted; {GUARDS}",
            "How often the recogniser is sure of what it hears in {}."),
        "distinct_words": ({name: distinct_words(clips) for name, clips in heard.items()}, "%",
            f"different words over all words of a clip; {GUARDS}",
            "How varied the words in {} are; a low value means loops."),
        "self_bleu_words": (bleu, "",
            f"BLEU-4 of a clip's heard words with all other clips as references, without smoothing (Texygen, 2018); mean; {GUARDS}",
            "How much of what is heard in {} is said in other clips too, from 0 to 1."),
    }  # fmt: skip
    return _by_system(measures, heard, corpus)


def lexicon_figures(
    heard: Mapping[str, Sequence[HeardClip]], lexicon: Set[str], grammar: Grammar | None, *, corpus: str
) -> dict[str, Figure]:
    """Shares of heard words in ``lexicon``, its words a second and trigrams, by system."""
    counts = {name: lexicon_counts(clips, lexicon) for name, clips in heard.items()}
    everything = {name: lexicon_counts(clips, lexicon, doubted=True) for name, clips in heard.items()}
    measures: dict[str, Measure] = {
        "words_in_lexicon": ({name: some.share for name, some in counts.items()}, "%",
            f"heard words that are among the {len(lexicon)} of the lexicon; {GUARDS}",
            "How many of the words heard in {} are words of the language that the model learned."),
        "all_words_in_lexicon": ({name: some.share for name, some in everything.items()}, "%",
            f"all heard words, doubted ones too, that are among the {len(lexicon)} of the lexicon; greedy decoding",
            "How many of the words that the recogniser writes for {} are words of the language; it makes some up for babble, too."),
        "lexicon_words_per_second": ({name: some.words_a_second for name, some in counts.items()}, "words/s",
            f"heard words of the lexicon over the seconds of sound, silence and doubted sound included; {GUARDS}",
            "How many real words a second are heard in {}."),
    }  # fmt: skip
    if grammar is not None:
        measures["trigrams_allowed"] = (
            {name: trigrams_allowed(clips, lexicon, grammar) for name, clips in heard.items()}, "%",
            f"of three heard words in a row that are all in the lexicon, those that some text of the grammar holds; {GUARDS}",
            "How often three words in a row, heard in {}, fit together.",
        )  # fmt: skip
    return {**_by_system(measures, heard, corpus), **_scores(counts, everything, corpus)}


def _by_system(measures: Mapping[str, Measure], heard: Mapping[str, Sequence[HeardClip]], corpus: str) -> dict[str, Figure]:
    """A figure of each measure and system, with the other systems as controls."""
    return {
        f"{measure}_{SHORT[name]}": Figure.of(
            estimate, names=[clip.name for clip in heard[name]], corpus=corpus, unit=unit, definition=definition,
            meaning=meaning.format(DESCRIBED[name]), is_control=name in CONTROLS,
            better="neither" if measure in ("words_per_second", "self_bleu_words") else "higher",
            controls={other: own.mean for other, own in estimates.items() if other not in (name, CONTINUATION)},
        )
        for measure, (estimates, unit, definition, meaning) in measures.items()
        for name, estimate in estimates.items()
    }  # fmt: skip


def _scores(trusted_words: Mapping[str, LexiconCounts], everything: Mapping[str, LexiconCounts], corpus: str) -> dict[str, Figure]:
    """Where a system stands between babble and real speech through the codec."""
    scores: list[tuple[str, Literal["words", "seconds"], Mapping[str, LexiconCounts], str, str]] = [
        ("words_score", "words", everything, "all_words_in_lexicon", "the share of its words that are real"),
        ("word_rate_score", "seconds", trusted_words, "lexicon_words_per_second", "real words a second"),
    ]
    return {
        f"{score}_{SHORT[name]}": Figure.of(
            above_babble(counts[name], babble=counts[BABBLE], round_trip=counts[CODEC], of=of), corpus=corpus,
            controls={BABBLE: 0.0, CODEC: 1.0},
            definition=f"({measure} - babble's) / (round trip's - babble's), clips of a prompt resampled together",
            meaning=f"Where {DESCRIBED[name]} stands between babble (0) and real speech through the codec (1), by {what}.",
        )
        for score, of, counts, measure, what in scores
        for name in (CONTINUATION, ACOUSTIC) if name in counts and BABBLE in counts
    }  # fmt: skip


def choose_lexicon(name: str | None, texts: Sequence[str]) -> tuple[Set[str], Grammar | None] | None:
    """The words to look for, and the grammar where it is known; None where nothing says which words the language has.

    ``name``: ``espeak``, a file with a word a line, or None for ``espeak`` where all ``texts`` are made of its words.
    """
    known = espeak_grammar.lexicon()
    refuse_no_lexicon(name)
    if name == "espeak" or (name is None and all(texts) and all(known.issuperset(words_of_speech(text)) for text in texts)):
        return known, fragments()
    if name is None:
        return None
    return frozenset(words_of_speech(Path(name).read_text(encoding="utf-8"))), None


def refuse_no_lexicon(name: str | None) -> None:
    """Raises ``UserError`` where ``name`` is given and is neither ``espeak`` nor a file."""
    if name not in (None, "espeak") and not Path(str(name)).is_file():
        raise UserError(f"expected espeak or a file of words, one a line, as --lexicon, found nothing at {name}; check the path")


def _spoken(settings: SuiteSettings, whole: Sequence[Waveform], *, progress: Progress) -> dict[str, list[Waveform]]:
    """The recordings' own units spoken by the model without a prompt, in their order and shuffled; nothing without units."""
    pipeline, spoken = settings.pipeline, dict[str, list[Waveform]]()
    if pipeline.semantic is None:
        return spoken
    for number, wav in enumerate(whole):
        units = units_of(pipeline, wav)
        rows = [units, shuffled_runs(units, seed=settings.seed + number)]
        for name, sound in zip((ACOUSTIC, BABBLE), speak_units(pipeline, rows, seed=settings.seed + number), strict=True):
            spoken.setdefault(name, []).append(sound)
        progress(number + 1, len(whole))
    return spoken


def _hear(
    recogniser: Recogniser, names: Sequence[str], rate: int, progress: TitledProgress, title: str, wavs: Sequence[Waveform]
) -> list[HeardClip]:
    clips = []
    for name, wav in zip(names, wavs, strict=True):
        clips.append(HeardClip(name, len(wav) / rate, recogniser.hear(wav, rate)))
        progress(f"hearing {title}", len(clips), len(wavs))
    return clips


def _text(row: Continued) -> str:
    return " ".join(supervision.text for supervision in row.cut.supervisions if supervision.text)

