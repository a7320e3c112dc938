"""The figures of multi-token prediction, of a model that was trained for a second."""

import json
from pathlib import Path

import pytest
from tiny_corpus import Corpus, write_corpus
from tiny_training import tiny_options, train

from benchmarks import multi_token


@pytest.mark.parametrize("batch", [1, 2])
def test_every_number_of_drafts_is_a_row_beside_plain_decoding(tmp_path: Path, batch: int) -> None:
    manifests = write_corpus(tmp_path / "data" / "tokenized", Corpus(num_train=14, num_dev=4, longest=3.0))
    heads = {"semantic_drafts": 2, "coarse_drafts": 2}
    train(tiny_options(manifests, tmp_path / "exp", train_stage="semantic,coarse", num_epochs=1, **heads))
    span = multi_token.Span(prompt=0.5, new=0.7, rows=2, repeats=2, batches=(batch,), engines=("torch",))
    rows = multi_token.measure("independent", tmp_path / "exp", manifests, span)
    assert [(row["stage"], row["k"], row["batch"]) for row in rows] == [
        (stage, number, batch) for stage in ("semantic", "coarse") for number in (1, 2)
    ]  # fmt: skip
    for row in rows:
        assert row["heads"] == "independent" and row["engine"] == "torch" and row["same_rows"] == 1.0
        assert 1.0 <= row["accepted"] <= row["k"] + 1 and row["spread"][0] <= row["speed_up"] <= row["spread"][1]
    assert "| semantic | independent | torch |" in multi_token.table(rows) and json.dumps(rows)
