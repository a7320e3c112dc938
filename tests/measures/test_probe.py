"""The speaker probe: all where units tell the speaker, chance where they do not, and the minimum that plain descent finds."""

from __future__ import annotations

import numpy as np
import pytest

from valle.measures.probe import fit_probe, speaker_probe, unit_histograms


def streams(told: float, *, speakers: int = 4, each: int = 20, seed: int = 0) -> tuple[list[np.ndarray], list[str]]:
    """Utterances of 80 units out of 12, of which each speaker prefers three by ``told``."""
    rng = np.random.default_rng(seed)
    found, names = [], []
    for number in range(speakers * each):
        share = np.ones(12)
        share[3 * (number % speakers) : 3 * (number % speakers) + 3] += 12 * told
        found.append(rng.choice(12, 80, p=share / share.sum()))
        names.append(f"speaker {number % speakers}")
    return found, names


def test_histograms_are_roots_of_shares() -> None:
    found = unit_histograms([np.array([0, 0, 0, 2]), np.array([1])], 3)
    np.testing.assert_allclose(found, [[0.75**0.5, 0, 0.5], [0, 1, 0]])


def test_units_of_the_speaker_betray_it_and_dealt_speakers_do_not() -> None:
    found, names = streams(1.0)
    score = speaker_probe(unit_histograms(found, 12), names)
    assert score is not None and score.num_speakers == 4
    assert score.accuracy.mean == 1 and score.accuracy.count == 40 and score.chance == 0.25
    assert score.permuted.low < 0.35


def test_units_alike_for_all_speakers_betray_nothing() -> None:
    found, names = streams(0.0)
    score = speaker_probe(unit_histograms(found, 12), names)
    assert score is not None and score.accuracy.low < score.chance < score.accuracy.high


def test_no_two_speakers_are_no_probe() -> None:
    found, _ = streams(0.0, speakers=1, each=3)
    histograms = unit_histograms(found, 12)
    assert speaker_probe(histograms, ["one"] * 3) is None
    assert speaker_probe(histograms, ["one", "two", "three"]) is None


def test_chapters_are_fitted_or_tested_whole() -> None:
    """Units that tell the room alone: within chapters they name every speaker, and across chapters none."""
    rooms = [(speaker, chapter) for speaker in range(4) for chapter in range(2) for _ in range(6)]
    rng = np.random.default_rng(0)
    heard = [rng.choice(8, 60, p=(np.eye(8)[2 * speaker + chapter] * 0.6 + 0.05)) for speaker, chapter in rooms]
    histograms, speakers = unit_histograms(heard, 8), [f"speaker {speaker}" for speaker, _ in rooms]
    by_utterance = speaker_probe(histograms, speakers)
    by_chapter = speaker_probe(histograms, speakers, [f"{speaker}-{chapter}" for speaker, chapter in rooms])
    assert by_utterance is not None and by_utterance.accuracy.mean == 1
    assert by_chapter is not None and by_chapter.accuracy.mean < 0.5 and by_chapter.accuracy.count == 24
    assert speaker_probe(histograms, speakers, speakers) is None  # one chapter each: not to be measured


def test_utterances_of_their_own_are_split_as_ever() -> None:
    found, names = streams(0.2)
    histograms = unit_histograms(found, 12)
    assert speaker_probe(histograms, names) == speaker_probe(histograms, names, [f"recording {n}" for n in range(len(names))])


def test_few_utterances_of_many_speakers_raise_no_warning(recwarn: pytest.WarningsRecorder) -> None:
    speakers = [str(number // 2) for number in range(60)]
    assert speaker_probe(unit_histograms([np.array([number % 3]) for number in range(60)], 3), speakers) is not None
    assert not recwarn.list


def test_the_probe_is_the_minimum_that_descent_finds() -> None:
    found, names = streams(0.2, speakers=3, each=8)
    histograms, wanted = unit_histograms(found, 12), np.unique(names, return_inverse=True)[1]
    weight, bias = np.zeros((3, 12)), np.zeros(3)
    for _ in range(20_000):
        logits = histograms @ weight.T + bias
        share = np.exp(logits - logits.max(1, keepdims=True))
        slope = share / share.sum(1, keepdims=True) - np.eye(3)[wanted]
        weight -= 0.05 * (slope.T @ histograms + weight / 10)
        bias -= 0.05 * slope.sum(0)
    model = fit_probe(histograms, np.array(names))
    np.testing.assert_allclose(model.coef_, weight, atol=2e-2)
    assert model.predict(histograms).tolist() == [f"speaker {number}" for number in (histograms @ weight.T + bias).argmax(1)]
    assert pytest.approx(0, abs=1e-3) == float(np.abs(model.coef_.sum(0)).max())
