"""The benchmarks of storage and of continuous batches, on tiny models."""

import pytest
import torch
from tiny_pipeline import RATE, recording, tiny_released

from benchmarks import continuous
from valle.inference.pipeline import Pipeline

pytest.importorskip("numba")
from benchmarks.storage import measure, stored
from valle.decoding.native import PackedWeights


def test_what_is_scored_are_the_weights_that_a_step_reads() -> None:
    transformer = tiny_released().model.coarse.transformer
    transformer.stepping.weights = "int8"
    packed = PackedWeights.of(transformer).weights
    weight, panels, scales = transformer.blocks[1].qkv.weight, packed[0][1], packed[4][0][1]
    read = (panels * scales.reshape(-1, 1, panels.shape[2])).transpose(0, 2, 1).reshape(-1, panels.shape[1])[: len(weight)]
    torch.testing.assert_close(stored(weight, "int8"), torch.from_numpy(read))
    assert torch.equal(stored(weight, "float32"), weight) and torch.equal(stored(weight, "bfloat16"), weight.bfloat16().float())


def test_every_stage_has_a_row_by_every_storage_and_the_model_is_what_it_was() -> None:
    pipeline = Pipeline(tiny_released())
    before = {name: tensor.clone() for name, tensor in pipeline.model.state_dict().items()}
    rows = {(row["storage"], row["stage"]): row for row in measure(pipeline, [recording(2), recording(1.5, seed=1)])}
    assert {stage for _, stage in rows} == {"semantic", "coarse"} and len(rows) == 6
    assert rows["int8", "coarse"]["more_than_float32"]["mean"] != 0 and rows["float32", "coarse"]["more_than_float32"] is None
    assert all(torch.equal(tensor, before[name]) for name, tensor in pipeline.model.state_dict().items())


def test_static_and_continuous_batches_are_timed_on_the_same_tokens() -> None:
    prompts = [recording(seconds, seed=number) for number, seconds in enumerate((0.6, 1.0, 0.8))]
    measured = continuous.measure(Pipeline(tiny_released()), prompts, batch_size=2, max_seconds=0.5, rounds=1)
    assert measured["rows_with_the_same_tokens"] == measured["rows"] == 3 and measured["continuous_over_static"]["value"] > 0
    assert {len(wav) for wav in continuous.ragged_prompts(3, RATE)} <= set(range(RATE, 3 * RATE + 1))
