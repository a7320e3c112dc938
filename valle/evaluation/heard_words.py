"""What a recogniser's words tell of speech: errors against a known text, and, where no text is known, how many words are words.

Every measure counts by clip, so that its interval is a bootstrap over prompts, and clips of two systems that belong to the same
prompt are resampled together.  Words of segments that raise doubts (``Heard.doubts``) are not counted as heard, with two exceptions:
errors against a text count them, since leaving them out would flatter, and so does the score above babble, whose control corrects
for what the recogniser makes up (of babble, hardly a segment is without doubts).
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from valle.evaluation.recogniser import Heard
from valle.measures.intervals import Estimate, bootstrap, bootstrap_ratio, ratio, share, share_of
from valle.measures.words import edit_distance, words_of_speech


class Grammar(Protocol):
    """Anything that knows which words may follow each other."""

    def allows(self, words: Sequence[str]) -> bool: ...


@dataclass(frozen=True)
class HeardClip:
    """What was heard in ``seconds`` of sound."""

    name: str  # of the prompt
    seconds: float
    heard: Heard


@dataclass(frozen=True)
class LexiconCounts:
    """Words of every clip, and how many of them the lexicon holds, ``(N,)`` each."""

    words: NDArray[np.int64]
    inside: NDArray[np.int64]
    seconds: NDArray[np.float64]

    @property
    def share(self) -> Estimate:
        """Of all heard words, those of the lexicon; a clip without words has no weight."""
        return _share(self.inside.tolist(), self.words.tolist())

    @property
    def words_a_second(self) -> Estimate:
        """Words of the lexicon by the second of sound: babble that is refused and silence lower it."""
        return bootstrap_ratio(self.inside.tolist(), self.seconds.tolist())


def word_errors(clips: Sequence[HeardClip], texts: Sequence[str], *, capped: bool = False) -> Estimate:
    """Word error rate: edits over the words of the known ``texts``, one a clip; above 1 where much is inserted.

    ``capped``: no clip counts as more than wholly wrong, as one would in which the recogniser loops.
    """
    pairs = [(clip.heard.all_words, words_of_speech(text)) for clip, text in zip(clips, texts, strict=True)]
    edits = [edit_distance(*pair) for pair in pairs]
    if capped:
        edits = [min(count, len(expected)) for count, (_, expected) in zip(edits, pairs, strict=True)]
    return bootstrap_ratio(edits, [len(expected) for _, expected in pairs])


def character_errors(clips: Sequence[HeardClip], texts: Sequence[str]) -> Estimate:
    """Character error rate of the same words, spaces included."""
    pairs = [(" ".join(clip.heard.all_words), " ".join(words_of_speech(text))) for clip, text in zip(clips, texts, strict=True)]
    return bootstrap_ratio([edit_distance(*pair) for pair in pairs], [len(expected) for _, expected in pairs])


def lexicon_counts(clips: Sequence[HeardClip], lexicon: Set[str], *, doubted: bool = False) -> LexiconCounts:
    """How many words of each clip are heard, and are in ``lexicon`` (lower case, as ``words_of_speech`` writes).

    With ``doubted``, words that raise doubts count too.
    """
    words = [clip.heard.all_words if doubted else clip.heard.words for clip in clips]
    return LexiconCounts(
        words=np.array([len(some) for some in words], np.int64),
        inside=np.array([sum(word in lexicon for word in some) for some in words], np.int64),
        seconds=np.array([clip.seconds for clip in clips], np.float64),
    )


def above_babble(
    system: LexiconCounts, *, babble: LexiconCounts, round_trip: LexiconCounts, of: Literal["words", "seconds"] = "words"
) -> Estimate:
    """``(system - babble) / (round trip - babble)``: 0 for what babble scores, 1 for real speech through the codec.

    ``of``: words of the lexicon by the heard word, or by the second.  A resample in which real speech does not score above babble says
    nothing and is left out.
    """

    def score(indices: NDArray[np.int64]) -> NDArray[np.float64]:
        own, low, high = (ratio(counts.inside.tolist(), getattr(counts, of).tolist(), indices) for counts in (system, babble, round_trip))
        reach = high - low
        return np.divide(own - low, reach, out=np.full(len(reach), np.nan), where=reach > 0)

    return bootstrap(score, len(system.words))


def trigrams_allowed(clips: Sequence[HeardClip], lexicon: Set[str], grammar: Grammar) -> Estimate:
    """Of three words in a row that are all in the lexicon, the share that ``grammar`` allows."""
    return _share(*trigram_counts(clips, lexicon, grammar))


def trigram_counts(clips: Sequence[HeardClip], lexicon: Set[str], grammar: Grammar) -> tuple[list[int], list[int]]:
    """Of every clip, how many of three words in a row ``grammar`` allows, and how many are all in the lexicon."""
    allowed, all_known = [], []
    for clip in clips:
        words = clip.heard.words
        threes = [words[start : start + 3] for start in range(len(words) - 2)]
        known = [three for three in threes if all(word in lexicon for word in three)]
        all_known.append(len(known))
        allowed.append(sum(grammar.allows(three) for three in known))
    return allowed, all_known


def trusted(clips: Sequence[HeardClip]) -> Estimate:
    """The share of clips in which something is heard and nothing of it raises doubts."""
    return share_of([bool(clip.heard.segments) and not clip.heard.doubts for clip in clips])


def words_a_second(clips: Sequence[HeardClip]) -> Estimate:
    """Heard words by the second of sound, silence and doubted sound included."""
    return bootstrap_ratio([len(clip.heard.words) for clip in clips], [clip.seconds for clip in clips])


def distinct_words(clips: Sequence[HeardClip]) -> Estimate:
    """Different words of a clip over all its words, summed over clips: low where a model says the same again."""
    rows = [(len(set(clip.heard.words)), len(clip.heard.words)) for clip in clips]
    return _share([distinct for distinct, _ in rows], [words for _, words in rows])


def _share(parts: Sequence[int], wholes: Sequence[int]) -> Estimate:
    """A share with its bootstrap over clips; Wilson's interval where no resample differs, which few words at 0 or 1 would feign."""
    estimate = bootstrap_ratio(parts, wholes)
    if estimate.low < estimate.high or not sum(wholes):
        return estimate
    pooled = share(sum(parts), sum(wholes))
    return replace(estimate, low=pooled.low, high=pooled.high)
