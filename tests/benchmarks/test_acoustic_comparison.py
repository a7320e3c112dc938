"""The comparison of acoustic models, SoundStorm's passes and the recipe without units: what each measures, on tiny models."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lhotse import Recording, SupervisionSegment
from lhotse.cut import Cut
from tiny_audio import write_sound
from tiny_pipeline import CODEBOOKS, RATE, recording, tiny_released
from tiny_training import tiny_manifests

from benchmarks import acoustic_models, piano_models, soundstorm_passes
from benchmarks.acoustic_measures import kept_voices, seconds_for_ten, speak, spoken_texts, train, words_of_model, words_of_recordings
from valle.audio import Waveform
from valle.corpora.manifests import write_cuts
from valle.evaluation.recogniser import Heard, Segment
from valle.inference.pipeline import Pipeline
from valle.models.checkpoint import load_checkpoint

SMALL: dict[str, Any] = {
    "decoder_dim": 16, "nhead": 2, "num_decoder_layers": 1, "semantic_num_layers": 1, "dim_feedforward": 32, "num_quantizers": 3,
    "max_duration": 9.0, "filter_min_duration": 0.4, "num_buckets": 2, "max_steps": 2, "delay_num_layers": 1,
}  # fmt: skip


def spoken(folder: Path, name: str, seconds: float, *, voice: str, text: str = "one two three") -> Cut:
    path = write_sound(folder / f"{name}.wav", seconds, seed=sum(map(ord, name)))
    cut = Recording.from_file(path).to_cut()
    cut.supervisions = [SupervisionSegment(id=cut.id, recording_id=cut.recording_id, start=0, duration=seconds, speaker=voice, text=text)]
    return cut


def corpus(folder: Path, *, voices_of_train: str) -> Path:
    """Cuts of the voices a and b in dev and test, and of ``voices_of_train`` in train."""
    folder.mkdir()
    for part, voices in (("train", voices_of_train), ("dev", "ab"), ("test", "ab")):
        cuts = [spoken(folder, f"{part}-{voice}-{number}", 5.5, voice=voice) for voice in voices for number in range(2)]
        write_cuts(cuts, folder / f"cuts_{part}.jsonl.gz")
    return folder


class Deaf:
    """Hears two of the three words of whatever sound there is, and doubts none."""

    name, language = "deaf", "en"

    def hear(self, wav: Waveform, sample_rate: int) -> Heard:
        return Heard((Segment("one three", -0.1, 1.0, 0.0),))


@pytest.mark.parametrize(("voices_of_train", "count"), [("ab", 4), ("cd", 4)])
def test_voices_that_train_has_not_are_judged_by_halves(tmp_path: Path, voices_of_train: str, count: int) -> None:
    manifests = corpus(tmp_path / "corpus", voices_of_train=voices_of_train)
    report = kept_voices(Pipeline(tiny_released()), manifests, 4)
    assert report["generated"]["count"] == count and isinstance(report["num_voices"], list) == (voices_of_train == "cd")


def test_words_are_counted_of_units_in_order_and_shuffled_beside_the_recordings(tmp_path: Path) -> None:
    manifests = corpus(tmp_path / "corpus", voices_of_train="ab")
    cuts, pipeline = spoken_texts(manifests, 3), Pipeline(tiny_released())
    found = {**words_of_model(pipeline, Deaf(), cuts, batch_size=2), **words_of_recordings(pipeline, Deaf(), cuts)}
    assert set(found) == {"generated", "babble", "real", "round_trip"} and len(cuts) == 3
    assert all(row["wer"]["mean"] == pytest.approx(1 / 3) and row["trusted"]["mean"] == 1 for row in found.values())
    assert spoken_texts(manifests, 3) == cuts


def test_a_tuned_model_goes_on_from_the_first_at_half_the_rate(tmp_path: Path) -> None:
    manifests = tiny_manifests(tmp_path / "data")
    first = train("delay", manifests, None, tmp_path / "first", minutes=0, **SMALL)
    best = tmp_path / "first" / "best-valid-loss.pt"
    still = train("delay", manifests, best, tmp_path / "still", minutes=0, tuned=True, **{**SMALL, "base_lr": 1e-12})
    assert first["steps"] == 2 and len(first["nll_by_level"]) == CODEBOOKS and first["training_memory_mib"] > 100
    assert still["nll_by_level"] == first["nll_by_level"]
    train("delay", manifests, best, tmp_path / "tuned", minutes=0, tuned=True, **SMALL)
    rates = [load_checkpoint(tmp_path / run / "best-valid-loss.pt")["base_lr"] for run in ("first", "tuned")]
    assert rates == [0.002, 0.001]


def test_every_model_is_timed_by_either_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pipeline(exp_dir: Path, *, engine: Any) -> Pipeline:
        return Pipeline(tiny_released(), engine=engine)

    monkeypatch.setattr("benchmarks.acoustic_measures.trained_pipeline", pipeline)
    taken = seconds_for_ten({"one": tmp_path, "two": tmp_path}, recording(3.2), rounds=1)
    assert set(taken) == {"one", "two"} and all(set(row) == {"torch", "native"} and min(row.values()) > 0 for row in taken.values())


def test_what_the_work_folder_has_is_not_measured_again(tmp_path: Path) -> None:
    for part in ("row", "tuned", "memory"):
        for name, nats in (("rq", {"valid_nats_per_second": 1.0}), ("soundstorm", None)):
            row = {"name": name, "nats_per_second": nats, "controls": {"words": {"babble": 1}} if part == "tuned" else {}}
            path = tmp_path / name / f"{part}.json"
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps({"memory_mib": 400} if part == "memory" else row))
    (tmp_path / "seconds.json").write_text(json.dumps({name: {"torch": 4.0, "native": 2.0} for name in ("rq", "soundstorm")}))
    (tmp_path / "words.json").write_text(json.dumps({"real": 2}))
    options = argparse.Namespace(models=["rq", "soundstorm"], jobs=1, tune_manifest_dir=tmp_path, whisper="whisper")
    rows = acoustic_models.all_rows(options, tmp_path)
    assert [row["name"] for row in rows] == ["rq", "soundstorm"] * 2
    assert all(row["rtf"] == 0.2 and row["memory_mib"] == 400 and row["wer"] is None for row in rows)
    assert [row["controls"] for row in rows[::2]] == [{}, {"words": {"babble": 1, "real": 2}}]


def test_passes_are_judged_on_the_same_prompts_and_timed(tmp_path: Path) -> None:
    pipeline = Pipeline(tiny_released(acoustic_model="soundstorm"))
    judged = soundstorm_passes.kept_voices_by_passes(pipeline, corpus(tmp_path / "corpus", voices_of_train="ab"), [4, 1], 2)
    assert judged[4]["real"] == judged[1]["real"] and judged[4]["generated"]["count"] == 2
    assert soundstorm_passes.total_passes(pipeline, 16) == 16 + CODEBOOKS - 1
    taken = soundstorm_passes.seconds_of_codes(pipeline, [4, 1], rounds=1)
    assert all(row["seconds"] > 0 and row["seconds_of_bare_passes"] > 0 for row in taken.values())
    assert taken[4]["seconds_of_bare_passes"] > taken[1]["seconds_of_bare_passes"]


def test_more_passes_speak_other_codes() -> None:
    pipeline, wavs = Pipeline(tiny_released(acoustic_model="soundstorm")), [recording(4.5, seed=number) for number in range(2)]
    by_passes = [speak(pipeline, wavs, sampling=soundstorm_passes.schedule(count)) for count in (8, 1)]
    assert by_passes[0]["stoi"] != by_passes[1]["stoi"] and by_passes[0]["stoi_of_round_trip"] == by_passes[1]["stoi_of_round_trip"]
    assert all(np.isfinite(row["stoi"]["mean"]) and row["stoi"]["count"] == 2 for row in by_passes) and pipeline.sample_rate == RATE


def test_runs_of_the_recipe_without_units_are_added_to_its_results(tmp_path: Path) -> None:
    level = {"nll_per_codebook": [3.0, 4.0], "unigram_nll_per_codebook": [5.0, 5.1]}
    coarse = {"valid_nll": 2.0, "unigram_nll": 4.0}
    for name, stages in (("rq", {"rq": level}), ("ar-nar", {"coarse": coarse, "fine": level})):
        folder = tmp_path / name / "continued"
        folder.mkdir(parents=True)
        summary = {**stages, "codes": {"valid_nats_per_second": 350.04}, "steps": 9, "dtype": "float32"}
        (folder.parent / "summary.json").write_text(json.dumps(summary))
        (folder / "summary.json").write_text(json.dumps({"items": [{"generated_seconds": 1.5}] * 2}))
    rows = [piano_models.row_of(name, tmp_path / name) for name in ("rq", "ar-nar")]
    assert [row["nll_by_level"] for row in rows] == [[3.0, 4.0], [2.0, 3.0, 4.0]]
    assert rows[1]["unigram_by_level"] == [4.0, 5.0, 5.1] and (rows[0]["continuations"], rows[0]["new_seconds"]) == (2, 3.0)
    (tmp_path / "atepp.json").write_text(json.dumps({"hours": 1}))
    piano_models.add_to(tmp_path / "atepp.json", {"rows": rows})
    assert json.loads((tmp_path / "atepp.json").read_text()) == {"hours": 1, "acoustic_models": {"rows": rows}}
