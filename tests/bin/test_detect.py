"""``bin/detect.py``: marks in files of any format, records and signatures, and how both are turned off."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from tiny_pipeline import RATE, lean_to_end, recording, tiny_released

from valle.audio import read_audio
from valle.bin import detect as program
from valle.bin import infer
from valle.errors import run_program
from valle.models.released import save_released


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Continuations by ``bin/infer.py``, with and without the mark."""
    folder = tmp_path_factory.mktemp("detect")
    soundfile.write(folder / "a.wav", recording(1), RATE)
    save_released(lean_to_end(tiny_released(), -1e9), folder / "model", dtype=torch.float32)
    (folder / "key").write_bytes(b"0123456789abcdef")
    return folder


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], main: object, *argv: object) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["program.py", *map(str, argv)])
    status = 0
    try:
        run_program(main)  # type: ignore[arg-type]
    except SystemExit as end:
        status = int(end.code or 0)
    printed = capsys.readouterr()
    return status, printed.err if status else printed.out


def test_files_of_every_format_that_infer_writes_are_found(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shape = ["--model", made / "model", "--audio-prompts", made / "a.wav", "--max-seconds", 5, "--engine", "torch"]
    assert run(monkeypatch, capsys, infer.main, *shape, "--output-dir", tmp_path / "on")[0] == 0
    status, printed = run(monkeypatch, capsys, infer.main, *shape, "--output-dir", tmp_path / "off", "--watermark", "false")
    assert status == 0 and "watermark: off" in printed
    own = ["--output-dir", tmp_path / "own", "--watermark-key", made / "key"]
    assert run(monkeypatch, capsys, infer.main, *shape, *own)[0] == 0
    wav, rate = read_audio(tmp_path / "on" / "a.wav")
    for ending in ("flac", "mp3", "ogg"):
        soundfile.write(tmp_path / f"a.{ending}", wav, rate)
    names = [*(f"{name}/a.wav" for name in ("on", "off", "own")), *(f"a.{ending}" for ending in ("flac", "mp3", "ogg"))]
    files = [tmp_path / name for name in names]
    status, printed = run(monkeypatch, capsys, program.main, *files)
    rows = [line.split("\t") for line in printed.splitlines()]
    assert status == 0 and [row[0] for row in rows] == [str(file) for file in files]
    assert [row[1] == "watermarked" for row in rows] == [True, False, False, True, True, True]
    assert all((float(row[2]) >= 3) == (row[1] == "watermarked") for row in rows)
    status, printed = run(monkeypatch, capsys, program.main, tmp_path / "own/a.wav", "--watermark-key", made / "key", "--json", "true")
    assert json.loads(printed)["verdict"] == "watermarked"
    summaries = [json.loads((tmp_path / name / "summary.json").read_text()) for name in ("on", "off", "own")]
    assert [summary["watermark"] for summary in summaries] == ["public", "none", "own"]
    assert all(b"0123456789abcdef" not in path.read_bytes() for path in (tmp_path / "own").iterdir())
    status, printed = run(monkeypatch, capsys, program.main, "--verify", "true", "--audio", *files)
    verdicts = [line.split("\t")[1] for line in printed.splitlines()]
    assert verdicts == ["unchanged"] * 3 + ["none"] * 3


def test_what_cannot_be_told_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    soundfile.write(tmp_path / "short.wav", recording(0.4), RATE)
    soundfile.write(tmp_path / "noise.wav", np.zeros(3 * RATE, np.int16), RATE)
    status, printed = run(monkeypatch, capsys, program.main, tmp_path / "short.wav", tmp_path / "noise.wav")
    assert status == 0 and [line.split("\t")[1] for line in printed.splitlines()] == ["cannot-tell", "cannot-tell"]
    assert run(monkeypatch, capsys, program.main)[0] == 2
    assert run(monkeypatch, capsys, program.main, tmp_path / "missing.wav")[0] == 2
    assert run(monkeypatch, capsys, program.main, tmp_path / "short.wav", "--public-key", "00")[0] == 2
