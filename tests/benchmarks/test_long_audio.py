"""The benchmarks of long audio in tiny sizes: a peak for every length, and the units that windows leave as they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_speech import write_spoken

from benchmarks import long_audio, window_context
from valle.audio import audio_info
from valle.training.speech_encoder_options import SpeechEncoderOptions
from valle.training.train_speech_encoder import train_speech_encoder


def test_every_length_has_its_peak_and_the_long_one_its_goal(tmp_path: Path) -> None:
    found = long_audio.measure(tmp_path, {"units": "mfcc-kmeans"}, seconds=[1, 3])
    assert found.keys() == {"units"} and found["units"]["3 s gib"]["goal"] == "at most 1.5"
    assert 0.05 < found["units"]["1 s gib"]["value"] < 1.5 and 0.8 < found["units"]["growth"]["value"] < 1.2
    assert [path.name for path in (tmp_path / "tokens" / "units").glob("*.npy")] and not list(tmp_path.glob("*.wav"))


def test_the_recording_is_as_long_as_it_is_said_to_be(tmp_path: Path) -> None:
    info = audio_info(long_audio.write_recording(tmp_path / "a.wav", seconds=70.5))
    assert (info.seconds, info.sample_rate, info.num_channels) == (70.5, 44100, 2)


def test_windows_change_units_only_where_attention_has_no_bounds(tmp_path: Path) -> None:
    for seed, part in enumerate(("train", "dev")):
        write_spoken(tmp_path / f"cuts_{part}.jsonl.gz", num_cuts=6, seed=50 * seed)
    run = SpeechEncoderOptions(
        manifests=[tmp_path / "cuts_train.jsonl.gz"], valid_manifest=tmp_path / "cuts_dev.jsonl.gz", exp_dir=tmp_path / "exp",
        encoder_dim=16, nhead=2, num_encoder_layers=2, left_reach=4, right_reach=1, batch_size=3, crop_seconds=0.8, batches_per_epoch=2,
        num_epochs=1, num_clusters=[6], num_workers=0, optimizer_name="AdamW", base_lr=0.003, dtype="float32", device="cpu",
        tensorboard=False,
    )  # fmt: skip
    train_speech_encoder(run)
    sizes = ["--layer", "2", "--num-units", "12", "--num-clips", "2", "--clip-seconds", "4"]
    files = ["--manifest", str(tmp_path / "cuts_dev.jsonl.gz"), "--output", str(tmp_path / "window_context.json")]
    window_context.main(["--exp-dirs", str(tmp_path / "exp"), *sizes, *files])
    bounded, lifted = json.loads((tmp_path / "window_context.json").read_text())["encoders"]
    assert [bounded["attention"], lifted["attention"], bounded["steps"]] == ["bounded", "bounded, lifted", 2]
    assert bounded["units"] == 400 and all(row["same"] == 1 for row in bounded["contexts"])
    assert lifted["contexts"][0]["same"] < 1 and lifted["contexts"][-1]["same"] == pytest.approx(1, abs=0.01)
