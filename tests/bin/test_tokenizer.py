"""What bin/tokenizer.py shows: its list, and the bar while it works."""

import pytest

from valle.bin import tokenizer
from valle.bin.terminal import progress_bar
from valle.tokenizers.catalogue import CATALOGUE, ListConfig


def test_the_list_has_a_row_for_every_tokenizer_and_says_where_weights_go(capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer.show_list(ListConfig())
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split()[:2] == ["name", "kind"]
    listed = {row.split()[0]: row for row in rows[: len(CATALOGUE)]}
    assert listed.keys() == {entry.name for entry in CATALOGUE}
    assert listed["valle-convnext"].split()[1:] == ["acoustic", "16000", "50", "8", "x", "256", "3.2", "Apache-2.0", "bundled"]
    assert listed["hubert-base"].split()[3:8] == ["50", "1", "x", "fitted", "Apache-2.0"]
    assert "--tokenizer NAME=FOLDER" in rows[-1]


def test_the_list_can_be_of_codecs_alone(capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer.show_list(ListConfig(kind="acoustic"))
    out = capsys.readouterr().out
    assert "mimi" in out and "hubert-base" not in out


def test_the_bar_counts_hours_of_audio_and_hours_a_minute(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = [1000.0]
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    with progress_bar("tokens", "h") as progress:
        for done in (3600.0, 7200.0):  # an hour of audio in half a minute
            now[0] += 30
            progress(done, 10800.0)
    bar = capsys.readouterr().err
    assert "2.00/3.00 h" in bar and "2.00 h/min]" in bar
