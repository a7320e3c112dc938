"""What a person hears of a model: the whole program on a tiny corpus with a recogniser of known words, and how draws are counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from lhotse import Recording, SupervisionSegment
from lhotse.cut import Cut
from tiny_audio import write_sound
from tiny_pipeline import RATE, recording, tiny_released

from benchmarks import sound, sound_part_tables, sound_table, stage_losses
from valle.audio import Waveform
from valle.corpora.manifests import write_cuts
from valle.evaluation.heard_words import HeardClip, lexicon_counts
from valle.evaluation.recogniser import Heard, Segment
from valle.inference.pipeline import Pipeline
from valle.models.released import save_released


class Encoder:
    """Every voice is the same."""

    name = "one voice"

    def embed(self, wav: Waveform, sample_rate: int):  # type: ignore[no-untyped-def]
        import numpy as np

        return np.array([1.0])


class Recogniser:
    """Hears one word of the lexicon and one other in everything."""

    name, language = "two words", "en"

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def hear(self, wav: Waveform, sample_rate: int) -> Heard:
        self.seconds.append(len(wav) / sample_rate)
        return said("garden blorp")


def said(text: str) -> Heard:
    return Heard((Segment(text=text, log_probability=-0.1, compression=1.0, no_speech=0.0),))


def spoken(folder: Path, speaker: str, number: int, seconds: float) -> Cut:
    path = write_sound(folder / f"{speaker}-{number}.wav", seconds, seed=number + 10 * ord(speaker))
    cut = Recording.from_file(path).to_cut()
    cut.supervisions = [
        SupervisionSegment(id=cut.id, recording_id=cut.recording_id, start=0, duration=seconds, speaker=speaker, text="the garden")
    ]
    return cut


@pytest.fixture
def flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    cuts = tmp_path / "cuts.jsonl.gz"
    write_cuts([spoken(tmp_path, speaker, number, 5.5) for speaker in "ab" for number in range(4)], cuts)
    save_released(tiny_released(), tmp_path / "model")
    monkeypatch.setattr(sound, "speaker_encoder", lambda name: Encoder())
    monkeypatch.setattr(sound, "whisper_recogniser", lambda name: Recogniser())
    return [
        "--models", f"it={tmp_path / 'model'}", "--corpora", f"tiny={cuts}", "--texts", f"tiny={cuts}", "--whisper", "none",
        "--num-prompts", "4", "--seeds", "2", "--max-seconds", "1.5",
        "--work-dir", str(tmp_path / "work"), "--output", str(tmp_path / "out.json"),
    ]  # fmt: skip


def test_every_figure_stands_beside_its_controls(tmp_path: Path, flags: list[str]) -> None:
    sound.main(flags)
    results = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    found = results["corpora"]["tiny"]["it"]
    assert found["voice_kept"]["n"] == 4 and set(found["voice_kept"]["controls"]) == {"real", "codec", "shuffled"}  # 2 prompts of each half
    assert found["words_in_lexicon"]["value"] == 0.5 and set(found["words_in_lexicon"]["controls"]) == {"real", "codec", "babble"}
    assert found["voice_cosine"]["value"] == pytest.approx(1) and "trigrams_allowed" not in found  # no grammar of these texts is known
    assert found["rtf"]["n"] == 3 and found["rtf"]["value"] > 0
    table = sound_table.words(results)
    assert "| tiny: it | 50 % (" in table and "| tiny: shuffled units |" in table
    assert "| tiny: a wrong prompt |" in sound_table.voices(results)


def test_every_stage_is_judged_from_the_recording_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cuts, pipeline = tmp_path / "cuts.jsonl.gz", Pipeline(tiny_released())
    write_cuts([spoken(tmp_path, "a", number, 7.5) for number in range(2)], cuts)
    save_released(pipeline.released, tmp_path / "model")
    monkeypatch.setattr(stage_losses, "speaker_encoder", lambda name: Encoder())
    monkeypatch.setattr(stage_losses, "whisper_recogniser", lambda name: Recogniser())
    monkeypatch.setattr(stage_losses.espeak_grammar, "lexicon", lambda: {"garden"})
    output = tmp_path / "losses.json"
    stage_losses.main(["--model", str(tmp_path / "model"), "--manifest", str(cuts), "--whisper", "none", "--output", str(output)])
    results = json.loads(output.read_text(encoding="utf-8"))
    assert [row["words_in_lexicon"]["mean"] for row in results["rows"]] == [0.5] * 5 and results["recordings"] == 2
    assert "| levels above 0 generated | 50 % (" in sound_part_tables.stage_losses(results)


def test_each_system_has_more_of_it_generated() -> None:
    pipeline, wav = Pipeline(tiny_released()), recording(7.5)
    made = {name: wavs[0] for name, wavs in stage_losses.systems(pipeline, [wav]).items()}
    assert (made["the recording itself"] == wav[3 * RATE :]).all()
    assert len({wav[:RATE].tobytes() for wav in made.values()}) == len(made) == 5
    assert all(abs(len(wav) / RATE - 4.5) < 0.2 for wav in made.values())


def test_a_lexicon_that_has_the_words_of_babble_too_is_left_out_of_the_table_of_words() -> None:
    corpora = {}
    for corpus, babble in (("telling", 0.3), ("silent", 0.9)):
        share = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 4}
        controls = {"codec": {**share, "value": 0.8}, "babble": {**share, "value": babble}}
        corpora[corpus] = {"a model": {"voice_kept": share, "words_in_lexicon": {**share, "controls": controls}}}
    results = {**sound.header(["it"]), "corpora": corpora, "seeds": 4, "max_seconds": 7.0, "recogniser": "it", "speaker_encoder": "x"}
    table = sound_table.words(results)
    assert "| telling: a model |" in table and "| silent: a model |" not in table and "than of those of speech: silent. " in table


def test_what_is_finished_is_not_measured_again(tmp_path: Path, flags: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    sound.main(flags)
    first = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["corpora"]
    monkeypatch.setattr(sound, "measure", lambda *given, **more: pytest.fail("measured twice"))
    sound.main(flags)
    assert json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["corpora"] == first


def test_draws_of_one_prompt_are_counted_together() -> None:
    clips = [HeardClip(name, 2.0, said(text)) for name, text in (("b", "garden"), ("a", "blorp"), ("b", "blorp garden"), ("a", "blorp"))]
    counts = sound.grouped(clips, lexicon_counts(clips, {"garden"}))
    assert counts.words.tolist() == [2, 3] and counts.inside.tolist() == [0, 2] and counts.seconds.tolist() == [4.0, 4.0]
    estimate = sound.ratio_by_name(["b", "a", "b", "a"], [1, 0, 1, 0], [1] * 4)
    assert (estimate.mean, estimate.count) == (0.5, 2) and (estimate.low, estimate.high) == (0, 1)  # two prompts, not four draws


def test_sampling_of_a_stage_keeps_what_is_not_named() -> None:
    chosen = sound.chosen_sampling(["coarse:guidance=2", "semantic:temperature=0.5", "coarse:top_p=0.9"])
    assert chosen["coarse"].guidance == 2 and chosen["coarse"].top_p == 0.9 and chosen["coarse"].temperature == 0.8
    assert chosen["semantic"].temperature == 0.5


def test_new_voices_speak_alone_where_they_are_marked(tmp_path: Path) -> None:
    cuts = [spoken(tmp_path, speaker, 0, 1.0) for speaker in "ab"]
    assert sound.new_voices(cuts) == cuts
    cuts[0].supervisions[0].custom, cuts[1].supervisions[0].custom = {"voice_is_in_train": True}, {"voice_is_in_train": False}
    assert sound.new_voices(cuts) == cuts[1:]
