"""What the program says of a tiny joint-lm on a tiny parallel corpus, and of answers that are known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tiny_pipeline import tiny_kmeans, tiny_released
from tiny_texts import texts

from benchmarks import parallel_texts, text_speech
from benchmarks.parallel_texts import Spoken, spoken_sentences
from benchmarks.spoken_answers import SpokenAnswers, another_of
from valle.audio import Waveform
from valle.corpora.espeak_text import EspeakTextConfig, prepare_espeak_text, synthesize_text_corpus
from valle.errors import UserError
from valle.evaluation.recogniser import Heard, Segment
from valle.inference import text_speech as asked
from valle.inference.pipeline import Pipeline
from valle.inference.text_speech import TextSpeech
from valle.models.joint_config import JointLMConfig
from valle.models.joint_lm import JointLM
from valle.models.joint_released import ReleasedJoint, save_joint
from valle.tokenizers.text_pieces import fit_text_pieces

TASKS = ("ASR", "TTS", "MT", "AST", "S2ST", "ASR+AST+S2ST")
CONFIG = EspeakTextConfig(languages="en,es", num_hours=0.003, dev_minutes=0.05, test_minutes=0.6, num_voices=1, num_test_voices=1, seed=3)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    synthesize_text_corpus(folder / "audio", config=CONFIG)
    prepare_espeak_text(folder / "audio", folder / "manifests")
    return folder / "manifests"


@pytest.fixture(scope="module")
def joint() -> ReleasedJoint:
    text = fit_text_pieces([text for number in range(200) for text in texts(number)], num_pieces=400)
    torch.manual_seed(0)
    model = JointLM(JointLMConfig(d_model=16, nhead=2, num_layers=1, dim_feedforward=32, num_pieces=text.num_pieces, num_units=12)).eval()
    return ReleasedJoint(model=model, text=text, semantic=tiny_kmeans(), tasks=TASKS, longest_seconds=8.0)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asked, "MOST_PIECES", 6)  # random weights seldom come to an end
    monkeypatch.setattr(asked, "LONGER", 1.0)


def test_every_task_of_text_is_judged_by_kind_of_voice_and_by_language(corpus: Path, joint: ReleasedJoint, tmp_path: Path) -> None:
    save_joint(joint, tmp_path / "model", dtype=torch.float32)
    arguments = ["--models", f"tiny={tmp_path / 'model'}", "--manifest-dir", str(corpus), "--num-texts", "6"]
    text_speech.main([*arguments, "--output", str(tmp_path / "out.json")])
    written = json.loads((tmp_path / "out.json").read_text())
    found = written["models"]["tiny"]
    assert written["recordings"] == 6 and {"ASR", "MT", "AST", "ASR+AST+S2ST", "chain_above_direct"} < set(found)
    assert found["ASR"]["new voices"]["count"] + found["ASR"]["trained voices"]["count"] == 6
    assert found["MT"]["English to Spanish"]["exact"]["count"] == 3 and "spoken" not in found


class Certain:
    """Hears the same whatever is said."""

    name, language = "certain", "en"

    def __init__(self, text: str) -> None:
        self.text = text

    def hear(self, wav: Waveform, sample_rate: int) -> Heard:
        assert wav.any() and sample_rate > 0
        return Heard((Segment(self.text, 0.0, 1.0, 0.0),))


def test_speech_is_heard_in_the_language_that_was_asked_for(corpus: Path, joint: ReleasedJoint) -> None:
    spoken = [row for row in spoken_sentences(corpus / "cuts_test.jsonl.gz") if row.language == "English"][:2]
    everything = {row.cut.id: row for row in spoken_sentences(corpus / "cuts_test.jsonl.gz")}
    voice = Pipeline(tiny_released())
    right = spoken[0]
    judges = {"English": Certain(right.text), "Spanish": Certain(right.translation)}
    judge = SpokenAnswers(spoken, [another_of(row, list(everything.values())) for row in spoken], everything, voice, judges)
    found = judge.of_model(TextSpeech(joint, voice_model=voice))
    wrong = parallel_texts.errors([spoken[1].text], [right.text], capped=True).mean * len(parallel_texts.words_of_speech(spoken[1].text))
    both = sum(len(parallel_texts.words_of_speech(row.text)) for row in spoken)
    assert found["TTS"]["English"]["mean"] == pytest.approx(wrong / both, abs=1e-3)
    assert found["S2ST"]["to Spanish"]["bleu"]["count"] == 2 and -1 <= found["chain_above_direct"]["mean"] <= 1
    controls = judge.controls()
    assert controls["TTS"]["synthesiser"]["English"] == controls["TTS"]["own units"]["English"] == found["TTS"]["English"]


def test_answers_that_are_right_count_as_right_and_others_as_others(corpus: Path) -> None:
    spoken = spoken_sentences(corpus / "cuts_test.jsonl.gz")
    whole = parallel_texts.translations(spoken, [row.translation.upper() for row in spoken])
    assert all(whole[name]["exact"]["mean"] == 1 for name in ("new voices", "English to Spanish"))
    assert whole["other_sentences"]["bleu"]["mean"] < 50
    heard = parallel_texts.transcripts(spoken, [row.text for row in spoken])
    assert heard["new voices"]["mean"] == 0 and heard["other_sentences"]["mean"] > 0.5
    loop = ["no no no no no no"] * 2
    assert parallel_texts.errors(["yes", "no"], loop).mean == 5.5 and parallel_texts.errors(["yes", "no"], loop, capped=True).mean == 1


def test_a_voice_is_given_by_another_sentence_of_it(corpus: Path) -> None:
    spoken: list[Spoken] = spoken_sentences(corpus / "cuts_test.jsonl.gz")
    one = spoken[0]
    prompts = [row for row in spoken if row.voice == one.voice and row.cut.id not in (one.cut.id, one.translated_id)]
    wav, _ = another_of(one, spoken)
    assert any(len(wav) == len(row.sound()[0]) for row in prompts)


def test_half_of_what_speaking_needs_is_refused(corpus: Path) -> None:
    with pytest.raises(UserError, match="together"):
        SpokenAnswers.of(spoken_sentences(corpus / "cuts_test.jsonl.gz"), Pipeline(tiny_released()), None, 2)
