"""Prompts that are odd and good: they are continued, and their names are shown as text wherever they are shown."""

import html
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from bad_house import run
from tiny_pipeline import RATE, recording, tiny_released

from valle.audio import read_audio
from valle.models.released import save_released


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("odd") / "model"
    save_released(tiny_released(), folder, dtype=torch.float32)
    return folder


def continue_prompts(model: Path, folder: Path, *prompts: str) -> list[dict]:
    flags = ["--model", str(model), "--output-dir", "out", "--prompt-seconds", "1", "--max-seconds", "0.2", "--audio-prompts", *prompts]
    end = run("infer", flags, folder)
    assert end.status == 0, end.err
    return json.loads((folder / "out" / "summary.json").read_text())["items"]


@pytest.mark.parametrize(
    ("samples", "rate"),
    [
        (np.stack([recording(1.5)] * 8, 1), RATE),
        (recording(1.5)[::2], 8000),
        (np.repeat(recording(1.5), 6), 96000),
        (np.zeros(RATE * 3 // 2, np.float32), RATE),
        (np.ones(RATE * 3 // 2, np.float32), RATE),
    ],
    ids=["8 channels", "8 kHz", "96 kHz", "silence", "one level"],
)
def test_any_rate_any_number_of_channels_and_silence_are_continued(model: Path, tmp_path: Path, samples: np.ndarray, rate: int) -> None:
    soundfile.write(tmp_path / "a.wav", samples, rate)
    [item] = continue_prompts(model, tmp_path, "a.wav")
    wav, written = read_audio(tmp_path / "out" / item["wav"])
    assert item["prompt_seconds"] == 1 and len(wav) == round(item["seconds"] * RATE) and written == RATE


def test_a_recording_shorter_than_the_prompt_asked_for_is_a_prompt_as_a_whole(model: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", recording(0.6), RATE)
    [item] = continue_prompts(model, tmp_path, "a.wav")
    assert item["prompt_seconds"] == pytest.approx(0.6)


NAMES = [
    "with spaces.wav",
    'it\'s "quoted".wav',
    "größe 漢字 🎵.wav",
    "#%41?&=+.wav",
    "<img src=x onerror=alert(1)>.wav",
    "tab\tand\nline.wav",
    "$(touch ran).wav",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_of_any_letters_are_continued_and_escaped(model: Path, tmp_path: Path, name: str) -> None:
    soundfile.write(tmp_path / name, recording(1.1), RATE)
    [item] = continue_prompts(model, tmp_path, name)
    assert item["prompt"] == name and (tmp_path / "out" / item["wav"]).is_file()
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "<img src=x" not in page and not (tmp_path / "ran").exists()
    assert name.split("\t")[0] in html.unescape(page)


def test_a_name_that_begins_with_a_dash_is_continued_by_its_path(model: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "-a.wav", recording(1.1), RATE)
    assert continue_prompts(model, tmp_path, "./-a.wav")[0]["wav"] == "-a.wav"
