"""Four scores of a recording, against slow twins; accuracies and the interval of chance."""

from __future__ import annotations

from dataclasses import replace
from math import comb, isnan, nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_bpe import tiny_bpe
from tiny_pipeline import RATE, recording, tiny_released
from tiny_pipeline import UNITS as NUM_UNITS

from valle.audio import write_wav
from valle.evaluation.language.accuracy import accuracy, chance_interval
from valle.evaluation.language.items import Pair, Side
from valle.evaluation.language.scores import ALL, UNITS, UNTRAINED, PairScorer, four_scores, unit_likelihood
from valle.evaluation.salmon_model import SalmonModel
from valle.evaluation.score import Likelihood, clip_of, rest_of, score_clips, score_recordings
from valle.inference.pipeline import Pipeline
from valle.measures.ngrams import Trigram
from valle.models.released import save_released


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline(tiny_released(seconds=2.0))


def test_tokens_end_where_their_frames_do(pipeline: Pipeline) -> None:
    """Units at 25 Hz and codes at 50 Hz, in pieces of 2 s; a later piece's first unit is context."""
    [[semantic, coarse]] = score_recordings(pipeline, [recording(5.0)])
    expected = [number / 25 for number in range(1, 126) if number not in (51, 101)]
    assert semantic.ends == pytest.approx([*expected, 5.0]) and coarse.ends == pytest.approx([number / 50 for number in range(1, 251)])


@pytest.mark.parametrize("kind", ["runs", "bpe"])
def test_tokens_of_several_frames_end_where_the_last_of_them_does(kind: str) -> None:
    fields: dict[str, Any] = {"unit_sequence": "runs", "longest_run": 3}
    if kind == "bpe":
        bpe = tiny_bpe(NUM_UNITS)
        fields = {"unit_sequence": "bpe", "unit_bpe_model": bpe.text, "unit_bpe_sha256": bpe.sha256}
    released = Pipeline(tiny_released(seconds=20.0, **fields))
    clip = clip_of(released, recording(2.0), name="one")
    [[semantic, _]] = score_clips(released, [clip])
    assert len(semantic.ends) == len(semantic.tokens) and semantic.ends == sorted(semantic.ends)
    assert semantic.ends[-2:] == pytest.approx([2.0, 2.0])  # the last token and the end
    if kind == "runs":
        frames = np.round(np.diff([0.0, *semantic.ends[:-1]]) * 25).astype(int)
        assert frames.sum() == 50 and frames.max() <= 3


def test_window_and_gain_look_at_what_follows_the_prompt() -> None:
    whole = Likelihood("semantic", [-1.0, -2.0, -3.0, -4.0, -5.0], [0.5, 1.0, 1.5, 2.0, 2.5])
    alone = Likelihood("semantic", [-10.0, -4.0, -5.0], [0.5, 1.0, 1.5])
    scores = four_scores(whole, alone, prompt_seconds=1.0)
    assert scores == {"sum": -15.0, "mean": -3.0, "window": -3.5, "gain": -12.0 + 19.0}
    assert [isnan(value) for value in four_scores(whole, None, prompt_seconds=None).values()] == [False, False, True, True]


def test_the_gain_is_the_whole_less_prompt_and_continuation_alone(pipeline: Pipeline) -> None:
    clip = clip_of(pipeline, recording(1.6), name="one")
    rest = rest_of(pipeline, clip, 0.8)
    assert rest is not None and len(rest.units) == 20 and rest.starts and rest.ends
    [[whole, _]], [[alone, _]] = score_clips(pipeline, [clip]), score_clips(pipeline, [rest])
    scores = four_scores(whole, alone, prompt_seconds=0.8)
    assert scores["gain"] == pytest.approx(sum(whole.tokens[20:]) - alone.sum)
    assert rest_of(pipeline, clip, 1.6) is None


def test_repeats_of_a_unit_say_nothing_to_the_trigram(pipeline: Pipeline) -> None:
    trigram = Trigram([[1, 2, 3]])
    clip = clip_of(pipeline, recording(1.0), name="one")
    short, long = (replace(clip, units=np.array(units)) for units in ([1, 2, 3], [1, 1, 2, 2, 2, 3]))
    one, other = unit_likelihood(trigram, short, 1.0), unit_likelihood(trigram, long, 1.0)
    assert one.tokens == other.tokens and other.ends == pytest.approx([2 / 6, 5 / 6, 1.0, 1.0])


def side(folder: Path, seed: int, seconds: float, prompt: float | None) -> Side:
    path = folder / f"{seed}.wav"
    write_wav(path, recording(seconds, seed=seed), RATE)
    return Side(audio=path, prompt_seconds=prompt)


def test_scores_are_remembered_and_are_those_of_each_recording_alone(pipeline: Pipeline, tmp_path: Path) -> None:
    sides = [side(tmp_path, seed, 0.8 + 0.3 * seed, None if seed == 2 else 0.4) for seed in range(4)]
    trigram = Trigram([[1, 2, 3]])
    stages = ["semantic", "coarse"]
    remembered = tmp_path / "scores.jsonl"
    scorer = PairScorer(pipeline, stages=stages, trigram=trigram, remembered=remembered, mark="model")
    together = scorer.score(sides)
    for one in sides:
        alone = PairScorer(pipeline, stages=stages, trigram=trigram, remembered=None, mark="model").score([one])[one.audio]
        learned = ["semantic", "coarse", ALL]
        assert alone.scores.keys() == {*learned, *(f"{UNTRAINED} {name}" for name in learned), UNITS}
        for system, four in alone.scores.items():
            assert four == pytest.approx(together[one.audio].scores[system], abs=1e-3, nan_ok=True)
        assert alone.scores[ALL]["sum"] == pytest.approx(alone.scores["semantic"]["sum"] + alone.scores["coarse"]["sum"])
    remembered.write_text(remembered.read_text() + '{"key": "ha')
    again = PairScorer(pipeline, stages=stages, trigram=trigram, remembered=remembered, mark="model")
    again._score = lambda *_: pytest.fail("scored again")  # type: ignore[method-assign]
    for path, one in again.score(sides).items():
        assert one.scores[UNITS] == pytest.approx(together[path].scores[UNITS], nan_ok=True)
    assert len(remembered.read_text().splitlines()) == 4


def test_the_untrained_model_depends_on_nothing_but_the_shape(pipeline: Pipeline) -> None:
    scorer = PairScorer(pipeline, stages=["semantic"], trigram=None, remembered=None, mark="")
    torch.manual_seed(5)
    [[one]] = score_recordings(scorer.untrained, [recording(1.0)], stages=["semantic"])
    other = PairScorer(pipeline, stages=["semantic"], trigram=None, remembered=None, mark="")
    [[again]] = score_recordings(other.untrained, [recording(1.0)], stages=["semantic"])
    assert one.tokens == again.tokens
    assert one.mean == pytest.approx(-np.log(pipeline.model.stages()["semantic"].vocabulary.size), rel=0.2)  # knows nothing


def pairs_of(hits: list[tuple[str, float, float]]) -> tuple[list[Pair], dict[Path, float]]:
    values = {Path(f"{number}-{place}"): row[1 + place] for number, row in enumerate(hits) for place in (0, 1)}
    pairs = [Pair(id=str(number), block=row[0], suite="blimp", group="number", right=Side(audio=Path(f"{number}-0")),
                  wrong=Side(audio=Path(f"{number}-1"))) for number, row in enumerate(hits)]  # fmt: skip
    return pairs, values


def test_an_accuracy_is_the_mean_over_blocks_with_ties_one_half() -> None:
    pairs, values = pairs_of([("a", 1, 0), ("a", 0, 1), ("a", 3, 2), ("b", 1, 1), ("c", nan, 1)])
    estimate = accuracy(pairs, lambda one: values[one.audio])
    assert estimate.mean == pytest.approx((2 / 3 + 1 / 2) / 2) and estimate.count == 2


@pytest.mark.parametrize("count", [1, 7, 40, 301])
def test_the_interval_of_chance_holds_fair_coins_with_the_stated_certainty(count: int) -> None:
    low, high = chance_interval(count)
    inside = [heads for heads in range(count + 1) if low <= heads / count <= high]
    assert sum(comb(count, heads) for heads in inside) >= 0.999 * 2**count
    fewer = inside[1:-1]
    assert sum(comb(count, heads) for heads in fewer) < 0.999 * 2**count


def test_salmons_script_gets_a_likelihood_for_every_recording(pipeline: Pipeline) -> None:
    """What salmon.py does with a model: ``to``, and ``log_likelihood`` of a list of ``(1, T)`` on either side."""
    model = SalmonModel(pipeline).to("cpu")
    wavs = [torch.from_numpy(recording(seconds, seed=seed))[None] for seed, seconds in enumerate((1.0, 0.6, 1.4))]
    likelihoods = model.log_likelihood(wavs)
    assert likelihoods.shape == (3,)
    result = torch.zeros_like(likelihoods)
    result[likelihoods > likelihoods.flip(0)] = 1
    assert result.sum() == 1
    for wav, likelihood in zip(wavs, likelihoods, strict=True):
        [rows] = score_recordings(pipeline, [wav[0].numpy()])
        assert float(likelihood) == pytest.approx(sum(row.sum for row in rows), rel=1e-4)
    mean = SalmonModel(pipeline, mean=True).log_likelihood(wavs[:1])
    assert float(mean) == pytest.approx(float(likelihoods[0]) / (25 + 1 + 50), rel=1e-4)


def test_salmons_configuration_names_a_released_folder(tmp_path: Path) -> None:
    save_released(tiny_released(), tmp_path / "model", dtype=torch.float32)
    model = SalmonModel.from_config({"model_type": "valle", "model": str(tmp_path / "model"), "mean_nll": True})
    assert model.mean and str(model) == str(tmp_path / "model") and model.stages == ["semantic", "coarse"]
