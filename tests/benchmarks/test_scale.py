"""The simulation of large corpora: cuts as stage 4 writes them, read by both ways, and its table."""

import json
from pathlib import Path

from tiny_corpus import Corpus, write_corpus

from benchmarks.figures import BLOCKS
from benchmarks.scale import cut_lines, make, read
from valle.corpora.manifests import parse_cut, read_lines

WHERE = {"machine": {"processor": "A CPU", "cores": 2, "memory_gib": 8.0}, "command": "python -m benchmarks.scale", "date": "2026-01-02"}


def test_simulated_cuts_have_the_fields_of_real_ones(tmp_path: Path) -> None:
    folder = write_corpus(tmp_path, Corpus(num_train=1, num_dev=1))
    real = json.loads(next(read_lines(folder / "cuts_train.jsonl.gz")))
    line, shard = next(cut_lines(1))
    simulated = json.loads(line)
    assert shard == 0 and simulated.keys() == real.keys() and simulated["custom"].keys() == real["custom"].keys()
    assert simulated["custom"]["codes"]["array"].keys() == real["custom"]["codes"]["array"].keys()
    assert parse_cut(line, tmp_path).duration == simulated["duration"] == simulated["recording"]["duration"]


def test_two_ranks_make_as_many_steps_either_way(tmp_path: Path) -> None:
    made = make(tmp_path, 90)
    assert made["lines_mib"] > 0 and (tmp_path / "cuts_train.jsonl.gz").is_file()
    rows = [read(tmp_path, way, rank, 2) for way in ("index", "in order") for rank in (0, 1)]
    assert len({row["steps"] for row in rows}) == 1 and rows[0]["steps"] > 5
    assert all(row["first_batch_s"] > 0 and row["batch_ms"] > 0 for row in rows)


def test_the_table_has_a_row_a_corpus_and_number_of_ranks() -> None:
    row = {"ranks": 64, "way": "index", "steps": [900, 900], "check_s": [0.1, 0.3], "first_batch_s": [1.0, 2.0], "batch_ms": [3.0, 2.0]}
    row |= {"resume_s": [1.5, 1.0], "own_mib": [1234.0, 99.0]}
    made = {"seconds": 12.3, "own_mib": 50.0}
    large, small = {"hours": 10000, "made": made, "rows": [row]}, {"hours": 1, "made": made, "rows": [{**row, "ranks": 1}]}
    values = {**WHERE, "corpora": [large, small]}
    lines = (BLOCKS["scale"]({"scale": values}) or "").splitlines()
    assert lines[2] == "| 10 000 h, 64 ranks, index | 900 | 0.30 | 2.00 | 3.0 | 1.50 | 1 234 |"
    assert lines[3].startswith("| 1 h, 1 rank, index |") and "10 000 h 12 s and 50 MiB; 1 h 12 s and 50 MiB" in lines[5]
