import numpy as np
import pytest
from spoken_corpus import PITCHES, speak
from tiny_audio import sound

from valle.evaluation.voices import VoiceClip, VoiceJudge, VoicesError, VoiceTrial, derangement, voice_features, voice_shares

RATE = 16000


@pytest.fixture(scope="module")
def judge() -> VoiceJudge:
    return VoiceJudge([VoiceClip(f"{voice}-{seed}", voice, speak(voice, seed)) for voice in PITCHES for seed in range(4)], RATE)


def trials(*, generated_as: dict[str, str] | None = None) -> list[VoiceTrial]:
    generated_as = generated_as or {voice: voice for voice in PITCHES}
    return [
        VoiceTrial(f"new-{voice}-{seed}", voice, speak(generated_as[voice], seed + 50), speak(voice, seed), speak(voice, seed + 70))
        for voice in PITCHES
        for seed in range(10, 14)
    ]


def test_the_judge_names_voices_in_utterances_it_has_not_heard(judge: VoiceJudge) -> None:
    assert all(judge.name_voice(speak(voice, seed)) == voice for voice in PITCHES for seed in range(20, 26))


def test_the_judge_does_not_hear_loudness(judge: VoiceJudge) -> None:
    wav = speak("middle", 30)
    assert np.allclose(voice_features(wav, RATE), voice_features(wav * 0.1, RATE), atol=0.2)
    assert judge.name_voice(wav * 0.05) == "middle"


def test_pauses_say_nothing_of_the_voice(judge: VoiceJudge) -> None:
    wav = speak("high", 31)
    assert judge.name_voice(np.concatenate([wav, np.zeros(3 * RATE, np.float32)])) == "high"


def test_voices_that_are_kept_score_like_the_real_ones_and_shuffled_prompts_do_not(judge: VoiceJudge) -> None:
    report = voice_shares(judge, trials())
    assert report.generated.mean == report.real.mean == report.round_trip.mean == 1
    assert report.shuffled.mean < 0.7
    assert report.chance == pytest.approx(1 / 3)
    assert report.generated.count == 12


def test_voices_that_change_are_found_out(judge: VoiceJudge) -> None:
    report = voice_shares(judge, trials(generated_as={"low": "high", "middle": "low", "high": "middle"}))
    assert report.generated.mean == 0 and report.real.mean == 1


def test_silence_counts_as_missed(judge: VoiceJudge) -> None:
    silent = [VoiceTrial(trial.name, trial.voice, np.zeros(RATE, np.float32), trial.real, trial.round_trip) for trial in trials()]
    nothing = [VoiceTrial(trial.name, trial.voice, np.zeros(0, np.float32), trial.real, trial.round_trip) for trial in trials()]
    assert voice_shares(judge, silent).generated.mean == voice_shares(judge, nothing).generated.mean == 0


def test_an_utterance_that_the_judge_has_heard_is_refused(judge: VoiceJudge) -> None:
    heard = [VoiceTrial("low-0", "low", *[speak("low", 0)] * 3), *trials()]
    with pytest.raises(VoicesError, match="has not heard, found 1"):
        voice_shares(judge, heard)


def test_a_voice_that_the_judge_does_not_know_is_refused(judge: VoiceJudge) -> None:
    with pytest.raises(VoicesError, match="stranger"):
        voice_shares(judge, [VoiceTrial("x", "stranger", *[speak("low", 3)] * 3), *trials()])


def test_too_few_recordings_or_prompts_are_refused(judge: VoiceJudge) -> None:
    with pytest.raises(VoicesError, match="two recordings each"):
        VoiceJudge([VoiceClip("a", "low", speak("low", 0)), VoiceClip("b", "high", speak("high", 0))], RATE)
    with pytest.raises(VoicesError, match="found 0 voices"):
        VoiceJudge([], RATE)
    with pytest.raises(VoicesError, match="two prompts or more"):
        voice_shares(judge, trials()[:1])


@pytest.mark.parametrize("count", [2, 3, 10, 101])
def test_nothing_stays_in_its_place_when_prompts_are_shuffled(count: int) -> None:
    for seed in range(5):
        order = derangement(count, seed)
        assert sorted(order) == list(range(count))
        assert (order != np.arange(count)).all()


@pytest.mark.parametrize("db", [-60, -50, -20, 6])
def test_a_voice_is_the_same_voice_however_loud(db: float) -> None:
    wav = sound(3)
    changed = (wav * 10 ** (db / 20)).astype(np.float32)
    np.testing.assert_allclose(voice_features(changed, 16000), voice_features(wav, 16000), atol=1e-3)
