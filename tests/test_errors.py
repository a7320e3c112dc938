"""The frame around every program: one line for a user's mistake, a traceback for a programmer's."""

import errno
import sys
from collections.abc import Callable
from typing import NoReturn

import pytest

from valle.config import FlagError
from valle.errors import UserError, run_program
from valle.training.errors import BrokenBatchError, MemoryShortError, OtherRunError


def raising(error: BaseException) -> Callable[[], NoReturn]:
    def main() -> NoReturn:
        raise error

    return main


@pytest.fixture(autouse=True)
def program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["bin/trainer_audiolm.py"])


@pytest.mark.parametrize("kind", [UserError, FlagError, OtherRunError])
def test_a_users_mistake_is_one_line_and_status_2(kind: type[UserError], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run_program(raising(kind("expected this, found that; do so")))
    assert ended.value.code == 2
    assert capsys.readouterr().err == "trainer_audiolm.py: error: expected this, found that; do so\n"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_one_line_and_status_2(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run_program(raising(OSError(number, "No space left on device", "exp/log")))
    said = capsys.readouterr().err
    assert ended.value.code == 2 and "cannot write" in said and "exp/log" in said and said.count("\n") == 1


def test_ctrl_c_ends_with_130_and_says_that_work_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run_program(raising(KeyboardInterrupt()))
    assert ended.value.code == 130 and "the same command continues it" in capsys.readouterr().err


@pytest.mark.parametrize("error", [ValueError("a bug"), KeyError("a"), OSError(errno.EBADF, "Bad file descriptor")])
def test_a_programmers_mistake_keeps_its_traceback(error: Exception) -> None:
    with pytest.raises(type(error)):
        run_program(raising(error))


def test_a_program_that_ends_well_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    run_program(lambda: None)
    assert capsys.readouterr() == ("", "")


def test_what_ends_a_training_run_says_what_to_do(tmp_path) -> None:  # type: ignore[no-untyped-def]
    short = MemoryShortError(step=3, device="cuda:0")
    what = ["the loss of coarse", "the gradients"]
    broken = BrokenBatchError(step=3, what=what, in_a_row=4, path=tmp_path / "b.pt", where="here", dtype="float16")
    assert "--max-duration" in str(short) and "step 3" in str(short)
    said = "the loss of coarse and the gradients became infinite or not a number at step 3, the last of 4 in a row (here)"
    assert str(broken).startswith(said)
    assert "--dtype float32" in str(broken)
    assert issubclass(MemoryShortError, UserError) and issubclass(BrokenBatchError, UserError)
