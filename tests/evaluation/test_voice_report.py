import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from lhotse import CutSet
from spoken_corpus import write_corpus
from tiny_pipeline import RATE, lean_to_end, tiny_released

from valle.evaluation import voice_report as module
from valle.evaluation.voice_report import VoiceTrialSettings, clips_by_voice, one_voice_after_another, voice_of, voice_report
from valle.evaluation.voices import VoicesError, VoiceTrial
from valle.inference.pipeline import Pipeline

SHORT = VoiceTrialSettings(num_prompts=6, prompt_seconds=1.0, max_seconds=2.0, batch_size=4)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("voices") / "tokenized", tiny_released())


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline(lean_to_end(tiny_released(), -1e9))


def test_a_report_holds_shares_with_intervals_controls_and_counts(pipeline: Pipeline, corpus: Path) -> None:
    heard: list[tuple[float, float]] = []
    report = json.loads(json.dumps(voice_report(pipeline, corpus, SHORT, progress=lambda done, wanted: heard.append((done, wanted)))))
    assert report["num_voices"] == 3 and report["chance"] == pytest.approx(1 / 3)
    for name in ("generated", "real", "round_trip", "shuffled"):
        assert report[name]["count"] == 6 and 0 <= report[name]["low"] <= report[name]["mean"] <= report[name]["high"] <= 1
    assert report["real"]["mean"] == 1
    assert heard == [(0, 6), (4, 6), (6, 6)]


def test_only_what_was_generated_is_judged(pipeline: Pipeline, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The prompt left inside what is judged would score as the prompt's voice by itself."""
    given: list[VoiceTrial] = []
    judged = module.voice_shares
    monkeypatch.setattr(module, "voice_shares", lambda judge, trials, seed: given.extend(trials) or judged(judge, trials, seed=seed))
    report = voice_report(pipeline, corpus, SHORT)
    guard = round(pipeline.acoustic.left_context / RATE * RATE)
    assert report["left_out_after_the_prompt_seconds"] == pytest.approx(guard / RATE) and guard > 0
    cuts = {cut.id: cut for cut in CutSet.from_jsonl(corpus / "cuts_test.jsonl.gz")}
    for trial in given:
        whole = cuts[trial.name].load_audio()[0]
        assert np.array_equal(trial.real, whole[RATE + guard : 3 * RATE])
        assert len(trial.generated) == len(trial.real) == len(trial.round_trip) == 2 * RATE - guard
        assert not np.isclose(trial.generated[:2000], whole[RATE + guard :][:2000]).all()


def test_prompts_are_of_voices_that_the_judge_knows_and_utterances_that_it_does_not(corpus: Path) -> None:
    train = CutSet.from_jsonl(corpus / "cuts_train.jsonl.gz")
    by_voice = clips_by_voice(train, 3)
    assert {voice: len(cuts) for voice, cuts in by_voice.items()} == {"low": 3, "middle": 3, "high": 3}
    assert clips_by_voice(list(train)[:5], 3).keys() == {"low"}  # the fifth is the only one of its voice


def test_every_voice_has_its_turn_before_one_has_a_second(corpus: Path) -> None:
    cuts = list(CutSet.from_jsonl(corpus / "cuts_train.jsonl.gz"))
    chosen = [voice_of(cut) for cut in one_voice_after_another(cuts, 6, seed=0)]
    assert set(chosen[:3]) == set(chosen[3:]) == {"low", "middle", "high"}
    forwards, backwards = (one_voice_after_another(order, 6, seed=0) for order in (cuts, cuts[::-1]))
    assert [cut.id for cut in forwards] == [cut.id for cut in backwards]
    assert len(one_voice_after_another(cuts, 100, seed=1)) == len(cuts)


def test_continuations_that_end_at_once_count_as_missed(corpus: Path) -> None:
    silent = Pipeline(lean_to_end(tiny_released(), 1e9))
    report = voice_report(silent, corpus, replace(SHORT, max_seconds=1.5))
    assert report["generated"]["mean"] < report["real"]["mean"]


def test_a_corpus_without_utterances_to_judge_is_a_sentence(pipeline: Pipeline, corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(VoicesError, match=r"of 11\.\d s or more by train's voices"):
        voice_report(pipeline, corpus, replace(SHORT, prompt_seconds=10.0))
    with pytest.raises(VoicesError, match=r"run \./prepare\.sh"):
        voice_report(pipeline, tmp_path, SHORT)
    with pytest.raises(VoicesError, match="two or more prompts"):
        VoiceTrialSettings(num_prompts=1)
