"""``bin/infer.py --stream``: sound on standard output while it is made, the files as without it."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from tiny_pipeline import RATE, recording, tiny_released

from valle.audio import read_audio
from valle.bin import infer as program
from valle.errors import UserError, run_program
from valle.inference.infer import InferOptions, infer
from valle.models.released import save_released


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stream")
    for number in range(2):
        soundfile.write(folder / f"{number}.wav", recording(1 + number, seed=number), RATE)
    save_released(tiny_released(), folder / "model", dtype=torch.float32)
    return folder


def options(folder: Path, output: Path, **changes: Any) -> InferOptions:
    own = {"model": folder / "model", "max_seconds": 0.7, "min_seconds": 0.7, "block_seconds": 0.3, "engine": "torch", "device": "cpu"}
    prompts = [folder / "0.wav", folder / "1.wav"]
    return InferOptions(**{"audio_prompts": prompts, "output_dir": output, **own, **changes})


def test_what_is_played_is_the_new_audio_of_every_prompt_and_the_files_are_those_of_offline(folder: Path, tmp_path: Path) -> None:
    player = io.BytesIO()
    streamed = infer(options(folder, tmp_path / "live", stream="float32"), player=player)
    offline = infer(options(folder, tmp_path / "offline", batch_size=1))
    new = []
    for item, other in zip(streamed["items"], offline["items"], strict=True):
        ours, theirs = (read_audio(tmp_path / where / item["wav"])[0] for where in ("live", "offline"))
        assert np.allclose(ours, theirs, atol=2 / 32768)
        assert {name: item[name] for name in other} == pytest.approx(other)
        new.append(theirs[round(item["prompt_seconds"] * RATE) :])
    assert np.allclose(np.frombuffer(player.getvalue(), "<f4").clip(-1, 1), np.concatenate(new), atol=2 / 32768)
    written = json.loads((tmp_path / "live" / "summary.json").read_text())
    assert written["settings"]["stream"] == "float32"
    assert all(item["first_audio_ms"] > 0 and item["rtf"] > 0 for item in written["items"])


def test_a_wav_from_a_pipe_is_read_to_its_end_and_holds_the_same_as_raw_samples(folder: Path, tmp_path: Path) -> None:
    players = {name: io.BytesIO() for name in ("wav", "pcm16")}
    for name, player in players.items():
        infer(options(folder, tmp_path / name, stream=name), player=player)
    wav = players["wav"].getvalue()
    assert wav[:4] == b"RIFF" and wav[44:] == players["pcm16"].getvalue()
    samples, rate = soundfile.read(io.BytesIO(wav), dtype="int16")
    assert rate == RATE and np.array_equal(samples, np.frombuffer(wav[44:], "<i2"))


def test_standard_output_holds_sound_alone(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    flags = f"--audio-prompts {folder}/0.wav --model {folder}/model --max-seconds 0.4 --min-seconds 0.4 --stream pcm16 --device cpu"
    monkeypatch.setattr(sys, "argv", ["infer.py", "--output-dir", str(tmp_path / "out"), *flags.split()])
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.FileIO(1, "w", closefd=False)))
    run_program(program.main)
    printed = capfdbinary.readouterr()
    assert len(printed.out) == 2 * round(0.4 * RATE)
    assert b"0.40 s generated, the first of it" in printed.err and b"ms after the prompt" in printed.err


def test_a_mode_that_is_no_continuation_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--stream continues its prompts, found --mode acoustic"):
        options(folder, tmp_path, stream="wav", mode="acoustic")
    with pytest.raises(UserError, match="raise --block-seconds"):
        options(folder, tmp_path, block_seconds=0.0).settings()
