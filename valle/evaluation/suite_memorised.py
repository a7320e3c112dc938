"""Is what a model says its own?  Long runs of units and heard 5-grams that stand in the corpus's training part, beside real speech."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from valle.corpora.manifests import read_cuts
from valle.data.dataset import read_units
from valle.errors import UserError
from valle.evaluation.continuations import Continued
from valle.evaluation.figures import Figure
from valle.evaluation.heard_words import HeardClip
from valle.evaluation.suites import SuiteResult, SuiteSettings, part_of
from valle.evaluation.systems import CONTINUATION, CONTROLS, DESCRIBED, SHORT
from valle.measures.intervals import bootstrap_mean, bootstrap_ratio
from valle.measures.memorised import longest_runs_found, ngrams_found
from valle.measures.words import words_of_speech
from valle.progress import Progress
from valle.tokenizing.token_manifests import TokenManifests, read_manifests

MOST_HOURS = 100.0  # of the training part that are searched
NGRAM = 5  # words


def runs_result(settings: SuiteSettings, continued: Sequence[Continued], *, corpus: str, progress: Progress) -> SuiteResult:
    """The longest run of units of each clip that stands in train; left out where the corpus has no units of this model's tokenizer."""
    what, semantic = "longest_run_in_train", settings.pipeline.semantic
    new = [_without_repeats(np.asarray(row.new_units)) for row in continued if row.new_units is not None]
    real = [_without_repeats(np.asarray(row.real_units)) for row in continued if row.real_units is not None]
    if semantic is None or not (len(new) == len(real) == len(continued)):
        return SuiteResult(left_out=[f"{what}: the model has no units"])
    try:
        manifests = read_manifests(settings.corpus)
        if manifests.semantic is None or manifests.semantic.sha256 != semantic.identity.sha256:
            return SuiteResult(left_out=[f"{what}: the corpus's units are {manifests.semantic}, the model's are {semantic.identity}"])
        hours = [0.0]
        found = longest_runs_found([*new, *real], _train_units(manifests, hours, progress))
    except UserError as error:
        return SuiteResult(left_out=[f"{what}: {error}"])
    own, said = found[: len(new)], found[len(new) :]
    figures = {what: Figure.of(
        bootstrap_mean(own), names=[row.cut.id for row in continued], corpus=corpus, unit="units", better="neither",
        controls={"real speech": bootstrap_mean(said).mean},
        definition="longest stretch of a clip's units, repeats removed, that stands in the corpus's training part "
        f"({hours[0]:.1f} h searched); mean",
        meaning="How long a stretch is taken from the training data; much above held-out real speech means that the model recites.",
    )}  # fmt: skip
    return SuiteResult(figures)


def ngram_result(settings: SuiteSettings, heard: Mapping[str, Sequence[HeardClip]], *, corpus: str) -> SuiteResult:
    """Of five heard words in a row, the share that some training text holds, by system."""
    clips = [clip for of in heard.values() for clip in of]
    num_texts = [0]
    counts = ngrams_found([clip.heard.words for clip in clips], _train_texts(settings, num_texts), NGRAM)
    if not num_texts[0]:
        return SuiteResult(left_out=["memorised: the training part has no texts"])
    shares, start = {}, 0
    for system, of in heard.items():
        own = counts[start : start + len(of)]
        shares[system] = bootstrap_ratio([found for found, _ in own], [total for _, total in own])
        start += len(of)
    return SuiteResult({
        f"memorised_{SHORT[system]}": Figure.of(
            estimate, names=[clip.name for clip in heard[system]], corpus=corpus, unit="%", better="neither", is_control=system in CONTROLS,
            controls={other: own.mean for other, own in shares.items() if other not in (system, CONTINUATION)},
            definition=f"of {NGRAM} heard words in a row within a clip, those that stand in one of the {num_texts[0]} training texts; "
            "words that raise doubts are not counted",
            meaning=f"How often {NGRAM} words in a row, heard in {DESCRIBED[system]}, stand in the training texts; "
            "much above held-out real speech means that the model recites.",
        )
        for system, estimate in shares.items()
    })  # fmt: skip


def _train_units(manifests: TokenManifests, hours: list[float], progress: Progress) -> Iterator[NDArray[np.int64]]:
    """Units of the training cuts without repeats; ``hours`` says at the end how much was read."""
    for cut in manifests.cuts("train"):
        if hours[0] >= MOST_HOURS:
            return
        hours[0] += cut.duration / 3600
        progress(hours[0], MOST_HOURS)
        yield _without_repeats(read_units(cut, manifests))


def _without_repeats(units: NDArray[np.int64]) -> NDArray[np.int64]:
    return units[np.flatnonzero(np.diff(units, prepend=-1))].astype(np.int64)


def _train_texts(settings: SuiteSettings, num_texts: list[int]) -> Iterator[list[str]]:
    """Words of the training texts, one text at a time; ``num_texts`` says at the end how many."""
    path = part_of(settings, "train")
    if path.is_file():
        for cut in read_cuts(path):
            for supervision in cut.supervisions:
                if supervision.text:
                    num_texts[0] += 1
                    yield words_of_speech(supervision.text)
