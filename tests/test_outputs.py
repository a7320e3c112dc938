"""No input and nothing of anyone else's is written over or deleted: the record that says whose a file is."""

import json
import os
from pathlib import Path

import pytest

from valle.outputs import RECORD, ClashError, claim_file, claim_outputs, own_files


def write(folder: Path, **files: str) -> None:
    """A run of a program that writes these files."""
    outputs = claim_outputs(folder, files, program="writer")
    with outputs.being_written():
        for name, text in files.items():
            (folder / name).write_text(text)


def test_a_free_name_is_taken_and_the_same_program_writes_it_again(tmp_path: Path) -> None:
    for text in ("one", "two"):
        write(tmp_path / "out", a=text)
    assert (tmp_path / "out" / "a").read_text() == "two" and own_files(tmp_path / "out") == {"a"}


def test_a_file_that_was_there_before_is_refused_and_stays(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("mine")
    with pytest.raises(ClashError, match=r"expected no file at .*/a, .* move it away"):
        write(tmp_path, a="yours", b="new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "mine"}


def test_an_output_that_somebody_replaced_is_no_longer_the_programs(tmp_path: Path) -> None:
    write(tmp_path, a="old")
    (tmp_path / "a").write_text("mine")  # as long as before
    with pytest.raises(ClashError):
        write(tmp_path, a="new")
    assert own_files(tmp_path) == set()


def test_another_programs_output_is_refused(tmp_path: Path) -> None:
    write(tmp_path, a="text")
    with pytest.raises(ClashError):
        claim_file(tmp_path / "a", program="other")
    claim_file(tmp_path / "a", program="other", also=["writer"])


def test_an_input_is_refused_under_any_of_its_names(tmp_path: Path) -> None:
    write(tmp_path, a="text")
    os.link(tmp_path / "a", tmp_path / "linked")
    for given in (tmp_path / "a", tmp_path / "x" / ".." / "a", tmp_path / "linked"):
        (tmp_path / "x").mkdir(exist_ok=True)
        with pytest.raises(ClashError, match="it is the input"):
            claim_file(tmp_path / "a", program="writer", inputs=[given])


def test_a_link_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "nothing")
    with pytest.raises(ClashError):
        claim_file(tmp_path / "a", program="writer")


def test_a_folder_is_ours_only_with_all_that_is_in_it(tmp_path: Path) -> None:
    with claim_outputs(tmp_path, ["model"], program="writer").being_written():
        (tmp_path / "model" / "deeper").mkdir(parents=True)
        (tmp_path / "model" / "deeper" / "weights").write_text("1")
    claim_outputs(tmp_path, ["model"], program="writer")
    (tmp_path / "model" / "notes.txt").write_text("mine")
    with pytest.raises(ClashError, match=r"notes\.txt"):
        claim_outputs(tmp_path, ["model"], program="writer")


def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    running = claim_outputs(tmp_path, ["a", "model"], program="writer").being_written()
    running.__enter__()  # and is killed
    (tmp_path / "a").write_text("whole or not")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("1")
    with claim_outputs(tmp_path, ["a", "model"], program="writer").being_written():
        (tmp_path / "a").write_text("whole")
    assert (tmp_path / "a").read_text() == "whole" and (tmp_path / "model" / "weights").is_file()
    with pytest.raises(ClashError):  # another program's all the same
        claim_outputs(tmp_path, ["a"], program="other")


def test_only_unchanged_files_of_earlier_runs_are_deleted(tmp_path: Path) -> None:
    write(tmp_path, a="1", b="2", c="3")
    (tmp_path / "b").write_text("x")
    (tmp_path / "mine").write_text("y")
    outputs = claim_outputs(tmp_path, ["c"], program="writer")
    with outputs.being_written():
        outputs.delete_earlier()
    assert sorted(path.name for path in tmp_path.iterdir()) == [RECORD, "b", "c", "mine"]


def test_a_run_that_writes_nothing_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyError), claim_outputs(tmp_path / "out", ["a"], program="writer").being_written():
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_record_makes_nothing_ours(tmp_path: Path) -> None:
    write(tmp_path, a="1")
    for text in ("[]", "{", json.dumps({"writer": 3})):
        (tmp_path / RECORD).write_text(text)
        with pytest.raises(ClashError):
            write(tmp_path, a="2")
