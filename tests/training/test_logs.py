"""What a run says."""

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tiny_training import tiny_options

from valle.models.loss import LossTerm
from valle.training.logs import Recorder, add_sums, loss_text, means, setup_logging, sums_of
from valle.training.train import train_audio_lm

PART = r"\w+=[\d.]+"
LOSS = rf"loss\[{PART}(, {PART})*, over \d+ frames\.\]"


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    for handler in root.handlers:
        if handler not in before:
            handler.close()
    root.handlers[:], root.level = before, level
    logging.disable(logging.NOTSET)


def test_log_lines_are_those_of_icefall(manifests: Path, tmp_path: Path) -> None:
    train_audio_lm(tiny_options(manifests, tmp_path, max_steps=2, num_epochs=1))
    [path] = (tmp_path / "log").iterdir()
    assert re.fullmatch(r"log-train-\d{4}(-\d\d){5}", path.name)
    lines = path.read_text().splitlines()
    stamp = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO \[loop\] "
    wanted = rf"{stamp}Epoch 1, batch 2, {LOSS}, tot_{LOSS}, batch size: \d+, lr: \d\.\d\de-\d\d, padding: \d+\.\d%"
    assert sum(bool(re.fullmatch(wanted, line)) for line in lines) == 1
    assert sum(bool(re.fullmatch(rf"{stamp}Epoch 1, validation: {LOSS}", line)) for line in lines) == 1


def test_a_library_that_silenced_logging_does_not_silence_a_run(tmp_path: Path) -> None:
    """Whether it disabled all levels, set the root's, or left handlers of its own."""
    logging.disable(logging.CRITICAL)
    logging.getLogger().setLevel(logging.ERROR)
    logging.getLogger().addHandler(logging.NullHandler())
    setup_logging(tmp_path, 0)
    logging.info("still heard")
    [path] = (tmp_path / "log").iterdir()
    assert "INFO [test_logs] still heard" in path.read_text()


def test_other_ranks_write_files_of_their_own_and_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging(tmp_path, 1)
    logging.info("from the second")
    [path] = (tmp_path / "log").iterdir()
    assert path.name.endswith("-1") and "from the second" in path.read_text()
    assert capsys.readouterr() == ("", "")


def test_sums_become_means_by_their_counts() -> None:
    total: dict[str, tuple[float, float, float]] = {}
    for nats, count, hits in ((6.0, 2, 1), (4.0, 8, 4)):
        add_sums(total, sums_of({"coarse": LossTerm(torch.tensor(nats), torch.tensor(count), torch.tensor(hits))}))
    add_sums(total, {"fine": (0.0, 0.0, 0.0)})
    assert total["coarse"] == (10.0, 10.0, 5.0) and means(total) == {"coarse": 1.0}
    assert loss_text(total) == "[coarse=1, over 10 frames.]"
    assert sums_of({}) == {}


def test_curves_of_a_killed_run_are_cut_back_to_its_checkpoint(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, enabled=True, tensorboard=False, step=0)
    for step in (1, 2, 3):
        recorder.curve(step, float(step), "train", {"coarse": (4.0, 2.0, 1.0), "fine": (0.0, 0.0, 0.0)})
    with (tmp_path / "curves.jsonl").open("a") as stream:
        stream.write('{"step": 4, "sec')
    Recorder(tmp_path, enabled=True, tensorboard=False, step=2)
    rows = [json.loads(line) for line in (tmp_path / "curves.jsonl").read_text().splitlines()]
    assert rows == [
        {"step": step, "seconds": float(step), "part": "coarse", "kind": "train", "nll": 2.0, "accuracy": 0.5} for step in (1, 2)
    ]


def test_other_ranks_record_nothing(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "exp", enabled=False, tensorboard=True, step=0)
    recorder.curve(1, 1.0, "train", {"coarse": (1.0, 1.0, 1.0)})
    recorder.scalars("tot", {"coarse": (1.0, 1.0, 1.0)}, 1)
    recorder.audio("valid/continuation_1", torch.zeros(1000), 16000, 1)
    recorder.close()
    assert not (tmp_path / "exp").exists()
